//! What a selector takes in, name by name.

use oci::{Digest, Hasher};
use parser::glob;
use parser::ignore::{Patterns, State};

use super::resolve::resolve;
use super::{ContentError, Entry, Kind, Tree, header, join, show, single, whole};
use crate::path::{base, has_wildcard};
use crate::step::Selector;

/// The digest of what `selector` takes of `tree`.
pub(super) fn digest<T: Tree>(
    tree: &T,
    selector: &Selector,
) -> Result<Digest, ContentError<T::Error>> {
    if !selector.wildcard && selector.include.is_empty() && selector.exclude.is_empty() {
        let path = resolve(tree, selector.path.as_bytes(), selector.follow_links)?;
        return whole(tree, &path);
    }
    let mut list = List::new(tree, selector)?;
    list.run()?;
    list.check_required()?;
    list.finish()
}

/// A walk over what may be taken in.
struct List<'a, T> {
    tree: &'a T,
    selector: &'a Selector,
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    /// The path with wildcards, cut into names.
    wildcard: Option<Vec<&'a [u8]>>,
    taken: Vec<Taken>,
    /// The directories around the name at hand, and which of them are in the list.
    around: Vec<(Around, bool)>,
}

/// A directory around others.
#[derive(Clone)]
struct Around {
    header: Taken,
    include: State,
    exclude: State,
}

#[derive(Clone)]
struct Taken {
    /// Its path as named, with a slash in front; empty for the root.
    path: Vec<u8>,
    digest: Digest,
}

/// What the walk still has to do.
enum Todo {
    Visit(At),
    /// The directory at hand is done.
    Leave,
}

/// A name at hand.
struct At {
    /// Where it is.
    real: Vec<u8>,
    /// How the selector calls it, with a slash in front.
    named: Vec<u8>,
    /// The same relative to what the selector names; `None` while a wildcard has not matched yet.
    candidate: Option<Vec<u8>>,
}

impl<'a, T: Tree> List<'a, T> {
    fn new(tree: &'a T, selector: &'a Selector) -> Result<Self, ContentError<T::Error>> {
        let patterns = |list: &[String]| match list {
            [] => Ok(None),
            list => {
                Patterns::new(list).map(Some).map_err(|_| ContentError::Pattern(list.join(", ")))
            }
        };
        let names = || selector.path.split('/').filter(|name| !name.is_empty());
        let wildcard = selector.wildcard.then(|| names().map(str::as_bytes).collect());
        Ok(Self {
            tree,
            selector,
            include: patterns(&selector.include)?,
            exclude: patterns(&selector.exclude)?,
            wildcard,
            taken: Vec::new(),
            around: Vec::new(),
        })
    }

    /// Starts where the wildcards do. Without recursion: trees can be deep.
    fn run(&mut self) -> Result<(), ContentError<T::Error>> {
        let prefix = self.prefix();
        let real = resolve(self.tree, &prefix, self.wildcard.is_some())?;
        let entry = self.tree.entry(&real).map_err(ContentError::Read)?;
        if entry.is_none() && !real.is_empty() {
            return Ok(());
        }
        let candidate = self.wildcard.is_none().then(Vec::new);
        let mut todo = vec![Todo::Visit(At { real, named: prefix, candidate })];
        while let Some(next) = todo.pop() {
            match next {
                Todo::Visit(at) => self.visit(at, &mut todo)?,
                Todo::Leave => drop(self.around.pop()),
            }
        }
        Ok(())
    }

    /// What the selector names before its wildcards, with a slash in front; empty for the root.
    fn prefix(&self) -> Vec<u8> {
        let names = self.selector.path.split('/').filter(|name| !name.is_empty());
        let fixed = names.take_while(|name| self.wildcard.is_none() || !has_wildcard(name));
        fixed.flat_map(|name| ["/", name]).collect::<String>().into_bytes()
    }

    fn visit(&mut self, mut at: At, todo: &mut Vec<Todo>) -> Result<(), ContentError<T::Error>> {
        if at.candidate.is_none() && self.matches(&at.named)? {
            at.candidate = Some(Vec::new());
        }
        let entry = self.tree.entry(&at.real).map_err(ContentError::Read)?;
        match &entry {
            Some(entry) if entry.kind != Kind::Directory => self.visit_single(&at, entry),
            None if !at.real.is_empty() => Err(ContentError::NotFound(show(&at.real))),
            entry => self.visit_directory(&at, entry.as_ref(), todo),
        }
    }

    fn visit_single(&mut self, at: &At, entry: &Entry) -> Result<(), ContentError<T::Error>> {
        let Some(candidate) = &at.candidate else { return Ok(()) };
        if !self.judge(candidate).0 {
            return Ok(());
        }
        // A link that the selector itself names is followed.
        let is_followed = self.selector.follow_links && self.around.is_empty();
        let digest = match &entry.kind {
            Kind::Symlink(_) if is_followed => {
                let real = resolve(self.tree, &at.named, true)?;
                whole(self.tree, &real)?
            }
            _ => single(self.tree, &at.real, entry)?,
        };
        self.take(Taken { path: at.named.clone(), digest });
        Ok(())
    }

