//! What fuzzing starts from, replayed with mutations: see `fuzz/`.

#[path = "../../../fuzz/entries/replay.rs"]
mod replay;

#[path = "../../../fuzz/entries/document.rs"]
mod document;
#[path = "../../../fuzz/entries/reference.rs"]
mod reference;

#[test]
fn any_name_parses_to_itself_or_not_at_all() {
    replay::replay("reference", reference::run);
}

#[test]
fn any_document_is_understood_once_and_for_all() {
    replay::replay("document", document::run);
}
