//! The registries that one process talks to, and what their operations share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http_client::Deadline;

use crate::config::Config;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;

/// All registries, as one set of settings and credentials reaches them. Share it: it keeps its
/// connections, tokens and what it has learned about each host.
pub struct Registries {
    config: Arc<Config>,
    credentials: Credentials,
    endpoints: Mutex<HashMap<String, Vec<Arc<Endpoint>>>>,
}

impl Registries {
    /// Registries for one set of settings and credentials. Opens no connection.
    pub fn new(config: Config, credentials: Credentials) -> Self {
        Self { config: Arc::new(config), credentials, endpoints: Mutex::default() }
    }

    /// How registries are reached.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The hosts to try for `domain`, mirrors first and the registry itself last.
    pub(crate) fn endpoints(&self, domain: &str) -> Vec<Arc<Endpoint>> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let list = endpoints
            .entry(domain.to_owned())
            .or_insert_with(|| Endpoint::list(domain, &self.config, &self.credentials));
        list.clone()
    }

    /// The registry itself: nothing is pushed to mirrors.
    pub(crate) fn origin(&self, domain: &str) -> Arc<Endpoint> {
        self.endpoints(domain).pop().expect("a registry is its own last endpoint")
    }

    /// When a request for a small document has to be done.
    pub(crate) fn request_deadline(&self) -> Deadline {
        Deadline::for_request(&self.config.limits)
    }

    /// When the transfer of `size` bytes has to be done.
    pub(crate) fn transfer_deadline(&self, size: u64) -> Deadline {
        Deadline::for_transfer(&self.config.limits, size)
    }
}