    /// A directory counts for itself, without what is in it: that is visited name by name.
    fn visit_directory(
        &mut self,
        at: &At,
        entry: Option<&Entry>,
        todo: &mut Vec<Todo>,
    ) -> Result<(), ContentError<T::Error>> {
        if at.candidate.is_some() && !self.is_bare_root(at) {
            self.enter(at, entry);
            todo.push(Todo::Leave);
        }
        let below = |name: Vec<u8>| At {
            real: join(&at.real, &name),
            named: [&at.named[..], b"/", &name].concat(),
            candidate: at.candidate.as_ref().map(|candidate| join(candidate, &name)),
        };
        let names = self.tree.names(&at.real).map_err(ContentError::Read)?;
        let below = names.into_iter().rev().map(below);
        let may_match = |at: &At| at.candidate.is_some() || self.may_match_below(&at.named);
        todo.extend(below.filter(may_match).map(Todo::Visit));
        Ok(())
    }

    fn enter(&mut self, at: &At, entry: Option<&Entry>) {
        let candidate = at.candidate.as_deref().unwrap_or_default();
        let (is_taken, include, exclude) = self.judge(candidate);
        let header = Taken { path: at.named.clone(), digest: header(entry) };
        if is_taken {
            self.take(header.clone());
        }
        self.around.push((Around { header, include, exclude }, is_taken));
    }

    /// Of `/` everything is taken but itself.
    fn is_bare_root(&self, at: &At) -> bool {
        at.named.is_empty() && self.selector.path.trim_matches('/').is_empty()
    }

    /// Lists `taken`, after the directories around it.
    fn take(&mut self, taken: Taken) {
        for (around, is_taken) in &mut self.around {
            if !std::mem::replace(is_taken, true) {
                self.taken.push(around.header.clone());
            }
        }
        self.taken.push(taken);
    }

    /// Whether the patterns take `candidate`, and what is known for the names below it.
    fn judge(&self, candidate: &[u8]) -> (bool, State, State) {
        let text = String::from_utf8_lossy(candidate);
        let around = self.around.last().map(|(around, _)| around);
        let (is_included, include) = match &self.include {
            None => (true, State::default()),
            Some(patterns) => {
                let top = State::default();
                let found = patterns.enter(around.map_or(&top, |around| &around.include), &text);
                (found.excluded, found.state)
            }
        };
        match self.exclude.as_ref().filter(|_| is_included) {
            None => (is_included, include, State::default()),
            Some(patterns) => {
                let top = State::default();
                let found = patterns.enter(around.map_or(&top, |around| &around.exclude), &text);
                (!found.excluded, include, found.state)
            }
        }
    }

    /// Whether the whole of `named` matches the path with wildcards.
    fn matches(&self, named: &[u8]) -> Result<bool, ContentError<T::Error>> {
        let Some(wildcard) = &self.wildcard else { return Ok(true) };
        let names: Vec<&[u8]> = names(named).collect();
        if names.len() != wildcard.len() {
            return Ok(false);
        }
        let mut pairs = wildcard.iter().zip(names);
        pairs.try_fold(true, |all, (pattern, name)| {
            let matches = glob::matches(pattern, name);
            let invalid = |_| ContentError::Pattern(self.selector.path.clone());
            Ok(all & matches.map_err(invalid)?)
        })
    }

    /// Whether something at or below `named` could match, by the number of names.
    fn may_match_below(&self, named: &[u8]) -> bool {
        self.wildcard.as_ref().is_none_or(|wildcard| names(named).count() <= wildcard.len())
    }

    fn check_required(&self) -> Result<(), ContentError<T::Error>> {
        let is_there = |required: &&String| {
            self.taken.iter().any(|taken| taken.path.starts_with(required.as_bytes()))
        };
        match self.selector.required.iter().find(|required| !is_there(required)) {
            Some(required) => Err(ContentError::NotFound(required.clone())),
            None => Ok(()),
        }
    }

    fn finish(&self) -> Result<Digest, ContentError<T::Error>> {
        let own = base(&self.selector.path).as_bytes();
        match &self.taken[..] {
            [] => return Ok(Digest::of(b"")),
            [only] if last_name(&only.path) == own => return Ok(only.digest.clone()),
            _ => {}
        }
        let prefix = self.prefix();
        let mut hasher = Hasher::sha256();
        for taken in &self.taken {
            let path = taken.path.strip_prefix(&prefix[..]).unwrap_or(&taken.path);
            match path {
                b"" => hasher.update(b"\0"),
                path => {
                    let key: Vec<u8> =
                        path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect();
                    hasher.update(&key);
                }
            }
            hasher.update(taken.digest.as_str().as_bytes());
        }
        Ok(hasher.finish())
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// Go's `path.Base`, for a path with a slash in front.
fn last_name(path: &[u8]) -> &[u8] {
    names(path).last().unwrap_or(b".")
}
