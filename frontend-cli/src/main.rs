//! The `mybuild` program. What it does is told by `mybuild --help`, how it is made by the library
//! beside this file.

use std::process::ExitCode;

use frontend_cli::exit::Exit;
use frontend_cli::interrupt;

fn main() -> ExitCode {
    // The sandbox runs this very file as process 1 of a step: nothing may happen before.
    engine::run_init_if_asked();
    engine::sync_if_asked();
    engine::put_umask_aside();
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
        // One thread drives the build: it mostly waits. Heavy work has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let exit = runtime.block_on(work);
        if matches!(exit, Exit::Interrupted | Exit::Unread) {
            interrupt::end_soon(exit);
        }
        Ok(exit)
    })
}
