//! The copy action: what goes where, as `cp -a` would with BuildKit's rules for directories.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cache::layer::Time;
use llb::CopyOp;
use rustix::io::Errno;

use super::edit::{as_time, make_directories, new_attributes};
use super::plan::{Attributes, Plan, Planned, PlannedFile, Source};
use super::{FileOpError, Intermediate, Job, SymbolicMode, archive};
use crate::tree::{Kind, Node, NodeId, Root, Selector, Tree, TreeError, View, path};

/// The tree that is copied from.
#[derive(Clone)]
pub(super) enum From<'a> {
    Empty,
    Input(&'a View),
    /// The result of an earlier action.
    Action(Arc<Intermediate>),
    /// An archive that was extracted for this plan alone.
    Archive(Arc<Intermediate>),
}

impl From<'_> {
    pub(super) fn view(&self) -> Option<&View> {
        match self {
            Self::Empty => None,
            Self::Input(view) => Some(view),
            Self::Action(tree) | Self::Archive(tree) => Some(&tree.view),
        }
    }
}

/// Plans `op`: everything it takes in from `from` appears in `plan`.
pub(super) fn copy<'a>(
    plan: &mut Plan<'a>,
    op: &CopyOp,
    from: From<'a>,
    owner: Option<(u32, u32)>,
    job: &Job<'_>,
) -> Result<(), FileOpError> {
    let dest = Destination::of(&op.dest);
    if !op.create_dest_path {
        dest.parent_exists(plan, op)?;
    }
    let selector = Selector::of_copy(op);
    let empty;
    let view = match from.view() {
        Some(view) => view,
        None => {
            empty = crate::tree::view_of_layers(job.host, &[])?;
            &empty
        }
    };
    let selection = view.select(&selector)?;
    if selection.roots.is_empty() && !op.allow_empty_wildcard {
        return Err(FileOpError::NoMatch { source_path: op.src.clone() });
    }
    let rules = Rules {
        owner,
        mode: op.mode,
        symbolic: op.mode_symbolic.as_deref().map(SymbolicMode::parse).transpose()?,
        time: op.timestamp.map(as_time),
        default_time: job.default_time,
        replace: op.always_replace_existing,
    };
    for root in &selection.roots {
        if op.attempt_unpack && archive::unpack(plan, view, root, &dest.clean, &rules, job)? {
            continue;
        }
        // Files of the context are hashed before the key was looked up; extended attributes came
        // with that. Others need neither.
        if view.is_context() {
            view.hash(&root.tree)?;
        }
        copy_root(plan, &from, root, &dest, op.dir_copy_contents, &rules)?;
    }
    Ok(())
}

/// What is done to everything that is copied.
pub(super) struct Rules {
    pub owner: Option<(u32, u32)>,
    mode: Option<u32>,
    symbolic: Option<SymbolicMode>,
    pub time: Option<Time>,
    pub default_time: Time,
    replace: bool,
}

impl Rules {
    /// Nothing is changed; what is missing is made at `default_time`.
    pub(super) fn as_it_is(default_time: Time) -> Self {
        let (owner, mode, symbolic, time) = (None, None, None, None);
        Self { owner, mode, symbolic, time, default_time, replace: true }
    }

    /// Metadata of the copy of `node`.
    fn attributes(&self, node: &Node) -> Attributes {
        let stat = &node.stat;
        let mode = u32::from(stat.mode);
        let mode = match (&self.symbolic, self.mode) {
            _ if stat.kind == Kind::Symlink => 0o777,
            (Some(symbolic), _) => symbolic.apply(mode, stat.kind == Kind::Directory),
            (None, Some(mode)) => mode & 0o7777,
            (None, None) => mode,
        };
        let (uid, gid) = self.owner.unwrap_or((stat.uid, stat.gid));
        Attributes {
            mode,
            uid,
            gid,
            mtime: self.time.unwrap_or(stat.mtime),
            xattrs: node.xattrs().cloned().map(Arc::new),
        }
    }

    /// Metadata of directories that must be made to reach the destination.
    pub(super) fn parents(&self) -> Attributes {
        let mode = self.mode.filter(|_| self.symbolic.is_none()).unwrap_or(0o755);
        self.made_directory(mode & 0o777)
    }

    pub(super) fn made_directory(&self, mode: u32) -> Attributes {
        new_attributes(mode, self.owner, self.time.unwrap_or(self.default_time))
    }
}

/// A destination as written.
struct Destination {
    clean: Vec<u8>,
    /// The directory that must be there before anything is copied.
    directory: Vec<u8>,
}

impl Destination {
    /// A trailing slash or `/.` makes the destination itself that directory.
    fn of(text: &str) -> Self {
        let clean = path::clean(text.as_bytes());
        let last = text.rsplit('/').next().unwrap_or_default();
        let directory = match path::split(&clean) {
            Some((parent, _)) if !matches!(last, "" | ".") => parent.to_vec(),
            _ => clean.clone(),
        };
        Self { clean, directory }
    }

