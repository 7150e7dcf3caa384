//! What clients and the daemon say to each other: BuildKit's API as `proto/` has it.

// Made by `build.rs`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self)]

mod generated {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

pub use generated::containerd::services::content::v1 as content;
pub use generated::fsutil::types as fsutil;
pub use generated::google::rpc;
pub use generated::grpc::health::v1 as health;
pub use generated::moby::buildkit::secrets::v1 as secrets;
pub use generated::moby::buildkit::v1 as control;
pub use generated::moby::buildkit::v1::sourcepolicy::policysession;
pub use generated::moby::buildkit::v1::{apicaps, frontend as gateway, sourcepolicy, types};
pub use generated::moby::filesync::v1 as filesync;
pub use generated::moby::sshforward::v1 as ssh;
pub use generated::moby::upload::v1 as upload;
pub use generated::pb;
