//! What fuzzing starts from, replayed with mutations: see `fuzz/`.

#[path = "../../../fuzz/entries/replay.rs"]
mod replay;

#[path = "../../../fuzz/entries/dockerfile.rs"]
mod dockerfile;
#[path = "../../../fuzz/entries/expansion.rs"]
mod expansion;
#[path = "../../../fuzz/entries/ignore.rs"]
mod ignore;

#[test]
fn any_dockerfile_lowers_or_is_told_what_is_wrong() {
    replay::replay("dockerfile", dockerfile::run);
}

#[test]
fn any_word_expands_within_bounds() {
    replay::replay("expansion", expansion::run);
}

#[test]
fn any_ignore_file_gives_one_answer() {
    replay::replay("ignore", ignore::run);
}
