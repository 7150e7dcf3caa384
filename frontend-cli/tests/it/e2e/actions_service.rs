//! A cache service as GitHub's jobs have it, on loopback: entries are never changed, belong to a git ref, and are
//! found by their keys or by what these begin with, the newest first. Version 2 keeps contents at a second server,
//! as Azure's blob storage does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::web::Web;
use crate::server::{Reply, Seen};

const TWIRP: &str = "/twirp/github.actions.results.api.v1.CacheService/";
const REST: &str = "/_apis/artifactcache/";

/// The service and the server of contents; dropped, they are gone.
pub(super) struct Service {
    state: Arc<Mutex<State>>,
    service: Web,
    contents: Web,
}

/// How the service may be at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Every second request is one too many.
    Busy,
    /// Nothing is answered but that.
    Broken,
    /// Contents have other bytes.
    Lies,
    /// Contents end early.
    Cuts,
    /// Contents are not there any more.
    Forgets,
    /// Answers are not what they should be.
    Babbles,
    /// It names an address elsewhere.
    Misleads,
    /// The first address of a content is too old.
    Ages,
    /// Contents never come to their end.
    Stalls,
    /// Nor do answers.
    Silent,
}

struct State {
    entries: Vec<Entry>,
    fault: Fault,
    requests: usize,
    host: String,
    blocks: BTreeMap<String, Vec<u8>>,
    tokens: Vec<String>,
    /// Addresses that were given, by entry.
    given: BTreeMap<usize, usize>,
}

struct Entry {
    git_ref: String,
    key: String,
    version: String,
    content: Vec<u8>,
    /// Which one it was to be whole; only whole ones are found.
    whole: Option<usize>,
}

/// What a token allows.
struct Caller {
    /// In the order in which they are looked at.
    readable: Vec<String>,
    writable: Option<String>,
}

