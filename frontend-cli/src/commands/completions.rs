//! `mybuild completions`

use clap::{Command, CommandFactory as _};

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::ui;

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let command = Cli::command();
    // `build` may be left out, so its flags complete without it, too.
    let build = command.find_subcommand("build").expect("there is a build command");
    let flags: Vec<_> =
        build.get_arguments().filter(|flag| !flag.is_positional() && !flag.is_hide_set()).collect();
    let mut offered = offered(&command).args(flags);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut offered, "mybuild", &mut script);
    ui::data(&script)?;
    Ok(Exit::Success)
}

/// The command without what its help hides, too: the generators do not ask.
fn offered(command: &Command) -> Command {
    // clap wants names that live as long as the program. It ends right after this.
    let name: &'static str = command.get_name().to_owned().leak();
    let mut offered = Command::new(name)
        .disable_help_flag(command.is_disable_help_flag_set())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()))
        .subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(self::offered));
    if let Some(about) = command.get_about() {
        offered = offered.about(about.clone());
    }
    offered
}
