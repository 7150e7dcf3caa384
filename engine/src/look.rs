//! What can be said about a build without building it.

use std::sync::Arc;

use oci::Platform;
use parser::Diagnostic;
use parser::fix::Fixed;
use parser::lower::Outline;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::dockerfile::{Scope, Session, warnings_of};
use crate::error::BuildError;
use crate::plan::Plan;
use crate::progress::event::Progress;
use crate::request::BuildRequest;
use crate::workspace::Workspace;

/// What looking a Dockerfile over has shown.
#[derive(Debug)]
pub struct Checked {
    /// Warnings and notes.
    pub found: Vec<Diagnostic>,
    /// Why not all of it could be looked at: what an image has is not known. Only what needs no images was
    /// looked for then.
    pub stopped_by: Option<BuildError>,
}

impl Workspace {
    /// Lowers without building.
    pub async fn plan(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<Plan, BuildError> {
        let mut session = self.looking(request, client, progress).await?;
        let (definition, plans) = session.lower(Scope::Target).await?;
        session.tell_notes(&plans);
        let wanted = plans.iter().flat_map(|plan| plan.target.iter().chain(&plan.also));
        let targets = wanted.map(|target| target.vertex).collect();
        let warnings = warnings_of(&plans);
        Ok(Plan::new(definition, targets, warnings, &session.resolved))
    }

    /// Looks the Dockerfile over: warnings and notes about what the target needs, or about all
    /// stages where no target is named.
    pub async fn check(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<Checked, BuildError> {
        let mut session = self.looking(request, client, progress).await?;
        match session.lower(Scope::Checks).await {
            Ok((_, plans)) => {
                session.tell_notes(&plans);
                Ok(Checked { found: warnings_of(&plans), stopped_by: None })
            }
            Err(error @ (BuildError::Dockerfile { .. } | BuildError::Canceled)) => Err(error),
            Err(error) => Ok(Checked { found: session.doubts()?, stopped_by: Some(error) }),
        }
    }

    /// What the target takes from whoever builds it; of several platforms, for the first.
    pub async fn outline(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<Outline, BuildError> {
        let mut session = self.looking(request, client, progress).await?;
        let (_, plans) = session.lower(Scope::Target).await?;
        let plan = plans.into_iter().next().expect("there is always a platform");
        Ok(plan.lowered.outline)
    }

    /// The Dockerfile as it is written: its stages are what can be built.
    pub async fn dockerfile(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<parser::Dockerfile, BuildError> {
        let session = self.looking(request, client, progress).await?;
        Ok(session.parse()?.dockerfile)
    }

    /// The Dockerfile with its warnings mended as far as nothing changes in what it builds; of
    /// several platforms, for the first.
    pub async fn fix(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<Fixed, BuildError> {
        let mut session = self.looking(request, client, progress).await?;
        // Everything that is wrong is told here, and all images are known afterwards.
        session.request.target = None;
        session.lower(Scope::Checks).await?;
        let known = session.resolved.iter();
        let known = known.map(|(request, image)| (request.clone(), image.base_image())).collect();
        let platform = session.request.platforms.first().cloned().unwrap_or_else(Platform::host);
        let options = session.options(&platform, Vec::new());
        parser::fix::fix(&session.input.text, &options, &known).ok_or_else(|| {
            BuildError::refused("the Dockerfile cannot be rewritten: one of its stages has errors")
                .with_hint("`--target STAGE --check` says which")
        })
    }

    async fn looking(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<Session, BuildError> {
        // Whoever is no longer interested drops the future.
        let never = CancellationToken::new();
        self.session(request, client, progress, &never).await
    }
}
