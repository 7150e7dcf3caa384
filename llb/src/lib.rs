//! The instruction DAG: what a build is made of, whatever it was written in.
//!
//! A [`Definition`] is a graph of [`Vertex`]es. Each holds one [`Op`]: a source, a process, file
//! operations, a merge or a diff. Edges run from an output of one vertex to an input of another.
//! The crate knows no Dockerfiles and does not know how anything runs; it gives every vertex
//! canonical bytes ([`encode`]) and a digest over them and all that it depends on, and can say what the
//! bytes are made of ([`parts`]).

pub mod definition;
pub mod encode;
pub mod op;
pub mod parts;
pub mod print;

pub use definition::{Definition, GraphError, Input, Metadata, Vertex, VertexId};
pub use op::{
    CacheSharing, CopyOp, Device, ExecOp, FileAction, FileActionKind, FileInput, FileOp, GitSource,
    GitTimes, HttpSource, ImageSource, LocalSource, MkdirOp, MkfileOp, Mount, MountKind,
    NetworkMode, Op, Owner, OwnerId, Rlimit, RmOp, SecretEnv, SecurityMode, SourceOp, SymlinkOp,
    Timestamp,
};
