//! Layers as they are written: hard links, archives, layers over layers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use engine::file_op::{self, input_digest};
use engine::tree::view_of_layers;
use llb::{FileActionKind, FileInput};

use crate::files::{
    Recorder, Trees, chain_of, check, copy_op, directory_options, is_root, lines, outcome, plant,
    settle, skip,
};

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    check(
        "d/a=1; d/b == d/a; d/c == d/a; z == d/a",
        "",
        "COPY d /o",
        "o/; o/a=1; o/b == o/a; o/c == o/a",
    );
    // Two sources are copied one after the other.
    check("a=1; b == a", "", "COPY a b /o/", "o/; o/a=1; o/b=1");
    // The first name that is in the layer has the content.
    check("d/a=1; d/b == d/a", "o/a=1", "COPY d /o", "o/; o/b=1");
    let trees = Trees::new("d/a=1\nd/b == d/a", "");
    trees.to_directory(&copy_op("COPY d /o"), &trees.path("out"), None).unwrap();
    let inode = |name: &str| fs::metadata(trees.path(name)).unwrap().ino();
    assert_eq!(inode("out/o/a"), inode("out/o/b"));
}

#[test]
fn many_files_give_the_same_layer_whatever_thread_writes_them() {
    if !is_root() {
        return skip("not root: owners in directories are not what they should be");
    }
    let mut context = String::new();
    for dir in 0..40 {
        for file in 0..60 {
            context.push_str(&format!("d/{dir}/s{}/{file}={dir}-{file}\n", file % 3));
        }
        context.push_str(&format!("d/{dir}/s0/link == d/{dir}/s1/1\n"));
    }
    let trees = Trees::new(&context, "");
    let op = copy_op("COPY d /o/");
    let text = outcome(&trees, &op);
    assert_eq!(text.lines().count(), 1 + 40 * (60 + 1 + 3 + 1));
    // Times of directories that several threads wrote into are those of the source, too.
    let mut todo = vec![trees.path("out/o")];
    while let Some(path) = todo.pop() {
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mtime(), crate::files::TIME, "{}", path.display());
        if found.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// A tar of these members: type, name, content or target.
fn tar(members: &[(char, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, text) in members {
        let mut header = tar::Header::new_ustar();
        header.set_mode(if *kind == '5' { 0o755 } else { 0o644 });
        header.set_uid(if *kind == '0' { 11 } else { 0 });
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_entry_type(tar::EntryType::new(*kind as u8));
        header.set_size(0);
        let name_field = &mut header.as_old_mut().name;
        name_field[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(kind, '1' | '2') {
            header.set_link_name_literal(text).unwrap();
        } else {
            header.set_size(text.len() as u64);
        }
        header.set_cksum();
        let content = if *kind == '0' { text.as_bytes() } else { b"" };
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn add(archive: &[u8], lower: &str, line: &str) -> String {
    let trees = Trees::new("d/", &lines(lower));
    fs::write(trees.path("context/x.bin"), archive).unwrap();
    settle(&trees.path("context"));
    let got = outcome(&trees, &copy_op(line));
    assert!(
        fs::read_dir(trees.path("scratch")).unwrap().next().is_none(),
        "something is left behind"
    );
    got.trim_end().replace('\n', "; ")
}

#[test]
fn archives_are_known_by_their_content_and_extracted() {
    if !is_root() {
        return skip("not root: archives' owners are not tested");
    }
    let plain = tar(&[('5', "a/", ""), ('0', "a/f", "F"), ('2', "l", "a/f"), ('1', "h", "a/f")]);
    let extracted = "o/; o/a/; o/a/f=F @11:0; o/h == o/a/f @11:0; o/l -> a/f";
    assert_eq!(add(&plain, "", "ADD x.bin /o"), extracted);
    assert_eq!(add(&plain, "", "ADD x.bin /o/"), extracted);
    assert_eq!(add(&plain, "", "ADD *.bin /o/"), extracted);
    let owned = "o/ @3:3; o/a/ @3:3; o/a/f=F @3:3; o/h == o/a/f @3:3; o/l -> a/f @3:3";
    assert_eq!(add(&plain, "", "ADD --chown=3 x.bin /o"), owned);
    assert!(add(&plain, "", "COPY x.bin /o").starts_with("o="), "COPY extracts nothing");
    assert_eq!(add(b"no tar at all, only text", "", "ADD x.bin /o"), "o=no tar at all, only text");
    assert_eq!(add(b"", "", "ADD x.bin /o"), "o=");
    assert!(add(b"\x1f\x8b\x08damaged", "", "ADD x.bin /o").starts_with("o="));

    let mut compressed = Vec::new();
    let gzip = cache::layer::compress::Compression::GZIP;
    cache::layer::compress::compress(&mut plain.as_slice(), &mut compressed, gzip).unwrap();
    assert_eq!(add(&compressed, "", "ADD x.bin /o"), extracted);
    let cut = add(&compressed[..compressed.len() - 20], "", "ADD x.bin /o");
    assert!(cut.starts_with("error: failed to extract `/x.bin`"), "{cut}");
}

#[test]
fn an_archive_replaces_what_is_in_its_way() {
    if !is_root() {
        return skip("not root: archives' owners are not tested");
    }
    let archive = tar(&[('5', "a/", ""), ('0', "a/f", "F"), ('2', "l", "x")]);
    for (lower, want) in [
        ("o/a=1", "o/; o/a/; o/a/f=F @11:0; o/l -> x"),
        ("o/a -> /etc; etc/passwd=1", "o/; o/a/; o/a/f=F @11:0; o/l -> x"),
        ("o/l/deep=1", "o/; o/a/; o/a/f=F @11:0; o/l -> x"),
        ("o/a/keep=1", "o/; o/a/f=F @11:0; o/l -> x"),
        ("real/x=1; o -> real", "real/; real/a/; real/a/f=F @11:0; real/l -> x"),
    ] {
        let want = match lower {
            // A directory that is the same below is in the layer only for what is in it.
            "o/a/keep=1" => "o/; o/a/; o/a/f=F @11:0; o/l -> x",
            _ => want,
        };
        assert_eq!(add(&archive, lower, "ADD x.bin /o"), want, "{lower}");
    }
    // A directory that the archive only implies may be a link in the image.
    let implied = tar(&[('0', "bin/tool", "T")]);
    assert_eq!(
        add(&implied, "usr/bin/sh=1; bin -> usr/bin", "ADD x.bin /"),
        "usr/; usr/bin/; usr/bin/tool=T @11:0"
    );
    // Nothing in an archive leads out of the destination.
    let hostile = tar(&[('2', "l", "/"), ('0', "l/escaped", "E"), ('0', "../up", "U")]);
    let got = add(&hostile, "", "ADD x.bin /o");
    assert!(!std::path::Path::new("/escaped").exists());
    assert!(got.contains("o/up=U") || got.starts_with("error"), "{got}");
}

#[test]
fn a_copy_that_nobody_wants_any_more_stops_ahead_of_the_next_file() {
    let trees = Trees::new("a=1\nb=2\nc=3", "");
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let is_stopped = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0;
    let op = copy_op("COPY . /");
    let inputs = [Some(&trees.lower), Some(&trees.context)];
    let (scratch, out) = (trees.path("scratch"), trees.path("out"));
    let job = file_op::Job { is_stopped: &is_stopped, ..trees.job(&op, &inputs, &scratch) };
    let target =
        file_op::Target::Directory { path: &out, options: &directory_options, previous: None };
    let stopped = file_op::apply(&job, target);
    assert!(matches!(stopped, Err(file_op::FileOpError::Stopped)), "{stopped:?}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "the file ahead of the stop");
}

#[test]
fn privileged_layers_over_layers_are_read_as_one_tree() {
    if !is_root() {
        return skip("layers are mounted over each other by root only");
    }
    let trees = Trees::new("f=new", "");
    let layers = ["one", "two"].map(|name| trees.path(name));
    plant_layer(&layers[0], "a/x=1\na/y=2\nb/z=3\nbin -> a");
    plant_layer(&layers[1], "a/y=two\nc/w=4");
    fs::remove_dir_all(layers[1].join("b")).ok();
    let device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, layers[1].join("b"), device, rustix::fs::Mode::empty(), 0)
        .unwrap();
    let view = match view_of_layers(&trees.host, &layers) {
        Ok(view) => view,
        Err(error) => return skip(&chain_of(&error)),
    };
    assert_eq!(view.layers(), layers);
    // Copied out of the merged tree.
    let mut op = copy_op("COPY . /");
    op.actions[0].input = FileInput::Scratch;
    op.actions[0].secondary = Some(FileInput::Input(0));
    let mut recorder = Recorder::default();
    let inputs = [Some(&view), Some(&trees.context)];
    let scratch = trees.path("scratch");
    let job = |op| engine::file_op::Job {
        op,
        output: 0,
        inputs: &inputs,
        default_time: crate::files::MADE,
        scratch: &scratch,
        host: &trees.host,
        is_stopped: &|| false,
    };
    let sink = engine::file_op::Target::Sink(&mut recorder);
    engine::file_op::apply(&job(&op), sink).unwrap();
    assert_eq!(recorder.lines, "a/\na/x=1\na/y=two\nbin -> a\nc/\nc/w=4\n");
    // And written over.
    let mut op = copy_op("COPY f /bin/x");
    if let FileActionKind::Copy(copy) = &mut op.actions[0].kind {
        copy.allow_wildcard = false;
    }
    let mut recorder = Recorder::default();
    let sink = engine::file_op::Target::Sink(&mut recorder);
    engine::file_op::apply(&job(&op), sink).unwrap();
    assert_eq!(recorder.lines, "a/\na/x=new\n");
    // The same content digests the same however the layers were cut.
    let flat = trees.path("flat");
    plant_layer(&flat, "a/x=1\na/y=two\nc/w=4\nbin -> a");
    let flat = view_of_layers(&trees.host, &[flat]).unwrap();
    let op = copy_op("COPY . /");
    let digests = [&view, &flat].map(|view| input_digest(&op, 1, view).unwrap().unwrap());
    assert_eq!(digests[0], digests[1]);
}

fn plant_layer(path: &std::path::Path, text: &str) {
    fs::create_dir(path).unwrap();
    plant(path, text);
}

#[test]
fn a_file_larger_than_any_buffer_arrives_whole() {
    let trees = Trees::new("d/", "");
    let mut file = fs::File::create(trees.path("context/d/big")).unwrap();
    let block: Vec<u8> = (0..1_000_003u32).map(|n| (n % 251) as u8).collect();
    for _ in 0..20 {
        file.write_all(&block).unwrap();
    }
    drop(file);
    settle(&trees.path("context"));
    let op = copy_op("COPY d /o");
    input_digest(&op, 1, &trees.context).unwrap();
    let applied = trees.to_directory(&op, &trees.path("out"), None).unwrap();
    assert_eq!((applied.files, applied.bytes), (1, 20_000_060));
    assert!(
        fs::read(trees.path("out/o/big")).unwrap()
            == fs::read(trees.path("context/d/big")).unwrap()
    );
    assert!(trees.tar(&op) == trees.tar_of(&trees.path("out")));
}
