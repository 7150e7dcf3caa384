//! The fuzz targets' corpus and mutations of it, without a fuzzer.

#[path = "../../../fuzz/entries/definition.rs"]
mod definition;
#[path = "../../../fuzz/entries/replay.rs"]
mod replay;

#[test]
fn definitions() {
    replay::replay("definition", definition::run);
}
