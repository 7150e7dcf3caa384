//! Archives that lie, and odd ones that are right; the cases are in `hostile.txt`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cache::layer::LeftOut;
use expect_test::expect_file;

use super::archive::archive;
use super::{chain, extract_to, is_root, listing, skip, unpack_to};

#[test]
fn every_archive_stays_in_its_tree() {
    let mut text = String::new();
    let mut archive = String::new();
    let mut expected = String::new();
    // Comments and headings stand as they are; an empty line ends a case.
    for line in include_str!("hostile.txt").lines() {
        match line.strip_prefix("> ") {
            Some(member) => archive += &format!("{member}\n"),
            None if archive.is_empty() => text += &format!("{line}\n"),
            None if !line.is_empty() => expected += &format!("{line}\n"),
            None => {
                for member in archive.lines() {
                    text += &format!("> {member}\n");
                }
                text += &outcome(&archive).unwrap_or(expected);
                text.push('\n');
                (archive, expected) = (String::new(), String::new());
            }
        }
    }
    expect_file!["hostile.txt"].assert_eq(&text);
}

/// Unpacks the archive as a layer, and extracts it as `ADD` would, each into an empty directory.
/// Nothing, said aloud, where this user cannot.
fn outcome(text: &str) -> Option<String> {
    let needs_root = [" dev=", " uid=", " gid=", " mode=0", "trusted.", "security."];
    if !is_root() && needs_root.iter().any(|word| text.contains(word)) {
        skip(&text.trim_end().replace('\n', "; "));
        return None;
    }
    let as_layer = run(text, |root, bytes| {
        let unpacked = unpack_to(root, bytes).map_err(|error| chain(&error))?;
        let mut notes = String::new();
        for warning in &unpacked.finished.warnings {
            // Without root nearly every link has that one.
            if is_root() || !matches!(warning, LeftOut::Owner(_)) {
                notes += &format!("warning: {warning}\n");
            }
        }
        for (path, target) in &unpacked.finished.dangling {
            notes += &format!("{} = {} below\n", path.escape_ascii(), target.escape_ascii());
        }
        if unpacked.finished.opaque_root {
            notes += "opaque root\n";
        }
        Ok(notes)
    });
    let as_add = run(text, |root, bytes| {
        extract_to(root, bytes).map(|()| String::new()).map_err(|error| chain(&error))
    });
    // As a cache mount's, the second time over what is there: what comes of it is another matter.
    run(text, |root, bytes| {
        (0..2).for_each(|_| drop(cache::mount::fill(root, bytes, !is_root())));
        Ok(String::new())
    });
    Some(if as_add == as_layer { as_layer } else { as_layer + "as ADD:\n" + &as_add })
}

/// Calls `unpack` with a canary beside the tree that must not change. `$OUT` in the text is the
/// canary's directory.
fn run(text: &str, unpack: impl FnOnce(&Path, &[u8]) -> Result<String, String>) -> String {
    let place = tempfile::tempdir().unwrap();
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "untouched").unwrap();
    let look = || {
        let stat = |path| {
            let metadata = fs::symlink_metadata(path).unwrap();
            (metadata.mode(), metadata.nlink(), metadata.mtime_nsec(), metadata.ctime_nsec())
        };
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().path()).collect();
        let content = fs::read(outside.join("canary")).unwrap();
        (stat(outside.clone()), stat(outside.join("canary")), names, content)
    };
    let before = look();
    let bytes = archive(&text.replace("$OUT", outside.to_str().unwrap()));
    let result = unpack(&root, &bytes);
    assert_eq!(look(), before, "something outside changed: {text}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "something new outside: {text}");
    let text = match result {
        Ok(notes) => listing(&root) + &notes,
        Err(error) => format!("error: {error}\n"),
    };
    // Where a link to the canary leads inside of the tree is in a directory of another name each
    // time, which is left out with those above it.
    let place = &place.path().to_str().unwrap()[1..];
    text.replace(&format!("/{place}/outside"), "$OUT")
        .split_inclusive('\n')
        .filter(|line| {
            let directory = line.split_once("/ ").map(|(name, _)| name);
            directory.is_none_or(|name| !format!("{place}/").starts_with(&format!("{name}/")))
        })
        .map(|line| line.replace(place, "PLACE"))
        .collect()
}
