//! Tests of the `registry` crate against servers on loopback: friendly, hostile and real ones.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod authentication;
mod docker_registry;
mod early;
mod hostile;
mod image;
mod mirrors;
mod pull;
mod push;
mod real;
#[expect(dead_code, reason = "a server that drips is for the tests of `http-client` alone")]
#[path = "../../../http-client/tests/it/server.rs"]
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_client::Limits;
use oci::{Descriptor, Digest, Reference};
use registry::{BlobSink, Config, Credentials, Error, MemorySink, Registries};

/// Limits that let a failure be seen at once.
fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        idle: Duration::from_secs(1),
        request: Duration::from_secs(4),
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(5),
        ..Limits::default()
    }
}

fn client() -> Registries {
    client_with(Config::default(), Credentials::anonymous())
}

/// A client with the test's limits.
fn client_with(config: Config, credentials: Credentials) -> Registries {
    Registries::new(Config { limits: limits(), ..config }, credentials)
}

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Fetches the blob `bytes` from the repository `app`, as its bytes and what progress was told.
async fn fetch(
    client: &Registries,
    host: &str,
    bytes: &[u8],
) -> Result<(Vec<u8>, Vec<u64>), Error> {
    let descriptor =
        Descriptor::new("application/octet-stream", Digest::of(bytes), bytes.len() as u64);
    fetch_into(client, host, &descriptor, MemorySink::new(&descriptor.digest)).await
}

async fn fetch_into(
    client: &Registries,
    host: &str,
    descriptor: &Descriptor,
    sink: MemorySink,
) -> Result<(Vec<u8>, Vec<u64>), Error> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let progress = move |bytes| listener.lock().unwrap().push(bytes);
    let sink = client.fetch_blob(&reference(host, "app"), descriptor, sink, progress).await?;
    assert_eq!(sink.received(), descriptor.size);
    let told = told.lock().unwrap().clone();
    Ok((sink.into_bytes(), told))
}

/// Bytes without a pattern that a mix-up of parts could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// An error and its causes as the user reads them, without ports.
fn chain(error: &Error, host: &str) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.replace(host, "HOST")
}
