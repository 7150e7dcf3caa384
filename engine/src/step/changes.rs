//! Why a step runs: what has changed since the same instruction last ran.

use std::collections::{BTreeMap, HashMap};

use cache::Record;
use llb::encode::Encoder;
use llb::parts::ORDER;
use llb::{FileActionKind, Metadata, Op, VertexId};
use oci::Digest;
use solver::Executed;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::step::files::Outputs;
use crate::step::parts::parts;
use crate::step::worker::BuildWorker;

impl BuildWorker {
    /// What the key of `run` was made from. Says what is not as it was when the same instruction last
    /// ran, if that is known; of a step that the user has made run again that is not the reason.
    pub(super) async fn tell_changes(
        &self,
        run: &Executed<'_, Outputs>,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        if matches!(self.definition.vertex(run.vertex).op, Op::Source(_)) {
            return Ok(BTreeMap::new());
        }
        let copied = self.copied.lock().expect("no panic while held").remove(&run.vertex);
        let (definition, vertex) = (self.definition.clone(), run.vertex);
        let parts = match copied {
            None => parts(&definition.vertex(vertex).op, run.taken_in, &HashMap::new()),
            // There may be many directories.
            Some(copied) => {
                let taken_in = run.taken_in.to_vec();
                let parts = move || Ok(parts(&definition.vertex(vertex).op, &taken_in, &copied));
                blocking(parts).await?
            }
        };
        if !run.salt.is_empty() || !self.steps.shows_changes() {
            return Ok(parts);
        }
        let last = self.instruction(run.vertex).and_then(|step| self.store.last_record(&step));
        if let Some(Record { parts: last, .. }) = last {
            self.steps.changed(run.vertex, changed(&last, &parts));
        }
        Ok(parts)
    }

    /// Remembers that the instruction of `vertex` last ran with the result `key`.
    pub(super) fn keep_as_last(&self, vertex: VertexId, key: &Digest) {
        if let Some(step) = self.instruction(vertex) {
            self.store.put_alias(&step, key);
        }
    }

    /// Names the instruction that `vertex` came from, whatever it takes in: its place, and its text before
    /// anything is put in for variables.
    fn instruction(&self, vertex: VertexId) -> Option<Digest> {
        let found = self.definition.vertex(vertex);
        let (start, end) = found.metadata.span?;
        let text = self.dockerfile.as_ref()?.1.get(start as usize..end as usize)?;
        let mut encoder = Encoder::new("instruction");
        for path in self.contexts.directories_in_place() {
            encoder.bytes(path.as_os_str().as_encoded_bytes());
        }
        encoder.text(&found.metadata.stage).text(place(&found.metadata)).text(text);
        encoder.text(kind(&found.op));
        Some(encoder.finish())
    }
}

/// `[build 2` of the name `[build 2/5] RUN make`: steps behind it do not matter.
fn place(metadata: &Metadata) -> &str {
    let bracket = metadata.name.split_once(']').map_or("", |(bracket, _)| bracket);
    bracket.rsplit_once('/').map_or(bracket, |(place, _)| place)
}

/// An instruction may become several vertices, each of another kind.
fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(_) => "source",
        Op::Exec(_) => "exec",
        Op::Merge => "merge",
        Op::Diff => "diff",
        Op::File(file) => match file.actions.first().map(|action| &action.kind) {
            Some(FileActionKind::Copy(_)) => "copy",
            Some(FileActionKind::Mkfile(_)) => "file",
            Some(FileActionKind::Mkdir(_)) => "directory",
            Some(FileActionKind::Rm(_)) => "removal",
            Some(FileActionKind::Symlink(_)) => "link",
            None => "",
        },
    }
}

/// Names of the parts that differ; their order only where nothing else does.
fn changed(last: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = last.keys().filter(|name| !now.contains_key(*name));
    let differ = now.iter().filter(|(name, value)| last.get(*name) != Some(value));
    let mut names: Vec<String> = gone.chain(differ.map(|(name, _)| name)).cloned().collect();
    names.sort();
    if names.len() > 1 {
        names.retain(|name| name != ORDER);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_the_order_only_alone() {
        for (last, now, expected) in [
            ("a=1 b=2", "a=1 b=2", ""),
            ("a=1 b=2", "a=2 b=2", "a"),
            ("a=1 order=1", "a=2 order=2", "a"),
            ("a=1 order=1", "a=1 order=2", "order"),
            ("a=1 b=2 order=1", "a=1 c=3 order=2", "b c"),
            ("", "a=1", "a"),
            ("a=1", "", "a"),
        ] {
            let map = |text: &str| -> BTreeMap<String, String> {
                let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            assert_eq!(changed(&map(last), &map(now)).join(" "), expected, "{last} | {now}");
        }
    }

    #[test]
    fn a_place_does_not_depend_on_the_steps_behind_it() {
        for (name, expected) in [
            ("[build 2/5] RUN make", "[build 2"),
            ("[linux/arm64 build 2/5] RUN [ -d a/b ]", "[linux/arm64 build 2"),
            ("[2/5] RUN x", "[2"),
            ("[internal] load", "[internal"),
            ("merge a/b", ""),
        ] {
            let metadata = Metadata { name: name.to_owned(), ..Metadata::default() };
            assert_eq!(place(&metadata), expected);
        }
    }
}
