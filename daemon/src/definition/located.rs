//! The client's own file that steps come from, to show where one fails.

use crate::wire::pb;

/// A file of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The file of a definition's steps: of several, the first that a step comes from.
pub(super) struct Located<'d> {
    source: &'d pb::Source,
    index: i32,
    pub(super) file: SourceFile,
}

impl<'d> Located<'d> {
    pub(super) fn of(definition: &'d pb::Definition) -> Option<Self> {
        let source = definition.source.as_ref()?;
        let all = source.locations.values().flat_map(|locations| &locations.locations);
        let index = all.map(|location| location.source_index).min()?;
        let info = source.infos.get(usize::try_from(index).ok()?)?;
        let text = String::from_utf8_lossy(&info.data).into_owned();
        let file = SourceFile { name: info.filename.clone(), text };
        Some(Self { source, index, file })
    }

    /// The lines that the op `digest` comes from, 1-based, both included.
    pub(super) fn lines(&self, digest: &str) -> Option<(u32, u32)> {
        let locations = &self.source.locations.get(digest)?.locations;
        let location = locations.iter().find(|location| location.source_index == self.index)?;
        let line = |position: Option<pb::Position>| {
            position.and_then(|position| u32::try_from(position.line).ok())
        };
        let start = location.ranges.iter().filter_map(|range| line(range.start)).min()?;
        let end = location.ranges.iter().filter_map(|range| line(range.end)).max().unwrap_or(start);
        let is_there = start > 0 && end >= start && end as usize <= self.file.text.lines().count();
        is_there.then_some((start, end))
    }
}
