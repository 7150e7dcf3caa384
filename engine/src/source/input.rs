//! What the client hands in: the Dockerfile, its ignore file and the contexts' directories.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use parser::lower::{MAIN_CONTEXT, MainContext, NamedContext};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::error::{BoxedError, BuildError};
use crate::near::{NAMES_MAX, near_path};
use crate::request::{BuildRequest, ContextSource, DockerfileSource, TarSource};
use crate::source::contexts::Directory;
use crate::source::ignore_file::{ignore_patterns, named_patterns};
use crate::source::named::{Named, context_name, existing_directory, named_context};
use crate::source::open::{is_there, read_text};
use crate::source::remote::RemoteContext;

/// What was read.
pub(crate) struct Input {
    /// The Dockerfile's name for messages.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// The main context as lowering sees it.
    pub(crate) main_context: MainContext,
    /// The named contexts as lowering sees them.
    pub(crate) named_contexts: BTreeMap<String, NamedContext>,
    /// Local contexts by the name lowering uses for them.
    pub(crate) directories: BTreeMap<String, Directory>,
    /// OCI layouts by the name lowering uses for them.
    pub(crate) layouts: BTreeMap<String, PathBuf>,
}

/// Where archives are unpacked, and how.
pub(crate) struct Place<'a> {
    pub(crate) temporary: &'a Path,
    pub(crate) stop: &'a CancellationToken,
    /// Owners are kept aside, see [`crate::source::archive`].
    pub(crate) single_id: bool,
}

/// Reads the request's files; of its main context, what was fetched before.
pub(crate) fn read(
    request: &BuildRequest,
    remote: Option<&RemoteContext>,
    client: &dyn Client,
    place: &Place<'_>,
) -> Result<Input, BuildError> {
    check_ignore_file(request)?;
    if let Some(remote) = remote {
        return read_remote(request, remote, client);
    }
    let context = match &request.context {
        ContextSource::Empty | ContextSource::Remote(_) => None,
        ContextSource::Distant { name, .. } => Some(Directory::Distant(name.clone())),
        ContextSource::Directory(path) => {
            Some(Directory::InPlace(existing_directory(client, "context", path)?))
        }
        ContextSource::Archive(archive) => {
            let content = client.archive(archive)?;
            Some(Directory::Unpacked(unpack(content, archive, place)?))
        }
    };
    let beneath = match (&context, &request.context) {
        (None, _) | (Some(Directory::Distant(_)), _) => Beneath::Nothing,
        (Some(Directory::InPlace(path)), _) => Beneath::Own(path),
        (Some(Directory::Unpacked(path)), ContextSource::Archive(archive)) => {
            Beneath::Foreign { root: path, shown: format!("the context {archive}") }
        }
        (Some(Directory::Unpacked(_)), _) => unreachable!("only archives are unpacked"),
    };
    let (name, path, text) = dockerfile(client, &request.dockerfile, &beneath)?;
    let mut input = Input::new(name, text, MainContext::Empty);
    if let Some(directory) = context {
        let exclude_patterns = match &directory {
            // What is in an archive was chosen when it was made, as for BuildKit.
            Directory::Unpacked(_) => Vec::new(),
            Directory::Distant(_) => match &request.context {
                ContextSource::Distant { exclude_patterns, .. } => exclude_patterns.clone(),
                _ => unreachable!("only such contexts are distant"),
            },
            Directory::InPlace(directory) => match &request.ignore_file {
                Some(file) => named_patterns(&located(client, file)?)?,
                None => ignore_patterns(directory, path.as_deref())?,
            },
        };
        input.main_context = MainContext::Local { exclude_patterns };
        input.directories.insert(MAIN_CONTEXT.to_owned(), directory);
    }
    input.add_named(request, client)?;
    Ok(input)
}

/// Only what is read in place is filtered.
fn check_ignore_file(request: &BuildRequest) -> Result<(), BuildError> {
    match (&request.ignore_file, &request.context) {
        (None, _) | (_, ContextSource::Directory(_)) => Ok(()),
        (Some(file), _) => {
            let message = format!("`--ignorefile {}` needs a directory as context", file.display());
            Err(BuildError::refused(message)
                .with_hint("from other contexts `COPY --exclude` leaves files out"))
        }
    }
}

