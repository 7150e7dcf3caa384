//! Secrets reach a step and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::builder::Builder;

const TOKEN: &str = "correct-horse-battery-staple-93b1";

#[test]
fn privileged_a_secret_is_nowhere_on_the_disk() {
    let Some(builder) = Builder::new() else { return };
    builder.write("secret/key", TOKEN);
    let dockerfile = "FROM busybox
RUN --mount=type=secret,id=key --mount=type=secret,id=variable,env=VARIABLE \\
    wc -c </run/secrets/key >/length && printf %s \"$VARIABLE\" | wc -c >>/length && \\
    stat -c %a /run/secrets/key >>/length
RUN find /run -type f >/left 2>/dev/null; true
";
    let mut command = builder.command(&[
        "build",
        "--progress",
        "json",
        "-f",
        "-",
        "-t",
        "app",
        "--secret",
        "id=key,src=secret/key",
        "--secret",
        "id=variable,env=TOKEN",
        "-o",
        "type=local,dest=files",
        "-o",
        "type=oci,dest=image.tar,compression=uncompressed",
        "context",
    ]);
    builder.write("Dockerfile", dockerfile);
    let input = fs::File::open(builder.path("Dockerfile")).expect("written");
    let outcome = builder.run_command(command.env("TOKEN", TOKEN).stdin(input)).success();
    let length = TOKEN.len();
    assert_eq!(builder.read("files/length"), format!("{length}\n{length}\n400\n"));
    assert_eq!(builder.read("files/left"), "");

    assert!(!outcome.stderr.contains(TOKEN));
    fs::remove_dir_all(builder.path("secret")).expect("an own directory");
    assert_eq!(files_with(TOKEN, &builder.path("")), "");
    // The search does find what is there.
    assert_ne!(files_with("VARIABLE", builder.store()), "");

    // Nor does it make a key: another secret, and the step is not run again.
    command = builder.command(&[
        "build",
        "--progress",
        "json",
        "-f",
        "Dockerfile",
        "--secret",
        "id=key,env=TOKEN",
        "--secret",
        "id=variable,env=TOKEN",
        "context",
    ]);
    let again = builder.run_command(command.env("TOKEN", "another")).success();
    assert_eq!(again.ran(), [""; 0]);
}

fn files_with(words: &str, directory: &Path) -> String {
    let grep = Command::new("grep").args(["-rlaF", "-e", words]).arg(directory).output();
    String::from_utf8(grep.expect("grep runs").stdout).expect("text")
}
