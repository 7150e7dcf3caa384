//! What a step finds of its process 1.

use super::builder::Builder;

/// Services are often set up to write their logs to `/proc/1/fd/1`: that is the step's, as whichever user it runs.
#[test]
fn privileged_process_1_writes_to_the_steps_log() {
    let Some(builder) = Builder::new() else { return };
    let outcome = builder.build(
        "FROM busybox\n\
         RUN (echo output >/proc/1/fd/1; echo error >/proc/1/fd/2) >/dev/null 2>&1; true\n\
         RUN ln -s /proc/1/fd/1 /service.log && chmod 1777 /\n\
         USER 1000\n\
         RUN echo logged 2>/dev/null >>/service.log; ls /proc/1/fd; cat /proc/1/task/1/fd/* 2>/dev/null; true\n",
        &[],
    );
    let log = outcome.success().log();
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1", "2", "error", "logged", "output"], "{log}");
}
