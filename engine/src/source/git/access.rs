//! Who may see which secret: a server gets its own, and what it redirects to gets none of them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use git_client::{Access, GitError, Remote};
use http_client::header::HeaderValue;
use http_client::{Authorization, Connections, Deadline, Limits, Method, Request, Tls, Url};

use super::Repositories;
use super::failure::{Shown, failed, failed_with};
use super::ssh::Lent;
use crate::blocking::blocking;
use crate::client::{Client, SECRET_MAX};
use crate::error::BuildError;

/// Where servers have sent us, by address.
#[derive(Default)]
pub(super) struct Moved(Mutex<HashMap<String, Remote>>);

impl Moved {
    fn now(&self, remote: &Remote) -> Option<Remote> {
        self.0.lock().expect("no panic while held").get(remote.address()).cloned()
    }
}

/// What `git` asks a server for a reference.
const INFO: &str = "/info/refs?service=git-upload-pack";

impl Repositories {
    /// Does `work` with what `remote` may see. `git` follows no redirect with a secret: where the server
    /// says that the repository is elsewhere, it is tried again there, with what that host may see. `main` is the
    /// repository that the user has named.
    pub(super) async fn ask<T, F: Future<Output = Result<T, GitError>>>(
        &self,
        remote: &Remote,
        main: &Remote,
        work: impl Fn(Remote, Access) -> F,
    ) -> Result<T, BuildError> {
        let now = self.moved.now(remote).unwrap_or_else(|| remote.clone());
        if now.ssh_host().is_some() {
            let lent = self.lend().await?;
            return work(now.clone(), lent.access()).await.map_err(|e| failed(Some(&now), e));
        }
        let (access, shown) = self.access(&now, main).await?;
        let error = match work(now.clone(), access.clone()).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let authorization = access.authorization(&now).filter(|_| error.is_redirect());
        let Some(authorization) = authorization else {
            return Err(failed_with(&shown, &now, error));
        };
        let moved = find_moved(&now, authorization).await?;
        let (access, shown) = self.access(&moved, main).await?;
        let done = work(moved.clone(), access).await;
        let done = done.map_err(|error| failed_with(&shown, &moved, error))?;
        let mut all = self.moved.0.lock().expect("no panic while held");
        all.insert(remote.address().to_owned(), moved);
        Ok(done)
    }

    async fn lend(&self) -> Result<Lent, BuildError> {
        let (client, place) = (self.client.clone(), self.store.temporary_directory());
        blocking(move || Lent::open(&client, &place)).await
    }

    async fn access(&self, remote: &Remote, main: &Remote) -> Result<(Access, Shown), BuildError> {
        let (client, remote, main) = (self.client.clone(), remote.clone(), main.clone());
        blocking(move || access(&client, &remote, &main)).await
    }
}

/// What a server on the web may see: the secrets for its host, and the ones without a host if the user has
/// named a repository there; else the login that stands in the address.
fn access(
    client: &Arc<dyn Client>,
    remote: &Remote,
    main: &Remote,
) -> Result<(Access, Shown), BuildError> {
    let is_main = remote.web_origin() == main.web_origin();
    let nothing = (Access::default(), Shown::Nothing { may_see_general: is_main });
    let Some(host) = remote.web_host() else { return Ok(nothing) };
    let of_host = |name: &str| format!("{name}.{host}");
    let mut names = vec![(of_host(HEADER), Kind::Header), (of_host(TOKEN), Kind::Token)];
    if is_main {
        names.extend([(HEADER.to_owned(), Kind::Header), (TOKEN.to_owned(), Kind::Token)]);
    }
    for (name, kind) in names {
        let Some(value) = secret(client, &name)? else { continue };
        let access = match kind {
            Kind::Header => Access::header(remote, &value),
            Kind::Token => Access::login(remote, "x-access-token", value.trim()),
        };
        let access = access.map_err(|error| unusable(&name, &error.to_string()))?;
        return Ok((access, Shown::Secret(name)));
    }
    match remote.login() {
        Some((name, password)) => Access::login(remote, name, password)
            .map(|access| (access, Shown::Login))
            .map_err(|error| failed(Some(remote), error.into())),
        None => Ok(nothing),
    }
}

const HEADER: &str = "GIT_AUTH_HEADER";
const TOKEN: &str = "GIT_AUTH_TOKEN";

/// What a secret is.
enum Kind {
    /// A value of `Authorization`.
    Header,
    /// A password.
    Token,
}

fn secret(client: &Arc<dyn Client>, name: &str) -> Result<Option<String>, BuildError> {
    let Some(secret) = client.secret(name)? else { return Ok(None) };
    if secret.0.len() as u64 > SECRET_MAX {
        return Err(unusable(name, "it is larger than 1 MiB"));
    }
    let text = String::from_utf8(secret.0);
    text.map(Some).map_err(|_| unusable(name, "it is not text"))
}

fn unusable(name: &str, why: &str) -> BuildError {
    BuildError::input(format!("secret `{name}` cannot be used: {why}"))
}

/// Where a server says that a repository is. Only its own origin sees `authorization` meanwhile.
async fn find_moved(remote: &Remote, authorization: &str) -> Result<Remote, BuildError> {
    let wrong = |why: String| {
        BuildError::input(format!("failed to fetch `{remote}`: the server redirects, and {why}"))
    };
    let address = remote.address().trim_end_matches('/');
    let url: Url =
        format!("{address}{INFO}").parse().map_err(|_| wrong("to nowhere".to_owned()))?;
    let mut header = HeaderValue::from_str(authorization)
        .map_err(|_| wrong("the secret cannot be sent".to_owned()))?;
    header.set_sensitive(true);
    let limits = Limits::default();
    let deadline = Deadline::for_request(&limits);
    let host = remote.web_host().unwrap_or_default();
    let connections = Connections::new(host, Tls::default(), limits);
    let authorization = Authorization::new(header, &url);
    let mut request = Request::new(Method::GET, url);
    request.headers.insert("git-protocol", HeaderValue::from_static("version=2"));
    let answer = connections.send(&request, Some(&authorization), deadline).await;
    let answer =
        answer.map_err(|error| wrong("that cannot be followed".to_owned()).because(error))?;
    let moved = answer.url().as_str().strip_suffix(INFO).map(Remote::parse);
    match moved {
        Some(Ok(moved)) if moved != *remote => Ok(moved),
        _ => Err(wrong("not to a repository".to_owned())),
    }
}
