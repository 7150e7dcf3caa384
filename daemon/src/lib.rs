//! A builder for other programs: BuildKit's gRPC API over `engine`.

pub mod definition;
pub mod wire;
