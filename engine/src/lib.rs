//! One build: where the parser, the solver, the cache, the sandbox and registries meet.
//!
//! [`Engine`] is a configuration and what this machine lets us do; it opens a [`Workspace`] on the store for
//! each piece of work. [`Workspace::build`] takes a [`BuildRequest`], tells what happens through
//! [`Progress`], and gives back images; [`Workspace::solve`] takes any definition. What the one who asked keeps
//! comes through a [`Client`]. The crate knows no argv, no terminal and no wire formats.

pub mod annotations;
pub mod client;
pub mod config;
pub mod error;
pub mod request;

mod agent;
mod blocking;
mod build;
pub mod cache_mounts;
mod cdi;
pub mod compare;
pub mod containers;
mod defined;
mod dockerfile;
mod document;
mod engine;
pub mod file_op;
pub mod gc;
pub mod images;
mod layer;
mod look;
mod machine;
mod meta;
mod near;
mod new_file;
mod output;
mod plan;
mod prepared;
mod progress;
mod push;
pub mod registries;
mod registry_hint;
mod remote;
pub mod run;
mod shared_cache;
mod solve;
mod source;
mod spawn_hint;
mod step;
mod stop;
mod stored;
mod tarball;
pub mod tree;
mod umask;
pub mod units;
mod upkeep;
mod workspace;

pub use annotations::{Annotation, AnnotationLevel};
pub use build::{BuiltImage, Outcome};
pub use cache::{
    Allowance, CacheItem, DiskUsage, Judged, Match, MountItem, Problem, PruneFilter, Pruned, Reach,
    Received, Reserve, Space, Verdict, Why, WhyNot, Without, sync_if_asked,
};
pub use client::{AGENT_MESSAGE_MAX, Client, ClientError, Fetched, Load, SECRET_MAX, Target};
pub use config::Config;
pub use defined::{Defined, DefinedImage};
pub use engine::{Engine, EngineOptions};
pub use error::{BuildError, Fault, StepFailure};
pub use executor::{Limits, Secret, enter_user_namespace, run_init_if_asked};
pub use http_client::{ClientCertificate, TlsStream};
pub use look::Checked;
pub use meta::SourceMeta;
pub use near::near_path;
pub use new_file::NewFile;
pub use output::export::PushedImage;
pub use plan::{GraphFormat, Plan};
pub use prepared::Prepared;
pub use progress::event::{Event, Progress, StepId, StoppedStep, Stream};
pub use registries::RegistryClient;
pub use registry::{
    Credential, CredentialAnswer, Credentials, CredentialsError, Forgotten, Keeper, Kept, Login,
};
pub use remote_cache::{
    AwsAccess, AzblobOptions, AzureAccess, AzureIdentity, ContainerToken, GhaOptions, GhaVersion,
    InvalidKey, ManagedIdentity, S3Credentials, S3Options, SigningKey, VerifyingKey, aws_domain,
};
pub use request::*;
pub use solve::{SolveRequest, Solved, SolvedLayer};
pub use source::named::context_directory;
pub use umask::{give_file, put_umask_aside};
pub use upkeep::LayerUsers;
pub use workspace::Workspace;
