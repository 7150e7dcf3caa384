//! What a build with an unchanged context costs before it can say that all is cached, and what it
//! costs to write a layer of which almost nothing changed.

use std::fs;
use std::path::Path;

use cache::layer::{DirectoryOptions, Flavor, Time};
use cache::{StatIndex, Store};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use engine::file_op::{Job, Previous, Small, Target, apply, input_digest};
use engine::tree::{View, view_of_context};
use llb::{CopyOp, FileAction, FileActionKind, FileInput, FileOp};

const FILES: usize = 5_000;

fn plant(root: &Path) {
    for file in 0..FILES {
        let directory = root.join(format!("package-{}/source-{}", file / 100, file / 10 % 10));
        fs::create_dir_all(&directory).expect("a directory in a fresh tree");
        fs::write(directory.join(format!("file-{file}.txt")), vec![b'x'; 200 + file % 3000])
            .expect("a file in a fresh tree");
    }
}

/// `COPY . /app`
fn operation() -> FileOp {
    let copy = CopyOp {
        src: "/".into(),
        dest: "/app".into(),
        dest_has_dot: false,
        owner: None,
        mode: None,
        mode_symbolic: None,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: None,
        include_patterns: Vec::new(),
        exclude_patterns: Vec::new(),
        always_replace_existing: false,
        parents: false,
        display_src: ".".into(),
    };
    let kind = FileActionKind::Copy(copy);
    let (input, secondary) = (FileInput::Scratch, Some(FileInput::Input(0)));
    FileOp { actions: vec![FileAction { input, secondary, output: Some(0), kind }] }
}

fn view(store: &Store, context: &Path) -> View {
    let patterns = vec!["**/*.tmp".into(), ".git".into()];
    view_of_context(context, patterns, Some(StatIndex::load(store, context)))
        .expect("the context is there")
}

fn digest(view: &View, op: &FileOp) {
    input_digest(op, 0, view).expect("every file can be read");
}

fn bench(criterion: &mut Criterion) {
    let base = tempfile::tempdir().expect("a temporary directory");
    let context = base.path().join("context");
    plant(&context);
    // What was written a moment ago is not trusted to stay.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let root = base.path().join("store");
    fs::create_dir(&root).expect("a directory in a fresh tree");
    let store = Store::open(&root, cache::store::Options::default()).expect("a fresh store");
    let op = operation();
    let first = view(&store, &context);
    digest(&first, &op);
    first.save_index().expect("the store can be written");

    criterion.bench_function("digest an unchanged context of 5000 files", |bencher| {
        bencher.iter(|| digest(&view(&store, &context), &op));
    });
    criterion.bench_function("digest an unknown context of 5000 files", |bencher| {
        let unknown = || view_of_context(&context, Vec::new(), None).expect("the context is there");
        bencher.iter(|| digest(&unknown(), &op));
    });

    let host = executor::Host::probe();
    let inputs = [Some(&first)];
    let scratch = base.path().join("scratch");
    fs::create_dir(&scratch).expect("a directory in a fresh tree");
    let job = Job {
        op: &op,
        output: 0,
        inputs: &inputs,
        default_time: Time::EPOCH,
        scratch: &scratch,
        host: &host,
        is_stopped: &|| false,
    };
    let options = || DirectoryOptions {
        ignore_owner: host.single_id(),
        ..DirectoryOptions::new(Flavor::User)
    };
    let before = base.path().join("before");
    fs::create_dir(&before).expect("a directory in a fresh tree");
    let target = Target::Directory { path: &before, options: &options, previous: None };
    let manifest = apply(&job, target).expect("the layer can be written").manifest;
    let fresh = || tempfile::tempdir_in(base.path()).expect("a temporary directory");
    for (name, over) in [("copy 5000 files", false), ("copy 5000 unchanged files", true)] {
        criterion.bench_function(name, |bencher| {
            let write = |out: tempfile::TempDir| {
                let before = Previous { manifest: &manifest, small: Small::USUAL };
                let previous = over.then_some(before);
                let target = Target::Directory { path: out.path(), options: &options, previous };
                apply(&job, target).expect("the layer can be written");
                out
            };
            bencher.iter_batched(fresh, write, BatchSize::PerIteration);
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = bench
}
criterion_main!(benches);
