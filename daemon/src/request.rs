//! What a client asks for, from the wire: where its Dockerfile and its contexts are, and everything else in
//! BuildKit's words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{BuildRequest, ContextSource, TarSource};

use crate::wire::control::{CacheOptions, CacheOptionsEntry, Exporter, SolveRequest};
use crate::wire::gateway;
use crate::words::{Asked, Attributes, Refused, Vocabulary};

/// The frontend that there is.
const FRONTEND: &str = "dockerfile.v0";
/// Contexts that come as one file over the session.
const UPLOAD: &str = "http://buildkit-session/";
/// What a client may ask a frontend to know; with `+forward` another one may have it.
const KNOWN: [&str; 3] = ["subrequests", "contexts", "gitquerystring"];
/// Attributes that would have the daemon read files of its own.
const OF_FILES: [&str; 4] = ["verify", "verify-env", "sign", "sign-env"];

/// A build of a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) asked: Asked,
    /// The Dockerfile's path in the local directory, or in the context.
    pub(crate) filename: String,
    /// The local directory of the Dockerfile; none where it is in a context from elsewhere.
    pub(crate) dockerfile: Option<String>,
    pub(crate) context: Context,
    /// Named contexts: local directories by the context's name.
    pub(crate) locals: BTreeMap<String, String>,
    /// Sessions that have a local directory, where that is not the build's own.
    pub(crate) sessions: BTreeMap<String, String>,
    /// What tells copies of a local directory apart.
    pub(crate) shared_keys: BTreeMap<String, String>,
    /// What the client asks about the Dockerfile, instead of having it built.
    pub(crate) call: Option<String>,
}

/// Where the main context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Context {
    /// A local directory.
    Local(String),
    /// An archive that the client uploads.
    Upload(String),
    /// Somewhere else.
    Remote(String),
}

impl Default for Context {
    fn default() -> Self {
        Self::Local("context".to_owned())
    }
}

/// The path by which the engine asks for a local directory.
pub(crate) fn local_path(name: &str) -> PathBuf {
    Path::new("/local").join(data_encoding::HEXLOWER.encode(name.as_bytes()))
}

/// The path by which the engine asks for the layout that has `image`, a store's name and a digest.
fn layout_path(image: &str) -> PathBuf {
    Path::new("/layout").join(data_encoding::HEXLOWER.encode(image.as_bytes()))
}

/// The path by which the engine asks for what a client uploads.
pub(crate) fn upload_path(id: &str) -> PathBuf {
    Path::new("/upload").join(data_encoding::HEXLOWER.encode(id.as_bytes()))
}

/// The name in a path of [`local_path`] or [`upload_path`].
pub(crate) fn name_in(root: &str, path: &Path) -> Option<String> {
    let name = path.strip_prefix(root).ok()?.to_str()?;
    String::from_utf8(data_encoding::HEXLOWER.decode(name.as_bytes()).ok()?).ok()
}

