//! `--cache-from` and `--cache-to`.

mod aws;
mod azure;
mod clouds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::request::{
    CacheFormat, CacheLocation, CacheMode, CacheSource, CacheTarget, Compression,
    CompressionAlgorithm,
};
use engine::{InvalidKey, SigningKey, VerifyingKey};
use oci::Reference;

use super::{compression, csv, quantity};
use crate::environment::Environment;
use crate::error::UsageError;
use crate::spelling::boolean;

/// Which cache of a directory is meant when nothing is said.
const TAG: &str = "latest";
const TYPES: &str = "types are registry, s3, azblob, gha and local";
/// So much of cache mounts goes into a cache when nothing is said, in bytes.
const MOUNTS_MAX: u64 = 4 << 30;
/// Larger files are no keys, in bytes.
const KEY_MAX: u64 = 64 << 10;
/// Attributes whose values messages do not repeat.
const SECRETS: [&str; 5] =
    ["account_url", "secret_access_key", "session_token", "token", "ghtoken"];

/// Reads one `--cache-from`: a name in a registry, or `type=…` with its attributes.
pub(super) fn source(text: &str, environment: &Environment) -> Result<CacheSource, UsageError> {
    let mut attributes = Attributes::read("--cache-from", text)?;
    let location = attributes.location("src", environment)?;
    let verify = attributes.keys("verify", environment, VerifyingKey::parse)?;
    let mounts = attributes.flag("mounts")?.unwrap_or(true);
    attributes.end()?;
    Ok(CacheSource { location, verify, mounts })
}

/// Whether a `--cache-to` wants the records in the image.
pub(super) fn is_inline(text: &str) -> bool {
    csv::pairs(text).is_ok_and(|pairs| pairs.contains(&("type".to_owned(), "inline".to_owned())))
}

/// Refuses what is said of such a cache and cannot be.
pub(super) fn check_inline(text: &str) -> Result<(), UsageError> {
    let mut attributes = Attributes::read("--cache-to", text)?;
    if let Some(mode) = attributes.take("mode").filter(|mode| mode != "min") {
        let what = format!("`mode={mode}`: an image has the layers of its own steps alone");
        return Err(attributes.invalid(&what));
    }
    attributes.end()
}

/// Reads one `--cache-to`.
pub(super) fn target(text: &str, environment: &Environment) -> Result<CacheTarget, UsageError> {
    let mut attributes = Attributes::read("--cache-to", text)?;
    let location = attributes.location("dest", environment)?;
    let mode = match attributes.take("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(mode) => return Err(attributes.invalid(&format!("`mode={mode}`: want min or max"))),
    };
    let format = attributes.format()?;
    let compression = attributes.compression(format)?;
    for always in ["image-manifest", "oci-mediatypes"] {
        if attributes.flag(always)? == Some(false) {
            let what = format!("`{always}=false`: a cache is an OCI image manifest");
            return Err(attributes.invalid(&what));
        }
    }
    let ignore_error = attributes.flag("ignore-error")?.unwrap_or(false);
    let mut keys = attributes.keys("sign", environment, SigningKey::parse)?;
    let sign = keys.pop().map(Arc::new);
    if !keys.is_empty() {
        return Err(attributes.invalid("records are signed with one key"));
    }
    let mounts = attributes.mounts()?;
    attributes.end()?;
    let target = CacheTarget { location, mode, format, compression, sign, mounts, ignore_error };
    check_format(&target, text)?;
    Ok(target)
}

/// What BuildKit cannot read is not written for it.
fn check_format(target: &CacheTarget, text: &str) -> Result<(), UsageError> {
    if target.format == CacheFormat::Own {
        return Ok(());
    }
    let why = if !matches!(target.location, CacheLocation::Registry(_)) {
        "a cache for BuildKit is written to a registry"
    } else if target.sign.is_some() {
        "BuildKit's caches are not signed"
    } else if target.mounts.is_some() {
        "BuildKit's caches have no contents of cache mounts"
    } else {
        return Ok(());
    };
    Err(UsageError::new(format!("`--cache-to {text}`: {why}")))
}

/// The attributes not yet looked at. What is left in the end is refused.
struct Attributes<'a> {
    flag: &'static str,
    text: &'a str,
    /// What messages must not say.
    secrets: Vec<String>,
    kind: String,
    rest: BTreeMap<String, String>,
}

impl<'a> Attributes<'a> {
    fn read(flag: &'static str, text: &'a str) -> Result<Self, UsageError> {
        if !text.contains('=') {
            let rest = BTreeMap::from([("ref".to_owned(), text.to_owned())]);
            return Ok(Self { flag, text, secrets: Vec::new(), kind: "registry".to_owned(), rest });
        }
        let mut rest: BTreeMap<String, String> = csv::pairs(text)?.into_iter().collect();
        let secret = |name: &&str| match (*name, rest.get(*name)?) {
            // A signature lets in whoever has it.
            ("account_url", url) => url.split_once('?').map(|(_, query)| query.to_owned()),
            (_, secret) => Some(secret.clone()),
        };
        let secrets = SECRETS.iter().filter_map(secret).collect();
        let kind = rest.remove("type");
        let read = Self { flag, text, secrets, kind: kind.clone().unwrap_or_default(), rest };
        match kind {
            Some(_) => Ok(read),
            None => Err(read.invalid("`type` is missing").with_hint(TYPES)),
        }
    }

