//! Sources: what a build takes from outside.

use llb::{GitSource, GitTimes, HttpSource, ImageSource, LocalSource, SourceOp};
use oci::{Digest, Platform, Reference};

use super::attributes::Attributes;
use super::op_error::{OpError, shown};
use crate::wire::pb;

/// Permissions of a fetched file of which nothing is said.
const USUAL_MODE: u32 = 0o600;

/// A source, and what its op says that is not of the source itself.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) source: SourceOp,
    /// The registry is to be asked, whatever the store has.
    pub(crate) pulls: bool,
    /// SSH hosts that are known, in the form of OpenSSH's `known_hosts`.
    pub(crate) known_hosts: String,
}

impl From<SourceOp> for Read {
    fn from(source: SourceOp) -> Self {
        Self { source, pulls: false, known_hosts: String::new() }
    }
}

/// The source that an op for `platform` names.
pub(crate) fn read(op: &pb::SourceOp, platform: &Platform) -> Result<Read, OpError> {
    let mut attributes = Attributes::of(&op.attrs);
    let (scheme, rest) = op
        .identifier
        .split_once("://")
        .ok_or_else(|| OpError::invalid("source", &op.identifier))?;
    let read = match scheme {
        "docker-image" => image(rest, platform, &mut attributes)?,
        "local" => local(rest, &mut attributes)?.into(),
        "git" => git(rest, &mut attributes)?,
        "http" | "https" => http(&op.identifier, &mut attributes)?.into(),
        scheme => {
            return Err(OpError::not_supported(format!(
                "a source of the kind `{}` is",
                shown(scheme)
            )));
        }
    };
    attributes.finish()?;
    Ok(read)
}

fn reference(text: &str) -> Result<Reference, OpError> {
    Reference::parse_normalized(text).map_err(|source| OpError::Refused {
        what: "image",
        value: shown(text),
        source,
    })
}

fn image(
    name: &str,
    platform: &Platform,
    attributes: &mut Attributes<'_>,
) -> Result<Read, OpError> {
    let mut reference = reference(name)?.with_default_tag();
    let pulls = match attributes.take("image.resolvemode") {
        None | Some("" | "default" | "local") => false,
        Some("pull") => true,
        Some(mode) => return Err(OpError::invalid("value of `image.resolvemode`", mode)),
    };
    if let Some(checksum) = attributes.take("image.checksum") {
        let digest = digest("image.checksum", checksum)?;
        if reference.digest().is_some_and(|named| *named != digest) {
            return Err(OpError::invalid(format!("digest for `{reference}`"), digest));
        }
        reference = reference.with_digest(digest);
    }
    // It says how the image is listed; images are listed as images here.
    attributes.only("image.recordtype", &["", "regular", "internal", "frontend"])?;
    let source = SourceOp::Image(ImageSource { reference, platform: platform.clone() });
    Ok(Read { pulls, ..source.into() })
}

fn digest(name: &str, text: &str) -> Result<Digest, OpError> {
    text.parse().map_err(|_| OpError::invalid(format!("value of `{name}`"), text))
}

fn local(name: &str, attributes: &mut Attributes<'_>) -> Result<SourceOp, OpError> {
    if name.is_empty() {
        return Err(OpError::Lacks { what: "name of a local directory" });
    }
    // A number that keeps equal ops of several builds apart: the content does that here.
    attributes.take("local.unique");
    attributes.only("local.differ", &["", "metadata", "none"])?;
    attributes.only("local.metadatatransfer", &["", "false"])?;
    Ok(SourceOp::Local(LocalSource {
        name: name.to_owned(),
        exclude_patterns: attributes.list("local.excludepatterns")?,
        include_patterns: attributes.list("local.includepattern")?,
        follow_paths: attributes.list("local.followpaths")?,
        session: attributes.text("local.session"),
        shared_key: attributes.text("local.sharedkeyhint"),
    }))
}

fn git(address: &str, attributes: &mut Attributes<'_>) -> Result<Read, OpError> {
    let (path, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let remote = match attributes.take("git.fullurl").filter(|url| !url.is_empty()) {
        Some(url) => url.to_owned(),
        None => format!("https://{path}"),
    };
    let times = match attributes.take("git.mtime") {
        None | Some("" | "checkout") => GitTimes::Checkout,
        Some("commit") => GitTimes::Commit,
        Some(times) => return Err(OpError::invalid("value of `git.mtime`", times)),
    };
    // The secrets and the agent that are asked for anyway.
    attributes.only("git.authtokensecret", &["", "GIT_AUTH_TOKEN"])?;
    attributes.only("git.authheadersecret", &["", "GIT_AUTH_HEADER"])?;
    attributes.only("git.mountsshsock", &["", "default"])?;
    let subdirectory = super::path::absolute("/", subdirectory);
    let source = GitSource {
        reference: reference.to_owned(),
        subdirectory: subdirectory.trim_start_matches('/').to_owned(),
        checksum: attributes.take("git.checksum").filter(|c| !c.is_empty()).map(str::to_owned),
        fetch_by_commit: attributes.flag("git.fetchbycommit")?,
        keep_git_dir: attributes.flag("git.keepgitdir")?,
        submodules: !attributes.flag("git.skipsubmodules")?,
        times,
        ..GitSource::new(remote)
    };
    let known_hosts = attributes.text("git.knownsshhosts");
    Ok(Read { known_hosts, ..SourceOp::Git(source).into() })
}

fn http(url: &str, attributes: &mut Attributes<'_>) -> Result<SourceOp, OpError> {
    let checksum = attributes.take("http.checksum").filter(|text| !text.is_empty());
    let host = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    // The secret that is asked for anyway.
    attributes.only("http.authheadersecret", &["", &format!("HTTP_AUTH_HEADER_{host}")])?;
    Ok(SourceOp::Http(HttpSource {
        url: url.to_owned(),
        checksum: checksum.map(|text| digest("http.checksum", text)).transpose()?,
        filename: attributes.text("http.filename"),
        mode: attributes.number("http.perm")?.filter(|mode| *mode != 0).unwrap_or(USUAL_MODE),
        uid: attributes.number("http.uid")?.unwrap_or_default(),
        gid: attributes.number("http.gid")?.unwrap_or_default(),
    }))
}
