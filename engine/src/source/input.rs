//! What the client hands in: the Dockerfile, its ignore file and the contexts' directories.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use parser::ignore;
use parser::lower::{MainContext, NamedContext};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::error::{BoxedError, BuildError};
use crate::near::{NAMES_MAX, near_path};
use crate::request::{BuildRequest, ContextSource, DockerfileSource, TarSource};
use crate::source::contexts::Directory;
use crate::source::open::open_regular;

/// Largest Dockerfile or ignore file that is read, in bytes.
const TEXT_MAX: u64 = 16 << 20;

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

/// Reads the request's files. `single_id`: owners are kept aside, see [`crate::source::archive`].
pub(crate) fn read(
    request: &BuildRequest,
    client: &dyn Client,
    temporary: &Path,
    stop: &CancellationToken,
    single_id: bool,
) -> Result<Input, BuildError> {
    let context = match &request.context {
        ContextSource::Empty => None,
        ContextSource::Directory(path) => {
            Some(Directory::InPlace(existing_directory(client, "context", path)?))
        }
        ContextSource::Archive(archive) => {
            let content = client.archive(archive)?;
            Some(Directory::Unpacked(unpack(content, archive, temporary, stop, single_id)?))
        }
    };
    let directory = context.as_ref().map(Directory::path);
    // What an archive holds is somebody else's: its links do not lead out of it.
    let jail = directory.filter(|_| matches!(context, Some(Directory::Unpacked(_))));
    let (name, path, text) = dockerfile(client, &request.dockerfile, directory, jail)?;
    let mut input = Input {
        name,
        text,
        main_context: MainContext::Empty,
        named_contexts: BTreeMap::new(),
        directories: BTreeMap::new(),
        layouts: BTreeMap::new(),
    };
    if let Some(directory) = context {
        let exclude_patterns = match &directory {
            // What is in an archive was chosen when it was made, as for BuildKit.
            Directory::Unpacked(_) => Vec::new(),
            Directory::InPlace(directory) => ignore_patterns(directory, path.as_deref())?,
        };
        input.main_context = MainContext::Local { exclude_patterns };
        input.directories.insert(parser::lower::MAIN_CONTEXT.to_owned(), directory);
    }
    for (name, specification) in &request.named_contexts {
        let context = named_context(client, &mut input, name, specification)?;
        input.named_contexts.insert(name.clone(), context);
    }
    Ok(input)
}

fn existing_directory(client: &dyn Client, what: &str, path: &Path) -> Result<PathBuf, BuildError> {
    let place = client.directory(path)?;
    let found = std::fs::canonicalize(place).and_then(|p| Ok((p.metadata()?.is_dir(), p)));
    match found {
        Ok((true, path)) => Ok(path),
        Ok((false, _)) => {
            Err(BuildError::input(format!("{what} `{}` is not a directory", path.display()))
                .with_hint("give the directory that holds the files to build from"))
        }
        Err(error) => {
            Err(BuildError::input(format!("failed to open {what} `{}`", path.display()))
                .because(error))
        }
    }
}

/// Unpacks a context. It goes with the session: nobody waits for that while a build ends.
fn unpack(
    content: impl Read + Send,
    archive: &TarSource,
    temporary: &Path,
    stop: &CancellationToken,
    single_id: bool,
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
        .tempdir_in(temporary)
        .map_err(|e| BuildError::system("failed to make a temporary directory").because(e))?;
    crate::source::archive::extract(content, directory.path(), stop, single_id)
        .map_err(|e| failed(e.into()))?;
    Ok(directory.path().to_owned())
}

