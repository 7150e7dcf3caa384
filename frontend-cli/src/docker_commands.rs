//! Docker's commands that are not here, and what to use instead.

use parser::suggest::{Case, nearest};

use crate::error::UsageError;

const NO_CONTAINERS: &str = "containers run in the foreground, with `mybuild run`; what one with a \
                             `--name` leaves is for `mybuild diff`, `commit` and `rm`";
const NO_EXEC: &str = "`mybuild run IMAGE COMMAND` runs a command in a new container";
const NO_LOGS: &str = "a container's output is that of `mybuild run`; logs of steps are in the \
                       store, and a failed build names its own";
const NO_MANIFEST: &str =
    "`mybuild imagetools create -t NAME SOURCE…` makes an index in the registry";
const NO_COMPOSE: &str = "build each image with `mybuild -t NAME DIR`, run it with `mybuild run`";
const NO_DAEMON: &str =
    "there is no daemon, and there are no builder instances: mybuild builds by itself";
const NO_VOLUMES: &str = "`mybuild run -v DIR:/data` mounts a directory; `mybuild \
                          cache-mount` looks after cache mounts";
const NO_NETWORKS: &str =
    "`mybuild run` has `--network default`, `none` or `host`, and `--publish`";
const NO_SWARM: &str = "that is Docker's orchestration; mybuild builds, and runs one container";

/// Each word, some with that of their group before it, and how to go on.
const COMMANDS: &[(&str, &str)] = &[
    ("attach", NO_CONTAINERS),
    ("bake", NO_COMPOSE),
    ("compose", NO_COMPOSE),
    ("context", NO_DAEMON),
    ("cp", "`mybuild build -o DIR` writes the files of an image"),
    ("create", NO_CONTAINERS),
    ("debug", "`mybuild run` looks into an image, `--progress=plain` shows all that steps write"),
    ("events", "`mybuild build --progress=json` writes what happens, for programs"),
    ("exec", NO_EXEC),
    ("export", "`mybuild build -o type=tar,dest=FILE` writes the files of an image"),
    ("import", "a Dockerfile of `FROM scratch` and `ADD FILE.tar /` makes an image of an archive"),
    ("info", "`mybuild du` shows the store, `mybuild --version` the version"),
    ("init", "write a Dockerfile; `mybuild --check .` looks it over"),
    ("install", NO_DAEMON),
    ("kill", NO_CONTAINERS),
    ("logs", NO_LOGS),
    ("ls", "`mybuild images` lists images"),
    ("manifest annotate", NO_MANIFEST),
    ("manifest create", NO_MANIFEST),
    ("manifest push", NO_MANIFEST),
    ("manifest rm", NO_MANIFEST),
    ("network", NO_NETWORKS),
    ("node", NO_SWARM),
    ("pause", NO_CONTAINERS),
    ("plugin", NO_DAEMON),
    ("port", NO_CONTAINERS),
    ("rename", NO_CONTAINERS),
    ("restart", NO_CONTAINERS),
    ("scout", "scan the archive of `mybuild save -o app.tar NAME` with another tool"),
    ("search", "look on the registry's own site; `mybuild pull NAME` fetches an image"),
    ("secret", "`mybuild build --secret id=NAME,src=FILE` gives a step a secret"),
    ("service", NO_SWARM),
    ("stack", NO_SWARM),
    ("start", NO_CONTAINERS),
    ("stats", NO_CONTAINERS),
    ("stop", NO_CONTAINERS),
    ("swarm", NO_SWARM),
    ("top", NO_CONTAINERS),
    ("trust", "pin images by digest"),
    ("uninstall", NO_DAEMON),
    ("unpause", NO_CONTAINERS),
    ("update", NO_CONTAINERS),
    ("use", NO_DAEMON),
    ("version", "`mybuild --version` shows it"),
    ("volume", NO_VOLUMES),
    ("wait", NO_CONTAINERS),
];

/// Docker's groups of commands; some of their commands are here.
const GROUPS: [&str; 7] =
    ["builder", "buildx", "container", "image", "imagetools", "manifest", "system"];

/// Docker's command words that are not here.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    let words = COMMANDS.iter().map(|(word, _)| *word).filter(|word| !word.contains(' '));
    words.chain(GROUPS)
}

/// `word`, if it is one of Docker's groups of commands.
pub(crate) fn group(word: &str) -> Option<&'static str> {
    GROUPS.into_iter().find(|group| *group == word)
}

/// What to say to `word`, perhaps with the `next` word behind it, if it is a command of Docker's
/// that is not here. `known` are the words that may follow a group.
pub(crate) fn refused<'k>(
    word: &str,
    next: Option<&str>,
    known: impl Fn(&str) -> Vec<&'k str>,
) -> Option<UsageError> {
    let hint_of =
        |word: &str| COMMANDS.iter().find(|(name, _)| *name == word).map(|(_, hint)| *hint);
    if group(word).is_none() {
        return hint_of(word).map(|hint| not_here(word).with_hint(hint));
    }
    let below = known(word);
    let list = || format!("`{word}` has {}", below.join(", "));
    Some(match next.filter(|next| !next.starts_with('-')) {
        None => UsageError::new(format!("`{word}` needs a command")).with_hint(list()),
        Some(next) => {
            let error = not_here(&format!("{word} {next}"));
            let hint = hint_of(&format!("{word} {next}")).or_else(|| hint_of(next));
            match (hint, nearest(next, below.iter().copied(), Case::Sensitive)) {
                (Some(hint), _) => error.with_hint(hint),
                (None, Some(near)) => error.with_hint(format!("did you mean `{word} {near}`?")),
                (None, None) => error.with_hint(list()),
            }
        }
    })
}

fn not_here(word: &str) -> UsageError {
    UsageError::new(format!("there is no command `{word}`"))
}
