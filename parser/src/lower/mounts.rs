//! `RUN --mount`.

use llb::{
    CacheSharing, FileAction, FileActionKind, FileInput, FileOp, Input, MkdirOp, MountKind, Op,
    Owner, OwnerId, SecretEnv,
};

use super::Lowering;
use super::fault::{Fallible, Fault};
use super::stage::StageId;
use crate::check::Place;
use crate::instruction::{self, Mount, Run, Sharing};
use crate::mount::MountError;
use crate::path;
use crate::quote::quote;

/// Where a cache mount finds the directory that was made for it.
const CACHE_SEED: &str = "/cache";

/// The mounts of a process, and the inputs they take.
pub(super) struct Mounts {
    pub(super) list: Vec<llb::Mount>,
    inputs: Vec<Input>,
    secret_env: Vec<SecretEnv>,
    sockets: usize,
}

impl Mounts {
    pub(super) fn new(root: llb::Mount, inputs: Vec<Input>) -> Self {
        Self { list: vec![root], inputs, secret_env: Vec::new(), sockets: 0 }
    }

    /// The number of an input, added if it is new.
    fn number(&mut self, input: Input) -> usize {
        self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }

    /// Where the first SSH agent listens.
    pub(super) fn first_socket(&self) -> Option<&str> {
        let socket = self.list.iter().find(|mount| matches!(mount.kind, MountKind::Ssh { .. }));
        socket.map(|mount| mount.dest.as_str())
    }

    /// Whether the variable `name` holds a secret.
    pub(super) fn holds_secret(&self, name: &str) -> bool {
        self.secret_env.iter().any(|secret| secret.name == name)
    }

    /// Inputs, mounts from the root outward, and secrets in variables.
    pub(super) fn finish(mut self, shm_size: u64) -> (Vec<Input>, Vec<llb::Mount>, Vec<SecretEnv>) {
        if shm_size > 0 {
            self.list.push(virtual_mount(
                "/dev/shm",
                "/dev/shm",
                MountKind::Tmpfs { size: shm_size },
            ));
        }
        // A mount inside another must come after it. Secrets and sockets come last, as written.
        self.list.sort_by(|a, b| match (order(a), order(b)) {
            (0, 0) => a.dest.cmp(&b.dest),
            (a, b) => a.cmp(&b),
        });
        (self.number_inputs(), self.list, self.secret_env)
    }

    /// Numbers the inputs in the order in which mounts take them, as BuildKit does: the step is the same in
    /// whatever order its mounts were written.
    fn number_inputs(&mut self) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::with_capacity(self.inputs.len());
        for number in self.list.iter_mut().filter_map(|mount| mount.input.as_mut()) {
            let input = self.inputs[*number];
            *number = inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
        }
        inputs
    }
}

/// BuildKit's order of mounts, which its cache keys hold.
fn order(mount: &llb::Mount) -> u8 {
    match mount.kind {
        MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => 0,
        MountKind::Secret { .. } => 1,
        MountKind::Ssh { .. } => 2,
    }
}

/// A mount that takes no input.
fn virtual_mount(dest: &str, written: &str, kind: MountKind) -> llb::Mount {
    llb::Mount {
        input: None,
        selector: String::new(),
        dest: dest.to_owned(),
        written_dest: written_dest(dest, written),
        readonly: false,
        output: None,
        kind,
    }
}

