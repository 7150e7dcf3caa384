//! What a build has to fetch before it begins: a main context on another machine, a Dockerfile at a URL,
//! and the time of what `SOURCE_DATE_EPOCH` names.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use llb::{GitSource, HttpSource, SourceOp};
use parser::credentials::without_credentials;
use parser::lower::{self, Dated, FETCHED, MAIN_CONTEXT, MainContext, Options, SourceTime};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::client::Client;
use crate::dockerfile::Session;
use crate::error::BuildError;
use crate::file_op;
use crate::progress::steps::Steps;
use crate::request::{BuildRequest, ContextSource, DockerfileSource};
use crate::solve::{Job, Purpose, unique_id};
use crate::source::contexts::Directory;
use crate::source::git::Repositories;
use crate::source::http::{HttpFiles, Told};
use crate::source::image::Images;
use crate::source::newest::{newest_file, newest_member};
use crate::source::open::TEXT_MAX;
use crate::source::remote::RemoteContext;
use crate::tree::View;
use crate::workspace::Workspace;

/// Whom to ask, and whom to tell.
pub(crate) struct Fetch<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) request: &'a BuildRequest,
    pub(crate) client: &'a Arc<dyn Client>,
    pub(crate) http: &'a Arc<HttpFiles>,
    pub(crate) git: &'a Arc<Repositories>,
    pub(crate) steps: &'a Arc<Steps>,
    pub(crate) cancel: &'a CancellationToken,
}

impl Fetch<'_> {
    /// The Dockerfile, if it is at a URL.
    pub(crate) async fn dockerfile(&self) -> Result<Option<DockerfileSource>, BuildError> {
        let DockerfileSource::Url(url) = &self.request.dockerfile else { return Ok(None) };
        let name = "Dockerfile".to_owned();
        let (url, filename) = (url.clone(), name.clone());
        let shown = without_credentials(&url);
        let source = HttpSource { url, checksum: None, filename, mode: 0o600, uid: 0, gid: 0 };
        let step = self.steps.internal(&format!("[internal] load build definition from {shown}"));
        let told = Told { steps: self.steps.clone(), step: step.step };
        let fetched = step.ended(self.http.get(&source, &told).await)?.fetched();
        let http = self.http.clone();
        let text = blocking(move || http.read(&fetched, TEXT_MAX)).await?;
        Ok(Some(DockerfileSource::Text { name, text }))
    }

    /// The main context, if it is on another machine.
    pub(crate) async fn context(&self) -> Result<Option<RemoteContext>, BuildError> {
        let ContextSource::Remote(url) = &self.request.context else { return Ok(None) };
        let shown = without_credentials(url);
        match lower::remote(url) {
            Some(lower::Remote::Git) => {
                let main = MainContext::Git { url: url.clone(), keep_git_dir: false };
                let files = self.files(&main).await?;
                Ok(Some(RemoteContext { shown, main, files, dockerfile: None }))
            }
            Some(lower::Remote::Http) => self.http_context(url, shown).await.map(Some),
            None => Err(BuildError::input(format!("context `{shown}` is not an address"))),
        }
    }

    async fn http_context(&self, url: &str, shown: String) -> Result<RemoteContext, BuildError> {
        let main = |is_archive| MainContext::Http { url: url.to_owned(), is_archive };
        let files = self.files(&main(false)).await?;
        let fetched = files.clone();
        let is_archive = blocking(move || {
            let file = fetched.open_regular(FETCHED.as_bytes());
            Ok(file.is_ok_and(|file| file_op::is_archive(&file)))
        });
        if is_archive.await? {
            let (main, dockerfile) = (main(true), None);
            let files = self.files(&main).await?;
            return Ok(RemoteContext { shown, main, files, dockerfile });
        }
        let dockerfile = Some(PathBuf::from(FETCHED));
        Ok(RemoteContext { shown, main: main(false), files, dockerfile })
    }

    /// The files of a context, brought here by the steps that the build has for it.
    async fn files(&self, main: &MainContext) -> Result<Arc<View>, BuildError> {
        let options = Options {
            main_context: main.clone(),
            build_args: self.request.build_args.clone(),
            ..Options::default()
        };
        let failed = |diagnostic: parser::Diagnostic| BuildError::input(diagnostic.message);
        let (definition, target) = lower::main_context(&options).map_err(failed)?;
        let job = Job {
            definition: Arc::new(definition),
            targets: target.into_iter().collect(),
            purpose: Purpose::Reading,
            also: Vec::new(),
            directories: BTreeMap::new(),
            images: Arc::new(self.images()),
            http: self.http.clone(),
            git: self.git.clone(),
            resolved: HashMap::new(),
            shared: Arc::default(),
            steps: self.steps.clone(),
            client: self.client.clone(),
            limits: self.request.limits.clone(),
            step_disk: self.request.step_disk,
            jobs: self.request.jobs,
            forms: Vec::new(),
            dockerfile: None,
            build_id: unique_id(),
            epoch: None,
        };
        let solved = self.workspace.carry_out(&job, self.cancel, async |layers, trees| {
            let rootfs = layers.rootfs(&trees.concat()).await?;
            blocking(move || Ok(Arc::new(rootfs.view()?))).await
        });
        solved.await
    }

    fn images(&self) -> Images {
        let store = self.workspace.store.clone();
        let registries = self.workspace.registries(self.client.as_ref());
        Images::new(store, registries, self.request.pull, self.request.offline, BTreeMap::new())
    }
}

impl Session {
    /// When the source that `SOURCE_DATE_EPOCH` names was last changed.
    pub(crate) async fn source_time(
        &self,
        dockerfile: &parser::Dockerfile,
        options: &Options,
    ) -> Result<SourceTime, BuildError> {
        // What is wrong with it is found again where it is told best.
        let Ok(dated) = lower::epoch_source(dockerfile, options) else {
            return Ok(SourceTime::NotAsked);
        };
        let time = match dated {
            Dated::Never => return Ok(SourceTime::NotAsked),
            Dated::MainContext => match self.input.directories.get(MAIN_CONTEXT).cloned() {
                Some(Directory::Unpacked(directory)) => {
                    let failed = |e| BuildError::system("failed to look at the context").because(e);
                    blocking(move || newest_file(&directory).map_err(failed)).await?
                }
                _ => None,
            },
            Dated::Source(source) => match *source {
                SourceOp::Http(source) => self.time_of_file(&source).await?,
                SourceOp::Git(source) => Some(self.time_of_commit(&source).await?),
                _ => return Ok(SourceTime::NotAsked),
            },
        };
        Ok(time.map_or(SourceTime::Unknown, SourceTime::At))
    }

    async fn time_of_commit(&self, source: &GitSource) -> Result<i64, BuildError> {
        let shown = without_credentials(&source.remote);
        let step = self.steps.internal(&format!("[internal] load metadata for {shown}"));
        step.ended(self.git.time(source).await)
    }

    /// `Last-Modified`, or the time of the newest file in an archive.
    async fn time_of_file(&self, source: &HttpSource) -> Result<Option<i64>, BuildError> {
        let shown = without_credentials(&source.url);
        let step = self.steps.internal(&format!("[internal] load metadata for {shown}"));
        let told = Told { steps: self.steps.clone(), step: step.step };
        let fetched = step.ended(self.http.get_any(source, &told).await)?;
        if let Some(modified) = fetched.modified.filter(|_| source.checksum.is_none()) {
            return Ok(Some(modified));
        }
        let http = self.http.clone();
        blocking(move || Ok(newest_member(&http.open(&fetched)?))).await
    }
}
