//! Other ways to write the same command line, brought to the one that [`crate::cli`] knows.
//!
//! - `mybuild -t app .` is `mybuild build -t app .`
//! - `mybuild image build`, `builder build`, `buildx build`, `buildx b` are `mybuild build`, and
//!   `image ls` is `images`, and so on.
//! - Docker's switches take `=true` and `=false`: `--no-cache=false` is no `--no-cache`.
//!
//! The first word is a command where Docker or this program has one of that name. Else it is a
//! context if it looks like a path or an address, or if there is something of that name; what is
//! left is a command that nobody knows.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use parser::suggest::{Case, nearest};

use crate::docker_commands;
use crate::error::{ReadError, UsageError};
use crate::remote::remote;

/// Docker's two-word spellings: group, word, our command.
const GROUPS: &[(&str, &str, &str)] = &[
    ("builder", "build", "build"),
    ("builder", "prune", "builder-prune"),
    ("buildx", "b", "build"),
    ("buildx", "build", "build"),
    ("buildx", "du", "du"),
    ("buildx", "prune", "builder-prune"),
    ("image", "build", "build"),
    ("image", "history", "history"),
    ("image", "inspect", "inspect"),
    ("image", "list", "images"),
    ("image", "load", "load"),
    ("image", "ls", "images"),
    ("image", "prune", "image-prune"),
    ("image", "pull", "pull"),
    ("image", "push", "push"),
    ("image", "remove", "rmi"),
    ("image", "rm", "rmi"),
    ("image", "save", "save"),
    ("image", "tag", "tag"),
    ("container", "commit", "commit"),
    ("container", "diff", "diff"),
    ("container", "list", "ps"),
    ("container", "ls", "ps"),
    ("container", "prune", "container-prune"),
    ("container", "ps", "ps"),
    ("container", "remove", "rm"),
    ("container", "rm", "rm"),
    ("container", "run", "run"),
    ("imagetools", "create", "imagetools-create"),
    ("imagetools", "inspect", "imagetools-inspect"),
    ("manifest", "inspect", "manifest-inspect"),
    ("system", "df", "du"),
    ("system", "prune", "system-prune"),
];

/// The command line as `command` reads it. `argv[0]` is the program.
pub fn normalize(command: &clap::Command, argv: Vec<OsString>) -> Result<Vec<OsString>, ReadError> {
    let mut argv = with_command(command, argv)?;
    let Some(name) = argv.get(command_position(command, &argv)).and_then(|word| word.to_str())
    else {
        return Ok(argv);
    };
    if let Some(subcommand) = command.find_subcommand(name) {
        let commands = [subcommand, command];
        // What follows the image is the container's command line, not ours.
        let theirs = match subcommand.get_name() {
            "run" => {
                argv.split_off(end_of_flags(&commands, &argv, command_position(command, &argv) + 1))
            }
            _ => Vec::new(),
        };
        resolve_switches(&commands, &mut argv);
        argv.extend(theirs);
    }
    Ok(argv)
}

/// Whether a command line is one of `run`, right or wrong.
pub fn is_run(command: &clap::Command, argv: &[OsString]) -> bool {
    with_command(command, argv.to_vec()).is_ok_and(|argv| {
        argv.get(command_position(command, &argv)).is_some_and(|word| word == "run")
    })
}

/// The first word from `at` on that is neither a flag nor a flag's value.
fn end_of_flags(commands: &[&clap::Command], argv: &[OsString], mut at: usize) -> usize {
    let flags = || commands.iter().flat_map(|command| command.get_arguments());
    let takes_value = |flag: &clap::Arg| flag.get_action().takes_values();
    while let Some(word) = argv.get(at).and_then(|word| word.to_str()) {
        let takes_next = if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty())
        {
            let is_it = |flag: &&clap::Arg| {
                flag.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long))
                    || flag.get_all_aliases().is_some_and(|names| names.contains(&long))
            };
            !long.contains('=') && flags().find(is_it).is_some_and(takes_value)
        } else if let Some(shorts) = word.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            // In `-ite`, the first flag with a value takes the rest of the word or the next one.
            let first = shorts.char_indices().find(|(_, short)| {
                flags().any(|flag| flag.get_short() == Some(*short) && takes_value(flag))
            });
            first.is_some_and(|(position, short)| position + short.len_utf8() == shorts.len())
        } else {
            break;
        };
        at += if takes_next { 2 } else { 1 };
    }
    at.min(argv.len())
}

/// Makes the command explicit.
fn with_command(
    command: &clap::Command,
    mut argv: Vec<OsString>,
) -> Result<Vec<OsString>, ReadError> {
    let at = command_position(command, &argv);
    // `buildx imagetools create` is `imagetools create`.
    if argv.get(at).is_some_and(|word| word == "buildx")
        && argv.get(at + 1).is_some_and(|next| next == "imagetools")
    {
        argv.remove(at);
    }
    // `help --help` asks for what `help` says.
    if argv[at..].first().is_some_and(|word| word == "help")
        && argv.get(at + 1).is_some_and(|next| next == "--help" || next == "-h")
    {
        argv.truncate(at + 1);
    }
    let Some(word) = argv.get(at) else { return Ok(argv) };
    let next = argv.get(at + 1).and_then(|next| next.to_str());
    match first_word(command, word, next)? {
        FirstWord::Command => {}
        FirstWord::Group(ours) => drop(argv.splice(at..at + 2, [OsString::from(ours)])),
        FirstWord::OfBuild => argv.insert(at, OsString::from("build")),
    }
    Ok(argv)
}

