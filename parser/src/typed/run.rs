//! `RUN`.

use super::{Problem, Problems, command_line, flags};
use crate::device;
use crate::flag::{Flags, Takes};
use crate::instruction::{Network, Run, Security};
use crate::mount;
use crate::quote::quote;
use crate::span::{Span, Text};
use crate::tree::Node;

const FLAGS: [(&str, Takes); 4] = [
    ("device", Takes::Values),
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("security", Takes::Value),
];

pub(super) fn run(node: &Node) -> Result<Run, Problems> {
    let flags = flags(node, &FLAGS)?;
    let devices = devices(&flags)?;
    let mut mounts = Vec::new();
    for value in flags.values("mount") {
        mounts.push(mount::parse(&value).map_err(|error| at(value.span, error, None))?);
    }
    Ok(Run {
        command: command_line(node, &node.arguments),
        heredocs: node.heredocs.clone(),
        mounts,
        network: network(&flags)?,
        security: security(&flags)?,
        devices,
        flags_used: flags.names(),
    })
}

fn devices(flags: &Flags) -> Result<Vec<Text>, Problems> {
    let devices = flags.values("device");
    for value in &devices {
        device::parse(&value.value).map_err(|error| at(value.span, error, None))?;
    }
    Ok(devices)
}

fn network(flags: &Flags) -> Result<Network, Problems> {
    let Some(value) = flags.value("network") else { return Ok(Network::default()) };
    match value.value.as_str() {
        "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => {
            let message = format!("invalid network mode {}", quote(other));
            Err(at(value.span, message, Some("the modes are `default`, `none` and `host`")))
        }
    }
}

fn security(flags: &Flags) -> Result<Security, Problems> {
    let Some(value) = flags.value("security") else { return Ok(Security::default()) };
    match value.value.as_str() {
        "sandbox" => Ok(Security::Sandbox),
        "insecure" => Ok(Security::Insecure),
        other => {
            let message = format!("security {} is not valid", quote(other));
            Err(at(value.span, message, Some("it is `sandbox` or `insecure`")))
        }
    }
}

fn at(span: Span, message: impl ToString, hint: Option<&str>) -> Problems {
    vec![Problem { message: message.to_string(), span, hint: hint.map(str::to_owned) }]
}
