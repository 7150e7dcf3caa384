//! Builds whose images a definition gives, without a Dockerfile.

use std::sync::Arc;

use llb::Definition;
use oci::{ImageConfig, Platform};
use parser::lower::{Lowered, Outline};
use tokio_util::sync::CancellationToken;

use crate::blocking::until;
use crate::client::Client;
use crate::dockerfile::{PlatformPlan, Session};
use crate::error::BuildError;
use crate::prepared::Prepared;
use crate::progress::event::Progress;
use crate::progress::steps::Steps;
use crate::request::BuildRequest;
use crate::shared_cache::Import;
use crate::source::input::Input;
use crate::workspace::Workspace;

/// An image whose files a definition gives.
#[derive(Debug, Clone)]
pub struct DefinedImage {
    /// Its platform.
    pub platform: Platform,
    /// Its config. What its history says stays; what it has of layers is filled in.
    pub config: ImageConfig,
    /// Its files; nothing for an empty image.
    pub target: Option<llb::Input>,
}

/// Images, and the steps that make their files.
#[derive(Debug, Clone, Default)]
pub struct Defined {
    /// The steps.
    pub definition: Definition,
    /// The images.
    pub images: Vec<DefinedImage>,
    /// Name and text of the file that the steps come from, for errors.
    pub file: Option<(String, String)>,
}

impl Workspace {
    /// Prepares a build of images that `definition` gives. What `request` says of Dockerfiles and contexts
    /// counts for nothing.
    pub async fn prepare_defined(
        &self,
        request: BuildRequest,
        defined: Defined,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> Result<Prepared, BuildError> {
        let Defined { definition, images, file } = defined;
        let (name, text) = file.unwrap_or_default();
        let steps = Arc::new(Steps::new(progress));
        let input = Input::of_definition(name, text);
        let session = self.new_session(request, client, input, steps.clone());
        let plans = images.into_iter().map(plan).collect();
        match until(cancel, self.prepare_plans(session, definition, plans)).await {
            Ok(prepared) => Ok(prepared),
            Err(error) => self.ended(Err(error), &steps, cancel),
        }
    }

    /// Asks the caches of `session` and checks what its request asks for, where it is known already what
    /// there is to do.
    async fn prepare_plans(
        &self,
        session: Session,
        definition: Definition,
        plans: Vec<PlatformPlan>,
    ) -> Result<Prepared, BuildError> {
        let import = Import {
            store: &self.store,
            registries: &session.registries,
            client: session.client.as_ref(),
            steps: &session.steps,
            offline: session.request.offline,
            inline: session.request.inline_cache,
        };
        let read = import.read(&session.request.cache_from, &session.request.cache_to);
        let shared = Arc::new(Box::pin(read).await?);
        session.check_times(&plans)?;
        session.check_annotations(&plans)?;
        Ok(Prepared { session, definition, plans, shared })
    }
}

fn plan(image: DefinedImage) -> PlatformPlan {
    let DefinedImage { platform, config, target } = image;
    let lowered = Lowered {
        definition: Definition::default(),
        target,
        also: Vec::new(),
        base: None,
        base_history: config.history.len(),
        config,
        warnings: Vec::new(),
        notes: Vec::new(),
        contexts_used: Default::default(),
        stages: Vec::new(),
        outline: Outline::default(),
        source_date_epoch: None,
    };
    PlatformPlan { platform, lowered, target, also: Vec::new() }
}
