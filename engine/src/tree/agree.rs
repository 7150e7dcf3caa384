//! One context, several selections: steps that take in the same file take in the same content.

use std::cmp::Ordering;
use std::sync::Arc;

use super::read::changed;
use super::{Kind, NodeId, Tree, TreeError, View, lock, path};

impl View {
    /// Compares `tree`, just hashed, with what was hashed of this context before: steps are keyed at
    /// different times, and a file that was saved between must not be in the build with two contents.
    pub(super) fn agree(&self, tree: &Arc<Tree>) -> Result<(), TreeError> {
        if !self.is_context() {
            return Ok(());
        }
        let mut known = lock(&self.hashed);
        known.iter().try_for_each(|other| compare(tree, other))?;
        known.push(tree.clone());
        Ok(())
    }
}

fn compare(one: &Tree, other: &Tree) -> Result<(), TreeError> {
    let (outer, inner) =
        if one.source().len() <= other.source().len() { (one, other) } else { (other, one) };
    let Some(start) = outer.find(inner.source()) else { return Ok(()) };
    let mut todo = vec![(start, NodeId::ROOT)];
    while let Some((a, b)) = todo.pop() {
        if !is_same((outer, a), (inner, b)) {
            let mut place = Vec::new();
            inner.path(b, &mut place);
            return Err(changed(&place, "its content"));
        }
        push_common((outer, a), (inner, b), &mut todo);
    }
    Ok(())
}

fn is_same((one, a): (&Tree, NodeId), (other, b): (&Tree, NodeId)) -> bool {
    let (a, b) = (one.node(a), other.node(b));
    let is_alike = (a.stat.kind, a.stat.mode, a.link()) == (b.stat.kind, b.stat.mode, b.link());
    is_alike && (a.stat.kind != Kind::File || a.digest() == b.digest())
}

/// Adds the names that both directories have.
fn push_common(
    (one, a): (&Tree, NodeId),
    (other, b): (&Tree, NodeId),
    todo: &mut Vec<(NodeId, NodeId)>,
) {
    let mut theirs = other.children(b).peekable();
    for child in one.children(a) {
        let name = &one.node(child).name;
        while theirs.next_if(|id| other.node(*id).name.cmp(name) == Ordering::Less).is_some() {}
        if let Some(same) = theirs.next_if(|id| other.node(*id).name == *name) {
            todo.push((child, same));
        }
    }
}

impl Tree {
    /// The node at `place` in the view, if it is taken in.
    fn find(&self, place: &[u8]) -> Option<NodeId> {
        let rest = match (self.source(), place) {
            (b"", place) => place,
            (source, place) if source == place => b"",
            (source, place) => place.strip_prefix(source)?.strip_prefix(b"/")?,
        };
        let mut at = NodeId::ROOT;
        for name in path::components(rest) {
            at = self.children(at).find(|child| *self.node(*child).name == *name)?;
        }
        Some(at)
    }
}
