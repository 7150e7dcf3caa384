//! The flags of `mybuild build`: those of `docker buildx build`, and a few of ours.
//!
//! Flags that are not built yet, or make no sense here, are known and hidden, so that they are
//! refused by name rather than taken for a typing mistake.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::spelling::boolean;

/// `mybuild build`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BuildArgs {
    /// Directory, tar archive, URL (of a git repository, a tar archive or a Dockerfile), or `-`
    #[arg(value_name = "CONTEXT")]
    pub context: OsString,

    /// Name (and optionally tag) of the image
    #[arg(long = "tag", short = 't', value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// The Dockerfile, or its URL; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(long, short = 'f', value_name = "PATH")]
    pub file: Option<OsString>,
    /// Build this stage; of several the first is the result, and the others are built like --also
    #[arg(long, value_name = "STAGE,…")]
    pub target: Option<String>,
    /// Build these stages, too (tests, checks): they have to succeed, their results go nowhere
    #[arg(long, value_name = "STAGE,…")]
    pub also: Vec<String>,
    /// Build for these platforms (`linux/amd64,linux/arm64`)
    ///
    /// `local` is the machine's own. Without the flag $DOCKER_DEFAULT_PLATFORM counts.
    #[arg(long, value_name = "PLATFORM,…")]
    pub platform: Vec<String>,

    /// Value of an `ARG`; without `=VALUE` that of the environment variable
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", allow_hyphen_values = true, help_heading = INPUTS)]
    pub build_args: Vec<String>,
    /// What of the context is not there, in place of `.dockerignore`
    #[arg(long = "ignorefile", value_name = "FILE", help_heading = INPUTS)]
    pub ignore_file: Option<PathBuf>,
    /// Another context (or a replacement for an image or stage of that name)
    ///
    /// SOURCE is a directory, `docker-image://IMAGE`, `oci-layout://PATH[:TAG|@DIGEST]`, or the URL of a git
    /// repository or of a file, which is then called `context`. NAME may be followed by `::PLATFORM`: it is
    /// for steps of that platform then.
    #[arg(long = "build-context", value_name = "NAME=SOURCE", help_heading = INPUTS)]
    pub build_contexts: Vec<String>,
    /// Secret for `RUN --mount=type=secret`
    ///
    /// `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`; with `id=NAME` alone the environment variable
    /// of that name, else the file of that name. Secrets enter neither the image nor the cache.
    #[arg(long = "secret", value_name = "id=NAME[,src=FILE|,env=VARIABLE]", help_heading = INPUTS)]
    pub secrets: Vec<String>,
    /// SSH agent or keys for `RUN --mount=type=ssh`
    ///
    /// `default` lends the agent that `SSH_AUTH_SOCK` names, `ID=SOCKET` another one, and `ID=KEY[,KEY…]` the
    /// private keys in these files. Steps can ask for signatures; keys are neither in the image nor in the cache.
    #[arg(long, value_name = "ID[=SOCKET|KEY,…]", help_heading = INPUTS)]
    pub ssh: Vec<String>,
    /// Look base images up in their registry: `always` (without a value), `missing`, `newer`, `never`
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true,
        default_missing_value = "always", help_heading = INPUTS)]
    pub pull: Option<String>,
    /// Ask nothing of the network: what the store does not have is an error
    ///
    /// Steps keep the network that --network gives them.
    #[arg(long, help_heading = INPUTS)]
    pub offline: bool,

    /// Where the result goes; without it, the image lands in the store
    ///
    /// `type=oci,dest=FILE.tar` an OCI image layout (`tar=false`: as a directory);
    /// `type=docker,dest=FILE.tar` for `docker load`;
    /// `type=local,dest=DIR` or just DIR: the root file system as files (`mode=delete` removes others);
    /// `type=tar,dest=FILE` or just `-`: the root file system as a tar;
    /// `type=image,name=NAME`: the store, and with `push=true` the name's registry, too, which is
    /// `type=registry,name=NAME`; `type=cacheonly`: nowhere. `dest=-` is standard output.
    /// Images also take `compression=gzip|zstd|estargz|zstd:chunked|uncompressed`, `compression-level=N`,
    /// `force-compression=true`, `oci-mediatypes=false` (Docker's), `annotation.KEY=VALUE`, and more that docs/outputs.md tells of.
    /// Fields are comma-separated; quote one that has commas itself. The flag may repeat.
    #[arg(long = "output", short = 'o', value_name = "DEST | type=TYPE,…", help_heading = RESULT)]
    pub outputs: Vec<String>,
    /// Push the image to the registries of its names
    #[arg(long, help_heading = RESULT)]
    pub push: bool,
    /// Keep the image in the store, besides other outputs, and give it to a running engine
    ///
    /// dockerd, Podman's service or containerd: that of $MYBUILD_LOAD (`containerd://`, `ssh://HOST`, …; `store` for
    /// none), $DOCKER_HOST or Docker's context, else dockerd or Podman, whose socket is there.
    #[arg(long, help_heading = RESULT)]
    pub load: bool,
    /// Write the image id to this file
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub iidfile: Option<PathBuf>,
    /// Write digests and names as JSON to this file
    #[arg(long = "metadata-file", value_name = "FILE", help_heading = RESULT)]
    pub metadata_file: Option<PathBuf>,
    /// Label of the image
    #[arg(long = "label", value_name = "NAME=VALUE", allow_hyphen_values = true, help_heading = RESULT)]
    pub labels: Vec<String>,
    /// Leave a variable out of the image's config, wherever it is from; steps still have it
    #[arg(long = "unset-env", alias = "unsetenv", value_name = "NAME", help_heading = RESULT)]
    pub unset_env: Vec<String>,
    /// Leave a label out that the base or the Dockerfile sets
    #[arg(long = "unset-label", alias = "unsetlabel", value_name = "NAME", help_heading = RESULT)]
    pub unset_labels: Vec<String>,
    /// Leave a volume out that the base or the Dockerfile declares
    #[arg(long = "unset-volume", value_name = "PATH", help_heading = RESULT)]
    pub unset_volumes: Vec<String>,
    /// Leave an exposed port out; tcp without a protocol
    #[arg(long = "unset-expose", value_name = "PORT[/PROTOCOL]", help_heading = RESULT)]
    pub unset_ports: Vec<String>,
    /// Make one layer of all that the build adds to its base
    #[arg(long, help_heading = RESULT)]
    pub squash: bool,
    /// Annotation of the image's manifest, or of what LEVEL names
    ///
    /// LEVEL is `manifest`, `index`, `manifest-descriptor` or `index-descriptor`, or several with commas; those
    /// of a manifest may name a platform: `manifest[linux/arm64]:NAME=VALUE`.
    #[arg(long = "annotation", value_name = "[LEVEL:]NAME=VALUE", allow_hyphen_values = true, help_heading = RESULT)]
    pub annotations: Vec<String>,

    /// Do not use cached results, and empty the cache mounts of the steps
    #[arg(long = "no-cache", help_heading = CACHE)]
    pub no_cache: bool,
    /// Do not use cached results of these stages
    #[arg(long = "no-cache-filter", value_name = "STAGE,…", help_heading = CACHE)]
    pub no_cache_filter: Vec<String>,
    /// With --no-cache and --no-cache-filter: cache mounts keep what they hold
    #[arg(long = "keep-cache-mounts", help_heading = CACHE)]
    pub keep_cache_mounts: bool,
    /// Cache of other builders to look steps up in
    ///
    /// `type=registry,ref=NAME` or just NAME, `type=local,src=DIR[,tag=TAG]`, `type=s3,bucket=NAME,…`,
    /// `type=azblob,account_url=URL,…`, or `type=gha[,scope=NAME]`. With `verify=FILE` (or
    /// `verify-env=VARIABLE`) only what this public key signed counts. May be given several times: the
    /// first that knows a step counts. One that cannot be read is left out, with a warning. What buildx has
    /// written to a registry is read, too, and images that carry its cache. With `mounts=false` what it has of cache
    /// mounts is not used.
    #[arg(long = "cache-from", value_name = "NAME | type=TYPE,…", help_heading = CACHE)]
    pub cache_from: Vec<String>,
    /// Cache to add this build's steps to, for other builders
    ///
    /// `type=registry,ref=NAME` or just NAME, `type=local,dest=DIR[,tag=TAG]`, `type=s3,bucket=NAME,…`,
    /// `type=azblob,account_url=URL,…`, or `type=gha[,scope=NAME]`.
    /// `mode=max` adds all steps, not only those whose layers the image has. `compression=zstd|gzip|uncompressed`,
    /// `compression-level=N`, `sign=FILE` (or `sign-env=VARIABLE`, an Ed25519 private key),
    /// `ignore-error=true`. `mounts=true` adds what the cache mounts of the build hold, `mounts-max-size=SIZE` of it at
    /// most. Nothing that others have added is overwritten. `format=buildkit` puts a cache that
    /// BuildKit reads in place of what is at NAME. `type=inline` has the image itself carry the records.
    #[arg(long = "cache-to", value_name = "NAME | type=TYPE,…", help_heading = CACHE)]
    pub cache_to: Vec<String>,

    /// Network of the steps: `default`, `none` or `host`
    #[arg(long, value_name = "MODE", help_heading = STEPS)]
    pub network: Option<String>,
    /// Add a name to the steps' /etc/hosts; ADDRESS may be `host-gateway`, the host
    #[arg(long = "add-host", value_name = "HOST=ADDRESS", help_heading = STEPS)]
    pub add_hosts: Vec<String>,
    /// Grant `network.host`, `security.insecure`, `device` or `device=NAME` to steps that ask for it
    ///
    /// `buildx.local.delete` lets outputs with `mode=delete` remove files outside the working directory.
    #[arg(long = "allow", value_name = "ENTITLEMENT", help_heading = STEPS)]
    pub allow: Vec<String>,
    /// Size of /dev/shm (`64m`)
    #[arg(long = "shm-size", value_name = "SIZE", help_heading = STEPS)]
    pub shm_size: Option<String>,
    /// Resource limit (`nofile=1024:2048`); -1 is unlimited
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", help_heading = STEPS)]
    pub ulimits: Vec<String>,
    /// Control group under which steps run
    #[arg(long = "cgroup-parent", value_name = "CGROUP", help_heading = STEPS)]
    pub cgroup_parent: Option<String>,
    /// Memory of each step (`512m`)
    #[arg(long, short = 'm', value_name = "SIZE", help_heading = STEPS)]
    pub memory: Option<String>,
    /// Memory and swap of each step together; -1 is unlimited
    #[arg(long = "memory-swap", value_name = "SIZE", allow_hyphen_values = true, help_heading = STEPS)]
    pub memory_swap: Option<String>,
    /// CPU weight of each step relative to others; the usual one is 1024
    #[arg(long = "cpu-shares", short = 'c', value_name = "N", help_heading = STEPS)]
    pub cpu_shares: Option<String>,
    /// Microseconds in which --cpu-quota counts [default: 100000]
    #[arg(long = "cpu-period", value_name = "N", help_heading = STEPS)]
    pub cpu_period: Option<String>,
    /// Microseconds of processor time of each step in a period
    #[arg(long = "cpu-quota", value_name = "N", allow_hyphen_values = true, help_heading = STEPS)]
    pub cpu_quota: Option<String>,
    /// Processors that steps may run on (`0-2,7`)
    #[arg(long = "cpuset-cpus", value_name = "LIST", help_heading = STEPS)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that steps may use
    #[arg(long = "cpuset-mems", value_name = "LIST", help_heading = STEPS)]
    pub cpuset_mems: Option<String>,
    /// The same limits as fields (`memory=512m,cpu-quota=50000`)
    #[arg(long = "resource", value_name = "NAME=VALUE,…", help_heading = STEPS)]
    pub resources: Vec<String>,
    /// What each step may write (`10g`) [default: all but a reserve of the disk]
    #[arg(long = "step-disk", value_name = "SIZE", help_heading = STEPS)]
    pub step_disk: Option<String>,
    /// Host name of the steps
    #[arg(long, value_name = "NAME", help_heading = STEPS)]
    pub hostname: Option<String>,
    /// How many steps may run at once
    #[arg(long, short = 'j', value_name = "N", help_heading = STEPS)]
    pub jobs: Option<String>,

    /// `auto`, `tty`, `plain`, `json`, `rawjson`, `quiet` or `none` [env: BUILDKIT_PROGRESS]
    #[arg(long, value_name = "KIND", help_heading = DISPLAY)]
    pub progress: Option<String>,
    /// Print the image id alone
    #[arg(long, short = 'q', help_heading = DISPLAY)]
    pub quiet: bool,
    /// Check the Dockerfile, build nothing; `--check=fix` shows how its warnings can be mended
    ///
    /// Mended is what changes nothing in what is built: casing, old forms, empty lines, command lines
    /// that need no shell, `MAINTAINER`.
    #[arg(long, value_name = "fix", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = DISPLAY)]
    pub check: Option<String>,
    /// With --check=fix: write the mended Dockerfile
    #[arg(long, help_heading = DISPLAY)]
    pub write: bool,
    /// Tell something instead of building: `check`, `outline`, `targets`, `subrequests.describe`
    ///
    /// `check` is --check; `outline` lists the arguments, secrets and agents that the target takes,
    /// `targets` the stages, with what the comments above them say. `,format=json` writes what
    /// BuildKit does; `check` also knows `format=sarif` and `format=github`, and with
    /// `,ignorestatus` findings do not make it fail.
    #[arg(long, value_name = "METHOD[,format=FORMAT]", help_heading = DISPLAY)]
    pub call: Option<String>,
    /// Print the build's instruction graph, build nothing: `dag`, `dag=text`, `dag=dot`, `dag=json`
    #[arg(long, value_name = "WHAT", help_heading = DISPLAY)]
    pub print: Option<String>,
    /// Frontend option by BuildKit's name (`build-arg:NAME=VALUE`, `target=STAGE`, …)
    #[arg(long = "opt", value_name = "NAME=VALUE", help_heading = INPUTS)]
    pub options: Vec<String>,

    // Off is what they are without the flag, too; on is refused by name.
    /// Provenance attestation; only `false` so far
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// Software bill of materials; only `false` so far
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// Attestations; only `type=…,disabled=true` so far
    #[arg(long = "attest", hide = true, value_name = "type=TYPE,…")]
    pub attests: Vec<String>,

    // Accepted with a warning: they change nothing by nature.
    /// Remove intermediate containers: there are none
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub rm: Option<bool>,
    /// Always remove intermediate containers: there are none
    #[arg(long = "force-rm", hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub force_rm: Option<bool>,
    /// Compress the context on its way to the daemon: there is none
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub compress: Option<bool>,
    /// Isolation technology: only `default`
    #[arg(long, hide = true, value_name = "TECHNOLOGY")]
    pub isolation: Option<String>,

    /// Flags that are known and refused.
    #[command(flatten)]
    pub refused: RefusedArgs,
}

/// A switch whose being off is told, too.
fn switch(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| "want `true` or `false`".to_owned())
}

const INPUTS: &str = "Inputs";
const RESULT: &str = "Result";
const CACHE: &str = "Cache";
const STEPS: &str = "Steps";
const DISPLAY: &str = "Display";

/// Docker's flags that are refused by name.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RefusedArgs {
    /// Builder instance
    #[arg(long, hide = true, value_name = "NAME")]
    pub builder: Option<String>,
    /// Source policy
    #[arg(long, hide = true, value_name = "POLICY")]
    pub policy: Vec<String>,
    /// Security options
    #[arg(long = "security-opt", hide = true, value_name = "OPTION")]
    pub security_opt: Vec<String>,
}
