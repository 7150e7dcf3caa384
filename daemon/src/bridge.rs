//! `LLBBridge`: how a client drives its build.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use engine::tree::View;
use futures_util::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::apart::apart;
use crate::build::Builder;
use crate::builds::{Build, Builds, Returned};
use crate::capabilities;
use crate::reading;
use crate::wire::gateway::llb_bridge_server::LlbBridge;
use crate::wire::gateway::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse,
    NewContainerRequest, NewContainerResponse, PingRequest, PongResponse, ReadDirRequest,
    ReadDirResponse, ReadFileRequest, ReadFileResponse, ReleaseContainerRequest,
    ReleaseContainerResponse, ResolveImageConfigRequest, ResolveImageConfigResponse,
    ResolveSourceMetaRequest, ResolveSourceMetaResponse, ReturnRequest, ReturnResponse,
    SolveRequest, SolveResponse, StatFileRequest, StatFileResponse, WarnRequest, WarnResponse,
};
use crate::worker;

/// Which build a call is for.
const BUILD: &str = "buildkit-controlapi-buildid";
/// How long a call waits for a build that is about to come.
const PATIENCE: Duration = Duration::from_secs(3);

/// The service.
pub(crate) struct Bridge {
    pub(crate) builder: Arc<Builder>,
    pub(crate) builds: Arc<Builds>,
}

impl Bridge {
    async fn build(&self, metadata: &MetadataMap) -> Result<Arc<Build>, Status> {
        let name = metadata.get(BUILD).and_then(|value| value.to_str().ok());
        let name = name.ok_or_else(|| Status::invalid_argument(format!("`{BUILD}` is missing")))?;
        self.builds.get(name, PATIENCE).await
    }

    /// The tree called `name`, its steps run.
    async fn open(&self, build: Arc<Build>, name: String) -> Result<Arc<View>, Status> {
        let builder = self.builder.clone();
        let opened = apart(move || async move { builder.open(&build, &build.tree(&name)?).await });
        opened.await
    }
}

fn not_built<T>(method: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("`{method}` is not supported")))
}

#[tonic::async_trait]
impl LlbBridge for Bridge {
    type ExecProcessStream = Pin<Box<dyn Stream<Item = Result<ExecMessage, Status>> + Send>>;

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.build(request.metadata()).await?;
        Ok(Response::new(PongResponse {
            frontend_api_caps: capabilities::frontend(),
            llb_caps: capabilities::definition(),
            workers: vec![worker::record()],
        }))
    }

    async fn solve(
        &self,
        request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let solve = request.into_inner();
        let builder = self.builder.clone();
        let result = apart(move || async move {
            match &solve.definition {
                Some(definition) => builder.solve_definition(&build, &solve, definition).await,
                None => builder.solve(&build, &solve).await,
            }
        });
        let result = result.await?;
        Ok(Response::new(SolveResponse { r#ref: String::new(), result: Some(result) }))
    }

    async fn r#return(
        &self,
        request: Request<ReturnRequest>,
    ) -> Result<Response<ReturnResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let ReturnRequest { result, error } = request.into_inner();
        build.give_back(match error {
            Some(status) => Returned::Error(status),
            None => Returned::Result(result.unwrap_or_default()),
        })?;
        Ok(Response::new(ReturnResponse {}))
    }

    async fn resolve_image_config(
        &self,
        request: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let (builder, request) = (self.builder.clone(), request.into_inner());
        let found = apart(move || async move { builder.image_config(&build, request).await });
        Ok(Response::new(found.await?))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let (builder, request) = (self.builder.clone(), request.into_inner());
        let found = apart(move || async move { builder.resolve(&build, request).await });
        Ok(Response::new(found.await?))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let ReadFileRequest { r#ref, file_path, range, .. } = request.into_inner();
        let view = self.open(build, r#ref).await?;
        let data = reading::on(view, move |view| reading::read_file(view, &file_path, range));
        Ok(Response::new(ReadFileResponse { data: data.await? }))
    }

    async fn read_dir(
        &self,
        request: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let ReadDirRequest { r#ref, dir_path, include_pattern, .. } = request.into_inner();
        let view = self.open(build, r#ref).await?;
        let read = move |view: &View| reading::read_dir(view, &dir_path, &include_pattern);
        Ok(Response::new(ReadDirResponse { entries: reading::on(view, read).await? }))
    }

    async fn stat_file(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let StatFileRequest { r#ref, path, .. } = request.into_inner();
        let view = self.open(build, r#ref).await?;
        let stat = reading::on(view, move |view| reading::stat_file(view, &path));
        Ok(Response::new(StatFileResponse { stat: Some(stat.await?) }))
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        self.open(build, request.into_inner().r#ref).await?;
        Ok(Response::new(EvaluateResponse {}))
    }

    async fn inputs(
        &self,
        request: Request<InputsRequest>,
    ) -> Result<Response<InputsResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let definitions = build.request.frontend_inputs.clone();
        Ok(Response::new(InputsResponse { definitions }))
    }

    async fn new_container(
        &self,
        _: Request<NewContainerRequest>,
    ) -> Result<Response<NewContainerResponse>, Status> {
        not_built("NewContainer")
    }

    async fn release_container(
        &self,
        _: Request<ReleaseContainerRequest>,
    ) -> Result<Response<ReleaseContainerResponse>, Status> {
        not_built("ReleaseContainer")
    }

    async fn exec_process(
        &self,
        _: Request<Streaming<ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        not_built("ExecProcess")
    }

    async fn read_file_container(
        &self,
        _: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        not_built("ReadFileContainer")
    }

    async fn read_dir_container(
        &self,
        _: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        not_built("ReadDirContainer")
    }

    async fn stat_file_container(
        &self,
        _: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        not_built("StatFileContainer")
    }

    async fn warn(&self, _: Request<WarnRequest>) -> Result<Response<WarnResponse>, Status> {
        not_built("Warn")
    }
}