/// The same with a main context from another machine. An ignore file in it is a file like others, as for
/// BuildKit.
fn read_remote(
    request: &BuildRequest,
    remote: &RemoteContext,
    client: &dyn Client,
) -> Result<Input, BuildError> {
    let root = remote.root();
    let beneath = match &root {
        Some(root) => {
            let shown = format!("the context `{}`", remote.shown);
            Beneath::Foreign { root, shown }
        }
        None => Beneath::Nothing,
    };
    let is_own = |path: &Path| path.is_absolute();
    let source = match (&remote.dockerfile, &request.dockerfile) {
        // Whatever it is called: there is nothing else.
        (Some(only), DockerfileSource::File(path)) if !path.as_deref().is_some_and(is_own) => {
            DockerfileSource::File(Some(only.clone()))
        }
        (_, asked) => asked.clone(),
    };
    let (name, _, text) = dockerfile(client, &source, &beneath)?;
    let name = if remote.dockerfile.is_some() { "Dockerfile".to_owned() } else { name };
    let mut input = Input::new(name, text, remote.main.clone());
    input.add_named(request, client)?;
    Ok(input)
}

/// The directory that the Dockerfile may be in.
enum Beneath<'a> {
    Nothing,
    /// The client's own.
    Own(&'a Path),
    /// Somebody else's: its links do not lead out of it.
    Foreign {
        root: &'a Path,
        shown: String,
    },
}

impl Input {
    /// Nothing to read: the steps are known, and come from the file called `name`.
    pub(crate) fn of_definition(name: String, text: String) -> Self {
        Self::new(name, text, MainContext::Empty)
    }

    fn new(name: String, text: String, main_context: MainContext) -> Self {
        Self {
            name,
            text,
            main_context,
            named_contexts: BTreeMap::new(),
            directories: BTreeMap::new(),
            layouts: BTreeMap::new(),
        }
    }

    fn add_named(&mut self, request: &BuildRequest, client: &dyn Client) -> Result<(), BuildError> {
        for (name, specification) in &request.named_contexts {
            let Named { context, place } = named_context(client, name, specification)?;
            match (&context, place) {
                (NamedContext::OciLayout { name, .. }, Some(place)) => {
                    self.layouts.insert(name.clone(), place);
                }
                (NamedContext::Local { name, .. }, Some(place)) => {
                    self.directories.insert(name.clone(), Directory::InPlace(place));
                }
                _ => {}
            }
            self.named_contexts.insert(context_name(name)?, context);
        }
        Ok(())
    }
}

/// Unpacks a context. It goes with the session: nobody waits for that while a build ends.
fn unpack(
    content: impl Read + Send,
    archive: &TarSource,
    place: &Place<'_>,
) -> Result<PathBuf, BuildError> {
    let failed = |error: BoxedError| {
        BuildError::input(format!("failed to unpack the context {archive}"))
            .because(error)
            .with_hint("a context is a directory or a tar archive; name a Dockerfile with `-f`")
    };
    // Its mode counts where the archive says nothing of its root.
    let directory = tempfile::Builder::new()
        .prefix("context-")
        .disable_cleanup(true)
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(place.temporary)
        .map_err(|e| BuildError::system("failed to make a temporary directory").because(e))?;
    crate::source::archive::extract(content, directory.path(), place.stop, place.single_id)
        .map_err(|e| failed(e.into()))?;
    Ok(directory.path().to_owned())
}

