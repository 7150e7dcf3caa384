//! `--opt`: BuildKit's frontend options, as the flags that mean the same.

use super::csv;
use crate::cli::BuildArgs;
use crate::error::UsageError;

/// Adds what `NAME=VALUE` says to `args`, as if the flag had been typed.
pub fn apply(text: &str, args: &mut BuildArgs) -> Result<(), UsageError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let value = || value.to_owned();
    match name.split_once(':') {
        // Without a value that of the environment counts.
        Some(("build-arg", name)) if !text.contains('=') => args.build_args.push(name.to_owned()),
        Some(("build-arg", name)) => args.build_args.push(format!("{name}={}", value())),
        Some(("label", name)) => args.labels.push(format!("{name}={}", value())),
        Some(("context", name)) => args.build_contexts.push(format!("{name}={}", value())),
        Some(("attest", kind)) if value() == "disabled=true" => {
            args.attests.push(format!("type={kind},disabled=true"));
        }
        Some(("attest", _)) => return Err(refused(name).with_hint("attestations are not made")),
        Some((kind, _)) => return Err(refused_because(name, kind)),
        None => return apply_plain(name, value(), args),
    }
    Ok(())
}

fn apply_plain(name: &str, value: String, args: &mut BuildArgs) -> Result<(), UsageError> {
    match name {
        "target" => args.target = Some(value),
        "cache-from" => args.cache_from.extend(csv::fields(&value)?),
        "platform" => args.platform.push(value),
        "filename" => args.file = Some(value.into()),
        "no-cache" if value.is_empty() => args.no_cache = true,
        "no-cache" => args.no_cache_filter.push(value),
        "add-hosts" => args.add_hosts.extend(csv::fields(&value)?),
        "shm-size" => args.shm_size = Some(value),
        "ulimit" => args.ulimits.extend(csv::fields(&value)?),
        "cgroup-parent" => args.cgroup_parent = Some(value),
        "memory" => args.memory = Some(value),
        "memswap" => args.memory_swap = Some(value),
        "cpushares" => args.cpu_shares = Some(value),
        "cpuperiod" => args.cpu_period = Some(value),
        "cpuquota" => args.cpu_quota = Some(value),
        "cpusetcpus" => args.cpuset_cpus = Some(value),
        "cpusetmems" => args.cpuset_mems = Some(value),
        "force-network-mode" => {
            args.network = Some(if value == "sandbox" { "default".to_owned() } else { value });
        }
        "hostname" => args.hostname = Some(value),
        "requestid" => match value.strip_prefix("frontend.") {
            Some(method) => args.call = Some(method.to_owned()),
            None => return Err(refused(&format!("{name}={value}"))),
        },
        "image-resolve-mode" => {
            args.pull = match value.as_str() {
                "" | "default" => None,
                "pull" => Some("always".to_owned()),
                "preferlocal" => Some("missing".to_owned()),
                "local" => Some("never".to_owned()),
                _ => return Err(refused(&format!("{name}={value}"))),
            };
        }
        "multi-platform" => args.build_args.push(format!("BUILDKIT_MULTI_PLATFORM={value}")),
        "frontend.caps" => csv::fields(&value)?.iter().try_for_each(|cap| capability(cap))?,
        _ => return Err(refused_because(name, name)),
    }
    Ok(())
}

/// What a client asks of a frontend; with `+forward` another one may have it.
fn capability(text: &str) -> Result<(), UsageError> {
    const KNOWN: [&str; 3] = ["subrequests", "contexts", "gitquerystring"];
    let name = text.strip_prefix("moby.buildkit.frontend.").unwrap_or_default();
    let is_known = KNOWN.contains(&name.strip_suffix("+forward").unwrap_or(name));
    match is_known || text.ends_with("+forward") {
        true => Ok(()),
        false => Err(UsageError::new(format!("unsupported frontend capability {text}"))),
    }
}

/// Options that are known to BuildKit, and why they mean nothing here.
const REFUSED: &[(&str, &str)] = &[
    ("cache-imports", "name caches with `--cache-from`"),
    ("cmdline", "there is one frontend, and no image of it"),
    ("source", "there is one frontend, and no image of it"),
    ("context", "give it as the last word: `mybuild build CONTEXT`"),
    ("contextkey", "the context is the last word, and has no other name"),
    ("contextsubdir", "write it behind the address of the context: `URL#REF:SUBDIR`"),
    ("dockerfilekey", "name the Dockerfile with `--file`"),
    ("input", "contexts are named with `--build-context NAME=SOURCE`"),
    ("input-metadata", "contexts are named with `--build-context NAME=SOURCE`"),
    ("local-sessionid", "directories are read in place, in no session"),
    ("sharedkey", "directories are read in place: there is no copy that a key could name"),
    ("override-copy-image", "no image is needed to copy"),
];

fn refused_because(name: &str, kind: &str) -> UsageError {
    match REFUSED.iter().find(|(known, _)| *known == kind) {
        Some((_, why)) => refused(name).with_hint(*why),
        None => refused(name).with_hint("it is not one of BuildKit's frontend options"),
    }
}

fn refused(name: &str) -> UsageError {
    UsageError::new(format!("`--opt {name}` is not supported"))
}
