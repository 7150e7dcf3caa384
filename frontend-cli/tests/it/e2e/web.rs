//! A web server on a loopback address, for tests that do not await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::{Builder, Runtime};

use crate::server::{Reply, Seen, Server};

/// The server; dropped, it is gone.
pub(crate) struct Web {
    server: Server,
    taken: AtomicUsize,
    _runtime: Runtime,
}

impl Web {
    /// Answers with what `answer` says.
    pub(crate) fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = runtime.block_on(Server::start(answer));
        Self { server, taken: AtomicUsize::new(0), _runtime: runtime }
    }

    /// Serves the pages of `site`.
    pub(crate) fn serve(site: &Site) -> Self {
        let site = site.clone();
        Self::start(move |seen| site.answer(seen))
    }

    pub(crate) fn host(&self) -> &str {
        self.server.host()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// The requests since this was last called.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        let seen = self.server.seen();
        let taken = self.taken.swap(seen.len(), Ordering::Relaxed);
        seen[taken..].to_vec()
    }

    /// Path, and the conditions and ranges asked for, of each request since this was last called.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        let line = |seen: &Seen| {
            let mut line = format!("{} {}", seen.method, seen.target);
            for name in ["if-none-match", "if-modified-since", "if-range", "range"] {
                seen.header(name).iter().for_each(|value| line += &format!(" {name}: {value}"));
            }
            line
        };
        self.take_seen().iter().map(line).collect()
    }
}

/// Pages by path. Clones are the same site.
#[derive(Debug, Clone, Default)]
pub(crate) struct Site(Arc<Mutex<BTreeMap<String, Page>>>);

/// A page and how it is known again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) bytes: Vec<u8>,
    /// Without quotation marks; empty for none.
    pub(crate) etag: &'static str,
    /// Empty for none.
    pub(crate) last_modified: &'static str,
}

impl Page {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), ..Self::default() }
    }

    pub(crate) fn with_etag(self, etag: &'static str) -> Self {
        Self { etag, ..self }
    }

    pub(crate) fn with_time(self, last_modified: &'static str) -> Self {
        Self { last_modified, ..self }
    }
}

impl Site {
    pub(crate) fn put(&self, path: &str, page: Page) {
        self.0.lock().expect("no panic while held").insert(path.to_owned(), page);
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let pages = self.0.lock().expect("no panic while held");
        let Some(page) = pages.get(seen.path()) else { return Reply::not_found() };
        let etag = format!("\"{}\"", page.etag);
        let is_known = match seen.header("if-none-match") {
            Some(known) => !page.etag.is_empty() && known == etag,
            None => {
                !page.last_modified.is_empty()
                    && seen.header("if-modified-since") == Some(page.last_modified)
            }
        };
        let mut reply = match is_known {
            true => Reply::new(304, ""),
            false => Reply::part(seen, &page.bytes),
        };
        if !page.etag.is_empty() {
            reply = reply.with("ETag", etag);
        }
        if !page.last_modified.is_empty() {
            reply = reply.with("Last-Modified", page.last_modified);
        }
        reply
    }
}
