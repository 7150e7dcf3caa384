//! Definitions written by hand.

use std::fs;
use std::path::Path;

use engine::{BuildError, Limits, PullPolicy, SolveRequest, Solved};
use llb::{
    CopyOp, Definition, FileAction, FileActionKind, FileInput, FileOp, Input, LocalSource,
    Metadata, Op, SourceOp,
};
use tokio_util::sync::CancellationToken;

use crate::files::plain_copy;
use crate::world::World;

/// The context called `name`, copied over nothing.
fn copied(name: &str) -> SolveRequest {
    let mut definition = Definition::default();
    let metadata = |name: &str| Metadata { name: name.to_owned(), ..Metadata::default() };
    let local = LocalSource { exclude_patterns: vec!["no".to_owned()], ..LocalSource::new(name) };
    let local = Op::Source(SourceOp::Local(local));
    let context = definition.add(local, &[], metadata("files")).unwrap();
    let copy = CopyOp { src: "/".to_owned(), dest: "/".to_owned(), ..plain_copy() };
    let copy = FileAction {
        input: FileInput::Scratch,
        secondary: Some(FileInput::Input(0)),
        output: Some(0),
        kind: FileActionKind::Copy(copy),
    };
    let inputs = [Input { vertex: context, output: 0 }];
    let copy = Op::File(FileOp { actions: vec![copy] });
    let copied = definition.add(copy, &inputs, metadata("copy")).unwrap();
    SolveRequest {
        definition,
        targets: vec![Input { vertex: copied, output: 0 }],
        pull: PullPolicy::Never,
        offline: false,
        limits: Limits::default(),
        step_disk: None,
        jobs: None,
    }
}

async fn solve(world: &World, request: SolveRequest) -> Result<Solved, BuildError> {
    let cancel = CancellationToken::new();
    world.workspace().solve(request, world.client(), world.listener(), cancel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_needs_no_dockerfile() {
    let world = World::new("a=1; d/b=2; no=3");
    let solved = solve(&world, copied("context")).await.unwrap();
    let [layers] = solved.targets.as_slice() else { panic!("one target: {solved:?}") };
    let [layer] = layers.as_slice() else { panic!("one layer: {solved:?}") };
    let (algorithm, hex) = (layer.blob.digest.algorithm(), layer.blob.digest.hex());
    let blob = fs::File::open(world.path(&format!("store/blobs/{algorithm}/{hex}"))).unwrap();
    let mut archive = tar::Archive::new(blob);
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
    let names: Vec<_> = names.filter(|name| name.as_os_str() != "./").collect();
    assert_eq!(names, [Path::new("a"), Path::new("d/"), Path::new("d/b")]);
    // Again, it is known.
    let again = solve(&world, copied("context")).await.unwrap();
    assert_eq!(again.targets, solved.targets);
    assert!(!world.told().iter().any(|line| line == "2 runs"), "{:?}", world.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_does_not_have_is_an_error_that_names_it() {
    let world = World::new("a=1");
    let error = solve(&world, copied("other")).await.unwrap_err();
    assert_eq!(error.to_string(), "no local context is called `other`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_read_in_place_has_no_parts_of_directories() {
    let world = World::new("a=1");
    let mut definition = Definition::default();
    let local = LocalSource { follow_paths: vec!["a".to_owned()], ..LocalSource::new("context") };
    let local = Op::Source(SourceOp::Local(local));
    let part = definition.add(local, &[], Metadata::default()).unwrap();
    let targets = vec![Input { vertex: part, output: 0 }];
    let request = SolveRequest { definition, targets, ..copied("context") };
    let error = solve(&world, request).await.unwrap_err();
    assert_eq!(error.to_string(), "a part of the directory `context` is not available");
}
