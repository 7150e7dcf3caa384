//! The content of an entry, at an address that is good for some minutes.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use http_client::{Backoff, Connections, Deadline, Method, Request, Resource, Response, Url};

use super::service::{Entry, Service};
use crate::object_error::ObjectError;
use crate::pack::PACK_MAX;
use crate::server::Server;

/// A content of known size.
pub(super) struct Content {
    service: Arc<Service>,
    key: String,
    url: Mutex<Url>,
    server: Arc<Server>,
    size: u64,
    deadline: Deadline,
}

impl Content {
    pub(super) fn new(
        service: &Arc<Service>,
        entry: Entry,
        size: u64,
    ) -> Result<Self, ObjectError> {
        let (url, server) = service.content(&entry)?;
        let deadline = Deadline::for_transfer(server.limits(), size);
        let (service, url) = (service.clone(), Mutex::new(url));
        Ok(Self { service, key: entry.key, url, server, size, deadline })
    }

    /// The bytes of a pack.
    pub(super) async fn bytes(service: &Service, entry: &Entry) -> Result<Vec<u8>, ObjectError> {
        let (url, server) = service.content(entry)?;
        let ask = Request::new(Method::GET, url).into();
        server.ask(&ask, PACK_MAX).await
    }

    fn url(&self) -> Url {
        self.url.lock().expect("no panic while held").clone()
    }

    async fn open_at(&self, url: Url, range: Range<u64>) -> Result<Response, ObjectError> {
        let mut request = Request::new(Method::GET, url);
        request.ask_for(range, self.size);
        self.server.send_once(&request.into(), self.deadline).await
    }

    /// Asks for the address again, where that has become too old.
    async fn renewed(&self, old: &Url) -> Result<Option<Url>, ObjectError> {
        let Some(entry) = self.service.find(std::slice::from_ref(&self.key)).await? else {
            return Ok(None);
        };
        let (url, _) = self.service.content(&entry)?;
        let is_other = entry.key == self.key && url != *old && url.origin() == old.origin();
        if is_other {
            self.url.lock().expect("no panic while held").clone_from(&url);
        }
        Ok(is_other.then_some(url))
    }
}

impl Resource for Content {
    type Error = ObjectError;

    fn size(&self) -> u64 {
        self.size
    }

    fn connections(&self) -> &Connections {
        self.server.connections()
    }

    fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.server.limits(), self.deadline)
    }

    async fn open(&self, range: Range<u64>) -> Result<Response, ObjectError> {
        let url = self.url();
        match self.open_at(url.clone(), range.clone()).await {
            Err(refused) if matches!(refused.status(), Some(401 | 403)) => {
                match self.renewed(&url).await? {
                    Some(url) => self.open_at(url, range).await,
                    None => Err(refused),
                }
            }
            answer => answer,
        }
    }
}
