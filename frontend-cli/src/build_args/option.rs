//! `--opt`: BuildKit's frontend options, as the flags that mean the same.

use super::csv;
use crate::cli::BuildArgs;
use crate::error::UsageError;

/// Adds what `NAME=VALUE` says to `args`, as if the flag had been typed.
pub fn apply(text: &str, args: &mut BuildArgs) -> Result<(), UsageError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let value = || value.to_owned();
    match name.split_once(':') {
        Some(("build-arg", name)) => args.build_args.push(format!("{name}={}", value())),
        Some(("label", name)) => args.labels.push(format!("{name}={}", value())),
        Some(("context", name)) => args.build_contexts.push(format!("{name}={}", value())),
        Some(("attest", kind)) if value() == "disabled=true" => {
            args.attests.push(format!("type={kind},disabled=true"));
        }
        Some(_) => return Err(refused(name)),
        None => return apply_plain(name, value(), args),
    }
    Ok(())
}

fn apply_plain(name: &str, value: String, args: &mut BuildArgs) -> Result<(), UsageError> {
    match name {
        "target" => args.target = Some(value),
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
        _ => return Err(refused(name)),
    }
    Ok(())
}

fn refused(name: &str) -> UsageError {
    UsageError::new(format!("`--opt {name}` is not supported"))
}
