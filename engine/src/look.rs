//! What can be told of a build without building it.

use std::sync::Arc;

use parser::Diagnostic;
use parser::lower::Outline;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::dockerfile::{Scope, Session, warnings_of};
use crate::error::BuildError;
use crate::plan::Plan;
use crate::progress::event::Progress;
use crate::request::BuildRequest;
use crate::workspace::Workspace;

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
        let targets = plans.iter().filter_map(|p| p.target.map(|t| t.vertex)).collect();
        let warnings = warnings_of(&plans);
        Ok(Plan::new(definition, targets, warnings, &session.resolved))
    }

    /// Looks the Dockerfile over: the warnings about what the target needs, or about all stages
    /// where no target is named.
    pub async fn check(
        &self,
        request: BuildRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Diagnostic>, BuildError> {
        let scope = if request.target.is_some() { Scope::Target } else { Scope::AllStages };
        let mut session = self.looking(request, client, progress).await?;
        let (_, plans) = session.lower(scope).await?;
        session.tell_notes(&plans);
        Ok(warnings_of(&plans))
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
