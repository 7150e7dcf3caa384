//! What an image cannot hold is gone from it, and said whenever the step's result is used.

use super::builder::Builder;

#[test]
fn privileged_a_file_that_a_socket_replaced_is_not_in_the_image() {
    let Some(builder) = Builder::new() else { return };
    // The log's daemon makes its socket where the link leads.
    let dockerfile = "FROM busybox\nRUN echo below > /socket; mkdir /d; echo below > /d/socket\n\
                      RUN rm -r /socket /d; ln -s /socket /dev/log; syslogd; \
                      until [ -S /socket ]; do usleep 10000; done; cp -a /socket /d\n\
                      RUN test ! -f /socket && test ! -d /d\n";
    builder.build(dockerfile, &["-o", "type=oci,tar=false,dest=image"]).success();
    // Elsewhere there are only its tars.
    builder.write("again/Dockerfile", "FROM image\nRUN test ! -e /socket && test ! -e /d\n");
    let words = ["build", "--build-context", "image=oci-layout://image", "again"];
    let mut command = builder.command(&words);
    builder.run_command(command.env("MYBUILD_ROOT", builder.path("other"))).success();
}

#[test]
fn privileged_what_was_left_out_is_said_again_when_it_comes_from_the_cache() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/d/.wh.copied", "");
    builder.write("context/d/file", "");
    let unmounted = "FROM busybox\nRUN echo > /.wh.made\nCOPY d /d\n";
    let mounted =
        "FROM busybox\nCOPY d /d\nRUN echo > /.wh.made\nCOPY --from=busybox /bin/true /\n";
    for dockerfile in [unmounted, mounted] {
        for ran in [2, 0, 0] {
            let outcome = builder.build(dockerfile, &[]).success();
            assert_eq!(outcome.ran().len().min(2), ran);
            for name in [".wh.made", "/d/.wh.copied"] {
                let warning = format!("left out `{name}`: in an image its name would delete");
                let count = outcome.stderr.matches(&warning).count();
                assert_eq!(count, 1, "{name}, {ran}: {}", outcome.stderr);
            }
        }
    }
    // A tree that nobody needed as a tar says so when somebody does.
    let stage = "FROM busybox AS stage\nRUN echo > /.wh.late\n";
    let other = format!("{stage}FROM busybox\nCOPY --from=stage /bin/true /x\n");
    for (dockerfile, expected) in [(other.as_str(), 0), (stage, 1), (stage, 1)] {
        let outcome = builder.build(dockerfile, &[]).success();
        assert_eq!(outcome.stderr.matches("left out `.wh.late`").count(), expected);
    }
}
