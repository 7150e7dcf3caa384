//! `RUN` and `WORKDIR`.

use std::borrow::Cow;

use llb::{
    ExecOp, FileAction, FileActionKind, FileInput, FileOp, Input, MkdirOp, Mount, MountKind,
    NetworkMode, Op, SecurityMode,
};

use super::Lowering;
use super::copy::{parse_owner, state_environment};
use super::environment::Environment;
use super::fault::{Fallible, Fault};
use super::mounts::Mounts;
use super::name::upper_keyword;
use super::stage::StageId;
use crate::check::Place;
use crate::device;
use crate::expand::Variables;
use crate::heredoc;
use crate::instruction::{CommandLine, Instruction, Network, Run, Security};
use crate::path;
use crate::quote::quote;
use crate::span::Text;

/// Where the script of a here-document with `#!` is put.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// What the variables of all processes and their history may take, in bytes.
const CARRIED_MAX: usize = 64 << 20;

/// What a `RUN` starts, and what it is called.
struct Process {
    arguments: Vec<String>,
    /// Behind the instruction in the step's name.
    summary: String,
    /// A script that has to be there.
    script: Option<Mount>,
}

/// What a process may do.
struct Rights {
    network: NetworkMode,
    security: SecurityMode,
    devices: Vec<llb::Device>,
}

