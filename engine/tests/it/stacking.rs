//! Trees laid over each other, and what one has more than another.

use std::fs;
use std::io::Read as _;

use engine::{Limits, PullPolicy, SolveRequest, Solved};
use llb::{
    CopyOp, Definition, FileAction, FileActionKind, FileInput, FileOp, Input, Metadata, MkfileOp,
    Op, RmOp, Timestamp,
};
use tokio_util::sync::CancellationToken;

use crate::files::{is_root, plain_copy, skip};
use crate::world::World;

/// A definition in the making.
#[derive(Default)]
struct Steps(Definition);

impl Steps {
    fn add(&mut self, op: Op, inputs: &[Input]) -> Input {
        Input { vertex: self.0.add(op, inputs, Metadata::default()).unwrap(), output: 0 }
    }

    /// `base` with each of `changes` made: `a=1` writes a file, `-a` removes one.
    fn changed(&mut self, base: Option<Input>, changes: &str) -> Input {
        let mut actions: Vec<FileAction> = Vec::new();
        for change in changes.split_whitespace() {
            let input = match (actions.len(), base) {
                (0, None) => FileInput::Scratch,
                (0, Some(_)) => FileInput::Input(0),
                (count, _) => FileInput::Action(count - 1),
            };
            actions.push(FileAction { input, secondary: None, output: None, kind: kind(change) });
        }
        actions.last_mut().unwrap().output = Some(0);
        self.add(Op::File(FileOp { actions }), &Vec::from_iter(base))
    }

    /// All that is in `tree`, as one layer.
    fn whole(&mut self, tree: Input) -> Input {
        let copy = CopyOp {
            src: "/".to_owned(),
            dest: "/".to_owned(),
            dir_copy_contents: true,
            ..plain_copy()
        };
        let action = FileAction {
            input: FileInput::Scratch,
            secondary: Some(FileInput::Input(0)),
            output: Some(0),
            kind: FileActionKind::Copy(copy),
        };
        self.add(Op::File(FileOp { actions: vec![action] }), &[tree])
    }

    async fn solve(&self, world: &World, targets: &[Input]) -> Solved {
        let request = SolveRequest {
            definition: self.0.clone(),
            targets: targets.to_vec(),
            pull: PullPolicy::Never,
            offline: true,
            limits: Limits::default(),
            step_disk: None,
            jobs: None,
        };
        let cancel = CancellationToken::new();
        let workspace = world.workspace();
        let solved = workspace.solve(request, world.client(), world.listener(), cancel);
        solved.await.unwrap()
    }
}

fn kind(change: &str) -> FileActionKind {
    let path = |name: &str| format!("/{name}");
    match change.split_once('=') {
        Some((name, text)) => FileActionKind::Mkfile(MkfileOp {
            path: path(name),
            mode: 0o644,
            data: text.into(),
            owner: None,
            timestamp: Some(Timestamp { seconds: 86_400, nanoseconds: 0 }),
        }),
        None => FileActionKind::Rm(RmOp {
            path: path(change.strip_prefix('-').unwrap()),
            allow_not_found: false,
            allow_wildcard: false,
        }),
    }
}

/// What is in each layer of a target, the bottom one first.
fn layers(world: &World, solved: &Solved, target: usize) -> Vec<String> {
    let listed = solved.targets[target].iter().map(|layer| {
        let digest = &layer.blob.digest;
        let path = format!("store/blobs/{}/{}", digest.algorithm(), digest.hex());
        let mut archive = tar::Archive::new(fs::File::open(world.path(&path)).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            format!("{}={text}", entry.path().unwrap().display())
        });
        entries.filter(|line| line != "./=").collect::<Vec<_>>().join(" ")
    });
    listed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_difference_has_what_was_added_and_what_was_taken_away() {
    if !is_root() {
        return skip("marks of what was taken away want root");
    }
    // The lower tree, what is changed on top of it or an upper tree of its own, and the layers.
    let cases: [(&str, bool, &str, &[&str]); 5] = [
        ("a=1", true, "b=2", &["b=2"]),
        ("a=1 b=1", true, "-a", &[".wh.a="]),
        ("a=1 b=1", false, "b=2 c=3", &[".wh.a= b=2 c=3"]),
        ("a=1 b=1", false, "a=1", &[".wh.b="]),
        ("a=1", false, "a=1", &[]),
    ];
    let world = World::new("");
    for (lower, is_on_top, upper, expected) in cases {
        let mut steps = Steps::default();
        let lower_tree = steps.changed(None, lower);
        let upper_tree = steps.changed(is_on_top.then_some(lower_tree), upper);
        let difference = steps.add(Op::Diff, &[lower_tree, upper_tree]);
        let solved = steps.solve(&world, &[difference]).await;
        assert_eq!(layers(&world, &solved, 0), expected, "{lower} to {upper}");
        let again = steps.solve(&world, &[difference]).await;
        assert_eq!(again.targets, solved.targets, "{lower} to {upper}");
        let ran = world.told().into_iter().find(|line| line.ends_with(" runs"));
        assert_eq!(ran, None, "{lower} to {upper}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_difference_lies_over_any_tree() {
    if !is_root() {
        return skip("marks of what was taken away want root");
    }
    let world = World::new("");
    let mut steps = Steps::default();
    let (old, new) = (steps.changed(None, "a=1 b=1"), steps.changed(None, "b=2 c=3"));
    let other = steps.changed(None, "a=5 b=5 d=5");
    let nothing = steps.changed(None, "a=1 -a");
    let difference = steps.add(Op::Diff, &[old, new]);
    let over = steps.add(Op::Merge, &[other, difference]);
    // The same layer twice, and twice the same tree.
    let twice = steps.add(Op::Merge, &[over, other, difference, difference]);
    // All of a tree taken away.
    let emptied = steps.add(Op::Diff, &[other, nothing]);
    let empty = steps.add(Op::Merge, &[other, emptied]);
    let targets = [over, twice, empty].map(|tree| steps.whole(tree));
    let solved = steps.solve(&world, &targets).await;
    let whole: Vec<_> = (0..targets.len()).map(|target| layers(&world, &solved, target)).collect();
    let changed = vec!["b=2 c=3 d=5".to_owned()];
    assert_eq!(whole, [changed.clone(), changed, vec![String::new()]]);
}
