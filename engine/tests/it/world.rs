//! What a build is asked with: a context, a store of its own, a client, and an ear.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use engine::{
    BuildRequest, Client, ClientError, ContextSource, Credentials, Destination, DockerfileSource,
    Engine, EngineOptions, Event, NetworkMode, NewFile, NoCache, Progress, PullPolicy, Secret,
    TarSource, Target, request::Times,
};

/// A context, a store of its own, and what the last build told.
pub(crate) struct World {
    directory: tempfile::TempDir,
    told: Arc<Told>,
}

#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        let line = match event {
            Event::StepAdded { step, name, .. } => format!("{} is {name}", step.0),
            Event::StepStarted { step } => format!("{} runs", step.0),
            Event::StepCached { step } => format!("{} cached", step.0),
            Event::StepFailed { step, message } => format!("{} failed: {message}", step.0),
            Event::Warning { message } => format!("warning: {message}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// Has one directory and no secret.
pub(crate) struct Asker {
    pub(crate) context: PathBuf,
}

impl Client for Asker {
    fn secret(&self, _: &str) -> Result<Option<Secret>, ClientError> {
        Ok(None)
    }

    fn known_hosts(&self) -> Result<Vec<u8>, ClientError> {
        Ok(Vec::new())
    }

    fn ssh_agent(&self, _: &str) -> Result<Option<UnixStream>, ClientError> {
        Ok(None)
    }

    fn credentials(&self) -> Credentials {
        Credentials::anonymous()
    }

    fn directory(&self, name: &Path) -> Result<PathBuf, ClientError> {
        match name.is_absolute() {
            true => Ok(name.to_owned()),
            false if name == Path::new("context") => Ok(self.context.clone()),
            false => {
                Err(ClientError::new(format!("no local context is called `{}`", name.display())))
            }
        }
    }

    fn archive(&self, archive: &TarSource) -> Result<Box<dyn Read + Send>, ClientError> {
        let TarSource::Path(path) = archive else { unreachable!("tests read files") };
        let file = fs::File::open(path);
        file.map(|file| Box::new(file) as _)
            .map_err(|error| ClientError::io("failed to open the archive", error))
    }

    fn output(&self, dest: &Destination) -> Result<Target, ClientError> {
        let Destination::Path(path) = dest else { unreachable!("tests write files") };
        let file = NewFile::create(path).map(Target::File);
        file.map_err(|error| {
            ClientError::io(format!("failed to write `{}`", path.display()), error)
        })
    }

    fn output_directory(&self, dest: &Path) -> Result<PathBuf, ClientError> {
        Ok(dest.to_owned())
    }
}

impl World {
    /// One without a file in its context.
    pub(crate) fn empty() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap(), told: Arc::default() };
        fs::create_dir(world.path("context")).unwrap();
        fs::write(world.path("mybuild.toml"), "").unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A request to build `dockerfile` over the context.
    pub(crate) fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            dockerfile: DockerfileSource::Text {
                name: "Dockerfile".to_owned(),
                text: dockerfile.replace("; ", "\n").into_bytes(),
            },
            context: ContextSource::Directory(self.path("context")),
            ignore_file: None,
            named_contexts: BTreeMap::new(),
            target: None,
            also: Vec::new(),
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            unset: Default::default(),
            squash: false,
            platforms: Vec::new(),
            no_cache: NoCache::Never,
            keep_cache_mounts: false,
            pull: PullPolicy::Missing,
            offline: false,
            network: NetworkMode::Default,
            extra_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            hostname: String::new(),
            cgroup_parent: String::new(),
            limits: engine::Limits::default(),
            step_disk: None,
            entitlements: Vec::new(),
            jobs: None,
            tags: Vec::new(),
            outputs: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            inline_cache: false,
            times: Times::default(),
            annotations: Vec::new(),
            index: None,
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        let (root, config) = (self.path("store"), self.path("mybuild.toml"));
        let options =
            EngineOptions { root: Some(root), config: Some(config), ..EngineOptions::default() };
        Engine::new(&options).unwrap()
    }

    /// Forgets what the last build told, and listens to the next.
    pub(crate) fn listener(&self) -> Arc<Told> {
        self.told.0.lock().unwrap().clear();
        self.told.clone()
    }

    pub(crate) fn client(&self) -> Arc<dyn Client> {
        Arc::new(Asker { context: self.path("context") })
    }

    /// What the last build told.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.0.lock().unwrap().clone()
    }
}
