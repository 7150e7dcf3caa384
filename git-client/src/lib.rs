//! Git repositories of others, through the program `git`.
//!
//! [`Git`] finds the program and runs it so that neither the machine's configuration nor what is fetched
//! says what it does: no prompts, hooks, templates or helpers, only the protocols of [`Remote`], an
//! environment of its own, a part of the file system, and an end to whatever it starts. [`Git::look_up`] asks a server what a
//! reference is at, [`Repository`] keeps what was fetched, so that the next fetch moves only what is new,
//! and [`Repository::check_out`] writes a commit's files.
//!
//! It knows no store and no Dockerfiles: where repositories are kept, and who may see which secret, is up
//! to its callers. Of its own environment it reads `PATH`, and the proxy variables for the programs that it starts.
//!
//! Read [`Remote`] and [`reference`], then [`program`] with `running`, then [`Repository`].

pub mod access;
mod call;
pub mod checkout;
mod confinement;
pub mod error;
mod fetch;
pub mod git_dir;
mod installed;
pub mod limits;
pub mod listing;
pub mod program;
pub mod reference;
pub mod remote;
pub mod repository;
mod running;
pub mod submodule;

pub use access::Access;
pub use error::GitError;
pub use fetch::Wanted;
pub use git_dir::Place;
pub use limits::Limits;
pub use listing::Found;
pub use program::Git;
pub use reference::Commit;
pub use remote::{Remote, RemoteError};
pub use repository::Repository;
pub use submodule::Submodule;
