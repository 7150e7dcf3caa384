//! `mybuild man`

use clap::CommandFactory as _;

use crate::cli::{Cli, ManArgs};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::ui;

pub(super) fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    let page = match args.command.as_deref() {
        None => command,
        Some(name) => command
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| UsageError::new(format!("`{name}` is not a command")))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    ui::data(&text)?;
    Ok(Exit::Success)
}
