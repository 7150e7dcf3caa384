//! `mybuild diff`

use std::path::PathBuf;

use engine::compare::{AttributeChange, Became, Change, CompareRequest, Difference, Kind, Side};
use engine::{EngineOptions, Reserve, Workspace};
use serde_json::{Map, Value, json};

use super::image::{platform, tell_warnings};
use crate::cli::DiffArgs;
use crate::docker_units::size;
use crate::error::{self, UsageError};
use crate::exit::Exit;
use crate::listing::{Field, Format};
use crate::terminal::harmless;
use crate::{ui, workspace};

const FIELDS: &[Field] = &[
    ("Kind", "KIND"),
    ("Path", "PATH"),
    ("Type", "TYPE"),
    ("SizeBefore", "SIZE BEFORE"),
    ("SizeAfter", "SIZE AFTER"),
    ("Differences", "DIFFERENCES"),
];
const TABLE: &str = "{{.Kind}}\t{{.Path}}\t{{.Type}}\t{{.SizeBefore}}\t{{.SizeAfter}}";

/// What `mybuild diff` has to do.
pub(super) struct Diff {
    request: CompareRequest,
    /// Without one, Docker's lines with what is another.
    format: Option<Format>,
    tells_by_exit_code: bool,
}

impl Diff {
    pub(super) fn resolve(args: DiffArgs) -> Result<Self, UsageError> {
        let format = args.format.as_deref();
        Ok(Self {
            request: CompareRequest {
                from: side(args.from),
                to: args.to.map(side),
                platform: platform(args.platform.as_deref())?,
            },
            format: format.map(|text| Format::parse(Some(text), TABLE, FIELDS)).transpose()?,
            tells_by_exit_code: args.exit_code,
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let tells_by_exit_code = self.tells_by_exit_code;
        match self.show(options).await {
            // 1 says that there are differences, as for `diff` and `git diff`.
            Err(error) if tells_by_exit_code => {
                error::report(&error, false);
                Ok(Exit::Usage)
            }
            shown => shown,
        }
    }

    async fn show(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let workspace: Workspace = workspace::open(options, Reserve::Kept)?;
        let changes = workspace.compare(self.request).await?;
        let text = match &self.format {
            Some(format) => {
                format.render(&changes.iter().map(entry).collect::<Vec<_>>(), FIELDS)?
            }
            None => changes.iter().map(line).collect(),
        };
        ui::data(text.as_bytes())?;
        if self.format.is_none() {
            ui::error(&format!("{}\n", summary(&changes)));
        }
        tell_warnings(&workspace);
        match changes.is_empty() {
            false if self.tells_by_exit_code => Ok(Exit::Failed),
            _ => Ok(Exit::Success),
        }
    }
}

/// `dir:PATH`, or what can only be a path; everything else is in the store.
fn side(text: String) -> Side {
    if let Some(path) = text.strip_prefix("dir:") {
        return Side::Directory(PathBuf::from(path));
    }
    let is_path = matches!(text.as_str(), "." | "..")
        || ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    if is_path { Side::Directory(PathBuf::from(text)) } else { Side::Stored(text) }
}

/// Docker's line, and in what a path that was there is another.
fn line(change: &Change) -> String {
    let path = harmless(&shown(&change.path));
    let (letter, differences) = match &change.became {
        Became::Added { .. } => ("A", &[][..]),
        Became::Changed { differences, .. } => ("C", differences.as_slice()),
        Became::Removed { .. } => ("D", &[][..]),
    };
    if differences.is_empty() {
        return format!("{letter} {path}\n");
    }
    let differences: Vec<String> = differences.iter().map(said).collect();
    format!("{letter} {path} ({})\n", differences.join(", "))
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// `mode 644 -> 755`
fn said(difference: &Difference) -> String {
    let (name, was, is) = parts(difference);
    match (was, is) {
        (Some(was), Some(is)) => harmless(&format!("{name} {was} -> {is}")),
        (None, Some(what)) => harmless(&format!("{name} {what}")),
        _ => name,
    }
}

/// What is another, what it was and what it is.
fn parts(difference: &Difference) -> (String, Option<String>, Option<String>) {
    let both = |name: &str, was: String, is: String| (name.to_owned(), Some(was), Some(is));
    let pair = |(one, other): &(u32, u32)| format!("{one}:{other}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match difference {
        Difference::Kind(was, is) => both("type", word(*was).into(), word(*is).into()),
        Difference::Mode(was, is) => both("mode", format!("{was:o}"), format!("{is:o}")),
        Difference::Owner(was, is) => both("owner", pair(was), pair(is)),
        Difference::Size(was, is) => both("size", was.to_string(), is.to_string()),
        Difference::Content => ("content".to_owned(), None, None),
        Difference::Target(was, is) => both("target", text(was), text(is)),
        Difference::Device(was, is) => both("device", pair(was), pair(is)),
        Difference::Attribute(name, change) => {
            let change = match change {
                AttributeChange::Added => "added",
                AttributeChange::Changed => "changed",
                AttributeChange::Removed => "removed",
            };
            (format!("attribute {}", text(name)), None, Some(change.to_owned()))
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File => "file",
        Kind::Symlink => "link",
        Kind::Fifo => "fifo",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Socket => "socket",
    }
}

/// A change for programs; sizes are bytes.
fn entry(change: &Change) -> Map<String, Value> {
    let (letter, kind, before, after, differences) = match &change.became {
        Became::Added { kind, size } => ("A", kind, None, Some(*size), &[][..]),
        Became::Changed { kind, sizes: (before, after), differences } => {
            ("C", kind, Some(*before), Some(*after), differences.as_slice())
        }
        Became::Removed { kind, size } => ("D", kind, Some(*size), None, &[][..]),
    };
    let difference = |difference: &Difference| {
        let (name, before, after) = parts(difference);
        json!({"Name": name, "Before": before, "After": after})
    };
    let fields = [
        ("Kind", letter.into()),
        ("Path", shown(&change.path).into()),
        ("Type", word(*kind).into()),
        ("SizeBefore", before.into()),
        ("SizeAfter", after.into()),
        ("Differences", differences.iter().map(difference).collect()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How many paths are new, another and gone, and what that is in bytes.
fn summary(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no differences".to_owned();
    }
    let (mut added, mut changed, mut removed) = ((0, 0), (0, (0, 0)), (0, 0));
    for change in changes {
        match &change.became {
            Became::Added { size, .. } => added = (added.0 + 1, added.1 + size),
            Became::Changed { sizes: (before, after), .. } => {
                changed = (changed.0 + 1, (changed.1.0 + before, changed.1.1 + after));
            }
            Became::Removed { size, .. } => removed = (removed.0 + 1, removed.1 + size),
        }
    }
    let (before, after) = changed.1;
    let sign = if after < before { "-" } else { "+" };
    format!(
        "{} added (+{}), {} changed ({sign}{}), {} removed (-{})",
        added.0,
        size(added.1),
        changed.0,
        size(after.abs_diff(before)),
        removed.0,
        size(removed.1)
    )
}
