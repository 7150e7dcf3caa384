//! What an op is made of, by name: to say later in which parts two ops differ.
//!
//! A part's digest is over the same canonical bytes as the op's own ([`crate::encode`]), so that what
//! never enters a key (secrets' values, proxies, names shown to users) is in no part either. Which input
//! is which by its number is in the part `order` alone: what an input holds is for the caller to add.

use std::collections::BTreeMap;

use oci::Digest;

use crate::encode::{self, Encoder};
use crate::op::{ExecOp, FileAction, FileActionKind, FileInput, NetworkMode, Op, SecurityMode};

/// Name of the part that says in which order the others come, and which inputs they take.
pub const ORDER: &str = "order";

/// The parts of an op, each a digest of its canonical bytes. Two ops have the same parts if and only if
/// they have the same canonical bytes. What is not set has no part.
pub fn parts(op: &Op) -> BTreeMap<String, Digest> {
    let mut parts = Parts::new();
    match op {
        Op::Source(_) | Op::Merge | Op::Diff => parts.add("source", |e| encode::encode_op(e, op)),
        Op::Exec(exec) => parts.exec(exec),
        Op::File(file) => file.actions.iter().for_each(|action| parts.action(action)),
    }
    parts.finish()
}

struct Parts {
    /// Parts may share a name, as two mounts over each other do.
    by_name: BTreeMap<String, Vec<Digest>>,
    order: Encoder,
}

impl Parts {
    fn new() -> Self {
        Self { by_name: BTreeMap::new(), order: Encoder::new(ORDER) }
    }

    fn add(&mut self, name: impl Into<String>, write: impl FnOnce(&mut Encoder)) {
        let (name, mut encoder) = (name.into(), Encoder::new("part"));
        write(&mut encoder);
        self.order.text(&name);
        self.by_name.entry(name).or_default().push(encoder.finish());
    }

    fn text(&mut self, name: impl Into<String>, text: &str) {
        self.add(name, |e| {
            e.text(text);
        });
    }

    fn add_unless(&mut self, unset: bool, name: &str, write: impl FnOnce(&mut Encoder)) {
        if !unset {
            self.add(name, write);
        }
    }

    fn exec(&mut self, exec: &ExecOp) {
        let ExecOp {
            args,
            env,
            proxy_env: _,
            cwd,
            user,
            hostname,
            mounts,
            network,
            security,
            extra_hosts,
            secret_env,
            ulimits,
            cgroup_parent: _,
            valid_exit_codes,
            devices,
        } = exec;
        self.add("command", |e| encode_texts(e, args));
        for variable in env {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            self.text(format!("variable {name}"), variable);
        }
        for (name, text, unset) in
            [("directory", cwd, "/"), ("user", user, ""), ("host name", hostname, "")]
        {
            if text != unset {
                self.text(name, text);
            }
        }
        for mount in mounts {
            self.add(format!("mount {}", mount.dest), |e| encode::encode_mounted(e, mount));
            self.order.option(mount.input.as_ref(), |e, input| {
                e.number(*input as u64);
            });
        }
        let is_default = *network == NetworkMode::Default;
        self.add_unless(is_default, "network", |e| encode::encode_network(e, *network));
        let is_default = *security == SecurityMode::Sandbox;
        self.add_unless(is_default, "security", |e| encode::encode_security(e, *security));
        for host in extra_hosts {
            self.add(format!("host {}", host.0), |e| encode::encode_host(e, host));
        }
        for secret in secret_env {
            let name = format!("secret {}", secret.name);
            self.add(name, |e| encode::encode_secret_env(e, secret));
        }
        for limit in ulimits {
            self.add(format!("ulimit {}", limit.name), |e| encode::encode_limit(e, limit));
        }
        for device in devices {
            self.add(format!("device {}", device.name), |e| encode::encode_device(e, device));
        }
        self.add_unless(valid_exit_codes.is_empty(), "exit codes", |e| {
            e.list(valid_exit_codes, |e, code| {
                e.signed((*code).into());
            });
        });
    }

    fn action(&mut self, action: &FileAction) {
        let FileAction { input, secondary, output, kind } = action;
        let name = match kind {
            FileActionKind::Copy(op) => format!("copy to {}", op.dest),
            FileActionKind::Mkfile(op) => format!("file {}", op.path),
            FileActionKind::Mkdir(op) => format!("directory {}", op.path),
            FileActionKind::Rm(op) => format!("removal of {}", op.path),
            FileActionKind::Symlink(op) => format!("link {}", op.path),
        };
        self.add(name, |e| encode::encode_action_kind(e, kind));
        let number = |e: &mut Encoder, input: &FileInput| encode::encode_file_input(e, input);
        number(&mut self.order, input);
        self.order.option(secondary.as_ref(), number);
        self.order.option(output.as_ref(), |e, output| {
            e.number(*output as u64);
        });
    }

    fn finish(self) -> BTreeMap<String, Digest> {
        let folded = |digests: Vec<Digest>| match <[Digest; 1]>::try_from(digests) {
            Ok([only]) => only,
            Err(several) => {
                let mut encoder = Encoder::new("parts");
                encoder.list(&several, |e, digest| {
                    e.text(digest.as_str());
                });
                encoder.finish()
            }
        };
        let parts = self.by_name.into_iter().map(|(name, digests)| (name, folded(digests)));
        parts.chain([(ORDER.to_owned(), self.order.finish())]).collect()
    }
}

fn encode_texts(e: &mut Encoder, texts: &[String]) {
    e.list(texts, |e, text| {
        e.text(text);
    });
}
