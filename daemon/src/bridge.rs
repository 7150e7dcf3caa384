//! `LLBBridge`: how a client drives its build.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::apart::apart;
use crate::build::Builder;
use crate::builds::{Build, Builds, Returned};
use crate::capabilities;
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
        if solve.definition.is_some() {
            return not_built("a definition");
        }
        let builder = self.builder.clone();
        let result = apart(move || async move { builder.solve(&build, &solve).await }).await?;
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
        _: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        not_built("ResolveImageConfig")
    }

    async fn resolve_source_meta(
        &self,
        _: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        not_built("ResolveSourceMeta")
    }

    async fn read_file(
        &self,
        _: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        not_built("ReadFile")
    }

    async fn read_dir(
        &self,
        _: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        not_built("ReadDir")
    }

    async fn stat_file(
        &self,
        _: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        not_built("StatFile")
    }

    async fn evaluate(
        &self,
        _: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        not_built("Evaluate")
    }

    async fn inputs(&self, _: Request<InputsRequest>) -> Result<Response<InputsResponse>, Status> {
        not_built("Inputs")
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
