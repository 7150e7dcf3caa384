//! Configs of BuildKit's caches: no panic, and what is understood can be asked, and written and read
//! again.

use buildkit_cache::{Cache, Config, Input, Step};

/// Reads `bytes` as a config.
pub(crate) fn run(bytes: &[u8]) {
    let blobs = [oci::Digest::of(b"a"), oci::Digest::of(b"b")];
    drop(Config::parse_inline(bytes, &blobs));
    let Ok(config) = Config::parse(bytes) else { return };
    for record in &config.records {
        record.results.iter().for_each(|stack| drop(config.layers_of(stack)));
    }
    let written = config.to_bytes();
    let Ok(written) = written else { return };
    let again = Config::parse(&written).expect("what we write we can read");
    assert_eq!(again.to_bytes().expect("the size is the same"), written);
    let cache = Cache::described(again);
    let step = Step { digests: blobs.to_vec(), inputs: Vec::new() };
    let records = cache.find(&step, 0, &[Input::default()]);
    drop(cache.made(&records));
}
