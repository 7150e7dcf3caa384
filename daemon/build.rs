//! Compiles what clients and the daemon say to each other. No `protoc` is needed.

use std::error::Error;

const FILES: [&str; 10] = [
    "control.proto",
    "gateway.proto",
    "filesync.proto",
    "auth.proto",
    "secrets.proto",
    "ssh.proto",
    "upload.proto",
    "content.proto",
    "policysession.proto",
    "health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let messages = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        // Maps in the order of their keys: the same message is the same bytes.
        .btree_map(".")
        .include_file("wire.rs")
        .compile_fds(messages)?;
    Ok(())
}
