//! A builder for other programs: BuildKit's gRPC API over `engine`.
//!
//! A client opens a [`session`], in which the daemon asks for its files, secrets and credentials, and begins a
//! build, which it then drives: [`bridge`] prepares the build, [`control`] carries it out when the client returns what it
//! has got. What clients' words mean is a [`Vocabulary`]'s.

mod accept;
mod answer;
mod apart;
mod bridge;
mod build;
mod builds;
mod capabilities;
mod client;
mod control;
mod defined;
pub mod definition;
mod failure;
mod layout;
mod policy;
mod reading;
mod request;
mod resolving;
mod server;
mod session;
mod status;
mod usage;
pub mod wire;
mod words;
mod worker;

pub use server::{Address, Daemon, ServeError, Tls};
pub use words::{Answered, Asked, Attributes, Refused, Told, Vocabulary};
