//! Several builds on one store.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use super::builder::Builder;

#[test]
fn privileged_two_builds_at_once_run_a_shared_step_once() {
    let Some(builder) = Builder::new() else { return };
    // The step calls here, and runs until it is answered.
    let gate = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = gate.local_addr().expect("an address").port();
    builder.write(
        "context/Dockerfile",
        format!(
            "FROM busybox\nRUN --network=host nc 127.0.0.1 {port} </dev/null && \
             cat /proc/sys/kernel/random/uuid >/id\nARG WHO\nRUN echo $WHO >/who\n"
        ),
    );
    let start = |who: &str| {
        let (argument, output) = (format!("WHO={who}"), format!("type=local,dest={who}"));
        let words =
            ["build", "--progress=json", "--allow=network.host", "--build-arg", &argument, "-o"];
        let words = [&words[..], &[&output, "context"]].concat();
        builder.spawn(&mut builder.command(&words))
    };
    let mut first = start("first");
    let (mut call, _) = gate.accept().expect("a call");
    let mut second = start("second");
    let mut told = BufReader::new(second.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains(r#""type":"step-added","step":3"#) {
        line.clear();
        assert!(told.read_line(&mut line).expect("text") > 0, "the second build plans its steps");
    }
    call.write_all(b"go on\n").expect("the step listens");
    drop(call);
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("text");
    assert!(second.wait().expect("an own child").success(), "{rest}");
    let mut output = String::new();
    first.stderr.take().expect("a pipe").read_to_string(&mut output).expect("text");
    assert!(first.wait().expect("an own child").success(), "{output}");

    gate.set_nonblocking(true).expect("an own socket");
    assert!(gate.accept().is_err(), "the step ran a second time");
    assert_eq!(builder.read("first/id"), builder.read("second/id"));
    let who = ["first", "second"].map(|who| builder.read(&format!("{who}/who")));
    assert_eq!(who, ["first\n", "second\n"]);
    builder.assert_nothing_left();
}