    fn invalid(&self, what: &str) -> UsageError {
        let shown = self.secrets.iter().filter(|secret| !secret.is_empty());
        let text = shown.fold(self.text.to_owned(), |text, secret| text.replace(secret, "***"));
        UsageError::new(format!("`{} {text}`: {what}", self.flag))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.rest.remove(name)
    }

    fn wanted(&mut self, name: &str) -> Result<String, UsageError> {
        let value = self.take(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| self.invalid(&format!("`{name}` is missing")))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, UsageError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = || self.invalid(&format!("`{name}={value}`: want true or false"));
        boolean(&value).map(Some).ok_or_else(wrong)
    }

    /// How many bytes of cache mounts are added, if any.
    fn mounts(&mut self) -> Result<Option<u64>, UsageError> {
        let is_wanted = self.flag("mounts")?.unwrap_or(false);
        match (is_wanted, self.take("mounts-max-size")) {
            (false, None) => Ok(None),
            (true, None) => Ok(Some(MOUNTS_MAX)),
            (true, Some(size)) => match quantity::bytes("mounts-max-size", &size) {
                Ok(size) => Ok(Some(size)),
                Err(_) => Err(self.invalid(&format!("`mounts-max-size={size}` is not a size"))),
            },
            (false, Some(_)) => Err(self.invalid("`mounts-max-size` without `mounts=true`")),
        }
    }

    fn format(&mut self) -> Result<CacheFormat, UsageError> {
        match self.take("format").as_deref() {
            None | Some("mybuild") => Ok(CacheFormat::Own),
            Some("buildkit") => Ok(CacheFormat::BuildKit),
            Some(other) => {
                Err(self.invalid(&format!("`format={other}`: want mybuild or buildkit")))
            }
        }
    }

    fn compression(&mut self, format: CacheFormat) -> Result<Compression, UsageError> {
        let algorithm = match self.take("compression") {
            None if format == CacheFormat::BuildKit => CompressionAlgorithm::Gzip,
            None => CompressionAlgorithm::Zstd,
            Some(name) => {
                compression::algorithm(&name, compression::OF_CACHES).map_err(|known| {
                    self.invalid(&format!("`compression={name}` is not supported")).with_hint(known)
                })?
            }
        };
        let level = self.take("compression-level");
        let level = level.map(|text| compression::level(algorithm, &text)).transpose();
        let level = level.map_err(|what| self.invalid(&what))?;
        let force = self.flag("force-compression")?.unwrap_or(false);
        if force && format == CacheFormat::Own {
            let what = "`force-compression=true` is for `format=buildkit`: layers of base images are not in this cache";
            return Err(self.invalid(what));
        }
        Ok(Compression { algorithm, level, force })
    }

    fn location(
        &mut self,
        directory: &str,
        environment: &Environment,
    ) -> Result<CacheLocation, UsageError> {
        match self.kind.as_str() {
            "registry" => {
                let name = self.wanted("ref")?;
                let reference = name.parse::<Reference>();
                let reference = reference.map_err(|e| self.invalid(&format!("`{name}`: {e}")))?;
                Ok(CacheLocation::Registry(reference))
            }
            "local" => {
                let path = PathBuf::from(self.wanted(directory)?);
                let tag = self.take("tag").unwrap_or_else(|| TAG.to_owned());
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                if tag.is_empty() || tag.starts_with('.') || !tag.chars().all(is_plain) {
                    return Err(self.invalid(&format!("`tag={tag}` is not a tag")));
                }
                Ok(CacheLocation::Directory { path, tag })
            }
            "s3" => self.bucket(environment).map(CacheLocation::S3),
            "azblob" => self.container(environment).map(CacheLocation::Azblob),
            "gha" => self.actions(environment).map(CacheLocation::Gha),
            "inline" => Err(self.invalid("an image that carries a cache is asked by its name")),
            kind => Err(self.invalid(&format!("unknown type `{kind}`")).with_hint(TYPES)),
        }
    }

    /// The keys that `NAME=FILE` and `NAME-env=VARIABLE` lead to.
    fn keys<K>(
        &mut self,
        name: &str,
        environment: &Environment,
        parse: impl Fn(&str) -> Result<K, InvalidKey>,
    ) -> Result<Vec<K>, UsageError> {
        let mut keys = Vec::new();
        if let Some(file) = self.take(name) {
            let text = read_key(Path::new(&file));
            let text =
                text.map_err(|e| self.invalid(&format!("failed to read the key `{file}`: {e}")))?;
            keys.push(parse(&text).map_err(|e| self.invalid(&format!("`{file}`: {e}")))?);
        }
        if let Some(variable) = self.take(&format!("{name}-env")) {
            let text = environment.text(&variable).ok_or_else(|| {
                self.invalid(&format!("the environment variable {variable} is not set"))
            })?;
            keys.push(parse(text).map_err(|e| self.invalid(&format!("{variable}: {e}")))?);
        }
        Ok(keys)
    }

    fn end(mut self) -> Result<(), UsageError> {
        match self.rest.pop_first() {
            None => Ok(()),
            Some((name, _)) => Err(self.invalid(&format!(
                "`{name}` is not an attribute of `type={}` that is known",
                self.kind
            ))),
        }
    }
}

fn read_key(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    std::fs::File::open(path)?.take(KEY_MAX).read_to_string(&mut text)?;
    Ok(text)
}