impl Service {
    pub(super) fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            entries: Vec::new(),
            fault: Fault::None,
            requests: 0,
            host: String::new(),
            blocks: BTreeMap::new(),
            tokens: Vec::new(),
            given: BTreeMap::new(),
        }));
        let shared = state.clone();
        let contents = Web::start(move |seen| shared.lock().unwrap().content(seen));
        let shared = state.clone();
        let service = Web::start(move |seen| shared.lock().unwrap().answer(seen));
        state.lock().unwrap().host = contents.host().to_owned();
        Self { state, service, contents }
    }

    pub(super) fn url(&self) -> String {
        self.service.url("/")
    }

    /// A job's token: `(ref, permission)`, as GitHub makes them.
    pub(super) fn token(&self, refs: &[(&str, u32)]) -> String {
        let access: Vec<Value> = refs
            .iter()
            .map(|(name, permission)| json!({"Scope": name, "Permission": permission}))
            .collect();
        let claims = json!({"ac": Value::Array(access).to_string(), "nbf": 0, "exp": 1u64 << 40});
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let token = format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "RS256"})), part(&claims));
        self.state.lock().unwrap().tokens.push(token.clone());
        token
    }

    pub(super) fn fail(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.fault = fault;
        state.given.clear();
    }

    /// Method and path of each call and each content since this was last called.
    pub(super) fn calls(&self) -> Vec<String> {
        let seen = [self.service.take_seen(), self.contents.take_seen()].concat();
        let short = |path: &str| path.replace(TWIRP, "").replace(REST, "");
        seen.iter().map(|seen| format!("{} {}", seen.method, short(seen.path()))).collect()
    }

    /// Keys of whole entries in the order in which they became so.
    pub(super) fn keys(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let whole = state.entries.iter().filter(|entry| entry.whole.is_some());
        let mut whole: Vec<&Entry> = whole.collect();
        whole.sort_by_key(|entry| entry.whole);
        whole.into_iter().map(|entry| entry.key.clone()).collect()
    }

    /// Removes the entries whose keys begin like this, as the service does with what nobody used for a week.
    pub(super) fn evict(&self, prefix: &str) {
        for entry in &mut self.state.lock().unwrap().entries {
            if entry.key.starts_with(prefix) {
                entry.key = "evicted".to_owned();
                entry.whole = None;
            }
        }
    }

    /// Has an entry be one that is still being written.
    pub(super) fn hold(&self, key: &str) {
        let mut state = self.state.lock().unwrap();
        let entry = state.entries.iter_mut().find(|entry| entry.key == key).expect("it is there");
        entry.whole = None;
    }

    /// Has it become whole now.
    pub(super) fn release(&self, key: &str) {
        let mut state = self.state.lock().unwrap();
        let number = state.entries.iter().position(|entry| entry.key == key).expect("it is there");
        state.finish(number);
    }

    /// A job that reserved a key and ended.
    pub(super) fn abandon(&self, git_ref: &str, key: &str) {
        let mut state = self.state.lock().unwrap();
        let version = state.entries[0].version.clone();
        let (git_ref, key) = (git_ref.to_owned(), key.to_owned());
        state.entries.push(Entry { git_ref, key, version, content: Vec::new(), whole: None });
    }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Reply {
        self.requests += 1;
        match self.fault {
            Fault::Broken => return Reply::new(500, "oh"),
            Fault::Silent => return Reply::stall(1, ""),
            Fault::Babbles => return Reply::ok("<html>welcome</html>"),
            Fault::Busy if self.requests % 2 == 1 => {
                return Reply::new(429, r#"{"code":"resource_exhausted"}"#);
            }
            _ => {}
        }
        let token = seen.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
        let Some(caller) = token.filter(|token| self.tokens.iter().any(|t| t == token)).map(caller)
        else {
            return Reply::new(401, r#"{"code":"unauthenticated","msg":"a token, please"}"#);
        };
        if let Some(method) = seen.path().strip_prefix(TWIRP) {
            assert_eq!(
                (&*seen.method, seen.header("content-type")),
                ("POST", Some("application/json"))
            );
            let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
            return self.twirp(method, &caller, &body);
        }
        match seen.path().strip_prefix(REST) {
            Some(path) => self.rest(path, seen, &caller),
            None => Reply::not_found(),
        }
    }

    fn twirp(&mut self, method: &str, caller: &Caller, body: &Value) -> Reply {
        let text = |name: &str| body[name].as_str().expect("text").to_owned();
        let (key, version) = (text("key"), text("version"));
        match method {
            "GetCacheEntryDownloadURL" => {
                let more: Vec<String> = body["restore_keys"]
                    .as_array()
                    .map(|keys| keys.iter().map(|key| key.as_str().expect("text").to_owned()))
                    .into_iter()
                    .flatten()
                    .collect();
                let Some(number) = self.find(caller, &key, &more, &version) else {
                    return Reply::ok(json!({"ok": false}).to_string());
                };
                let (key, url) = (self.entries[number].key.clone(), self.address(number));
                let answer = json!({"ok": true, "signed_download_url": url, "matched_key": key});
                Reply::ok(answer.to_string())
            }
            "CreateCacheEntry" => match self.reserve(caller, &key, &version) {
                Ok(number) => {
                    let url = format!("http://{}/new/{number}?sig=secret", self.host);
                    Reply::ok(json!({"ok": true, "signed_upload_url": url}).to_string())
                }
                Err(refused) => refused,
            },
            "FinalizeCacheEntryUpload" => {
                let mine = |entry: &Entry| entry.key == key && entry.version == version;
                let number = self.entries.iter().position(mine).expect("reserved");
                let size = body["size_bytes"].as_u64().expect("a number");
                assert_eq!(size, self.entries[number].content.len() as u64);
                self.finish(number);
                Reply::ok(json!({"ok": true, "entry_id": number.to_string()}).to_string())
            }
            other => panic!("{other}"),
        }
    }

    fn rest(&mut self, path: &str, seen: &Seen, caller: &Caller) -> Reply {
        let query: BTreeMap<String, String> = seen
            .target
            .split_once('?')
            .map(|(_, query)| query.split('&').filter_map(|pair| pair.split_once('=')))
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.to_owned(), unquoted(value)))
            .collect();
        let body = || serde_json::from_slice::<Value>(&seen.body).expect("JSON");
        match (&*seen.method, path.strip_prefix("caches/")) {
            ("GET", None) if path == "cache" => {
                let keys: Vec<String> = query["keys"].split(',').map(str::to_owned).collect();
                match self.find(caller, &keys[0], &keys, &query["version"]) {
                    None => Reply::new(204, ""),
                    Some(number) => {
                        let (key, url) = (self.entries[number].key.clone(), self.address(number));
                        Reply::ok(json!({"cacheKey": key, "archiveLocation": url}).to_string())
                    }
                }
            }
            ("POST", None) if path == "caches" => {
                let body = body();
                let text = |name: &str| body[name].as_str().expect("text").to_owned();
                match self.reserve(caller, &text("key"), &text("version")) {
                    Ok(number) => Reply::ok(json!({"cacheId": number + 1}).to_string()).status(201),
                    Err(refused) => refused,
                }
            }
            ("PATCH", Some(id)) => {
                let range = seen.header("content-range").expect("a range");
                let first = range["bytes ".len()..].split('-').next().expect("a number");
                let content = &mut self.entries[id.parse::<usize>().expect("an id") - 1].content;
                assert_eq!(content.len(), first.parse::<usize>().expect("a number"), "in order");
                content.extend_from_slice(&seen.body);
                Reply::new(204, "")
            }
            ("POST", Some(id)) => {
                let number = id.parse::<usize>().expect("an id") - 1;
                assert_eq!(body()["size"], json!(self.entries[number].content.len()));
                self.finish(number);
                Reply::new(204, "")
            }
            other => panic!("{other:?}"),
        }
    }

    /// The entry with this key, else the newest that begins with one of `more`: of each ref in its turn.
    fn find(&self, caller: &Caller, key: &str, more: &[String], version: &str) -> Option<usize> {
        assert!(more.len() <= 10, "{more:?}");
        let newest = |fits: &dyn Fn(&Entry) -> bool| {
            let found = self.entries.iter().enumerate().filter(|(_, entry)| {
                entry.whole.is_some() && entry.version == version && fits(entry)
            });
            found.max_by_key(|(_, entry)| entry.whole).map(|(number, _)| number)
        };
        caller.readable.iter().find_map(|git_ref| {
            let own = |entry: &Entry| entry.git_ref == *git_ref;
            newest(&|entry| own(entry) && entry.key == key).or_else(|| {
                let begins =
                    |more: &String| newest(&|entry| own(entry) && entry.key.starts_with(more));
                more.iter().find_map(begins)
            })
        })
    }

    fn reserve(&mut self, caller: &Caller, key: &str, version: &str) -> Result<usize, Reply> {
        assert!(key.len() <= 512 && !key.contains(','), "{key}");
        let Some(git_ref) = caller.writable.clone() else {
            return Err(Reply::new(403, r#"{"code":"permission_denied"}"#));
        };
        let (key, version) = (key.to_owned(), version.to_owned());
        let same = |e: &Entry| e.git_ref == git_ref && e.key == key && e.version == version;
        if self.entries.iter().any(same) {
            return Err(Reply::new(409, r#"{"code":"already_exists","msg":"it is there"}"#));
        }
        self.entries.push(Entry { git_ref, key, version, content: Vec::new(), whole: None });
        Ok(self.entries.len() - 1)
    }

    fn finish(&mut self, number: usize) {
        let last = self.entries.iter().filter_map(|entry| entry.whole).max().unwrap_or(0);
        assert_eq!(self.entries[number].whole.replace(last + 1), None);
    }

    fn address(&mut self, number: usize) -> String {
        let given = self.given.entry(number).or_default();
        *given += 1;
        let host = match self.fault {
            Fault::Misleads => "169.254.169.254",
            _ => &self.host,
        };
        format!("http://{host}/old/{number}?sig=secret{given}")
    }

    /// Azure's part: no token comes here.
    fn content(&mut self, seen: &Seen) -> Reply {
        assert_eq!(seen.header("authorization"), None, "{}", seen.target);
        let mut path = seen.path().split('/').skip(1);
        let (kind, number) = (path.next().expect("a kind"), path.next().expect("a number"));
        let number: usize = number.parse().expect("a number");
        match (&*seen.method, kind) {
            ("PUT", "new") => self.put(number, seen),
            ("GET", "old") => self.get(number, seen),
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, number: usize, seen: &Seen) -> Reply {
        assert!(seen.header("x-ms-version").is_some());
        let query = seen.target.split_once('?').expect("it is signed").1;
        let value = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .map(unquoted)
        };
        match value("comp").as_deref() {
            None => {
                assert_eq!(seen.header("x-ms-blob-type"), Some("BlockBlob"));
                self.entries[number].content = seen.body.clone();
            }
            Some("block") => {
                let id = value("blockid").expect("an id");
                self.blocks.insert(format!("{number} {id}"), seen.body.clone());
            }
            Some("blocklist") => {
                let list = String::from_utf8(seen.body.clone()).expect("XML");
                let ids =
                    list.split("<Latest>").skip(1).map(|rest| rest.split('<').next().unwrap());
                let blocks = ids.map(|id| self.blocks[&format!("{number} {id}")].clone());
                self.entries[number].content = blocks.collect::<Vec<_>>().concat();
            }
            other => panic!("{other:?}"),
        }
        Reply::new(201, "")
    }

    fn get(&mut self, number: usize, seen: &Seen) -> Reply {
        let content = &self.entries[number].content;
        let is_pack = self.entries[number].key.starts_with("mybuild-records");
        match self.fault {
            _ if is_pack => Reply::part(seen, content),
            Fault::Lies => Reply::part(seen, &vec![b'x'; content.len()]),
            Fault::Cuts => Reply::cut(content.len(), &content[..content.len() / 2]),
            Fault::Forgets => Reply::new(404, "<Error><Code>BlobNotFound</Code></Error>"),
            Fault::Stalls => Reply::stall(content.len(), &content[..content.len() / 2]),
            Fault::Ages if seen.target.ends_with("secret1") => {
                Reply::new(403, "<Error><Code>AuthenticationFailed</Code></Error>")
            }
            _ => Reply::part(seen, content),
        }
    }
}

fn caller(token: &str) -> Caller {
    let claims = token.split('.').nth(1).expect("claims");
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    let access: Vec<Value> =
        serde_json::from_str(claims["ac"].as_str().expect("text")).expect("JSON");
    let name = |access: &Value| access["Scope"].as_str().expect("text").to_owned();
    Caller {
        readable: access.iter().map(name).collect(),
        writable: access.iter().find(|access| access["Permission"] == 3).map(name),
    }
}

fn unquoted(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                u8::from_str_radix(std::str::from_utf8(&digits).expect("text"), 16).expect("hex")
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}
