//! The `mybuild` command line: argv, terminal, progress, diagnostics, exit codes.
//!
//! [`parse`] turns argv into a [`Command`] whose meaning is already checked, and [`run`] does it.
//! What was typed is [`cli`] (syntax), what it means is [`build_args`] (an
//! [`engine::BuildRequest`]), what the user sees meanwhile is [`progress`], and what they see when
//! it goes wrong is [`diagnostics`]. No rule of building lives here.

pub mod build_args;
mod cache_filter;
pub mod calls;
pub mod cli;
pub mod client;
pub mod commands;
mod destination;
pub mod diagnostics;
pub mod diff;
mod docker_commands;
mod docker_config;
pub mod docker_units;
pub mod environment;
pub mod error;
pub mod exit;
pub mod go_names;
pub mod image_engine;
pub mod interrupt;
pub mod json_text;
pub mod listing;
pub mod panic;
mod platform;
pub mod progress;
pub mod prompt;
pub mod registry_name;
mod remote;
pub mod result_files;
pub mod run_args;
pub mod settings;
pub mod spelling;
pub mod ssh;
pub mod stdin;
pub mod template;
pub mod terminal;
mod ui;
mod vocabulary;
mod workspace;

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::pin::Pin;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;
use crate::commands::Command;
use crate::environment::Environment;
use crate::error::ReadError;
use crate::exit::Exit;

/// What the async part of a command is.
pub type Work = Pin<Box<dyn Future<Output = Exit>>>;

/// Reads the command line. What is wrong with it (or asked of it: help, version) is already
/// printed when this gives an [`Exit`].
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    let environment = Environment::of_process();
    let argv: Vec<OsString> = argv.into_iter().collect();
    let exit = |exit: Exit| match spelling::is_run(&Cli::command(), &argv) {
        true => exit.of_run(),
        false => exit,
    };
    let cli = read(argv.clone()).map_err(|error| match error {
        ReadError::Usage(error) => error::report(&error.into(), false),
        ReadError::Syntax(error) => exit(exit::of_clap(&error)),
    })?;
    let debug = cli.global.debug;
    Command::new(cli, &environment).map_err(|error| exit(error::report(&error, debug)))
}

/// The words of a command line, not yet their meaning.
pub fn read(argv: Vec<OsString>) -> Result<Cli, ReadError> {
    let mut syntax = Cli::command();
    let argv = spelling::normalize(&syntax, argv)?;
    let mut matches = syntax.try_get_matches_from_mut(argv)?;
    Ok(Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut syntax))?)
}

/// Does what was asked. `block_on` runs async work to its end; it is called at most once, after
/// the process has its user namespace, since entering one needs a single thread.
pub fn run(command: Command, block_on: impl FnOnce(Work) -> io::Result<Exit>) -> Exit {
    let is_run = command.is_run();
    let exit = run_to_the_end(command, block_on);
    if is_run { exit.of_run() } else { exit }
}

fn run_to_the_end(command: Command, block_on: impl FnOnce(Work) -> io::Result<Exit>) -> Exit {
    let debug = command.global().debug;
    let mut notice = None;
    if command.needs_store() {
        match engine::enter_user_namespace() {
            Ok(namespace) => notice = namespace.and_then(|namespace| namespace.warning),
            Err(error) => return error::report(&error.into(), debug),
        }
    }
    let work: Work = Box::pin(async move {
        command.run(notice).await.unwrap_or_else(|error| error::report(&error, debug))
    });
    block_on(work).unwrap_or_else(|error| error::report(&error.into(), debug))
}