    fn parent_exists(&self, plan: &Plan<'_>, op: &CopyOp) -> Result<(), FileOpError> {
        let place = plan.resolve(&self.clean)?;
        match path::split(&place) {
            Some((parent, _)) if plan.kind(parent)?.is_none() => {
                Err(FileOpError::NoParent { path: op.dest.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn copy_root<'a>(
    plan: &mut Plan<'a>,
    from: &From<'a>,
    root: &Root,
    dest: &Destination,
    contents: bool,
    rules: &Rules,
) -> Result<(), FileOpError> {
    let parents = rules.parents();
    let directory = plan.resolve(&dest.directory)?;
    make_directories(plan, &directory, &parents, rules.owner)?;
    let mut target = plan.resolve(&dest.clean)?;
    let found = plan.kind(&target)?;
    let node = root.tree.node(NodeId::ROOT);
    let is_directory = node.stat.kind == Kind::Directory;
    if (is_directory && !contents && found.is_some())
        || (!is_directory && found == Some(Kind::Directory))
    {
        // BuildKit joins onto a file here, too, and fails in the next step.
        if !root.name.is_empty() {
            path::push(&mut target, &root.name);
        }
    }
    let directory = match path::split(&target) {
        _ if contents && is_directory && found.is_none() => target.as_slice(),
        Some((parent, _)) => parent,
        None => b"",
    };
    make_directories(plan, directory, &parents, rules.owner)?;
    let implied = &BTreeSet::new();
    let links = HashMap::new();
    Copying { plan, from, tree: &root.tree, rules, links, archive: false, implied }.run(target)
}

/// One source on its way into the plan.
pub(super) struct Copying<'p, 'a, 's> {
    plan: &'p mut Plan<'a>,
    from: &'s From<'a>,
    tree: &'s Arc<Tree>,
    rules: &'s Rules,
    /// Files with several names, by device and number.
    links: HashMap<(u64, u64), Arc<PlannedFile<'a>>>,
    /// The source is an extracted archive: what it holds replaces what is there, but says nothing
    /// about the directory it is extracted to.
    archive: bool,
    /// Directories that an archive has files in, but no member for.
    implied: &'s BTreeSet<Vec<u8>>,
}

/// A node to be copied.
struct Todo {
    node: NodeId,
    target: Vec<u8>,
    /// The target's directory was there before this source was copied, so the target may be, too.
    may_exist: bool,
    /// Directories above that are made only once something in them is copied.
    pending: Option<Arc<Pending>>,
}

struct Pending {
    node: NodeId,
    target: Vec<u8>,
    above: Option<Arc<Self>>,
}

impl<'p, 'a, 's> Copying<'p, 'a, 's> {
    /// Takes in an extracted archive, by the rules [`Rules::as_it_is`].
    pub(super) fn of_archive(
        plan: &'p mut Plan<'a>,
        from: &'s From<'a>,
        tree: &'s Arc<Tree>,
        rules: &'s Rules,
        implied: &'s BTreeSet<Vec<u8>>,
    ) -> Self {
        Self { plan, from, tree, rules, links: HashMap::new(), archive: true, implied }
    }

    /// Without recursion: trees can be deep.
    pub(super) fn run(mut self, target: Vec<u8>) -> Result<(), FileOpError> {
        let mut todo = vec![Todo { node: NodeId::ROOT, target, may_exist: true, pending: None }];
        while let Some(mut next) = todo.pop() {
            self.follow_implied(&mut next)?;
            let (may_exist, pending) = self.node(&next)?;
            if self.tree.node(next.node).stat.kind != Kind::Directory {
                continue;
            }
            let before = todo.len();
            todo.extend(self.tree.children(next.node).map(|child| Todo {
                node: child,
                target: path::join(&next.target, &self.tree.node(child).name),
                may_exist,
                pending: pending.clone(),
            }));
            todo[before..].reverse();
        }
        Ok(())
    }

    /// A directory that an archive only implies may be a link to one at the destination.
    fn follow_implied(&mut self, next: &mut Todo) -> Result<(), FileOpError> {
        if self.is_implied(next.node) && self.plan.kind(&next.target)? == Some(Kind::Symlink) {
            let followed = self.plan.resolve(&next.target)?;
            if self.plan.kind(&followed)? == Some(Kind::Directory) {
                next.target = followed;
            }
        }
        Ok(())
    }

    fn is_implied(&self, node: NodeId) -> bool {
        self.archive && !self.implied.is_empty() && self.implied.contains(&self.tree.relative(node))
    }

    /// Copies one node; for a directory, whether its names may be there already, and which
    /// directories are still to be made.
    fn node(&mut self, next: &Todo) -> Result<(bool, Option<Arc<Pending>>), FileOpError> {
        let node = self.tree.node(next.node);
        if self.archive && next.node == NodeId::ROOT {
            return Ok((true, None));
        }
        if !node.included {
            let pending = Pending {
                node: next.node,
                target: next.target.clone(),
                above: next.pending.clone(),
            };
            return Ok((true, Some(Arc::new(pending))));
        }
        self.make_pending(next.pending.as_deref())?;
        let mut found = if next.may_exist { self.plan.kind(&next.target)? } else { None };
        let is_directory = node.stat.kind == Kind::Directory;
        if self.rules.replace
            && found.is_some()
            && !(is_directory && found == Some(Kind::Directory))
        {
            self.plan.remove(&next.target)?;
            found = None;
        }
        if is_directory {
            let existed = found.is_some();
            self.directory(next, node, found)?;
            return Ok((existed, None));
        }
        if found == Some(Kind::Directory) {
            return Err(FileOpError::IsDirectory { path: path::show(&next.target) });
        }
        let planned = self.planned(next.node, node)?;
        match next.may_exist {
            true => self.plan.put(&next.target, planned)?,
            // Its directory was planned a moment ago.
            false => self.plan.insert(&next.target, planned),
        }
        Ok((false, None))
    }

    fn directory(
        &mut self,
        next: &Todo,
        node: &Node,
        found: Option<Kind>,
    ) -> Result<(), FileOpError> {
        let mut attributes = self.rules.attributes(node);
        let is_implied = self.is_implied(next.node);
        if is_implied {
            attributes.mtime = self.rules.default_time;
        }
        match found {
            None => self.plan.make_directory(&next.target, attributes),
            Some(Kind::Directory) if is_implied => Ok(()),
            Some(Kind::Directory) => {
                let directory = self.plan.directory(&next.target)?;
                if next.node == NodeId::ROOT {
                    directory.attributes.mtime = attributes.mtime;
                } else {
                    overwrite(&mut directory.attributes, attributes);
                }
                Ok(())
            }
            Some(_) => Err(FileOpError::NotDirectory { path: path::show(&next.target) }),
        }
    }

    /// Makes the directories that were left out until something in them is copied.
    fn make_pending(&mut self, pending: Option<&Pending>) -> Result<(), FileOpError> {
        let mut chain = Vec::new();
        let mut at = pending;
        while let Some(pending) = at {
            chain.push(pending);
            at = pending.above.as_deref();
        }
        for pending in chain.into_iter().rev() {
            let node = self.tree.node(pending.node);
            match self.plan.kind(&pending.target)? {
                None => {
                    let attributes = self.rules.attributes(node);
                    self.plan.make_directory(&pending.target, attributes)?;
                }
                Some(Kind::Directory) => {}
                Some(_) => {
                    return Err(FileOpError::NotDirectory { path: path::show(&pending.target) });
                }
            }
        }
        Ok(())
    }

    fn planned(&mut self, id: NodeId, node: &Node) -> Result<Planned<'a>, FileOpError> {
        let attributes = self.rules.attributes(node);
        let stat = &node.stat;
        Ok(match stat.kind {
            Kind::File => {
                let links = &mut self.links;
                if stat.nlink > 1
                    && let Some(first) = links.get(&(stat.dev, stat.ino))
                {
                    return Ok(Planned::File(Arc::clone(first)));
                }
                let source =
                    Source::Tree { from: self.from.clone(), tree: Arc::clone(self.tree), node: id };
                let digest = node.digest().copied();
                let file = Arc::new(PlannedFile { attributes, size: stat.size, source, digest });
                if stat.nlink > 1 {
                    links.insert((stat.dev, stat.ino), Arc::clone(&file));
                }
                Planned::File(file)
            }
            Kind::Symlink => Planned::Symlink { attributes, target: node.link().to_vec() },
            Kind::Fifo => Planned::Fifo { attributes },
            Kind::CharDevice | Kind::BlockDevice => {
                let (major, minor) = stat.rdev;
                Planned::Device { attributes, kind: stat.kind, major, minor }
            }
            Kind::Socket => Planned::File(Arc::new(PlannedFile {
                attributes,
                size: 0,
                source: Source::Bytes(Vec::new()),
                digest: Some(blake3::hash(b"").into()),
            })),
            Kind::Directory => {
                let mut place = Vec::new();
                self.tree.path(id, &mut place);
                return Err(TreeError::file("copy", &place, Errno::OPNOTSUPP).into());
            }
        })
    }
}

/// A directory that is copied over another gets all its metadata, and keeps attributes that the
/// copied one does not have.
fn overwrite(old: &mut Attributes, new: Attributes) {
    let kept = old.xattrs.take();
    *old = new;
    if let Some(kept) = kept {
        let mut xattrs = (*kept).clone();
        for (name, value) in old.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
            xattrs.insert(name.clone(), value.clone());
        }
        old.xattrs = Some(Arc::new(xattrs));
    }
}
