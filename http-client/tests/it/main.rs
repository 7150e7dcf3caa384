//! Tests of the `http-client` crate against servers on loopback, friendly and hostile ones.

mod downloads;
mod hostile;
mod redirects;
mod server;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http_client::{
    Backoff, Connections, Deadline, Error, Failure, Limits, Method, Piece, Request, Resource,
    Response, Retry, Tls, Url, download,
};

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

fn url(host: &str, path: &str) -> Url {
    format!("http://{host}{path}").parse().unwrap()
}

fn connections(host: &str, limits: Limits) -> Connections {
    Connections::new(host, Tls::default(), limits)
}

/// The answer to a GET of `path`.
async fn get(host: &str, path: &str) -> Result<Response, Error> {
    let (limits, request) = (limits(), Request::new(Method::GET, url(host, path)));
    let deadline = Deadline::for_request(&limits);
    connections(host, limits).send(&request, None, deadline).await
}

/// A file that a server has.
struct File {
    connections: Connections,
    url: Url,
    size: u64,
    deadline: Deadline,
}

/// Why a file cannot be fetched.
#[derive(Debug)]
enum Failed {
    Http(Error),
    Status(u16),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Http(error)
    }
}

impl Failure for Failed {
    fn retry(&self) -> Retry {
        match self {
            Self::Http(error) => error.retry(),
            Self::Status(status) => Retry::of_status(*status, None),
        }
    }
}

impl Resource for File {
    type Error = Failed;

    fn size(&self) -> u64 {
        self.size
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.connections.limits(), self.deadline)
    }

    async fn open(&self, range: Range<u64>) -> Result<Response, Failed> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.ask_for(range, self.size);
        let response = self.connections.send(&request, None, self.deadline).await?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(Failed::Status(status.as_u16())) }
    }
}

/// Downloads the file of `size` bytes that `host` has, as it came.
async fn fetch(host: &str, size: usize, limits: Limits) -> Result<Vec<u8>, Failed> {
    let file = Arc::new(File {
        connections: connections(host, limits.clone()),
        url: url(host, "/file"),
        size: size as u64,
        deadline: Deadline::for_transfer(&limits, size as u64),
    });
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let receive = async {
        let (mut bytes, mut ended) = (Vec::new(), false);
        while let Some(piece) = receiver.recv().await {
            match piece {
                Piece::Data(chunk) => bytes.extend_from_slice(&chunk),
                Piece::End => ended = true,
            }
        }
        (bytes, ended)
    };
    let send = async move {
        let outcome = download(&file, 0, &sender).await;
        drop(sender);
        outcome
    };
    let (outcome, (bytes, ended)) = tokio::join!(send, receive);
    assert_eq!(outcome.is_ok(), ended, "only a download that succeeds sends the end");
    outcome.map(|()| bytes)
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
