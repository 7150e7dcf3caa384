//! One process in an ephemeral sandbox of namespaces.
//!
//! An [`Executor`] takes the description of a [`Process`] (a root of layers or a directory, mounts,
//! identity, network, limits) and gives back a [`Running`] one. The sandbox has Docker's defaults.
//! All its mounts are made in a mount namespace of its own by its first process, which is this very
//! program executed as nobody can change it; when that process ends, or this one is killed, the kernel
//! takes everything away. This crate knows the kernel; it knows no images, keys or Dockerfiles.
//!
//! The program's `main` starts with [`run_init_if_asked`] and then [`enter_user_namespace`]:
//!
//! ```no_run
//! executor::run_init_if_asked();
//! executor::enter_user_namespace()?;
//! let executor = executor::Executor::new(executor::Host::probe(), executor::Emulators::default())?;
//! let root = executor::Root::Directory("/srv/root".into());
//! let running = executor.spawn(executor::Process::new(root, ["/bin/true"]))?;
//! assert!(running.wait()?.success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Read `process` (what can be asked for), `spawn` (what the parent does), `init` (what the first
//! process of a sandbox does), then `init_pool`, `zygote` and `network` (what is kept ready).

mod architecture;
mod binfmt;
mod capability;
mod cgroup;
mod control;
mod demand;
mod device;
mod emulation;
mod emulator;
mod error;
mod gateway;
mod helper;
mod host;
mod host_tree;
mod identity;
mod init;
mod init_pool;
mod job;
mod layer_directories;
mod names;
mod network;
mod overlay;
mod port;
mod process;
mod program;
mod rlimit;
mod running;
mod search_path;
mod seccomp;
mod spawn;
#[expect(unsafe_code, reason = "the raw system calls rustix has no safe form of")]
mod sys;
mod userns;
mod zygote;

pub use architecture::is_native;
pub use device::{Device, DeviceAccess, DeviceNumber};
pub use emulator::{Emulators, InvalidEmulator, NoEmulator};
pub use error::SpawnError;
pub use helper::NoHelper;
pub use host::Host;
pub use identity::{User, UserError, resolve_owner, resolve_user};
pub use overlay::{MAX_LAYERS, OverlayError, open_overlay};
pub use process::{
    BindSource, Environment, Exhausted, ExitStatus, FirstProcess, HostAddress, Limits, Mount,
    MountSource, Network, NetworkUsed, PortForward, Process, Propagation, Protocol, Rlimit, Role,
    Root, Scratch, Secret, Security, Stdio, Tmpfs, Without,
};
pub use running::Running;
pub use spawn::Executor;
pub use userns::{UserNamespace, UserNamespaceError, enter_user_namespace};

/// Runs this process as what sandboxes come from if it was started as that, and then never returns.
/// To be called first thing in `main`.
pub fn run_init_if_asked() {
    use std::os::unix::ffi::OsStrExt;
    let mut args = std::env::args_os();
    if args.next().is_none_or(|name| name.as_bytes() != program::INIT_NAME.to_bytes()) {
        return;
    }
    let channel = args
        .next()
        .and_then(|number| number.to_str()?.parse().ok())
        .and_then(|number| sys::adopt(number).ok());
    match channel {
        Some(channel) => init::zygote::main(control::Channel::from_fd(channel)),
        None => sys::exit_now(2),
    }
}