/// The Dockerfile's name for messages, its path if it is a file, and its text.
fn dockerfile(
    client: &dyn Client,
    source: &DockerfileSource,
    beneath: &Beneath<'_>,
) -> Result<(String, Option<PathBuf>, String), BuildError> {
    let (context, jail) = match beneath {
        Beneath::Nothing => (None, None),
        Beneath::Own(path) => (Some(*path), None),
        Beneath::Foreign { root, .. } => (Some(*root), Some(*root)),
    };
    let (name, path, bytes) = match source {
        DockerfileSource::Url(url) => unreachable!("`{url}` was fetched before"),
        DockerfileSource::Text { name, text } => (name.clone(), None, text.clone()),
        DockerfileSource::File(Some(path)) => {
            let path = match jail {
                Some(jail) if path.is_relative() => {
                    lower_case_fallback(Some(jail), &jail.join(path))
                }
                _ => lower_case_fallback(None, &located(client, path)?),
            };
            if jail.is_none() && !is_there(None, &path) {
                return Err(no_dockerfile(&path, context));
            }
            let jail = jail.filter(|jail| path.starts_with(jail));
            (file_name(&path), Some(path.clone()), read_text(jail, &path)?)
        }
        DockerfileSource::File(None) => {
            let Some(context) = context else {
                return Err(BuildError::input("no Dockerfile given"));
            };
            let path = lower_case_fallback(jail, &context.join("Dockerfile"));
            if !is_there(jail, &path) {
                return Err(no_default_dockerfile(beneath, context));
            }
            (file_name(&path), Some(path.clone()), read_text(jail, &path)?)
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|b| **b == b'\n').count();
        BuildError::input(format!("`{name}` is not UTF-8 text (line {line})"))
    })?;
    Ok((name, path, text))
}

/// Where the client's file `path` is on this machine.
fn located(client: &dyn Client, path: &Path) -> Result<PathBuf, BuildError> {
    Ok(match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) => client.directory(directory)?.join(name),
        _ => client.directory(path)?,
    })
}

/// What `-f` names is not there.
fn no_dockerfile(path: &Path, context: Option<&Path>) -> BuildError {
    let in_context = context.map(|context| context.join(path)).filter(|path| path.is_file());
    let hint = match (in_context, near_path(path)) {
        (Some(found), _) => format!(
            "`-f` is relative to the working directory, not to the context: `-f {}`",
            found.display()
        ),
        (None, Some(near)) => format!("did you mean `{}`?", near.display()),
        (None, None) => "name the Dockerfile with `-f FILE`, or leave `-f` out".to_owned(),
    };
    BuildError::input(format!("no Dockerfile `{}`", path.display())).with_hint(hint)
}

/// A context without a `Dockerfile`, and without a `-f`.
fn no_default_dockerfile(beneath: &Beneath<'_>, context: &Path) -> BuildError {
    let is_one = |name: &String| {
        let name = name.to_lowercase();
        let kinds = ["dockerfile", "containerfile"];
        kinds.iter().any(|kind| name.contains(kind)) && !name.ends_with("ignore")
    };
    let entries = std::fs::read_dir(context).into_iter().flatten().flatten();
    let names = entries.take(NAMES_MAX).filter_map(|entry| entry.file_name().into_string().ok());
    let near = names.filter(is_one).min();
    if let Beneath::Foreign { shown, .. } = beneath {
        let hint = match near {
            Some(near) => format!("there is `{near}`: name it with `-f`"),
            None => "name the file in it with `-f FILE`".to_owned(),
        };
        return BuildError::input(format!("no Dockerfile in {shown}")).with_hint(hint);
    }
    let near = near.map(|name| context.join(name));
    let hint = match near.or_else(|| near_path(&context.join("Dockerfile"))) {
        Some(near) => format!("there is `{}`: name it with `-f`", near.display()),
        None => "name the file with `-f FILE`".to_owned(),
    };
    BuildError::input(format!("no Dockerfile in `{}`", context.display())).with_hint(hint)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// `Dockerfile` is also found as `dockerfile`.
fn lower_case_fallback(jail: Option<&Path>, path: &Path) -> PathBuf {
    let lower = path.with_file_name("dockerfile");
    let is_default = path.file_name().is_some_and(|name| name == "Dockerfile");
    let is_lower = is_default && !is_there(jail, path) && is_there(jail, &lower);
    if is_lower { lower } else { path.to_owned() }
}
