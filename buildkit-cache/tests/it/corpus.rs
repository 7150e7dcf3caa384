//! What fuzzing starts from, replayed with mutations: see `fuzz/`.

#[path = "../../../fuzz/entries/replay.rs"]
mod replay;

#[path = "../../../fuzz/entries/cache_config.rs"]
mod cache_config;

#[test]
fn any_config_leads_somewhere_or_is_refused() {
    replay::replay("cache_config", cache_config::run);
}
