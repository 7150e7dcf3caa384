//! One build of a Dockerfile, from request to images.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit_cache::cache::INLINE;
use cache::LayerId;
use cache::layer::compress::Compression as Encoding;
use llb::{Definition, VertexId};
use oci::{Descriptor, Digest, Platform};
use tokio_util::sync::CancellationToken;

use crate::annotations::{self, AnnotationLevel};
use crate::blocking::{blocking, until};
use crate::client::Client;
use crate::dockerfile::{PlatformPlan, Scope, Session};
use crate::error::BuildError;
use crate::layer::Layers;
use crate::layer::tar::{Form, encoding, is_stream};
use crate::output::assemble::{self, AssembledImage, Parts};
use crate::output::export::{Built, Export, Exported, OutputPush, PushedImage};
use crate::output::redate::{NewTimes, Redate};
use crate::prepared::Prepared;
use crate::progress::event::{Event, Progress};
use crate::progress::steps::Steps;
use crate::push::{Push, Pushes};
use crate::remote::Fetch;
use crate::request::{BuildRequest, Epoch, ImageForm, MediaTypes, Output, Rewrite};
use crate::shared_cache::{self, Import};
use crate::solve::{Job, Purpose, unique_id};
use crate::source::git::Repositories;
use crate::source::image::Images;
use crate::source::input::{self, Input, Place};
use crate::step::worker::shipped;
use crate::workspace::Workspace;

/// What a build gives.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// One image a platform.
    pub images: Vec<BuiltImage>,
    /// The names the result got in the store.
    pub names: Vec<String>,
    /// What the names stand for: the image's manifest, or the index over all platforms. Where outputs have it in
    /// several forms, that of the last.
    pub target: Descriptor,
    /// What was pushed.
    pub pushed: Vec<PushedImage>,
    /// Names this build among all builds of the machine; its logs are kept under it.
    pub build_id: String,
}

/// An image of one platform.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// Its platform.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// The digest of its config: the image id.
    pub config: Digest,
}

/// What is said where `--cache-to type=inline` does nothing.
const NOTHING_CARRIED: &str =
    "the image carries no cache: none of its layers is a step's as it was made";

/// What a build has come to.
struct Solved<'a> {
    job: &'a Job,
    /// The layers of each target.
    trees: Vec<Vec<LayerId>>,
    layers: &'a Arc<Layers>,
}

impl Workspace {
    /// Builds. `cancel` stops it: running steps are killed, nothing is left behind.
    pub async fn build(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let prepared = self.prepare(request, client, progress, &cancel).await?;
        self.build_prepared(prepared, &cancel).await
    }

