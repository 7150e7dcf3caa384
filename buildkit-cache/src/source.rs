//! What of sources enters their records: what they turned out to be.

use llb::{GitSource, GitTimes, HttpSource};
use oci::{ChainId, Digest, Platform};
use serde::Serialize;

use crate::go;
use crate::step::Step;

/// What a source is, once it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity<'a> {
    /// An image from a registry or a layout.
    Image {
        /// Digest of the manifest, or of the index that it was chosen from.
        digest: &'a Digest,
        /// The platform asked for.
        platform: &'a Platform,
        /// The layers; `None` if it has none.
        chain: Option<&'a ChainId>,
    },
    /// A directory of the client. Only what is taken of it counts.
    Local,
    /// A git checkout.
    Git {
        /// What was asked for.
        source: &'a GitSource,
        /// The commit; with `.git` kept, of an annotated tag the tag object.
        commit: &'a str,
        /// The full name of the reference (`refs/heads/main`), or the commit if that was asked for.
        reference: &'a str,
    },
    /// A file fetched over HTTP.
    Http {
        /// What was asked for.
        source: &'a HttpSource,
        /// The name that it got.
        filename: &'a str,
        /// Its digest.
        digest: &'a Digest,
        /// `Last-Modified`, in HTTP's form, if the server said.
        last_modified: Option<&'a str>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Image<'a> {
    digest: &'a Digest,
    #[serde(rename = "OS")]
    os: &'a str,
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(rename = "OSVersion", skip_serializing_if = "str::is_empty")]
    os_version: &'a str,
    #[serde(rename = "OSFeatures", skip_serializing_if = "<[_]>::is_empty")]
    os_features: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Http<'a> {
    filename: &'a str,
    perm: u32,
    #[serde(rename = "UID")]
    uid: u32,
    #[serde(rename = "GID")]
    gid: u32,
    checksum: &'a Digest,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_mod_time: &'a str,
}

/// The mode that fetched files get where none is asked for; BuildKit writes that as 0.
const USUAL_MODE: u32 = 0o600;

/// The step of a source.
pub fn step(identity: &Identity<'_>) -> Step {
    let digests = match identity {
        Identity::Image { digest, platform, chain } => {
            let chain = chain.map(|chain| chain.to_string());
            let keys = [image_key(digest, platform).to_string()].into_iter().chain(chain);
            keys.map(|key| of_key(&key)).collect()
        }
        Identity::Local => Vec::new(),
        Identity::Git { source, commit, reference } => {
            vec![of_key(&git_key(source, commit, reference))]
        }
        Identity::Http { source, filename, digest, last_modified } => {
            let http = Http {
                filename,
                perm: if source.mode == USUAL_MODE { 0 } else { source.mode },
                uid: source.uid,
                gid: source.gid,
                checksum: digest,
                last_mod_time: last_modified.unwrap_or_default(),
            };
            vec![of_key(go::digest(&http).as_str())]
        }
    };
    Step { digests, inputs: Vec::new() }
}

fn of_key(key: &str) -> Digest {
    Digest::of(format!("buildkit.source.v0:{key}").as_bytes())
}

fn image_key(digest: &Digest, platform: &Platform) -> Digest {
    go::digest(&Image {
        digest,
        os: &platform.os,
        arch: &platform.architecture,
        variant: &platform.variant,
        os_version: &platform.os_version,
        os_features: &platform.os_features,
    })
}

fn git_key(source: &GitSource, commit: &str, reference: &str) -> String {
    let mut key = commit.to_owned();
    if source.keep_git_dir {
        key.push_str(".git");
        if !reference.is_empty() {
            key.push_str(&format!("#{reference}"));
        }
    }
    if !source.subdirectory.is_empty() {
        key.push_str(&format!(":{}", source.subdirectory));
    }
    if !source.submodules {
        key.push_str("(skip-submodules)");
    }
    if source.times == GitTimes::Commit {
        key.push_str("(mtime=commit)");
    }
    key
}