impl Lowering<'_> {
    pub(super) fn add_mounts(
        &mut self,
        id: StageId,
        place: Place<'_>,
        run: &Run,
        sources: &[Option<StageId>],
        mounts: &mut Mounts,
    ) -> Fallible {
        for (written, source) in run.mounts.iter().zip(sources) {
            let mount = self.resolve_mount(id, place, written)?;
            match mount.kind {
                instruction::MountKind::Secret => self.add_secret(id, &mount, mounts)?,
                instruction::MountKind::Ssh => self.add_socket(id, &mount, mounts)?,
                _ => self.add_tree(id, &mount, *source, mounts)?,
            }
        }
        Ok(())
    }

    fn resolve_mount(&mut self, id: StageId, place: Place<'_>, mount: &Mount) -> Fallible<Mount> {
        let mut unmatched = Vec::new();
        let environment = self.stages[id].state.environment.clone();
        let resolved = mount.resolve(|value| {
            let word = self.expander.word(value, &*environment)?;
            unmatched.extend(word.unmatched);
            Ok(word.text)
        });
        self.report_undefined(id, place, unmatched.iter());
        resolved.map_err(|error: MountError| Fault::new(error.to_string()))
    }

    fn add_tree(
        &mut self,
        id: StageId,
        mount: &Mount,
        source: Option<StageId>,
        mounts: &mut Mounts,
    ) -> Fallible {
        let target = mount.target.as_deref().unwrap_or_default();
        let mut tree = match source {
            Some(source) => self.mounted_stage(mount, source)?,
            None if mount.kind == instruction::MountKind::Bind => self.main_tree()?,
            None => None,
        };
        let kind = match mount.kind {
            instruction::MountKind::Tmpfs => {
                tree = None;
                MountKind::Tmpfs { size: mount.size.unwrap_or_default() }
            }
            instruction::MountKind::Cache => self.cache_kind(mount, target),
            _ => MountKind::Bind,
        };
        let dest = self.mount_target(id, target)?;
        let mut selector = path::join("/", mount.source.as_deref().unwrap_or_default());
        let has_owner = mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some();
        if selector == "/" && has_owner {
            tree = Some(self.add_cache_seed(mount, tree)?);
            selector = CACHE_SEED.to_owned();
        }
        let input = tree.map(|tree| mounts.number(tree));
        mounts.list.push(llb::Mount {
            input,
            selector,
            written_dest: if target.starts_with('/') {
                written_dest(&dest, target)
            } else {
                String::new()
            },
            dest,
            readonly: mount.readonly,
            output: None,
            kind,
        });
        Ok(())
    }

    fn mounted_stage(&self, mount: &Mount, source: StageId) -> Fallible<Option<Input>> {
        if !self.is_dispatched(source) {
            return Err(Fault::new(format!(
                "cannot mount from stage {} to {}, stage needs to be defined before current \
                 command",
                quote(mount.from.as_deref().unwrap_or_default()),
                quote(mount.target.as_deref().unwrap_or_default())
            )));
        }
        Ok(self.stages[source].state.tree)
    }

    fn cache_kind(&self, mount: &Mount, target: &str) -> MountKind {
        let namespace = self.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
        let namespace = namespace.unwrap_or(&self.options.cache_mount_namespace);
        let id = match mount.id.as_deref() {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => path::clean(target),
        };
        let sharing = match mount.sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        };
        MountKind::Cache { id: format!("{namespace}/{id}"), sharing }
    }

    fn mount_target(&self, id: StageId, target: &str) -> Fallible<String> {
        let dest = path::join(&self.stages[id].state.directory(), target);
        if dest == "/" {
            let fault = Fault::new(format!("invalid mount target {}", quote(&dest)));
            return Err(fault.with_hint("say where it is mounted: `target=/DIRECTORY`"));
        }
        Ok(dest)
    }

    /// A tree whose `/cache` has the owner and permissions that a new cache starts with.
    fn add_cache_seed(&mut self, mount: &Mount, tree: Option<Input>) -> Fallible<Input> {
        let owner = Owner {
            user: Some(OwnerId::Id(mount.uid.unwrap_or_default())),
            group: Some(OwnerId::Id(mount.gid.unwrap_or_default())),
        };
        let mkdir = MkdirOp {
            path: CACHE_SEED.to_owned(),
            mode: mount.mode.unwrap_or(0o755),
            make_parents: false,
            owner: Some(owner),
            timestamp: None,
        };
        let inputs: Vec<Input> = tree.into_iter().collect();
        let action = FileAction {
            input: if inputs.is_empty() { FileInput::Scratch } else { FileInput::Input(0) },
            secondary: None,
            output: Some(0),
            kind: FileActionKind::Mkdir(mkdir),
        };
        let name = "[internal] setting cache mount permissions".to_owned();
        let metadata = llb::Metadata { name, ..llb::Metadata::default() };
        let op = Op::File(FileOp { actions: vec![action] });
        let vertex = self.definition.add(op, &inputs, metadata)?;
        Ok(Input { vertex, output: 0 })
    }

    fn add_secret(&self, id: StageId, mount: &Mount, mounts: &mut Mounts) -> Fallible {
        let target = mount.target.as_deref().filter(|target| !target.is_empty());
        let named = [mount.source.as_deref(), mount.id.as_deref()];
        let named = named.into_iter().flatten().find(|name| !name.is_empty());
        let secret = named.or(target.map(path::base));
        let secret = secret.ok_or_else(|| Fault::new("one of source, target required"))?;
        let optional = !mount.required;
        if let Some(name) = &mount.env {
            mounts.secret_env.push(SecretEnv {
                id: secret.to_owned(),
                name: if name.is_empty() { secret.to_owned() } else { name.clone() },
                optional,
            });
        }
        let dest = match (target, &mount.env) {
            (Some(target), _) => target.to_owned(),
            (None, None) => format!("/run/secrets/{}", path::base(secret)),
            (None, Some(_)) => return Ok(()),
        };
        let kind = MountKind::Secret {
            id: secret.to_owned(),
            uid: mount.uid.unwrap_or_default(),
            gid: mount.gid.unwrap_or_default(),
            mode: mount.mode.unwrap_or(0o400),
            optional,
        };
        let written = dest;
        let dest = path::join(&self.stages[id].state.directory(), &written);
        mounts.list.push(virtual_mount(&dest, &written, kind));
        Ok(())
    }

    fn add_socket(&self, id: StageId, mount: &Mount, mounts: &mut Mounts) -> Fallible {
        if mount.source.as_deref().is_some_and(|source| !source.is_empty()) {
            return Err(Fault::new("ssh does not support source"));
        }
        let agent = mount.id.as_deref().filter(|id| !id.is_empty()).unwrap_or("default");
        let written = match mount.target.as_deref().filter(|target| !target.is_empty()) {
            Some(target) => target.to_owned(),
            None => format!("/run/buildkit/ssh_agent.{}", mounts.sockets),
        };
        let dest = path::join(&self.stages[id].state.directory(), &written);
        mounts.sockets += 1;
        let kind = MountKind::Ssh {
            id: agent.to_owned(),
            uid: mount.uid.unwrap_or_default(),
            gid: mount.gid.unwrap_or_default(),
            mode: mount.mode.unwrap_or(0o600),
            optional: !mount.required,
        };
        mounts.list.push(virtual_mount(&dest, &written, kind));
        Ok(())
    }
}

/// What [`llb::Mount::written_dest`] says of a place.
fn written_dest(dest: &str, written: &str) -> String {
    if written == dest { String::new() } else { written.to_owned() }
}