impl Wish {
    /// What `solve` asks for in the build that `request` has begun.
    pub(crate) fn read(
        request: &SolveRequest,
        solve: &gateway::SolveRequest,
    ) -> Result<Self, Refused> {
        check(request, solve)?;
        let mut wish = Self::of_options(&solve.frontend_opt)?;
        wish.asked.outputs = outputs(request);
        wish.asked.entitlements = request.entitlements.clone();
        let cache = request.cache.clone().unwrap_or_default();
        let own = solve.cache_imports.iter().map(|entry| attributes(&entry.r#type, &entry.attrs));
        wish.asked.cache_from.extend(own);
        let (imports, exports) = caches(&cache);
        for import in imports {
            if !wish.asked.cache_from.contains(&import) {
                wish.asked.cache_from.push(import);
            }
        }
        wish.asked.cache_to = exports;
        wish.check_attributes()?;
        Ok(wish)
    }

    /// What is asked of a definition's build besides its steps.
    pub(crate) fn of_definition(
        request: &SolveRequest,
        solve: &gateway::SolveRequest,
    ) -> Result<Self, Refused> {
        let beside = gateway::SolveRequest {
            frontend: FRONTEND.to_owned(),
            frontend_inputs: solve.frontend_inputs.clone(),
            cache_imports: solve.cache_imports.clone(),
            source_policies: solve.source_policies.clone(),
            ..Default::default()
        };
        Self::read(request, &beside)
    }

    fn of_options(options: &BTreeMap<String, String>) -> Result<Self, Refused> {
        let mut wish = Self { filename: "Dockerfile".to_owned(), ..Self::default() };
        let key = |name: &str, default: &str| {
            options
                .get(name)
                .filter(|key| !key.is_empty())
                .map_or(default, String::as_str)
                .to_owned()
        };
        let context_key = key("contextkey", "context");
        wish.context = Context::Local(context_key);
        for (name, value) in options {
            match name.split_once(':') {
                Some(("sharedkey", local)) => {
                    let local = local.strip_prefix("localdir:").unwrap_or(local);
                    wish.shared_keys.insert(local.to_owned(), value.clone());
                }
                Some(("context", context)) => wish.named_context(context, value)?,
                Some(("input" | "input-metadata", _)) => return Err(refused(name)),
                _ => wish.option(name, value)?,
            }
        }
        let is_named = options.contains_key("dockerfilekey");
        if is_named || matches!(wish.context, Context::Local(_)) {
            wish.dockerfile = Some(key("dockerfilekey", "dockerfile"));
        }
        Ok(wish)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        if let Some(local) = name.strip_prefix("local-sessionid:") {
            self.sessions.insert(local.to_owned(), value.to_owned());
            return Ok(());
        }
        match name {
            "filename" if value.is_empty() => {}
            "filename" => value.clone_into(&mut self.filename),
            "context" if value.is_empty() => {}
            "context" => self.context = elsewhere(value)?,
            "contextkey" | "dockerfilekey" => {}
            "contextsubdir" if value.is_empty() => {}
            "contextsubdir" | "source" | "cmdline" => return Err(refused(name)),
            "requestid" if value.is_empty() => {}
            "requestid" => self.call = Some(value.to_owned()),
            "frontend.caps" => value.split(',').try_for_each(capability)?,
            "cache-imports" => self.asked.cache_from.extend(imports(value)?),
            // Its default is what is there without it.
            "target" if value.is_empty() => {}
            _ => {
                self.asked.options.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    fn named_context(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        let value = match value.split_once(':') {
            Some(("local", local)) => {
                self.locals.insert(name.to_owned(), local.to_owned());
                local_path(local).to_string_lossy().into_owned()
            }
            Some(("oci-layout", image)) => {
                let parts = image.trim_start_matches('/').split_once('@');
                let (store, digest) = parts.ok_or_else(|| {
                    Refused::new(format!("context `{name}`: `{value}` names no digest"))
                })?;
                // A tag was there for people.
                let store = store.split_once(':').map_or(store, |(store, _)| store);
                let path = layout_path(&format!("oci:{store}@{digest}"));
                format!("oci-layout://{}@{digest}", path.display())
            }
            Some(("input", _)) => {
                return Err(Refused::new(format!("context `{name}`: `{value}` is not supported")));
            }
            Some(("docker-image", _)) => value.to_owned(),
            _ if parser::lower::remote(value).is_some() => value.to_owned(),
            // A path would be one of this machine.
            _ => return Err(Refused::new(format!("context `{name}`: `{value}` is not a source"))),
        };
        self.asked.options.insert(format!("context:{name}"), value);
        Ok(())
    }

    fn check_attributes(&self) -> Result<(), Refused> {
        for cache in self.asked.cache_from.iter().chain(&self.asked.cache_to) {
            if cache.kind == "local" {
                return Err(Refused::new("caches of `type=local` are not supported by the daemon"));
            }
            if let Some(name) = OF_FILES.iter().find(|name| cache.rest.contains_key(**name)) {
                return Err(Refused::new(format!("caches with `{name}` are not supported here")));
            }
        }
        match self.asked.outputs.iter().find(|output| output.rest.contains_key("dest")) {
            Some(output) => {
                Err(Refused::new(format!("`dest` of `type={}` is the client's", output.kind)))
            }
            None => Ok(()),
        }
    }

    /// The engine's request; the Dockerfile is not in it yet.
    pub(crate) fn request(&self, vocabulary: &dyn Vocabulary) -> Result<BuildRequest, Refused> {
        let context = match &self.context {
            Context::Local(name) => ContextSource::Directory(local_path(name)),
            Context::Upload(id) => ContextSource::Archive(TarSource::Path(upload_path(id))),
            Context::Remote(address) => ContextSource::Remote(address.clone()),
        };
        Ok(BuildRequest { context, ..vocabulary.request(&self.asked)? })
    }
}

/// What is asked beside the Dockerfile, and is not done.
fn check(request: &SolveRequest, solve: &gateway::SolveRequest) -> Result<(), Refused> {
    if solve.frontend != FRONTEND {
        return Err(Refused {
            hint: Some(format!("the one there is is called {FRONTEND}")),
            ..Refused::new(format!("frontend `{}` is not available", solve.frontend))
        });
    }
    let has_policies = request.source_policy.is_some() || !solve.source_policies.is_empty();
    for (is_asked, what) in [
        (has_policies, "a source policy"),
        (solve.evaluate, "an evaluation before the result is returned"),
        (solve.r#final, "a result that is not returned"),
        (!solve.frontend_inputs.is_empty(), "a context that is a definition"),
        (request.enable_session_exporter, "an exporter of the client's"),
        (request.compatibility_version != 0, "a compatibility version"),
        (request.proxy_network, "a proxy network"),
    ] {
        if is_asked {
            return Err(Refused::new(format!("{what} is not supported")));
        }
    }
    Ok(())
}

fn elsewhere(value: &str) -> Result<Context, Refused> {
    if let Some(id) = value.strip_prefix(UPLOAD) {
        return Ok(Context::Upload(id.to_owned()));
    }
    match parser::lower::remote(value) {
        Some(_) => Ok(Context::Remote(value.to_owned())),
        None => Err(Refused::new(format!("context `{value}` is not an address"))),
    }
}

fn capability(text: &str) -> Result<(), Refused> {
    let name = text.strip_prefix("moby.buildkit.frontend.").unwrap_or_default();
    let is_known = KNOWN.contains(&name.strip_suffix("+forward").unwrap_or(name));
    match is_known || text.is_empty() || text.ends_with("+forward") {
        true => Ok(()),
        false => Err(Refused::new(format!("unsupported frontend capability {text}"))),
    }
}

fn refused(name: &str) -> Refused {
    Refused::new(format!("frontend option `{name}` is not supported"))
}

fn attributes(kind: &str, rest: &BTreeMap<String, String>) -> Attributes {
    Attributes { kind: kind.to_owned(), rest: rest.clone() }
}

/// Those of new clients, else that of old ones.
fn outputs(request: &SolveRequest) -> Vec<Attributes> {
    let one = |exporter: &Exporter| {
        let mut rest = exporter.attrs.clone();
        // What becomes of other files there is the client's affair.
        if exporter.r#type == "local" {
            rest.remove("mode");
        }
        Attributes { kind: exporter.r#type.clone(), rest }
    };
    if !request.exporters.is_empty() || request.exporter_deprecated.is_empty() {
        return request.exporters.iter().map(one).collect();
    }
    vec![attributes(&request.exporter_deprecated, &request.exporter_attrs_deprecated)]
}

/// What is imported and what is exported.
fn caches(options: &CacheOptions) -> (Vec<Attributes>, Vec<Attributes>) {
    let one = |entry: &CacheOptionsEntry| attributes(&entry.r#type, &entry.attrs);
    let registry = |reference: &String, more: &BTreeMap<String, String>| {
        let mut rest = more.clone();
        rest.insert("ref".to_owned(), reference.clone());
        Attributes { kind: "registry".to_owned(), rest }
    };
    let none = BTreeMap::new();
    let mut imports: Vec<Attributes> = options.imports.iter().map(one).collect();
    imports.extend(options.import_refs_deprecated.iter().map(|name| registry(name, &none)));
    let mut exports: Vec<Attributes> = options.exports.iter().map(one).collect();
    if !options.export_ref_deprecated.is_empty() {
        exports.push(registry(&options.export_ref_deprecated, &options.export_attrs_deprecated));
    }
    (imports, exports)
}

/// The JSON of `cache-imports`.
fn imports(text: &str) -> Result<Vec<Attributes>, Refused> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Import {
        r#type: String,
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    }
    let imports: Vec<Import> = serde_json::from_str(text)
        .map_err(|error| Refused::new(format!("frontend option `cache-imports`: {error}")))?;
    Ok(imports.into_iter().map(|i| Attributes { kind: i.r#type, rest: i.attrs }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(options: &[(&str, &str)]) -> Result<Wish, String> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let solve = gateway::SolveRequest {
            frontend: FRONTEND.to_owned(),
            frontend_opt: options.collect(),
            ..gateway::SolveRequest::default()
        };
        Wish::read(&SolveRequest::default(), &solve).map_err(|refused| refused.message)
    }

    #[test]
    fn options_of_the_session_are_read_here_and_others_handed_on() {
        let read = wish(&[
            ("filename", "web.Dockerfile"),
            ("build-arg:A", "1"),
            ("target", ""),
            ("context:extra", "local:extra"),
            ("context:img", "docker-image://scratch"),
            ("sharedkey:localdir:extra", "ctx4:node"),
            ("local-sessionid:context", "other"),
            ("frontend.caps", "moby.buildkit.frontend.contexts+forward"),
            ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"a/b"}}]"#),
        ])
        .unwrap();
        assert_eq!(read.filename, "web.Dockerfile");
        assert_eq!(read.dockerfile.as_deref(), Some("dockerfile"));
        assert_eq!(read.context, Context::Local("context".to_owned()));
        assert_eq!(read.locals["extra"], "extra");
        assert_eq!(read.shared_keys["extra"], "ctx4:node");
        assert_eq!(read.sessions["context"], "other");
        assert_eq!(read.asked.cache_from[0].rest["ref"], "a/b");
        let names: Vec<&str> = read.asked.options.keys().map(String::as_str).collect();
        assert_eq!(names, ["build-arg:A", "context:extra", "context:img"]);
        let path = Path::new(&read.asked.options["context:extra"]);
        assert_eq!(name_in("/local", path).as_deref(), Some("extra"));
    }

    #[test]
    fn contexts_are_local_uploaded_or_elsewhere() {
        for (value, context, dockerfile) in [
            ("http://buildkit-session/abc", Context::Upload("abc".to_owned()), None),
            (
                "https://example.com/a.tar",
                Context::Remote("https://example.com/a.tar".to_owned()),
                None,
            ),
            ("", Context::Local("context".to_owned()), Some("dockerfile")),
        ] {
            let read = wish(&[("context", value)]).unwrap();
            assert_eq!(
                (read.context, read.dockerfile.as_deref()),
                (context, dockerfile),
                "{value}"
            );
        }
        let read = wish(&[("contextkey", "src"), ("dockerfilekey", "files")]).unwrap();
        assert_eq!(read.context, Context::Local("src".to_owned()));
        assert_eq!(read.dockerfile.as_deref(), Some("files"));
        for value in ["/etc", "..", "file"] {
            assert!(wish(&[("context", value)]).is_err(), "{value}");
            assert!(wish(&[("context:a", value)]).is_err(), "{value}");
        }
    }

    #[test]
    fn the_old_way_to_name_exporters_and_caches_is_read() {
        let attrs: BTreeMap<String, String> = [("name".to_owned(), "a:1".to_owned())].into();
        let old = SolveRequest {
            exporter_deprecated: "oci".to_owned(),
            exporter_attrs_deprecated: attrs.clone(),
            cache: Some(CacheOptions {
                export_ref_deprecated: "a/cache".to_owned(),
                import_refs_deprecated: vec!["b/cache".to_owned()],
                ..CacheOptions::default()
            }),
            ..SolveRequest::default()
        };
        let new = SolveRequest {
            exporters: vec![Exporter { r#type: "tar".to_owned(), attrs: BTreeMap::new() }],
            ..old.clone()
        };
        let solve = gateway::SolveRequest {
            frontend: FRONTEND.to_owned(),
            ..gateway::SolveRequest::default()
        };
        let read = Wish::read(&old, &solve).unwrap().asked;
        assert_eq!(read.outputs, [Attributes { kind: "oci".to_owned(), rest: attrs }]);
        assert_eq!(read.cache_to[0].rest["ref"], "a/cache");
        assert_eq!(read.cache_from[0].rest["ref"], "b/cache");
        assert_eq!(Wish::read(&new, &solve).unwrap().asked.outputs[0].kind, "tar");
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for frontend in ["", "gateway.v0", "dockerfile.v1"] {
            let solve =
                gateway::SolveRequest { frontend: frontend.to_owned(), ..Default::default() };
            assert!(Wish::read(&SolveRequest::default(), &solve).is_err(), "{frontend}");
        }
        for (name, value) in [
            ("source", "docker/dockerfile"),
            ("cmdline", "x"),
            ("contextsubdir", "a"),
            ("input:context", "x"),
            ("input-metadata:context", "{}"),
            ("context:a", "input:b"),
            ("cache-imports", "{"),
            ("cache-imports", r#"[{"Type":"local","Attrs":{"src":"/etc"}}]"#),
        ] {
            assert!(wish(&[(name, value)]).is_err(), "{name}");
        }
    }
}
