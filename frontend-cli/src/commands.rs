//! One file a command: what was parsed, one call into a library, what is printed.

mod build;
mod cache_mount;
mod call;
mod commit;
mod completions;
mod containers;
mod diff;
mod du;
mod fix;
mod fsck;
mod history;
mod image;
mod images;
mod imagetools_create;
mod imagetools_inspect;
mod inspect;
mod load;
mod login;
mod logout;
mod man;
mod manifest_inspect;
mod prune;
mod prune_containers;
mod prune_images;
mod prune_why;
mod ps;
mod pull;
mod push;
mod registry;
mod rm;
mod rmi;
mod run;
mod save;
mod serve;
mod tag;

use containers::ContainerCommand;
use image::ImageCommand;
use registry::RegistryCommand;

use crate::build_args::{self, Build};
use crate::cli::{Cli, CompletionsArgs, GlobalArgs, ManArgs, Subcommand};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::workspace;

/// A command whose meaning is known.
pub struct Command {
    global: GlobalArgs,
    options: engine::EngineOptions,
    action: Action,
}

/// What is to be done.
enum Action {
    Build(Box<Build>),
    Image(Box<ImageCommand>),
    Container(Box<ContainerCommand>),
    Registry(Box<RegistryCommand>),
    Serve(serve::Serve),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

impl Command {
    /// Finds out what the words mean. Everything that can be wrong with them is told here, before
    /// a store, a namespace or a runtime is needed.
    pub fn new(cli: Cli, environment: &Environment) -> anyhow::Result<Self> {
        let action = match cli.command {
            Subcommand::Build(args) => {
                Action::Build(Box::new(build_args::resolve(&args, environment)?))
            }
            Subcommand::Image(subcommand) => {
                Action::Image(Box::new(ImageCommand::resolve(subcommand, environment)?))
            }
            Subcommand::Container(subcommand) => {
                Action::Container(Box::new(ContainerCommand::resolve(subcommand)?))
            }
            Subcommand::Registry(subcommand) => {
                Action::Registry(Box::new(RegistryCommand::resolve(subcommand, environment)?))
            }
            Subcommand::Serve(args) => Action::Serve(serve::Serve::resolve(&args, environment)?),
            Subcommand::Completions(args) => Action::Completions(args),
            Subcommand::Man(args) => Action::Man(args),
        };
        let options = workspace::options(&cli.global, environment);
        Ok(Self { global: cli.global, options, action })
    }

    /// The flags of every command.
    pub fn global(&self) -> &GlobalArgs {
        &self.global
    }

    /// Whether it is `run`, whose exit codes are Docker's.
    pub fn is_run(&self) -> bool {
        matches!(&self.action, Action::Image(command) if matches!(**command, ImageCommand::Run(_)))
    }

    /// Whether the command opens the store, which takes a user namespace where we are not root.
    pub fn needs_store(&self) -> bool {
        !matches!(self.action, Action::Registry(_) | Action::Completions(_) | Action::Man(_))
    }

    /// Does it. `notice` is what there is to say about running without root.
    pub async fn run(self, notice: Option<String>) -> anyhow::Result<Exit> {
        match self.action {
            Action::Build(mut build) => {
                build.warnings.extend(notice);
                build::run(*build, self.options, self.global.debug).await
            }
            Action::Image(command) => command.run(self.options, notice).await,
            Action::Container(command) => command.run(&self.options).await,
            Action::Registry(command) => command.run(&self.options).await,
            Action::Serve(serve) => serve.run(&self.options, notice).await,
            Action::Completions(args) => completions::run(&args),
            Action::Man(args) => man::run(&args),
        }
    }
}
