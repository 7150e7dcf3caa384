//! Calls of the cache service, and the servers that it sends us to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http_client::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http_client::{Authorization, Limits, Method, Payload, Request, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::bytes::Bytes;

use crate::object_error::ObjectError;
use crate::server::{Ask, Server};

/// The largest answer, in bytes.
const ANSWER_MAX: u64 = 64 << 10;

/// Who calls the service.
pub(super) struct Caller {
    base: Url,
    token: HeaderValue,
    pub(super) server: Arc<Server>,
    /// Of contents.
    limits: Limits,
    /// By host and port, what the service has sent us to.
    others: Mutex<HashMap<String, Arc<Server>>>,
}

impl Caller {
    /// Calls the service below `base` with a bearer's token. Calls may take more attempts than contents do: the
    /// service counts requests, and wants those that are too many later rather than never.
    pub(super) fn new(base: Url, token: HeaderValue, limits: Limits) -> Self {
        let calls = Limits {
            attempts: 12,
            first_delay: limits.first_delay * 2,
            longest_delay: limits.request,
            ..limits.clone()
        };
        let server = Arc::new(Server::new(&base, calls));
        Self { base, token, server, limits, others: Mutex::default() }
    }

    /// A request to a path below the service's address.
    pub(super) fn request(&self, method: Method, path: &str) -> Request {
        let base = self.base.path().trim_end_matches('/');
        let mut url = self.base.clone();
        url.set_path(&format!("{base}/{path}"));
        Request::new(method, url)
    }

    /// The same with JSON for a body.
    pub(super) fn json(&self, method: Method, path: &str, body: &impl Serialize) -> Request {
        let mut request = self.request(method, path);
        let body = serde_json::to_vec(body).expect("plain data");
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.payload = Payload::Bytes(Bytes::from(body));
        request
    }

    /// The request with the token, which only the service's own host gets to see.
    pub(super) fn with_token(&self, mut request: Request, accept: &'static str) -> Ask {
        request.headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let authorization = Some(Authorization::new(self.token.clone(), &self.base));
        Ask { request, authorization }
    }

    /// The bytes that the service answers.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, ObjectError> {
        self.server.ask(ask, ANSWER_MAX).await
    }

    /// An address that the service has named, and the server there.
    ///
    /// # Errors
    /// [`ObjectError`] if it is none, or leads where a server may not send us.
    pub(super) fn other(&self, address: &str) -> Result<(Url, Arc<Server>), ObjectError> {
        let url: Url = address.parse().map_err(|_| ObjectError::Answer)?;
        redirect::check(&self.base, &url, redirect::PlainHttp::SameHost)
            .map_err(http_client::Error::from)?;
        if url.host_str().is_none() {
            return Err(ObjectError::Answer);
        }
        let host = url.origin().ascii_serialization();
        let mut others = self.others.lock().expect("no panic while held");
        let new = || Arc::new(Server::new(&url, self.limits.clone()));
        let server = others.entry(host).or_insert_with(new).clone();
        Ok((url, server))
    }
}

/// An answer in JSON.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ObjectError> {
    serde_json::from_slice(bytes).map_err(|_| ObjectError::Answer)
}

/// A place that was given to us, unless somebody else has it.
pub(super) fn free<T>(answer: Result<T, ObjectError>) -> Result<Option<T>, ObjectError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ObjectError::Status { status: 409, .. }) => Ok(None),
        Err(ObjectError::Status { code: Some(code), .. }) if code.is_already_there() => Ok(None),
        Err(error) => Err(error),
    }
}