/// What the word in the command's place is.
enum FirstWord {
    /// A command, or a flag of the program.
    Command,
    /// With the next word one of Docker's spellings of this command.
    Group(&'static str),
    /// A flag or the context of a build.
    OfBuild,
}

fn first_word(
    command: &clap::Command,
    word: &OsStr,
    next: Option<&str>,
) -> Result<FirstWord, ReadError> {
    let Some(text) = word.to_str() else { return Ok(FirstWord::OfBuild) };
    let group = GROUPS.iter().find(|(group, second, _)| *group == text && Some(*second) == next);
    if let Some((_, _, ours)) = group {
        return Ok(FirstWord::Group(ours));
    }
    // `help login` asks for what `login` says.
    let asked = if text == "help" { next.unwrap_or(text) } else { text };
    let asks = text == "help" || matches!(next, None | Some("-h" | "--help"));
    if let Some(group) = docker_commands::group(asked).filter(|_| asks) {
        return Err(group_help(command, group).into());
    }
    if let Some(mut refused) = docker_commands::refused(asked, next, commands_below) {
        if Path::new(asked).is_dir() {
            let hint = refused.hint.unwrap_or_default();
            refused.hint = Some(format!("{hint}; the directory is `./{asked}`"));
        }
        return Err(refused.into());
    }
    let is_own = text == "help" || command.find_subcommand(text).is_some();
    if is_own || matches!(text, "-h" | "--help" | "-V" | "--version") {
        return Ok(FirstWord::Command);
    }
    let is_path = text.starts_with(['-', '.']) || text.contains('/') || remote(word).is_some();
    if is_path || Path::new(word).symlink_metadata().is_ok() {
        return Ok(FirstWord::OfBuild);
    }
    Err(unknown_command(command, text).into())
}

/// The commands of a group of Docker's.
fn commands_below(group: &str) -> Vec<&'static str> {
    GROUPS.iter().filter(|(name, _, _)| *name == group).map(|(_, word, _)| *word).collect()
}

/// What a group of Docker's has here.
fn group_help(command: &clap::Command, group: &'static str) -> clap::Error {
    let mut shown = clap::Command::new(group)
        .override_usage(format!("mybuild {group} COMMAND …"))
        .after_help(format!("`mybuild {group} COMMAND --help` shows the options of a command."))
        .disable_help_subcommand(true);
    for (_, word, ours) in GROUPS.iter().filter(|(name, _, _)| *name == group) {
        let about = command.find_subcommand(ours).and_then(clap::Command::get_about);
        shown =
            shown.subcommand(clap::Command::new(*word).about(about.cloned().unwrap_or_default()));
    }
    shown.try_get_matches_from([group, "--help"]).expect_err("help is no match")
}

fn unknown_command(command: &clap::Command, word: &str) -> UsageError {
    let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    docker_commands::words().for_each(|word| known.push(word));
    let error = UsageError::new(format!("there is no command and no directory `{word}`"));
    match nearest(word, known, Case::Sensitive) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("`mybuild --help` lists the commands"),
    }
}

/// Where the command stands, or the first word that is no global flag.
fn command_position(command: &clap::Command, argv: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = argv.get(at).and_then(|word| word.to_str()) {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let Some(flag) = command.get_arguments().filter(|flag| flag.is_global_set()).find(|flag| {
            flag.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
                || flag.get_short().is_some_and(|short| word == format!("-{short}"))
        }) else {
            break;
        };
        let takes_next = flag.get_action().takes_values() && !word.contains('=');
        at += if takes_next { 2 } else { 1 };
    }
    at
}

/// Rewrites `--switch=true` to `--switch`, and drops every `--switch` before a `--switch=false`,
/// since the last one counts.
fn resolve_switches(commands: &[&clap::Command], argv: &mut Vec<OsString>) {
    let is_switch = |name: &str| {
        commands.iter().flat_map(|command| command.get_arguments()).any(|flag| {
            !flag.get_action().takes_values()
                && (flag.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
                    || flag.get_short().is_some_and(|short| {
                        name.strip_prefix('-').is_some_and(|rest| rest.chars().eq([short]))
                    }))
        })
    };
    let mut result: Vec<OsString> = Vec::with_capacity(argv.len());
    let mut words = std::mem::take(argv).into_iter();
    for word in words.by_ref() {
        if word == "--" {
            result.push(word);
            break;
        }
        let split = word.to_str().and_then(|word| word.split_once('='));
        match split.and_then(|(name, value)| Some((name, boolean(value)?))) {
            Some((name, true)) if is_switch(name) => result.push(name.into()),
            Some((name, false)) if is_switch(name) => {
                result.retain(|earlier| earlier.as_os_str() != OsStr::new(name));
            }
            _ => result.push(word),
        }
    }
    result.extend(words);
    *argv = result;
}

/// A switch's value, in the spellings Docker's flags take.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
