//! `Control`: sessions, builds, the worker, and what the store holds.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::apart::apart;
use crate::build::Builder;
use crate::builds::{Build, Builds, Returned};
use crate::session::{self, Frames};
use crate::wire::control::control_server::Control;
use crate::wire::control::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse,
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, StatusResponse, UpdateBuildHistoryRequest,
    UpdateBuildHistoryResponse, UsageRecord,
};
use crate::wire::gateway;
use crate::{answer, failure, usage, worker};

/// How long one who asks what happens in a build waits for it to begin.
const PATIENCE: Duration = Duration::from_secs(6);
const CLOCK: &str = "buildkit-current-timestamp";

/// The service.
pub(crate) struct Controller {
    pub(crate) builder: Arc<Builder>,
    pub(crate) builds: Arc<Builds>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Controller {
    /// A build until its client has what it wanted.
    async fn run(
        builder: Arc<Builder>,
        build: Arc<Build>,
        returned: oneshot::Receiver<Returned>,
    ) -> Result<SolveResponse, Status> {
        let session = builder.sessions.get(&build.request.session).await?;
        let work = Self::carry_out(&builder, &build, returned);
        tokio::select! {
            done = work => done,
            () = session.closed.cancelled() => {
                build.cancel.cancel();
                Err(Status::cancelled("the client's session has ended"))
            }
        }
    }

    async fn carry_out(
        builder: &Arc<Builder>,
        build: &Build,
        returned: oneshot::Receiver<Returned>,
    ) -> Result<SolveResponse, Status> {
        let SolveRequest { frontend, definition, .. } = &build.request;
        let result = match (frontend.as_str(), definition) {
            ("", None) => Self::returned(build, returned).await?,
            ("", Some(definition)) => {
                return builder.build_definition(build, definition).await;
            }
            (_, None) => builder.solve(build, &of_frontend(&build.request)).await?,
            (_, Some(_)) => {
                let message = "a definition and a frontend exclude each other";
                return Err(Status::invalid_argument(message));
            }
        };
        let Some(name) = answer::name(&result) else { return Ok(SolveResponse::default()) };
        match build.take(name) {
            Some(ready) => builder.finish(build, ready).await,
            None => builder.finish_trees(build, &result).await,
        }
    }

    /// What the client has made of the build that it drives.
    async fn returned(
        build: &Build,
        returned: oneshot::Receiver<Returned>,
    ) -> Result<gateway::Result, Status> {
        let returned = tokio::select! {
            returned = returned => returned,
            () = build.cancel.cancelled() => return Err(Status::cancelled("context canceled")),
        };
        match returned.map_err(|_| Status::cancelled("the build was given up"))? {
            Returned::Error(status) => Err(failure::returned(&status)),
            Returned::Result(result) => Ok(result),
        }
    }
}

/// What a build asks its frontend for that it names itself.
fn of_frontend(request: &SolveRequest) -> gateway::SolveRequest {
    gateway::SolveRequest {
        frontend: request.frontend.clone(),
        frontend_opt: request.frontend_attrs.clone(),
        frontend_inputs: request.frontend_inputs.clone(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..Default::default()
    }
}

/// The daemon's clock: clients compare theirs.
fn with_clock<T>(answer: T) -> Response<T> {
    let mut response = Response::new(answer);
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    if let Ok(text) = MetadataValue::try_from(now.to_string()) {
        response.metadata_mut().insert(CLOCK, text);
    }
    response
}

#[tonic::async_trait]
impl Control for Controller {
    type PruneStream = Answers<UsageRecord>;
    type StatusStream = Answers<StatusResponse>;
    type SessionStream = Frames;
    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn solve(
        &self,
        request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        let request = request.into_inner();
        let (build, returned) = Build::new(request);
        self.builds.add(&build)?;
        // Whoever hangs up no longer wants it.
        let guard = build.cancel.clone().drop_guard();
        let (builder, builds, running) = (self.builder.clone(), self.builds.clone(), build.clone());
        // It comes to its end when the client has gone, too.
        let done = tokio::spawn(async move {
            let run = running.clone();
            let done = apart(move || Self::run(builder, run, returned)).await;
            builds.ended(&running);
            done
        });
        let done = done.await.map_err(|_| Status::internal("the build has crashed"))?;
        guard.disarm();
        done.map(Response::new)
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let build = self.builds.get(&request.into_inner().r#ref, PATIENCE).await?;
        let messages = build.status.clone().follow();
        Ok(with_clock(Box::pin(messages.map(|message| Ok((*message).clone())))))
    }

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (metadata, _, frames) = request.into_parts();
        Ok(Response::new(session::open(&self.builder.sessions, &metadata, frames)?))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse { record: vec![worker::record()] }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(worker::version()) }))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let record = usage::records(&self.builder, request.into_inner()).await?;
        Ok(Response::new(DiskUsageResponse { record }))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let removed = usage::prune(&self.builder, request.into_inner()).await?;
        let removed = futures_util::stream::iter(removed.into_iter().map(Ok));
        Ok(Response::new(Box::pin(removed)))
    }

    /// There is no history yet: it is empty.
    async fn listen_build_history(
        &self,
        _: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Ok(with_clock(Box::pin(futures_util::stream::empty())))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        Err(Status::unimplemented("the history cannot be changed"))
    }
}
