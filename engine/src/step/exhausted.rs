//! What is said about a step that failed: which limit it has run into, and how to go on.

use executor::{Exhausted, ExitStatus};
use llb::Rlimit;

use crate::step::disk_budget::Overrun;
use crate::step::exit_hint::exit_hint;
use crate::step::sandbox::Ended;
use crate::units;

/// For the error's own line, and for the one after.
pub(crate) struct Words {
    pub(crate) how: String,
    pub(crate) hint: Option<String>,
}

/// What became of a step with these limits by `ulimit`. `ids` is how many ids steps have, where that is
/// not all.
pub(crate) fn words(ended: &Ended, ulimits: &[Rlimit], ids: Option<u64>) -> Words {
    if let Some(overrun) = ended.overrun {
        return disk(overrun);
    }
    match (ended.exhausted, ended.status) {
        (Some(Exhausted::Memory { limit }), ExitStatus::OomKilled) => memory(limit),
        (exhausted, status) => {
            let hint = exhausted.and_then(hint).or_else(|| cut_short(status, ulimits));
            let hint = hint.or_else(|| exit_hint(status, &ended.tail));
            let hint = hint.or_else(|| missing_id(ids?, &ended.tail));
            Words { how: format!("exit code: {}", status.code()), hint }
        }
    }
}

/// What complaints about owners, users and groups have in them.
const OF_OWNERS: [&str; 5] = ["own", "uid", "gid", "group", "chgrp"];

/// The kernel's word for an id that a user namespace does not have is that for any wrong argument.
fn missing_id(ids: u64, tail: &[String]) -> Option<String> {
    let is_of_owner = |line: &String| {
        line.contains("Invalid argument") && OF_OWNERS.iter().any(|word| line.contains(word))
    };
    tail.iter().any(is_of_owner).then(|| {
        format!(
            "without root, steps have the user and group ids below {ids}: `/etc/subuid` and \
             `/etc/subgid` give a user more"
        )
    })
}

fn disk(overrun: Overrun) -> Words {
    let (how, hint) = match overrun {
        Overrun::Budget(limit) => (
            format!("it wrote more than {}", units::told(limit)),
            "raise `--step-disk`, or write what the image does not need to a cache mount",
        ),
        Overrun::Reserve(left) => (
            format!("it filled the disk: less than {} are left", units::told(left)),
            "`mybuild prune` removes what is not in use",
        ),
    };
    Words { how, hint: Some(hint.to_owned()) }
}

fn memory(limit: Option<u64>) -> Words {
    let (how, hint) = match limit {
        Some(limit) => (
            format!("out of memory: its limit is {}", units::told(limit)),
            "raise `--memory` or the limit of its control group, or do less at once",
        ),
        None => ("out of memory".to_owned(), "the machine has no more: do less at once"),
    };
    Words { how, hint: Some(hint.to_owned()) }
}

/// A limit that need not be why it failed.
fn hint(exhausted: Exhausted) -> Option<String> {
    match exhausted {
        Exhausted::Processes { limit: Some(limit) } => Some(format!(
            "a process could not be started: the limit is {limit} at once; do less at once"
        )),
        Exhausted::Memory { limit: Some(limit) } => Some(format!(
            "one of its processes was killed: the limit of memory is {}",
            units::told(limit)
        )),
        Exhausted::Processes { limit: None } | Exhausted::Memory { limit: None } => None,
    }
}

/// A step that a `--ulimit` has ended, directly or through the shell that tells its signal.
fn cut_short(status: ExitStatus, ulimits: &[Rlimit]) -> Option<String> {
    const KILLED: i32 = 128 + 9;
    const TIME: i32 = 128 + 24;
    const FILE_SIZE: i32 = 128 + 25;
    let limit = |name: &str| ulimits.iter().find(|limit| limit.name == name);
    match status.code() {
        TIME | KILLED => {
            let seconds = limit("cpu")?.soft;
            Some(format!("`--ulimit cpu` allows {seconds} s of processor time"))
        }
        FILE_SIZE => {
            let bytes = u64::try_from(limit("fsize")?.soft).ok()?;
            Some(format!("`--ulimit fsize` allows files of {}", units::told(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn told(status: ExitStatus, exhausted: Option<Exhausted>, overrun: Option<Overrun>) -> String {
        let ended = Ended {
            status,
            exhausted,
            overrun,
            outputs: BTreeMap::new(),
            tail: Vec::new(),
            log_path: None,
        };
        let ulimits = [("cpu", 2), ("fsize", 1 << 20)].map(|(name, soft)| Rlimit {
            name: name.to_owned(),
            soft,
            hard: soft,
        });
        let Words { how, hint } = words(&ended, &ulimits, None);
        format!("{how} / {}", hint.unwrap_or_default())
    }

    #[test]
    fn an_id_that_is_missing_is_told_where_owners_are_complained_of() {
        for (line, told) in [
            ("chown: /f: Invalid argument", true),
            ("tar: f: Cannot change ownership to uid 200000, gid 7: Invalid argument", true),
            ("chgrp: changing group of 'f': Invalid argument", true),
            ("dd: error writing 'f': Invalid argument", false),
            ("chown: /f: Operation not permitted", false),
        ] {
            let hint = missing_id(65537, &["before".to_owned(), line.to_owned()]);
            assert_eq!(hint.is_some(), told, "{line}");
            assert!(hint.is_none_or(|hint| hint.contains("below 65537: `/etc/subuid`")));
        }
    }

    #[test]
    fn limits_are_told_with_their_figures() {
        let memory = |limit| Some(Exhausted::Memory { limit });
        let processes = Some(Exhausted::Processes { limit: Some(8192) });
        for (status, exhausted, overrun, expected) in [
            (
                ExitStatus::OomKilled,
                memory(Some(200 << 20)),
                None,
                "out of memory: its limit is 200 MiB / raise `--memory` or the limit of its \
                 control group, or do less at once",
            ),
            (
                ExitStatus::Exited(1),
                memory(Some(3 << 29)),
                None,
                "exit code: 1 / one of its processes was killed: the limit of memory is 1.5 GiB",
            ),
            (
                ExitStatus::Exited(2),
                processes,
                None,
                "exit code: 2 / a process could not be started: the limit is 8192 at once; do \
                 less at once",
            ),
            (
                ExitStatus::Signaled(9),
                None,
                Some(Overrun::Budget(10 << 20)),
                "it wrote more than 10 MiB / raise `--step-disk`, or write what the image does \
                 not need to a cache mount",
            ),
            (
                ExitStatus::Signaled(9),
                None,
                Some(Overrun::Reserve(256 << 20)),
                "it filled the disk: less than 256 MiB are left / `mybuild prune` removes what \
                 is not in use",
            ),
            (
                ExitStatus::Exited(152),
                None,
                None,
                "exit code: 152 / `--ulimit cpu` allows 2 s of processor time",
            ),
            (
                ExitStatus::Signaled(25),
                None,
                None,
                "exit code: 153 / `--ulimit fsize` allows files of 1 MiB",
            ),
            (ExitStatus::Exited(1), None, None, "exit code: 1 / "),
        ] {
            assert_eq!(told(status, exhausted, overrun), expected);
        }
    }
}