impl Lowering<'_> {
    pub(super) fn run_step(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        run: &Run,
        sources: &[Option<StageId>],
    ) -> Fallible {
        let place = Place::instruction(instruction);
        let mut inputs: Vec<Input> = self.stages[id].state.tree.into_iter().collect();
        let root = Mount {
            input: (!inputs.is_empty()).then_some(0),
            selector: String::new(),
            dest: "/".to_owned(),
            written_dest: String::new(),
            readonly: false,
            output: Some(0),
            kind: MountKind::Bind,
        };
        let process = self.process(id, run, &mut inputs)?;
        if process.arguments.is_empty() {
            return Err(Fault::new("failed to marshal LLB definition: arguments are required"));
        }
        let mut mounts = Mounts::new(root, inputs);
        mounts.list.extend(process.script);
        self.add_mounts(id, place, run, sources, &mut mounts)?;
        let rights = self.check_entitlements(run)?;

        let text = format!("{}{}", instruction.original.trim(), process.summary);
        let environment = state_environment(self, id);
        let text = upper_keyword(&self.shown_run(&environment, &text, &mounts));
        let platform = self.stages[id].platform.clone();
        let name = self.step_name(id, &text, platform.as_ref(), &environment);
        let mut metadata = self.metadata(id, name, place);
        metadata.command = process.arguments.join(" ");
        let created_by = self.created_by(id, &process.arguments);

        let (inputs, exec) = self.exec(id, process.arguments, &environment, mounts, rights);
        self.weigh(exec.env.iter().map(String::len).sum::<usize>() + created_by.len())?;
        let vertex = self.definition.add(Op::Exec(exec), &inputs, metadata)?;
        self.stages[id].state.tree = Some(Input { vertex, output: 0 });
        self.record(id, created_by, true);
        Ok(())
    }

    /// Every process carries all variables, and its history entry all arguments: a few large
    /// ones in a long file must not fill the memory.
    pub(super) fn weigh(&mut self, bytes: usize) -> Fallible {
        self.carried += bytes;
        match self.carried {
            0..=CARRIED_MAX => Ok(()),
            _ => Err(Fault::new(format!(
                "the variables and arguments of all steps together take more than {CARRIED_MAX} \
                 bytes"
            ))),
        }
    }

    fn exec(
        &self,
        id: StageId,
        args: Vec<String>,
        environment: &Environment,
        mounts: Mounts,
        rights: Rights,
    ) -> (Vec<Input>, ExecOp) {
        let Rights { network, security, devices } = rights;
        let (state, options) = (&self.stages[id].state, self.options);
        let mut env = environment.to_list();
        if let Some(socket) = mounts.first_socket()
            && environment.value("SSH_AUTH_SOCK").is_none()
        {
            env.push(format!("SSH_AUTH_SOCK={socket}"));
        }
        let undeclared = |(name, _): &(&String, &String)| environment.value(name).is_none();
        let proxies = self.proxies.iter().filter(undeclared);
        let given = self.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let hostname = given.filter(|name| !name.is_empty()).unwrap_or(&options.hostname);
        let (inputs, mounts, secret_env) = mounts.finish(options.shm_size);
        let exec = ExecOp {
            args,
            env,
            proxy_env: proxies.map(|(name, value)| (name.clone(), value.clone())).collect(),
            cwd: path::clean(&state.directory()),
            user: state.image.config.user.clone(),
            hostname: hostname.clone(),
            mounts,
            network,
            security,
            extra_hosts: options.extra_hosts.clone(),
            secret_env,
            ulimits: options.ulimits.clone(),
            cgroup_parent: options.cgroup_parent.clone(),
            valid_exit_codes: Vec::new(),
            devices,
        };
        (inputs, exec)
    }

    /// The command with its here-documents.
    fn process(&mut self, id: StageId, run: &Run, inputs: &mut Vec<Input>) -> Fallible<Process> {
        let plain = |arguments| Process { arguments, summary: String::new(), script: None };
        let (line, first) = match (&run.command, run.heredocs.first()) {
            (CommandLine::Exec(arguments), None) => return Ok(plain(arguments.clone())),
            (CommandLine::Shell(line), None) => return Ok(plain(self.in_shell(id, line))),
            (CommandLine::Exec(arguments), Some(_)) => {
                let message =
                    format!("parsing produced an invalid run command: [{}]", arguments.join(" "));
                return Err(Fault::new(message));
            }
            (CommandLine::Shell(line), Some(first)) => (line, first),
        };
        // A shell that reads here-documents gets them together with the command.
        if heredoc::parse(line)?.is_none() {
            let mut whole = line.clone();
            for heredoc in &run.heredocs {
                whole.extend(["\n", &heredoc.raw, &heredoc.name]);
            }
            return Ok(plain(self.in_shell(id, &whole)));
        }
        let summary = format!(" ({})", summarize(&first.raw));
        let is_script =
            first.content.starts_with("#!") && self.stages[id].state.image.os != "windows";
        if !is_script {
            let arguments = self.in_shell(id, &first.content);
            return Ok(Process { arguments, summary, script: None });
        }
        inputs.push(self.add_document(&first.name, first.content.as_bytes(), 0o755)?);
        let script = Mount {
            input: Some(inputs.len() - 1),
            selector: "/".to_owned(),
            dest: SCRIPT_DIRECTORY.to_owned(),
            written_dest: format!("{SCRIPT_DIRECTORY}/"),
            readonly: true,
            output: None,
            kind: MountKind::Bind,
        };
        let program = path::join(SCRIPT_DIRECTORY, &first.name);
        let arguments = self.in_shell(id, &program);
        Ok(Process { arguments, summary, script: Some(script) })
    }

    /// What a process asks for beyond the usual, if the build may have it.
    fn check_entitlements(&self, run: &Run) -> Fallible<Rights> {
        let network = match run.network {
            Network::Default => self.options.network,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        };
        let security = match run.security {
            Security::Sandbox => SecurityMode::Sandbox,
            Security::Insecure => SecurityMode::Insecure,
        };
        let asked = [
            (network == NetworkMode::Host, "network.host"),
            (security == SecurityMode::Insecure, "security.insecure"),
        ];
        for (asked, entitlement) in asked {
            if asked && !self.options.entitlements.contains(entitlement) {
                return Err(Fault::new(format!("{entitlement} is not allowed"))
                    .with_hint(format!("allow it with `--allow {entitlement}`")));
            }
        }
        let devices = run.devices.iter().map(|written| self.device(&written.value));
        Ok(Rights { network, security, devices: devices.collect::<Fallible<_>>()? })
    }

    fn device(&self, written: &str) -> Fallible<llb::Device> {
        let device::Device { name, required } =
            device::parse(written).map_err(|error| Fault::new(error.to_string()))?;
        let granted = |entitlement: &String| match entitlement.strip_prefix("device") {
            Some("") => true,
            Some(rest) => rest.strip_prefix('=').is_some_and(|known| device::covers(known, &name)),
            None => false,
        };
        if !self.options.entitlements.iter().any(granted) {
            return Err(Fault::new(format!("device {name} is not allowed"))
                .with_hint(format!("allow it with `--allow device={name}`")));
        }
        Ok(llb::Device { name, optional: !required })
    }

    /// The step's name: quotes stay, variables without a value stay, secrets are masked.
    fn shown_run(&self, environment: &Environment, text: &str, mounts: &Mounts) -> String {
        let expander = self.name_expander.clone().keep_quotes().keep_unset();
        let masked = Masked { environment, mounts };
        expander.word(text, &masked).map_or_else(|_| text.to_owned(), |word| word.text)
    }

    /// `RUN |2 A=1 B=2 /bin/sh -c make`: the arguments that were set, each once, and the command.
    fn created_by(&self, id: StageId, arguments: &[String]) -> String {
        let state = &self.stages[id].state;
        let mut shown: Vec<String> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (name, value) in state.arguments.iter() {
            let value = state.environment.value(name).unwrap_or(value);
            let entry = format!("{name}={value}");
            match places.get(name) {
                Some(&place) => shown[place] = entry,
                None => {
                    places.insert(name, shown.len());
                    shown.push(entry);
                }
            }
        }
        if !shown.is_empty() {
            shown.insert(0, format!("|{}", shown.len()));
        }
        shown.extend_from_slice(arguments);
        format!("RUN {} # buildkit", shown.join(" "))
    }

    pub(super) fn workdir(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        written: &Text,
    ) -> Fallible {
        let place = Place::instruction(instruction);
        let directory = self.expand(id, place, &written.value)?;
        let stage = &mut self.stages[id];
        if !stage.state.workdir_set && !directory.starts_with('/') {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                quote(&directory)
            );
            self.reporter.report("WorkdirRelativePath", place, message);
        }
        stage.state.workdir_set = true;
        // An absolute path stays as it was written.
        let directory = match directory.starts_with('/') {
            true => directory,
            false => path::join(&stage.state.directory(), &directory),
        };
        stage.state.set_directory(&directory);
        let makes_layer = directory != "/";
        if makes_layer {
            self.make_directory(id, instruction, &directory)?;
        }
        self.record(id, format!("WORKDIR {directory}"), makes_layer);
        Ok(())
    }

    fn make_directory(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        directory: &str,
    ) -> Fallible {
        let inputs: Vec<Input> = self.stages[id].state.tree.into_iter().collect();
        let lookup = (!inputs.is_empty()).then_some(0);
        let user = &self.stages[id].state.image.config.user;
        let mkdir = MkdirOp {
            path: path::clean(directory),
            mode: 0o755,
            make_parents: true,
            owner: (!user.is_empty()).then(|| parse_owner(user, lookup)),
            timestamp: self.timestamp(),
        };
        let action = FileAction {
            input: lookup.map_or(FileInput::Scratch, FileInput::Input),
            secondary: None,
            output: Some(0),
            kind: FileActionKind::Mkdir(mkdir),
        };
        let text = self.shown(id, &instruction.original);
        let environment = state_environment(self, id);
        let platform = self.stages[id].platform.clone();
        let name = self.step_name(id, &text, platform.as_ref(), &environment);
        let metadata = self.metadata(id, name, Place::instruction(instruction));
        let metadata = llb::Metadata { ignore_cache: false, ..metadata };
        let op = Op::File(FileOp { actions: vec![action] });
        let vertex = self.definition.add(op, &inputs, metadata)?;
        self.stages[id].state.tree = Some(Input { vertex, output: 0 });
        Ok(())
    }
}

/// A stage's variables, with stars for those that hold secrets.
struct Masked<'a> {
    environment: &'a Environment,
    mounts: &'a Mounts,
}

impl Variables for Masked<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        if self.mounts.holds_secret(name) {
            return Some(Cow::Borrowed("****"));
        }
        self.environment.get(name)
    }
}

/// The first line of a here-document, with dots if there are more.
fn summarize(content: &str) -> String {
    let content = content.trim();
    match content.split_once('\n') {
        None => content.to_owned(),
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
    }
}
