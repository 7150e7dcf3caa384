//! One HTTP client for everything that crosses the network.
//!
//! [`Connections`] sends a [`Request`] to one host and returns a [`Response`], whose body is read
//! within bounds. It follows redirects by the rules in [`redirect`]: credentials stay with their
//! host, and a server cannot direct us into our own machine. [`download()`] fetches a [`Resource`] of
//! known size in ranges and resumes where the connection broke; [`Validators`] tell whether a file is still the same. [`Limits`] says what a server may
//! cost, [`Backoff`] when to try again.
//!
//! [`TlsStream`] is a connection for those who write HTTP themselves.
//!
//! It knows no protocol above HTTP: what a status means, where credentials come from and where
//! bytes are kept is up to its callers. It reads no configuration but the proxy variables
//! (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
//!
//! Read [`Connections`], then `redirect` (what is followed), `backoff`, and `download`.

mod address;
mod authorization;
mod backoff;
mod connections;
mod deadline;
mod download;
mod error;
mod limits;
mod pace;
mod range;
pub mod redirect;
mod request;
mod response;
mod retry;
mod sending;
mod stream;
mod tls;
mod validators;
mod window;

pub use reqwest::{Method, StatusCode, header};
pub use url::{ParseError as InvalidUrl, Url};

pub use address::is_loopback;
pub use authorization::{Authorization, may_see_credentials};
pub use backoff::Backoff;
pub use connections::Connections;
pub use deadline::Deadline;
pub use download::{Piece, Resource, download, download_unsized};
pub use error::Error;
pub use limits::Limits;
pub use range::RangeError;
pub use redirect::PlainHttp;
pub use request::{BodySource, Payload, Request};
pub use response::Response;
pub use retry::{Failure, Retry};
pub use stream::{TlsStream, TlsStreamError};
pub use tls::{ClientCertificate, SetupError, Tls};
pub use validators::Validators;
