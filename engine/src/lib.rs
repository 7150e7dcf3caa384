//! One build: where the parser, the solver, the cache, the sandbox and registries meet.
//!
//! [`Engine`] is a store, a configuration and what it takes to build with them. [`Engine::build`]
//! takes a [`BuildRequest`], tells what happens through [`Progress`], and gives back images. The
//! crate knows no argv, no terminal and no wire formats.

pub mod config;
pub mod error;
pub mod event;
pub mod request;

mod archive;
mod assemble;
mod blocking;
mod build;
mod contexts;
mod disk_budget;
mod document;
mod exec_op;
mod exec_step;
mod exhausted;
mod exit_hint;
mod export;
mod extraction;
mod file_layer;
pub mod file_op;
pub mod gc;
mod ground;
mod image_source;
pub mod images;
mod input;
mod layer_tar;
mod layers;
mod machine;
mod missing;
mod near;
mod open;
mod plan;
mod redate;
mod roots;
pub mod run;
mod sandbox;
mod seed;
mod stack;
mod steps;
mod stop;
pub mod tree;
mod umask;
pub mod units;
mod upkeep;
mod worker;
mod write_back;

pub use build::{BuiltImage, Engine, EngineOptions, Outcome};
pub use cache::{
    Allowance, CacheItem, DiskUsage, ItemKind, Match, Problem, PruneFilter, Pruned, Reach, Reserve,
    Space, sync_if_asked,
};
pub use config::Config;
pub use error::{BuildError, StepFailure};
pub use event::{Event, Progress, StepId, StoppedStep, Stream};
pub use executor::{Limits, enter_user_namespace, run_init_if_asked};
pub use near::near_path;
pub use plan::{GraphFormat, Plan};
pub use request::*;
pub use umask::{give_file, put_umask_aside};
