//! Build arguments and environment variables that steer Docker, buildx and BuildKit, and what
//! becomes of each here: it is honoured, refused by name, named as unused, or there is nothing that
//! it could change. `docs/settings.md` is this table for people; a test holds them equal.

use std::collections::BTreeMap;

use parser::suggest::{Case, did_you_mean};

use crate::environment::Environment;
use crate::error::UsageError;
use crate::spelling::boolean;

/// One name.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name; with `*` at its end, all that begin like it.
    pub name: &'static str,
    /// Where it is set.
    pub place: Place,
    /// What becomes of it.
    pub stance: Stance,
}

/// Where a setting is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `--build-arg`
    Argument,
    /// The environment.
    Variable,
    /// Either; `--build-arg` wins.
    Both,
}

/// What becomes of a setting, with a word about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It does what it does there: this.
    Honoured(&'static str),
    /// The build fails, unless the value turns it off. How to go on.
    Refused(&'static str),
    /// The same, but only where `--metadata-file` is given.
    RefusedInMetadata(&'static str),
    /// A warning says that it is not used, and why.
    Unused(&'static str),
    /// It concerns something that there is not here.
    Meaningless(&'static str),
}

use Place::{Argument, Both, Variable};
use Stance::{Honoured, Meaningless, Refused, RefusedInMetadata, Unused};

const fn setting(name: &'static str, place: Place, stance: Stance) -> Setting {
    Setting { name, place, stance }
}

const PROXY: Stance = Honoured("reaches the steps, but neither image nor cache");
const PLATFORM: Stance = Honoured("its value for `ARG`, instead of the build's own");
const NO_DAEMON: Stance = Unused("mybuild builds by itself, without a daemon");
const ENGINE: Stance = Honoured("with `--load` and `-o type=docker`: which engine gets the image");
const NO_CLIENT: Stance = Meaningless("there is no daemon to talk to");
const ACTIONS: Stance = Honoured("for caches with `type=gha`, where the attribute is not given");
const CONTAINER: Stance =
    Honoured("for caches with `type=azblob`, where the attribute is not given");
const BUCKET: Stance = Honoured("for caches with `type=s3`, where the attribute is not given");
const BUCKET_FILE: Stance = Honoured(
    "for caches with `type=s3`: the profile that has the region and the key, and where it is",
);
const BUCKET_ROLE: Stance = Honoured(
    "for caches with `type=s3` without a key: the role that the token service gives one for",
);
const BUCKET_CONTAINER: Stance =
    Honoured("for caches with `type=s3` without a key: the container's service that gives one");
const BUCKET_INSTANCE: Stance =
    Honoured("for caches with `type=s3` without a key: the instance's service that gives one");
const IDENTITY: Stance =
    Honoured("for caches with `type=azblob` without a key: the identity that lets in");
const NO_IDENTITY: Stance =
    Meaningless("as an identity for caches with `type=azblob` it is refused: others are there");
const NO_ATTESTATIONS: &str = "attestations are not made";

/// Every name.
pub const SETTINGS: &[Setting] = &[
    setting("ACTIONS_CACHE_SERVICE_V2", Variable, ACTIONS),
    setting("ACTIONS_CACHE_URL", Variable, ACTIONS),
    setting("ACTIONS_RESULTS_URL", Variable, ACTIONS),
    setting("ACTIONS_RUNTIME_TOKEN", Variable, ACTIONS),
    setting("ALL_PROXY", Both, PROXY),
    setting("AWS_ACCESS_KEY_ID", Variable, BUCKET),
    setting("AWS_CONFIG_FILE", Variable, BUCKET_FILE),
    setting("AWS_CONTAINER_AUTHORIZATION_TOKEN", Variable, BUCKET_CONTAINER),
    setting("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Variable, BUCKET_CONTAINER),
    setting("AWS_CONTAINER_CREDENTIALS_FULL_URI", Variable, BUCKET_CONTAINER),
    setting("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Variable, BUCKET_CONTAINER),
    setting("AWS_DEFAULT_REGION", Variable, BUCKET),
    setting("AWS_EC2_METADATA_DISABLED", Variable, BUCKET_INSTANCE),
    setting("AWS_EC2_METADATA_SERVICE_ENDPOINT", Variable, BUCKET_INSTANCE),
    setting("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", Variable, BUCKET_INSTANCE),
    setting("AWS_ENDPOINT_URL", Variable, BUCKET),
    setting("AWS_ENDPOINT_URL_S3", Variable, BUCKET),
    setting("AWS_ENDPOINT_URL_STS", Variable, BUCKET_ROLE),
    setting("AWS_PROFILE", Variable, BUCKET_FILE),
    setting("AWS_REGION", Variable, BUCKET),
    setting("AWS_ROLE_ARN", Variable, BUCKET_ROLE),
    setting("AWS_ROLE_SESSION_NAME", Variable, BUCKET_ROLE),
    setting("AWS_SECRET_ACCESS_KEY", Variable, BUCKET),
    setting("AWS_SESSION_TOKEN", Variable, BUCKET),
    setting("AWS_SHARED_CREDENTIALS_FILE", Variable, BUCKET_FILE),
    setting("AWS_WEB_IDENTITY_TOKEN_FILE", Variable, BUCKET_ROLE),
    setting("AZURE_AUTHORITY_HOST", Variable, IDENTITY),
    setting("AZURE_CLIENT_CERTIFICATE_PATH", Variable, NO_IDENTITY),
    setting("AZURE_CLIENT_ID", Variable, IDENTITY),
    setting("AZURE_CLIENT_SECRET", Variable, IDENTITY),
    setting("AZURE_FEDERATED_TOKEN_FILE", Variable, IDENTITY),
    setting("AZURE_POD_IDENTITY_AUTHORITY_HOST", Variable, IDENTITY),
    setting("AZURE_TENANT_ID", Variable, IDENTITY),
    setting("AZURE_USERNAME", Variable, NO_IDENTITY),
    setting("BUILDARCH", Argument, PLATFORM),
    setting("BUILDKIT_ATTEST_*", Argument, Refused(NO_ATTESTATIONS)),
    setting("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", Variable, CONTAINER),
    setting("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", Variable, CONTAINER),
    setting("BUILDKIT_AZURE_STORAGE_CONTAINER", Variable, CONTAINER),
    setting("BUILDKIT_AZURE_STORAGE_PREFIX", Variable, CONTAINER),
    setting("BUILDKIT_BUILD_NAME", Argument, Unused("there is no history of builds")),
    setting("BUILDKIT_CACHE_MOUNT_NS", Argument, Honoured("goes before the ids of cache mounts")),
    setting("BUILDKIT_COLORS", Variable, Meaningless("colours are fixed; NO_COLOR turns them off")),
    setting("BUILDKIT_CONTEXT_KEEP_GIT_DIR", Argument, Honoured("keeps `.git` of a git context")),
    setting("BUILDKIT_DOCKERFILE_CHECK", Argument, Honoured("replaces the `# check=` line")),
    setting("BUILDKIT_HISTORY_PROVENANCE_V1", Argument, Unused("there is no history of builds")),
    setting("BUILDKIT_HOST", Variable, NO_DAEMON),
    setting(
        "BUILDKIT_INLINE_CACHE",
        Argument,
        Honoured("the image carries a cache, as with `--cache-to type=inline`"),
    ),
    setting("BUILDKIT_MULTI_PLATFORM", Argument, Honoured("an index, even of one platform")),
    setting("BUILDKIT_PROGRESS", Variable, Honoured("`--progress` where that is not given")),
    setting("BUILDKIT_SANDBOX_HOSTNAME", Argument, Honoured("host name of the steps")),
    setting("BUILDKIT_SBOM_SCAN_CONTEXT", Argument, Unused(NO_ATTESTATIONS)),
    setting("BUILDKIT_SBOM_SCAN_STAGE", Argument, Unused(NO_ATTESTATIONS)),
    setting("BUILDKIT_SYNTAX", Argument, Honoured("replaces the `# syntax=` line")),
    setting("BUILDKIT_TTY_LOG_LINES", Variable, Honoured("lines of output under a running step")),
    setting("BUILDOS", Argument, PLATFORM),
    setting("BUILDOSVERSION", Argument, PLATFORM),
    setting("BUILDPLATFORM", Argument, PLATFORM),
    setting("BUILDVARIANT", Argument, PLATFORM),
    setting("BUILDX_BAKE_*", Variable, Meaningless("there is no bake")),
    setting("BUILDX_BUILDER", Variable, NO_DAEMON),
    setting("BUILDX_CONFIG", Variable, Meaningless("it holds builder instances")),
    setting("BUILDX_CPU_PROFILE", Variable, Meaningless("it is for work on buildx")),
    setting("BUILDX_DEFAULT_POLICY", Variable, Refused("pin images by digest, and unset it")),
    setting("BUILDX_EXPERIMENTAL", Variable, Meaningless("nothing waits behind a switch")),
    setting("BUILDX_GIT_CHECK_DIRTY", Variable, Meaningless(NO_ATTESTATIONS)),
    setting("BUILDX_GIT_INFO", Variable, Meaningless(NO_ATTESTATIONS)),
    setting(
        "BUILDX_GIT_LABELS",
        Variable,
        Refused("give `--label org.opencontainers.image.revision=$(git rev-parse HEAD)`"),
    ),
    setting("BUILDX_MEM_PROFILE", Variable, Meaningless("it is for work on buildx")),
    setting("BUILDX_METADATA_PROVENANCE", Variable, RefusedInMetadata(NO_ATTESTATIONS)),
    setting(
        "BUILDX_METADATA_WARNINGS",
        Variable,
        RefusedInMetadata("`--progress=json` writes warnings for programs"),
    ),
    setting("BUILDX_NO_DEFAULT_ATTESTATIONS", Variable, Meaningless(NO_ATTESTATIONS)),
    setting(
        "BUILDX_NO_DEFAULT_LOAD",
        Variable,
        Meaningless("images go to the store, not to Docker"),
    ),
    setting("CLICOLOR_FORCE", Variable, Honoured("colours even where there is no terminal")),
    setting("DOCKER_API_VERSION", Variable, NO_CLIENT),
    setting(
        "DOCKER_AUTH_CONFIG",
        Variable,
        Unused("credentials are those of Docker's config.json"),
    ),
    setting("DOCKER_BUILDKIT", Variable, Meaningless("there is one builder")),
    setting(
        "DOCKER_CERT_PATH",
        Variable,
        Honoured("where `ca.pem`, `cert.pem` and `key.pem` for an engine at `tcp://` are"),
    ),
    setting("DOCKER_CLI_*", Variable, NO_CLIENT),
    setting(
        "DOCKER_CONFIG",
        Variable,
        Honoured("where credentials are kept, and proxies looked for"),
    ),
    setting("DOCKER_CONTENT_TRUST", Variable, Refused("pin images by digest, and unset it")),
    setting("DOCKER_CONTEXT", Variable, ENGINE),
    setting("DOCKER_CUSTOM_HEADERS", Variable, NO_CLIENT),
    setting("DOCKER_DEFAULT_PLATFORM", Variable, Honoured("`--platform` where that is not given")),
    setting("DOCKER_HIDE_LEGACY_COMMANDS", Variable, NO_CLIENT),
    setting("DOCKER_HOST", Variable, ENGINE),
    setting(
        "DOCKER_TLS",
        Variable,
        Meaningless(
            "an engine at `tcp://` is refused with it: it asks for TLS that verifies nothing",
        ),
    ),
    setting("DOCKER_TLS_VERIFY", Variable, Honoured("an engine at `tcp://` is spoken to with TLS")),
    setting(
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",
        Variable,
        Refused("pin images by digest in the Dockerfile, and unset it"),
    ),
    setting("FTP_PROXY", Both, PROXY),
    setting("HTTPS_PROXY", Both, PROXY),
    setting("HTTP_PROXY", Both, PROXY),
    setting("IDENTITY_ENDPOINT", Variable, IDENTITY),
    setting("IDENTITY_HEADER", Variable, IDENTITY),
    setting("MYBUILD_CONFIG", Variable, Honoured("the configuration file")),
    setting(
        "MYBUILD_LOAD",
        Variable,
        Honoured("address of the engine for `--load`; `store`: none gets the image"),
    ),
    setting("MYBUILD_ROOT", Variable, Honoured("`--root` where that is not given")),
    setting("NO_COLOR", Variable, Honoured("turns colours off")),
    setting("NO_PROXY", Both, PROXY),
    setting("OTEL_*", Variable, Meaningless("traces are not sent")),
    setting("SOURCE_DATE_EPOCH", Both, Honoured("the time of what is made")),
    setting("SSH_AUTH_SOCK", Variable, Honoured("the agent that `--ssh default` lends")),
    setting("TARGETARCH", Argument, PLATFORM),
    setting("TARGETOS", Argument, PLATFORM),
    setting("TARGETOSVERSION", Argument, PLATFORM),
    setting("TARGETPLATFORM", Argument, PLATFORM),
    setting("TARGETSTAGE", Argument, PLATFORM),
    setting("TARGETVARIANT", Argument, PLATFORM),
    setting("all_proxy", Both, PROXY),
    setting("ftp_proxy", Both, PROXY),
    setting("http_proxy", Both, PROXY),
    setting("https_proxy", Both, PROXY),
    setting("no_proxy", Both, PROXY),
];

impl Setting {
    fn is_called(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.name,
        }
    }
}

/// Fails for the first setting that is refused; else warnings about those that are not used.
/// `typed` is what `--build-arg` gives.
pub(crate) fn check(
    typed: &BTreeMap<String, String>,
    environment: &Environment,
    has_metadata_file: bool,
) -> Result<Vec<String>, UsageError> {
    let arguments = typed.iter().map(|(name, value)| (name, value.as_str(), Argument));
    let text = |name| environment.text(name).unwrap_or_default();
    let variables = environment.variables.keys().map(|name| (name, text(name), Variable));
    let mut warnings = Vec::new();
    for (name, value, place) in arguments.chain(variables).filter(|(_, value, _)| !is_off(value)) {
        let has = |setting: &&Setting| {
            (setting.place == place || setting.place == Both) && setting.is_called(name)
        };
        let what = match place {
            Variable => format!("the environment variable {name} (`{value}`)"),
            Argument | Both => format!("`--build-arg {name}={value}`"),
        };
        match SETTINGS.iter().find(has).map(|setting| setting.stance) {
            Some(Refused(hint)) => return Err(refused(&what, hint)),
            Some(RefusedInMetadata(hint)) if has_metadata_file => return Err(refused(&what, hint)),
            Some(Unused(why)) => warnings.push(format!("{what} is not used: {why}")),
            Some(Honoured(_) | Meaningless(_) | RefusedInMetadata(_)) => {}
            None if place == Argument && name.starts_with(RESERVED) => {
                warnings.push(format!("{what} is not a setting of BuildKit's{}", meant(name)));
            }
            None => {}
        }
    }
    Ok(warnings)
}

/// Build arguments that begin so are BuildKit's.
const RESERVED: &str = "BUILDKIT_";

fn meant(name: &str) -> String {
    let arguments = SETTINGS.iter().filter(|setting| setting.place == Argument);
    did_you_mean(name, arguments.map(|setting| setting.name), Case::Sensitive)
}

fn refused(what: &str, hint: &str) -> UsageError {
    UsageError::new(format!("{what} is not supported")).with_hint(hint)
}

/// Values by which a setting asks for nothing.
fn is_off(value: &str) -> bool {
    matches!(value, "" | "default" | "disabled" | "disabled=true") || boolean(value) == Some(false)
}
