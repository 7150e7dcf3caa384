//! What sources are, for clients that ask before they build.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Client, PullPolicy, SourceMeta};
use oci::Platform;
use prost_types::Timestamp;
use tonic::Status;

use crate::build::Builder;
use crate::builds::Build;
use crate::client::SessionClient;
use crate::definition;
use crate::failure;
use crate::wire::gateway::{
    ResolveImageConfigRequest, ResolveImageConfigResponse, ResolveSourceGitResponse,
    ResolveSourceHttpResponse, ResolveSourceImageResponse, ResolveSourceMetaRequest,
    ResolveSourceMetaResponse,
};
use crate::wire::pb;

impl Builder {
    /// The config of an image.
    pub(crate) async fn image_config(
        self: &Arc<Self>,
        build: &Build,
        request: ResolveImageConfigRequest,
    ) -> Result<ResolveImageConfigResponse, Status> {
        if request.resolver_type != 0 {
            return Err(Status::unimplemented("images in layouts of the client are not supported"));
        }
        if !request.source_policies.is_empty() {
            return Err(Status::unimplemented("a source policy is not supported"));
        }
        let source = pb::SourceOp {
            identifier: format!("docker-image://{}", request.r#ref),
            attrs: mode(&request.resolve_mode),
        };
        let platform = platform(request.platform.as_ref());
        match self.source_meta(build, &source, &platform).await? {
            SourceMeta::Image { digest, config } => Ok(ResolveImageConfigResponse {
                digest: digest.to_string(),
                config: serde_json::to_vec(&config).expect("a config is plain data"),
                r#ref: request.r#ref,
            }),
            _ => Err(Status::internal("an image was asked for")),
        }
    }

    /// What a source is.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        build: &Build,
        request: ResolveSourceMetaRequest,
    ) -> Result<ResolveSourceMetaResponse, Status> {
        let refused = [
            (!request.source_policies.is_empty(), "a source policy is"),
            (request.git.is_some_and(|git| git.return_object), "the object of a commit is"),
            (
                request
                    .image
                    .as_ref()
                    .is_some_and(|i| i.attestation_chain || !i.resolve_attestations.is_empty()),
                "the attestations of an image are",
            ),
            (
                request.http.as_ref().is_some_and(|http| http.checksum_request.is_some()),
                "another digest of a file is",
            ),
        ];
        if let Some((_, what)) = refused.iter().find(|(is_asked, _)| *is_asked) {
            return Err(Status::unimplemented(format!("{what} not supported")));
        }
        let mut source =
            request.source.ok_or_else(|| Status::invalid_argument("no source is asked for"))?;
        let mut asked = source.clone();
        if asked.identifier.starts_with("docker-image://") {
            asked.attrs.extend(mode(&request.resolve_mode));
        }
        let platform = platform(request.platform.as_ref());
        let mut response = ResolveSourceMetaResponse::default();
        match self.source_meta(build, &asked, &platform).await? {
            SourceMeta::Image { digest, config } => {
                let config = serde_json::to_vec(&config).expect("a config is plain data");
                let digest = digest.to_string();
                response.image =
                    Some(ResolveSourceImageResponse { digest, config, ..Default::default() });
            }
            SourceMeta::Git { commit, tag, reference } => {
                response.git = Some(ResolveSourceGitResponse {
                    checksum: tag.unwrap_or_else(|| commit.clone()),
                    r#ref: reference.unwrap_or_default(),
                    commit_checksum: commit,
                    ..Default::default()
                });
            }
            SourceMeta::Http { digest, name, modified } => {
                let time = |seconds| Timestamp { seconds, nanos: 0 };
                response.http = Some(ResolveSourceHttpResponse {
                    checksum: digest.to_string(),
                    filename: name,
                    last_modified: modified.map(time),
                    ..Default::default()
                });
            }
        }
        source.attrs.retain(|name, _| name != "image.resolvemode");
        response.source = Some(source);
        Ok(response)
    }

    async fn source_meta(
        self: &Arc<Self>,
        build: &Build,
        source: &pb::SourceOp,
        platform: &Platform,
    ) -> Result<SourceMeta, Status> {
        let read = definition::read_source(source, platform);
        let read = read.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let workspace = self.workspace(None).await?;
        let known_hosts = read.known_hosts.into_bytes();
        let client = self.client(build, &workspace).await?;
        let client: Arc<dyn Client> = Arc::new(SessionClient { known_hosts, ..client });
        let pull = if read.pulls { PullPolicy::Always } else { PullPolicy::Missing };
        let asked =
            workspace.source_meta(read.source, pull, client, build.status.clone(), &build.cancel);
        asked.await.map_err(|error| failure::status(&error))
    }
}

fn mode(mode: &str) -> BTreeMap<String, String> {
    let mode = (!mode.is_empty()).then(|| ("image.resolvemode".to_owned(), mode.to_owned()));
    mode.into_iter().collect()
}

fn platform(given: Option<&pb::Platform>) -> Platform {
    given.map_or_else(Platform::host, |given| {
        Platform::new(&given.os, &given.architecture, &given.variant)
    })
}