    /// Reads the Dockerfile and all that the build must know before it begins.
    pub async fn prepare(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> Result<Prepared, BuildError> {
        let session = until(cancel, self.session(request, client, progress, cancel)).await?;
        let steps = session.steps.clone();
        match self.prepare_session(session, cancel).await {
            Ok(prepared) => Ok(prepared),
            Err(error) => self.ended(Err(error), &steps, cancel),
        }
    }

    /// Builds what was prepared here.
    pub async fn build_prepared(
        &self,
        prepared: Prepared,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let steps = prepared.session.steps.clone();
        let built = self.build_session(prepared, cancel).await;
        self.ended(built, &steps, cancel)
    }

    /// What was read for a request.
    pub(crate) async fn session(
        &self,
        mut request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> Result<Session, BuildError> {
        let steps = Arc::new(Steps::new(progress));
        let http = self.http_files(&client, request.offline, request.step_disk);
        let git = Arc::new(Repositories::new(self.store.clone(), client.clone(), request.offline));
        let fetch = Fetch {
            workspace: self,
            request: &request,
            client: &client,
            http: &http,
            git: &git,
            steps: &steps,
            cancel,
        };
        let remote = fetch.context().await?;
        if let Some(dockerfile) = fetch.dockerfile().await? {
            request.dockerfile = dockerfile;
        }
        let (store, stop) = (self.store.clone(), cancel.clone());
        let (single_id, asker) = (self.machine.host().single_id(), client.clone());
        let read = blocking(move || {
            let temporary = store.temporary_directory();
            let place = Place { temporary: &temporary, stop: &stop, single_id };
            let input = input::read(&request, remote.as_ref(), asker.as_ref(), &place)?;
            Ok((input, request))
        });
        let (input, request) = read.await?;
        let (name, text) = (input.name.clone(), input.text.as_str().into());
        steps.event(Event::Dockerfile { name, text });
        let session = self.new_session(request, client, input, steps);
        Ok(Session { http, git, ..session })
    }

    /// A request and what was read for it.
    pub(crate) fn new_session(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        input: Input,
        steps: Arc<Steps>,
    ) -> Session {
        let (store, offline) = (self.store.clone(), request.offline);
        let registries = self.registries(client.as_ref());
        let layouts = input.layouts.clone();
        let images = Images::new(store.clone(), registries.clone(), request.pull, offline, layouts);
        Session {
            http: self.http_files(&client, offline, request.step_disk),
            git: Arc::new(Repositories::new(store, client.clone(), offline)),
            request,
            client,
            input,
            images: Arc::new(images),
            registries,
            steps,
            resolved: HashMap::new(),
            build_id: unique_id(),
        }
    }

    /// Reads what `session` needs from servers and checks what the request asks for.
    async fn prepare_session(
        &self,
        mut session: Session,
        cancel: &CancellationToken,
    ) -> Result<Prepared, BuildError> {
        let (client, registries, steps) =
            (session.client.clone(), session.registries.clone(), session.steps.clone());
        let (sources, targets) =
            (session.request.cache_from.clone(), session.request.cache_to.clone());
        let import = Import {
            store: &self.store,
            registries: &registries,
            client: client.as_ref(),
            steps: &steps,
            offline: session.request.offline,
            inline: session.request.inline_cache,
        };
        // Each phase has its state on the heap: together they would fill a thread's stack.
        let lowered = Box::pin(session.lower(Scope::Target));
        let read = Box::pin(import.read(&sources, &targets));
        // While servers are waited for.
        let tried = self.snapshotter();
        let prepared = async { futures_util::try_join!(lowered, read, tried) };
        let ((definition, plans), shared, _) = until(cancel, prepared).await?;
        session.tell_warnings(&plans);
        session.check_times(&plans)?;
        session.check_annotations(&plans)?;
        session.tell_notes(&plans);
        Ok(Prepared { session, definition, plans, shared: Arc::new(shared) })
    }

    async fn build_session(
        &self,
        prepared: Prepared,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let Prepared { session, definition, plans, shared } = prepared;
        let pushes = self.pushes(&session);
        let job = Job { shared, ..session.job(definition, &plans, &pushes) };
        self.carry_out(&job, cancel, async |layers, trees| {
            let solved = Solved { job: &job, trees, layers };
            let finish = self.finish(&session, &plans, &pushes, solved, cancel);
            let outcome = Box::pin(finish).await?;
            Box::pin(self.export_caches(&session, &job, layers, cancel)).await?;
            Ok(outcome)
        })
        .await
    }

    /// Adds what the build has found or made to the caches of `--cache-to`.
    async fn export_caches(
        &self,
        session: &Session,
        job: &Job,
        layers: &Arc<Layers>,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        if session.request.cache_to.is_empty() {
            return Ok(());
        }
        let images = session.resolved.values();
        let base = images.flat_map(|image| image.config.rootfs.diff_ids.iter().cloned()).collect();
        let targets: Vec<VertexId> = job.targets.iter().map(|target| target.vertex).collect();
        let export = shared_cache::Export {
            store: &self.store,
            layers,
            registries: &session.registries,
            client: session.client.as_ref(),
            steps: &session.steps,
            shipped: &shipped(&job.definition, &targets),
            base: &base,
            stop: cancel,
            definition: &job.definition,
            targets: &targets,
        };
        job.shared.export(&export, &session.request.cache_to).await
    }

    /// From layers to images, names and outputs.
    async fn finish(
        &self,
        session: &Session,
        plans: &[PlatformPlan],
        pushes: &[OutputPush],
        solved: Solved<'_>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let layers = solved.layers;
        let step = session.steps.internal("exporting to image");
        let built = step.ended(self.assemble(session, plans, solved).await)?;
        let export = Export {
            store: &self.store,
            machine: &self.machine,
            layers,
            steps: &session.steps,
            built: &built,
            request: &session.request,
            client: &session.client,
            pushes,
            stop: cancel,
        };
        let exported = crate::output::export::run(&export).await;
        // What is on standard output already cannot be written again.
        let is_pure = !session.request.outputs.iter().any(Output::is_stdout);
        let Exported { names, built, pushed } = match exported {
            Err(error) if is_pure && !matches!(error, BuildError::Canceled) => {
                let layers_of_all = built.images.iter().flat_map(|(_, image)| &image.layers);
                return Err(layers.why_not_written(layers_of_all, error).await);
            }
            exported => exported?,
        };
        let images = built.images.iter().map(|(platform, image)| built_image(platform, image));
        Ok(Outcome {
            images: images.collect(),
            names,
            target: built.target,
            pushed,
            build_id: session.build_id.clone(),
        })
    }

    /// A push for each output that asks for one.
    fn pushes(&self, session: &Session) -> Vec<OutputPush> {
        let mut pushes = Vec::new();
        for output in &session.request.outputs {
            let Output::Image { form, store: is_stored, push: Some(options), .. } = output else {
                continue;
            };
            // An output that says where to goes nowhere else.
            let names = match form.names.is_empty() {
                true => session.request.tags.clone(),
                false => form.names.clone(),
            };
            let registries =
                self.registries_for_push(session.client.as_ref(), &names, options.insecure);
            let (store, steps) = (self.store.clone(), session.steps.clone());
            let push = Push::new(store, registries, steps, names, options.by_digest);
            pushes.push(OutputPush {
                push: Arc::new(push),
                form: ImageForm { compression: options.compression, ..form.clone() },
                names_by_digest: options.by_digest && *is_stored,
            });
        }
        pushes
    }

    async fn assemble(
        &self,
        session: &Session,
        plans: &[PlatformPlan],
        Solved { job, trees, layers }: Solved<'_>,
    ) -> Result<Built, BuildError> {
        let annotated =
            |level, platform| annotations::at(&session.request.annotations, level, Some(platform));
        let mut images = Vec::new();
        let mut trees = trees.into_iter();
        for plan in plans {
            // An empty image has no target.
            let mut tree = plan.target.and_then(|_| trees.next()).unwrap_or_default();
            let mut config = plan.lowered.config.clone();
            if session.request.squash {
                let base = session.base_layers(plan);
                let own = config.history.split_off(plan.lowered.base_history);
                config.history.extend(assemble::squashed(own, tree.len().saturating_sub(base)));
                tree = layers.squashed(&tree, base).await?;
            }
            let mut assembled = layers.assembled(&tree).await?;
            let made = session.request.inline_cache.then(|| assembled.clone());
            if let Some(times) = session.new_times(plan) {
                let (store, layers) = (self.store.clone(), layers.clone());
                let base = session.base_layers(plan);
                assembled = blocking(move || {
                    Redate { store: &store, layers: &layers, times }.all(assembled, base)
                })
                .await?;
            }
            // What the base carries is not said of this image.
            config.extra.remove(INLINE);
            if let (Some(made), Some(target)) = (made, plan.target) {
                let image: Vec<_> = assembled.iter().map(|layer| layer.diff_id.clone()).collect();
                let definition = &job.definition;
                match job.shared.inline(definition, target.vertex, &made, &image) {
                    Some(records) => drop(config.extra.insert(INLINE.to_owned(), records.into())),
                    None => session.steps.warn(NOTHING_CARRIED.to_owned()),
                }
            }
            let parts = Parts {
                config,
                base_history: plan.lowered.base_history,
                layers: assembled,
                epoch: session.epoch(plan),
                annotations: annotated(AnnotationLevel::Manifest, &plan.platform),
                descriptor_annotations: annotated(
                    AnnotationLevel::ManifestDescriptor,
                    &plan.platform,
                ),
            };
            images.push((plan.platform.clone(), assemble::assemble(&self.store, parts)?));
        }
        let annotations = &session.request.annotations;
        Built::new(&self.store, images, MediaTypes::Oci, annotations, session.request.is_index())
    }
}

impl Session {
    fn job(&self, definition: Definition, plans: &[PlatformPlan], pushes: &[OutputPush]) -> Job {
        Job {
            definition: Arc::new(definition),
            targets: plans.iter().filter_map(|plan| plan.target).collect(),
            purpose: Purpose::Image,
            also: plans.iter().flat_map(|plan| &plan.also).map(|also| also.vertex).collect(),
            directories: self.input.directories.clone(),
            images: self.images.clone(),
            git: self.git.clone(),
            http: self.http.clone(),
            resolved: self.resolved.clone(),
            shared: Arc::default(),
            steps: self.steps.clone(),
            client: self.client.clone(),
            limits: self.request.limits.clone(),
            step_disk: self.request.step_disk,
            jobs: self.request.jobs,
            forms: self.forms(plans, pushes),
            dockerfile: Some((self.input.name.clone(), self.input.text.clone())),
            build_id: self.build_id.clone(),
            epoch: plans.iter().find_map(|plan| plan.lowered.source_date_epoch),
        }
    }

    /// In what forms the layers are wanted; none when they get other times first.
    fn forms(&self, plans: &[PlatformPlan], pushes: &[OutputPush]) -> Vec<Form> {
        let mut forms: Vec<Form> = Vec::new();
        if plans.iter().any(|plan| self.new_times(plan).is_some()) {
            return forms;
        }
        for compression in self.request.outputs.iter().flat_map(Output::compressions) {
            form(&mut forms, encoding(compression));
        }
        for output in pushes {
            let form = form(&mut forms, encoding(output.form.compression));
            // What is squashed is in no image by itself.
            if !self.request.squash {
                form.pushes.add(output.push.clone());
            }
        }
        forms.retain(|form| is_stream(form.encoding));
        forms
    }

    /// The time of the sources.
    fn epoch(&self, plan: &PlatformPlan) -> Option<i64> {
        match self.request.times.epoch {
            Epoch::OfBuild => plan.lowered.source_date_epoch,
            Epoch::Given(seconds) => Some(seconds),
            Epoch::None => None,
        }
    }

    /// What becomes of the times in the layers that the build makes.
    fn new_times(&self, plan: &PlatformPlan) -> Option<NewTimes> {
        let epoch = self.epoch(plan)?.max(0).unsigned_abs();
        match self.request.times.rewrite {
            Rewrite::Default | Rewrite::Later => Some(NewTimes::Later(epoch)),
            Rewrite::All => Some(NewTimes::All(epoch)),
            Rewrite::None => None,
        }
    }

    /// How many of an image's layers are its base's.
    fn base_layers(&self, plan: &PlatformPlan) -> usize {
        let base = plan.lowered.base.as_ref().map(|request| &self.resolved[request]);
        base.map_or(0, |image| image.config.rootfs.diff_ids.len())
    }

    pub(crate) fn check_annotations(&self, plans: &[PlatformPlan]) -> Result<(), BuildError> {
        let platforms: Vec<Platform> = plans.iter().map(|plan| plan.platform.clone()).collect();
        let of_outputs = self.request.outputs.iter().filter_map(Output::form);
        let of_outputs = of_outputs.flat_map(|form| &form.annotations);
        let annotations = self.request.annotations.iter().chain(of_outputs);
        annotations::check(annotations, &platforms, self.request.is_index())
    }

    /// Who asks for other times has to say which.
    pub(crate) fn check_times(&self, plans: &[PlatformPlan]) -> Result<(), BuildError> {
        if plans.iter().all(|plan| self.epoch(plan).is_some()) {
            return Ok(());
        }
        match self.request.times.rewrite {
            Rewrite::Default | Rewrite::None => Ok(()),
            Rewrite::Later => {
                let message = "`rewrite-timestamp=true` changes nothing without SOURCE_DATE_EPOCH";
                self.steps.warn(message.to_owned());
                Ok(())
            }
            Rewrite::All => {
                Err(BuildError::input("`rewrite-timestamp=all` needs a time".to_owned())
                    .with_hint("set SOURCE_DATE_EPOCH to seconds since 1970"))
            }
        }
    }
}

/// The form of an encoding.
fn form(forms: &mut Vec<Form>, encoding: Encoding) -> &mut Form {
    let at = forms.iter().position(|form| form.encoding == encoding).unwrap_or_else(|| {
        forms.push(Form { encoding, pushes: Pushes::default() });
        forms.len() - 1
    });
    &mut forms[at]
}

fn built_image(platform: &Platform, image: &AssembledImage) -> BuiltImage {
    BuiltImage {
        platform: platform.clone(),
        manifest: image.manifest.clone(),
        config: image.config_descriptor.digest.clone(),
    }
}
