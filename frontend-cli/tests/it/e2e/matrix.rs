//! The same sources give the same image, whatever differs around the build.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::builder::Builder;
use super::rootless::User;
use super::skip;
use crate::plain_registry::PlainRegistry;

/// Steps that write times, names in the order of a directory, and files of several owners and modes.
const DOCKERFILE: &str = "FROM scratch AS base
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
FROM base AS one
WORKDIR /one
COPY tree .
RUN touch new && mkdir -p a/b && chmod 2750 a && cp -R z copied && rm z/3
FROM base AS two
RUN mkdir /two && echo text >/two/file && chown 12:34 /two/file && ln /two/file /two/hard
FROM base
COPY --from=one /one /one
COPY --from=two --chmod=640 /two /two
COPY <<END /heredoc
text
END
RUN umask >/umask; ls -U /one >/listed; find /two | sort >>/listed
LABEL b=2 a=1
";

/// What differs from one build to the other.
struct Environment {
    what: &'static str,
    /// The mask of the shell that starts the build.
    umask: &'static str,
    variables: &'static [(&'static str, &'static str)],
    words: &'static [&'static str],
    /// The state folder.
    store: &'static str,
    /// The files of the context are made in the opposite order.
    is_reversed: bool,
}

const USUAL: Environment = Environment {
    what: "usual",
    umask: "022",
    variables: &[],
    words: &[],
    store: "store",
    is_reversed: false,
};

const ENVIRONMENTS: [Environment; 6] = [
    USUAL,
    Environment { what: "umask", umask: "077", ..USUAL },
    Environment {
        what: "time zone",
        variables: &[("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8")],
        ..USUAL
    },
    Environment { what: "directory order", is_reversed: true, ..USUAL },
    Environment { what: "one job", words: &["--jobs", "1"], ..USUAL },
    Environment { what: "state folder", store: "else/where", ..USUAL },
];

#[test]
fn privileged_six_environments_cold_warm_and_imported_give_one_digest() {
    let Some(registry) = PlainRegistry::start() else { return };
    let cache = format!("type=registry,ref={}/cache", registry.host);
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |builder: &Builder, environment: &Environment| {
        make_context(builder, environment.is_reversed);
        let mut add = |state: &str, digest| {
            digests.entry(digest).or_default().push(format!("{}, {state}", environment.what));
        };
        // The first one fills the cache that the others import.
        let fills = ["--cache-to", &format!("{cache},mode=max")];
        let cold = if environment.what == USUAL.what { &fills[..] } else { &[] };
        for (state, words) in [("cold", cold), ("warm", &[])] {
            add(state, build(builder, environment, environment.store, words).0);
        }
        let store = format!("{}-imported", environment.store);
        let (digest, ran) = build(builder, environment, &store, &["--cache-from", &cache]);
        assert_eq!(ran, Vec::<String>::new(), "{}", environment.what);
        add("imported", digest);
    };
    for environment in &ENVIRONMENTS {
        let Some(builder) = Builder::bare() else { return };
        // What was built to see whether that is possible must not make this build warm.
        builder.run(&["prune", "--all", "--force"]).success();
        add(&builder, environment);
    }
    if rustix::process::geteuid().is_root() {
        let user = User::new();
        let builder = Builder::for_user(&user.home, user.id);
        add(&builder, &Environment { what: "user", ..USUAL });
    } else {
        skip("only root makes other users");
    }
    assert_eq!(digests.len(), 1, "{digests:#?}");
}

/// The digests of the image and of an archive of it, and the steps that ran.
fn build(
    builder: &Builder,
    environment: &Environment,
    store: &str,
    words: &[&str],
) -> (String, Vec<String>) {
    let program = builder.program().display();
    let script = format!("umask {}; exec {program} \"$@\"", environment.umask);
    let words = [
        &["-c", &script, "sh", "build", "--metadata-file", "meta.json", "--progress", "json"][..],
        &["-o", "type=oci,dest=image.tar,rewrite-timestamp=all", "--root", store],
        environment.words,
        words,
        &["context"],
    ];
    let mut command = builder.command_of("sh", &words.concat());
    command.env("SOURCE_DATE_EPOCH", "1000000000").envs(environment.variables.iter().copied());
    let built = builder.run_command(&mut command).success();
    let meta: Value = serde_json::from_str(&builder.read("meta.json")).expect("JSON");
    let digest = meta["containerimage.digest"].as_str().expect("a digest").to_owned();
    let archive = std::fs::read(builder.path("image.tar")).expect("an archive");
    (format!("{digest} {}", oci::Digest::of(&archive)), built.ran())
}

fn make_context(builder: &Builder, is_reversed: bool) {
    let mut names = ["a-file", "b-file", "sub/x", "z/1", "z/2", "z/3", "Z"];
    if is_reversed {
        names.reverse();
    }
    builder.write("context/Dockerfile", DOCKERFILE);
    for name in names {
        let path = format!("context/tree/{name}");
        builder.write(&path, name);
        let mode = std::fs::Permissions::from_mode(if name == "Z" { 0o755 } else { 0o640 });
        std::fs::set_permissions(builder.path(&path), mode).expect("an own file");
    }
}
