//! What is particular to `type=image`, `type=oci` and `type=docker`.

use engine::request::{Compression, Dangling, Destination, ImageForm, Output, Push, StoreNames};
use oci::Reference;

use super::Attributes;
use crate::error::UsageError;
use crate::image_engine::ImageEngine;

impl Attributes<'_> {
    /// The output of one of the three types.
    pub(super) fn image(&mut self) -> Result<Output, UsageError> {
        match self.kind.as_str() {
            "image" | "registry" => self.stored(),
            "oci" => {
                let (dest, tar) = self.layout()?;
                let form = self.form(Compression::default())?;
                Ok(Output::Oci { dest: dest.unwrap_or(Destination::Stdout), tar, form })
            }
            _ => self.docker(),
        }
    }

    fn docker(&mut self) -> Result<Output, UsageError> {
        match self.layout()? {
            (Some(dest), tar) => {
                Ok(Output::Docker { dest, tar, form: self.form(Compression::default())? })
            }
            // Without a file it goes where `docker load` would bring it; this is our store where no engine is.
            (None, _) => match self.engine()? {
                Some(engine) => Ok(Output::Docker {
                    dest: Destination::Engine(engine.to_string()),
                    tar: true,
                    form: self.form(Compression::NONE)?,
                }),
                None => self.stored(),
            },
        }
    }

    /// Where the image is loaded into.
    fn engine(&mut self) -> Result<Option<ImageEngine>, UsageError> {
        match self.rest.remove("context") {
            Some(name) => ImageEngine::of_context(&name, self.environment).map(Some),
            None => ImageEngine::find(self.environment),
        }
    }

    /// An image of the store, or of a registry: `type=registry` is `type=image` with `push=true`.
    fn stored(&mut self) -> Result<Output, UsageError> {
        let is_registry = self.kind == "registry";
        let is_pushed = match self.flag("push")? {
            Some(false) if is_registry => {
                return Err(self.invalid("`push=false` and `type=registry` do not go together"));
            }
            push => push.unwrap_or(is_registry),
        };
        let push = is_pushed.then(|| self.push()).transpose()?;
        let store = self.flag("store")?.unwrap_or(true);
        if !store && push.is_none() {
            let hint = "`type=cacheonly` keeps no image";
            return Err(self.refused("store=false", hint));
        }
        let is_compressed = self.rest.contains_key("compression");
        let default = if is_pushed { Compression::default() } else { Compression::NONE };
        let mut form = self.form(default)?;
        let push = push.map(|push| Push { compression: form.compression, ..push });
        // A registry wants layers compressed, the store only what it is told to.
        if !is_compressed {
            form.compression = Compression::NONE;
        }
        let digest_names = self.digest_names()?;
        let unpack = self.flag("unpack")?.unwrap_or(false);
        let is_of_store = unpack || digest_names != StoreNames::default();
        if !store && is_of_store {
            return Err(self.invalid("`store=false` leaves nothing in the store to name or unpack"));
        }
        Ok(Output::Image { form, digest_names, unpack, store, push })
    }

    /// The attributes of a push, but for the compression.
    fn push(&mut self) -> Result<Push, UsageError> {
        Ok(Push {
            by_digest: self.flag("push-by-digest")?.unwrap_or(false),
            insecure: self.flag("registry.insecure")?.unwrap_or(false),
            ..Push::default()
        })
    }

    fn digest_names(&mut self) -> Result<StoreNames, UsageError> {
        let canonical = self.flag("name-canonical")?.unwrap_or(false);
        // BuildKit spells it so.
        let only_unnamed = self.flag("danging-name-empty-only")?;
        let prefix = self.rest.remove("dangling-name-prefix").filter(|prefix| !prefix.is_empty());
        let dangling = match prefix {
            Some(prefix) => Some(Dangling {
                repository: self.repository(&prefix)?,
                only_unnamed: only_unnamed.unwrap_or(false),
            }),
            None if only_unnamed == Some(true) => {
                return Err(
                    self.invalid("`danging-name-empty-only` without `dangling-name-prefix`")
                );
            }
            None => None,
        };
        Ok(StoreNames { canonical, dangling })
    }

    fn repository(&self, prefix: &str) -> Result<Reference, UsageError> {
        let wrong = |why: &str| self.invalid(&format!("`dangling-name-prefix={prefix}`: {why}"));
        let parsed: Reference =
            prefix.parse().map_err(|error| wrong(&format!("not a valid image name: {error}")))?;
        match (parsed.tag(), parsed.digest()) {
            (None, None) => Ok(parsed),
            _ => Err(wrong("want a name without tag and digest")),
        }
    }

    /// What `type=oci` and `type=docker` have in common: where to, and whether as a tar.
    fn layout(&mut self) -> Result<(Option<Destination>, bool), UsageError> {
        let tar = self.flag("tar")?.unwrap_or(true);
        let dest = self.dest();
        if !tar && !matches!(dest, Some(Destination::Path(_))) {
            return Err(self.invalid("`tar=false` wants a directory in `dest`"));
        }
        Ok((dest, tar))
    }

    fn form(&mut self, default: Compression) -> Result<ImageForm, UsageError> {
        let form = ImageForm {
            names: self.names()?,
            annotations: self.take_annotations()?,
            media_types: self.media_types()?,
            compression: self.compression(default)?,
            keeps_nondistributable: self.flag("prefer-nondist-layers")?.unwrap_or(false),
        };
        self.check_docker_types(&form)?;
        Ok(form)
    }
}
