//! The `mybuild` program. What it does is told by `mybuild --help`, how it is made by the library
//! beside this file.

use std::process::ExitCode;

use frontend_cli::exit::Exit;

// glibc's allocator slows down where hashing and compression allocate on every core at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for what waits (network, processes), beside the one that the build itself runs on. Heavy work
/// has its own threads.
const WORKERS: usize = 1;

fn main() -> ExitCode {
    // The sandbox runs this very file as process 1 of a step: nothing may happen before.
    engine::run_init_if_asked();
    frontend_cli::panic::install_hook();
    // The hook has told about a panic; what is left is the exit code.
    std::panic::catch_unwind(run).unwrap_or(Exit::Usage).into()
}

fn run() -> Exit {
    let command = match frontend_cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(exit) => return exit,
    };
    frontend_cli::run(command, |work| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?;
        Ok(runtime.block_on(work))
    })
}
