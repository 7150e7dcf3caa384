//! Limits of steps by control group: Docker's flags, and buildx's `--resource` for the same.

use engine::Limits;

use super::{csv, quantity};
use crate::cli::BuildArgs;
use crate::error::UsageError;

/// What `--resource` may name, and the flag that means the same.
const RESOURCES: [&str; 7] = [
    "memory",
    "memory-swap",
    "cpu-shares",
    "cpu-period",
    "cpu-quota",
    "cpuset-cpus",
    "cpuset-mems",
];

/// Sets the flags that `--resource NAME=VALUE[,…]` means.
pub(super) fn apply_resource(text: &str, args: &mut BuildArgs) -> Result<(), UsageError> {
    // A list of processors has commas of its own: such a field is quoted.
    for (name, value) in csv::pairs(text)? {
        let flag = match name.as_str() {
            "memory" => &mut args.memory,
            "memory-swap" => &mut args.memory_swap,
            "cpu-shares" => &mut args.cpu_shares,
            "cpu-period" => &mut args.cpu_period,
            "cpu-quota" => &mut args.cpu_quota,
            "cpuset-cpus" => &mut args.cpuset_cpus,
            "cpuset-mems" => &mut args.cpuset_mems,
            _ => {
                let message = format!("`--resource {text}`: unknown resource `{name}`");
                let hint = format!("resources are {}", RESOURCES.join(", "));
                return Err(UsageError::new(message).with_hint(hint));
            }
        };
        *flag = Some(value);
    }
    Ok(())
}

pub(super) fn resolve(args: &BuildArgs) -> Result<Limits, UsageError> {
    let memory = given(&args.memory).map(|text| quantity::bytes("--memory", text)).transpose()?;
    Ok(Limits {
        memory,
        memory_and_swap: swap(given(&args.memory_swap), memory)?,
        cpu_shares: number("--cpu-shares", &args.cpu_shares)?,
        cpu_period: number("--cpu-period", &args.cpu_period)?,
        cpu_quota: number("--cpu-quota", &args.cpu_quota)?,
        cpuset_cpus: list("--cpuset-cpus", &args.cpuset_cpus)?,
        cpuset_mems: list("--cpuset-mems", &args.cpuset_mems)?,
        ..Limits::default()
    })
}

/// What was given; nothing and zero are Docker's words for "no limit".
fn given(flag: &Option<String>) -> Option<&str> {
    flag.as_deref().filter(|text| !matches!(*text, "" | "0"))
}

/// Memory and swap together; -1 is unlimited.
fn swap(text: Option<&str>, memory: Option<u64>) -> Result<Option<u64>, UsageError> {
    let Some(text) = text.filter(|text| *text != "-1") else { return Ok(None) };
    let both = quantity::bytes("--memory-swap", text)?;
    match memory {
        None => Err(UsageError::new("`--memory-swap` needs `--memory`")
            .with_hint("it is the limit of memory and swap together")),
        Some(memory) if both < memory => {
            Err(UsageError::new(format!("`--memory-swap {text}` is less than the memory alone"))
                .with_hint("it is the limit of memory and swap together"))
        }
        Some(_) => Ok(Some(both)),
    }
}

fn number(flag: &str, text: &Option<String>) -> Result<Option<u64>, UsageError> {
    let text = given(text).filter(|text| *text != "-1");
    text.map(|text| quantity::positive(flag, text).map(|number| number as u64)).transpose()
}

/// Numbers and ranges: `0-2,7`.
fn list(flag: &str, text: &Option<String>) -> Result<Option<String>, UsageError> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let is_good = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    if text.split(',').all(is_good) {
        return Ok(Some(text.to_owned()));
    }
    Err(UsageError::new(format!("`{flag}`: `{text}` is not a list of numbers"))
        .with_hint("write numbers and ranges: 0-2,7"))
}
