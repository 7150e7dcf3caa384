//! What is known of a source without building anything on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use llb::{HttpSource, SourceOp};
use oci::{Digest, ImageConfig};
use parser::credentials::without_credentials;
use tokio_util::sync::CancellationToken;

use crate::blocking::until;
use crate::client::Client;
use crate::error::BuildError;
use crate::progress::event::Progress;
use crate::progress::steps::Steps;
use crate::request::PullPolicy;
use crate::source::git::Repositories;
use crate::source::http::{Fetched, Told};
use crate::source::image::{Images, image_request};
use crate::workspace::Workspace;

/// What a source is now.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceMeta {
    /// An image.
    Image {
        /// What its name stands for: an index or a manifest.
        digest: Digest,
        /// The config of the image for the platform that was asked for.
        config: Box<ImageConfig>,
    },
    /// A repository.
    Git {
        /// The commit that the reference is at.
        commit: String,
        /// The annotated tag that names it.
        tag: Option<String>,
        /// The reference's full name, where it has one.
        reference: Option<String>,
    },
    /// A file.
    Http {
        /// Digest of its content.
        digest: Digest,
        /// What it is called.
        name: String,
        /// When it was last changed, in seconds since 1970, if the server says it.
        modified: Option<i64>,
    },
}

impl Workspace {
    /// What `source` is now. Images and repositories are asked for, files are fetched.
    pub async fn source_meta(
        &self,
        source: SourceOp,
        pull: PullPolicy,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> Result<SourceMeta, BuildError> {
        let steps = Arc::new(Steps::new(progress));
        match source {
            SourceOp::Image(_) => {
                let registries = self.registries(client.as_ref());
                let (store, layouts) = (self.store.clone(), BTreeMap::new());
                let images = Images::new(store, registries, pull, false, layouts);
                let request = image_request(&source);
                let image = until(cancel, images.resolve(&request, &steps)).await?;
                let config = Box::new(image.config);
                Ok(SourceMeta::Image { digest: image.top.digest, config })
            }
            SourceOp::Git(git) => {
                let repositories = Repositories::new(self.store.clone(), client, false);
                let wanted = until(cancel, repositories.identify(&git)).await?.wanted().clone();
                Ok(SourceMeta::Git {
                    commit: wanted.commit.as_str().to_owned(),
                    tag: wanted.tag.map(|tag| tag.as_str().to_owned()),
                    reference: wanted.reference,
                })
            }
            SourceOp::Http(file) => until(cancel, self.file_meta(file, client, steps)).await,
            SourceOp::Local(_) | SourceOp::OciLayout { .. } => {
                Err(BuildError::refused("what a client has itself is not looked up"))
            }
        }
    }

    async fn file_meta(
        &self,
        source: HttpSource,
        client: Arc<dyn Client>,
        steps: Arc<Steps>,
    ) -> Result<SourceMeta, BuildError> {
        let http = self.http_files(&client, false, None);
        let shown = without_credentials(&source.url);
        let step = steps.internal(&format!("[internal] load metadata for {shown}"));
        let told = Told { steps: steps.clone(), step: step.step };
        let Fetched { digest, name, modified, .. } =
            step.ended(http.get_any(&source, &told).await)?;
        Ok(SourceMeta::Http { digest, name, modified })
    }
}
