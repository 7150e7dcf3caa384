//! Listing tags.

use http_client::header::LINK;
use http_client::{Method, Request};
use oci::Reference;
use serde::Deserialize;

use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::protocol::ProtocolError;
use crate::registries::Registries;

/// Tags that are asked for at once. Registries may give fewer.
const PAGE: usize = 1000;
/// Pages that are asked for.
const PAGES_MAX: usize = 100;
/// Bytes of a page.
const PAGE_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
struct Page {
    /// Some registries write null for none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Registries {
    /// The tags of a repository that begin with `prefix`, in no particular order; of the first hundred
    /// thousand. Only the registry itself is asked.
    ///
    /// # Errors
    /// [`Error`] once all attempts have failed.
    pub async fn tags(&self, repository: &Reference, prefix: &str) -> Result<Vec<String>, Error> {
        let attempts = Attempts::new("list the tags of", repository.repository());
        let endpoint = self.origin(repository.domain());
        let mut tags = Vec::new();
        // In the order of text these come before all others that begin with it.
        let mut last = prefix.trim_end_matches('-').to_owned();
        for _ in 0..PAGES_MAX {
            let (page, is_last) = match page(self, &endpoint, repository, &last).await {
                Ok(page) => page,
                Err(cause) => return Err(attempts.fatal(&endpoint, cause)),
            };
            let Some(end) = page.iter().max().cloned() else { break };
            let is_beyond = !end.starts_with(prefix) && end.as_str() > prefix;
            tags.extend(page.into_iter().filter(|tag| tag.starts_with(prefix)));
            if is_last || is_beyond || end <= last {
                break;
            }
            last = end;
        }
        Ok(tags)
    }
}

/// Tags after `last`, and whether these are all.
async fn page(
    registries: &Registries,
    endpoint: &Endpoint,
    repository: &Reference,
    last: &str,
) -> Result<(Vec<String>, bool), Cause> {
    let deadline = registries.request_deadline();
    let scope = endpoint.scope(repository.path(), "pull");
    let _permit = endpoint.connections().permit().await;
    let mut backoff = endpoint.backoff(deadline);
    loop {
        let attempt = async {
            let mut url = endpoint.url(repository.path(), "tags/list", deadline).await?;
            url.query_pairs_mut().append_pair("n", &PAGE.to_string()).append_pair("last", last);
            let request = Request::new(Method::GET, url);
            let response = endpoint.send(&request, &scope, deadline).await?;
            let is_last = !response.headers().contains_key(LINK);
            let body = response.body(PAGE_MAX).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|_| ProtocolError::NoTags)?;
            Ok::<_, Cause>((page.tags.unwrap_or_default(), is_last))
        };
        match attempt.await {
            Ok(page) => return Ok(page),
            Err(cause) => backoff.wait(cause).await?,
        }
    }
}