/// The Dockerfile's name for messages, its path if it is a file, and its text.
fn dockerfile(
    client: &dyn Client,
    source: &DockerfileSource,
    context: Option<&Path>,
    jail: Option<&Path>,
) -> Result<(String, Option<PathBuf>, String), BuildError> {
    let (name, path, bytes) = match source {
        DockerfileSource::Text { name, text } => (name.clone(), None, text.clone()),
        DockerfileSource::File(Some(path)) => {
            let path = match jail {
                Some(jail) if path.is_relative() => lower_case_fallback(&jail.join(path)),
                _ => lower_case_fallback(&located(client, path)?),
            };
            if jail.is_none() && !is_there(&path) {
                return Err(no_dockerfile(&path, context));
            }
            let jail = jail.filter(|jail| path.starts_with(jail));
            (file_name(&path), Some(path.clone()), read_text(jail, &path)?)
        }
        DockerfileSource::File(None) => {
            let Some(context) = context else {
                return Err(BuildError::input("no Dockerfile given"));
            };
            let path = lower_case_fallback(&context.join("Dockerfile"));
            if !is_there(&path) {
                return Err(no_default_dockerfile(context));
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
fn no_default_dockerfile(context: &Path) -> BuildError {
    let is_one = |name: &String| {
        let name = name.to_lowercase();
        let kinds = ["dockerfile", "containerfile"];
        kinds.iter().any(|kind| name.contains(kind)) && !name.ends_with("ignore")
    };
    let entries = std::fs::read_dir(context).into_iter().flatten().flatten();
    let names = entries.take(NAMES_MAX).filter_map(|entry| entry.file_name().into_string().ok());
    let near = names.filter(is_one).min().map(|name| context.join(name));
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
fn lower_case_fallback(path: &Path) -> PathBuf {
    let lower = path.with_file_name("dockerfile");
    let is_default = path.file_name().is_some_and(|name| name == "Dockerfile");
    if is_default && !is_there(path) && is_there(&lower) { lower } else { path.to_owned() }
}

/// Whether something has this name; where a link leads is found out when it is opened.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Patterns of `NAME.dockerignore` beside the Dockerfile, else of `.dockerignore` in the context.
fn ignore_patterns(context: &Path, dockerfile: Option<&Path>) -> Result<Vec<String>, BuildError> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let inside = context.join(".dockerignore");
    for path in beside.into_iter().chain([inside]) {
        // In a context, no link leads out of it.
        let jail = path.starts_with(context).then_some(context);
        let shown = path.strip_prefix(context).unwrap_or(&path);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() && is_dead(jail, &path) => {
                return Err(dead_link(&path, shown));
            }
            Ok(_) => return patterns_in(shown, &read_text(jail, &path)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(BuildError::input(format!(
                    "failed to read `{}`: {error}",
                    path.display()
                )));
            }
        }
    }
    Ok(Vec::new())
}

fn patterns_in(path: &Path, text: &[u8]) -> Result<Vec<String>, BuildError> {
    let text = String::from_utf8_lossy(text);
    match ignore::invalid_line(&text) {
        None => Ok(ignore::parse_file(&text)),
        Some((number, error)) => {
            let line = text.lines().nth(number - 1).unwrap_or_default().trim();
            Err(BuildError::input(format!("{}:{number}: {error}: `{line}`", path.display()))
                .with_hint("a bracket is closed, or written `\\[`; `!` has a pattern behind it"))
        }
    }
}

/// Whether the link `path` leads to nothing, resolved as [`read_text`] does.
fn is_dead(jail: Option<&Path>, path: &Path) -> bool {
    let below = jail.and_then(|jail| path.strip_prefix(jail).ok());
    let opened = open_regular(jail, below.unwrap_or(path));
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn dead_link(path: &Path, shown: &Path) -> BuildError {
    let target = std::fs::read_link(path).unwrap_or_default();
    BuildError::input(format!(
        "`{}` is a link to `{}`, which is not in the context",
        shown.display(),
        target.display()
    ))
    .with_hint("copy the file there, or remove the link: nothing would be excluded")
}

/// Reads a small file; never waits for a pipe, never reads without end. With a `jail`,
/// which `path` is below, links are resolved as if it were the root.
fn read_text(jail: Option<&Path>, path: &Path) -> Result<Vec<u8>, BuildError> {
    let shown = jail.and_then(|jail| path.strip_prefix(jail).ok()).unwrap_or(path);
    let failed = |why: BoxedError| {
        BuildError::input(format!("failed to read `{}`", shown.display())).because(why)
    };
    let file = open_regular(jail, if jail.is_some() { shown } else { path })
        .map_err(|e| failed(e.into()))?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(|e| failed(e.into()))?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(failed("it is larger than 16 MiB".into()));
    }
    Ok(bytes)
}

/// What a `--build-context` value means.
fn named_context(
    client: &dyn Client,
    input: &mut Input,
    name: &str,
    specification: &str,
) -> Result<NamedContext, BuildError> {
    if let Some(reference) = specification.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(reference.to_owned()));
    }
    if let Some(layout) = specification.strip_prefix("oci-layout://") {
        let (path, reference) = split_layout(layout);
        let path = existing_directory(client, "OCI layout", Path::new(path))?;
        input.layouts.insert(name.to_owned(), path);
        return Ok(NamedContext::OciLayout {
            name: name.to_owned(),
            reference: reference.to_owned(),
        });
    }
    if let Some(target) = specification.strip_prefix("target:") {
        return Err(BuildError::refused(format!(
            "build context `{name}`: `target:{target}` names a target of a bake file"
        )));
    }
    if let Some((scheme, _)) = specification.split_once("://") {
        return Err(BuildError::refused(format!(
            "build context `{name}`: `{scheme}://` sources are not supported"
        )));
    }
    let directory = existing_directory(client, "build context", Path::new(specification))?;
    let exclude_patterns = ignore_patterns(&directory, None)?;
    input.directories.insert(name.to_owned(), Directory::InPlace(directory));
    Ok(NamedContext::Local { name: name.to_owned(), exclude_patterns })
}

/// `path`, `path:tag`, `path@sha256:…` to path and the reference in it.
fn split_layout(layout: &str) -> (&str, &str) {
    if let Some((path, digest)) = layout.split_once('@') {
        return (path, digest);
    }
    match layout.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (layout, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_paths_end_where_the_tag_or_digest_starts() {
        for (text, expected) in [
            ("dir", ("dir", "")),
            ("dir:tag", ("dir", "tag")),
            ("/a:b/dir", ("/a:b/dir", "")),
            ("/a/dir:1.0", ("/a/dir", "1.0")),
            ("dir@sha256:00", ("dir", "sha256:00")),
        ] {
            assert_eq!(split_layout(text), expected);
        }
    }
}
