//! What fuzzing starts from, replayed with mutations: see `fuzz/`.

#[path = "../../../fuzz/entries/replay.rs"]
mod replay;

#[path = "../../../fuzz/entries/archive.rs"]
mod archive;

#[test]
fn any_archive_stays_in_its_tree() {
    replay::replay("archive", archive::run);
}
