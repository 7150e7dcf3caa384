//! Archives of cache mounts as chunks, and what is said of them.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oci::{Descriptor, Digest};
use proptest::prelude::*;
use remote_cache::{
    Bundled, Contents, Index, Known, News, Packs, Place, SigningKey, Unbundle, VerifyingKey,
};

/// Bytes that no compressor makes small, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn bundle(archive: &[u8], known: &Known) -> Bundled {
    remote_cache::bundle(archive, known, &|| tempfile::tempfile()).unwrap()
}

/// What is sent of new bundles, and where a test finds it again.
fn files(bundled: &Bundled, before: &[(Descriptor, Vec<u8>)]) -> Vec<(Descriptor, Vec<u8>)> {
    let mut all = before.to_vec();
    for new in &bundled.new {
        let mut bytes = Vec::new();
        new.body().open(0).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(
            (Digest::of(&bytes), bytes.len() as u64),
            (new.blob.digest.clone(), new.blob.size)
        );
        all.push((new.blob.clone(), bytes));
    }
    all
}

fn unbundle(index: &Index, blobs: &[(Descriptor, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let file = |blob: &Descriptor| {
        let (_, bytes) = blobs.iter().find(|(known, _)| known.digest == blob.digest).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    };
    let files: Vec<File> = index.bundles.iter().map(|bundle| file(&bundle.blob)).collect();
    let mut bytes = Vec::new();
    Unbundle::new(index, files).read_to_end(&mut bytes).map(|_| bytes)
}

#[test]
fn what_is_known_is_not_sent_and_all_comes_back() {
    let first = noise(1, 40 << 20);
    let one = bundle(&first, &Known::default());
    assert_eq!((one.size, one.new.len()), (first.len() as u64, 2));
    let blobs = files(&one, &[]);
    assert_eq!(unbundle(&one.index, &blobs).unwrap(), first);
    // Something in front, something in the middle, and a part twice.
    let second =
        [&noise(2, 1000), &first[..20 << 20], &noise(3, 5), &first[20 << 20..], &first[..9 << 20]];
    let second = second.concat();
    let known = Known::new([&one.index], |_| true);
    let two = bundle(&second, &known);
    let sent: u64 = two.new.iter().map(|new| new.blob.size).sum();
    assert!(sent < 4 << 20, "{sent}");
    let blobs = files(&two, &blobs);
    assert_eq!(unbundle(&two.index, &blobs).unwrap(), second);
    // The same again is nothing, and says the same.
    let again = bundle(&second, &Known::new([&one.index, &two.index], |_| true));
    assert_eq!((again.new.len(), &again.index), (0, &two.index));
    // What is not there any more is sent.
    let lost = bundle(&first, &Known::new([&one.index], |_| false));
    assert_eq!(lost.new.len(), 2);
    let nothing = bundle(&[], &Known::default());
    assert_eq!((nothing.size, unbundle(&nothing.index, &[]).unwrap()), (0, Vec::new()));
}

#[test]
fn bundles_of_which_little_is_used_and_small_ones_do_not_pile_up() {
    let whole = noise(1, 20 << 20);
    let one = bundle(&whole, &Known::default());
    // Of the first a third is used: it is known this once, and left behind next time.
    let part = &whole[..6 << 20];
    let two = bundle(part, &Known::new([&one.index], |_| true));
    assert_eq!(two.index.bundles[0].blob, one.index.bundles[0].blob);
    let three = bundle(part, &Known::new([&two.index], |_| true));
    assert!(three.index.bundles.iter().all(|bundle| bundle.blob != one.index.bundles[0].blob));
    // Each time a little more.
    let mut archive = Vec::new();
    let (mut last, mut most) = (Index::default(), 0);
    for round in 0..60 {
        archive.extend(noise(round, 300 << 10));
        last = bundle(&archive, &Known::new([&last], |_| true)).index;
        most = most.max(last.bundles.len());
    }
    assert!(most > 10 && most < 20, "{most}");
}

#[test]
fn a_chunk_with_other_bytes_is_an_error() {
    let archive = noise(1, 3 << 20);
    let bundled = bundle(&archive, &Known::default());
    let blobs = files(&bundled, &[]);
    for at in [5, 1 << 20, (3 << 20) - 5] {
        let mut wrong = blobs.clone();
        wrong[0].1[at] ^= 1;
        assert!(unbundle(&bundled.index, &wrong).is_err(), "{at}");
        wrong[0].1.truncate(at);
        assert!(unbundle(&bundled.index, &wrong).is_err(), "{at}");
    }
}

fn index(text: &str, size: u64) -> Result<Index, String> {
    let bytes = zstd::bulk::compress(text.as_bytes(), 1).unwrap();
    Index::parse(&bytes, size).map_err(|error| error.to_string())
}

#[test]
fn documents_that_are_no_indexes_are_refused() {
    let (digest, hash) = (Digest::of(b"x"), blake3::hash(b"x").to_hex());
    let with = |chunk: &str, stream: &str| {
        let chunk = chunk.replace("HASH", &hash);
        let bundle = format!("{{\"digest\":\"{digest}\",\"size\":100,\"chunks\":[{chunk}]}}");
        format!("{{\"version\":1,\"bundles\":[{bundle}],\"stream\":{stream}}}")
    };
    let chunk = "[\"HASH\",0,100,7]";
    assert!(index(&with(chunk, "[[0,1],[0,1]]"), 14).is_ok());
    for (text, size, word) in [
        (String::new(), 0, "not an index"),
        ("{\"version\":2,\"bundles\":[],\"stream\":[]}".to_owned(), 0, "version 2"),
        (with(chunk, "[[0,1]]"), 8, "length"),
        (with(chunk, "[[0,2]]"), 14, "number"),
        (with(chunk, "[[1,1]]"), 7, "number"),
        (with(chunk, "[[4294967295,4294967295]]"), 7, "number"),
        (with("[\"HASH\",1,100,7]", "[]"), 0, "place"),
        (with("[\"HASH\",18446744073709551615,100,7]", "[]"), 0, "place"),
        (with("[\"HASH\",0,100,1048577]", "[]"), 0, "place"),
        (with("[\"HASH\",0,100,0]", "[]"), 0, "place"),
        (with("[\"../../x\",0,100,7]", "[]"), 0, "place"),
        (with(&chunk.replace("100", "-1"), "[]"), 0, "not an index"),
        (" ".repeat(70 << 20), 0, "too long"),
    ] {
        let error = index(&text, size).unwrap_err();
        assert!(error.contains(word), "{error}: {}", &text[..text.len().min(200)]);
    }
    assert!(Index::parse(b"{}", 0).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_reading_an_index_fail_otherwise(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..2000,
        with in any::<u8>(),
    ) {
        let _ = Index::parse(&bytes, 0);
        static BUNDLED: LazyLock<Bundled> =
            LazyLock::new(|| bundle(&noise(1, 300 << 10), &Known::default()));
        let Bundled { index, size, .. } = &*BUNDLED;
        let mut edited = index.to_bytes();
        let length = edited.len();
        edited[at % length] = with;
        if let Ok(index) = Index::parse(&edited, *size) {
            assert_eq!(Index::parse(&index.to_bytes(), *size).unwrap(), index);
        }
    }
}

fn contents(id: &str, created: i64, after: &[&Contents]) -> Contents {
    let index = Index::descriptor(format!("{id} {created}").as_bytes());
    let after = after.iter().map(|contents| contents.name()).collect();
    Contents { id: id.to_owned(), created, size: 1, after, index, bundles: Vec::new() }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::parse(&format!("{seed:02x}").repeat(32)).unwrap()
}

fn packs_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("records/latest")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Adds each at a time, and gives back when those were read that count. Of the packs only the last is kept, which
/// includes the others.
async fn heads(all: &[(&Contents, Option<&SigningKey>)], keys: &[VerifyingKey]) -> Vec<i64> {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::directory(directory.path(), "latest");
    for (contents, key) in all {
        let packs = Packs::read(&place).await.unwrap();
        let news = News { mounts: vec![(*contents).clone()], ..News::default() };
        let before = packs_in(directory.path());
        packs.add(&place, news, *key).await.unwrap();
        before.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
    }
    let packs = Packs::read(&place).await.unwrap();
    packs.mounts(keys).into_iter().map(|contents| contents.created).collect()
}

#[tokio::test]
async fn the_newest_counts_and_what_was_written_at_the_same_time() {
    let first = contents("/m", 1, &[]);
    let (left, right) = (contents("/m", 2, &[&first]), contents("/m", 3, &[&first]));
    let other = contents("/other", 4, &[&first, &left, &right]);
    let all = [&first, &left, &right, &other].map(|contents| (contents, None));
    assert_eq!(heads(&all, &[]).await, [4, 3, 2]);
    let last = contents("/m", 5, &[&left, &right, &first]);
    let all = [&first, &left, &last, &right].map(|contents| (contents, None));
    assert_eq!(heads(&all, &[]).await, [5]);
    // Nothing makes itself superfluous.
    let mut own = contents("/m", 6, &[]);
    own.after = vec![own.name()];
    assert_eq!(heads(&[(&own, None)], &[]).await, [6]);
    // Those who know nothing of each other do not pile up.
    let many: Vec<Contents> = (0..20).map(|n| contents("/m", n, &[])).collect();
    let many: Vec<_> = many.iter().map(|contents| (contents, None)).collect();
    assert_eq!(heads(&many, &[]).await, (12..20).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_signed_is_replaced_by_its_signers_alone() {
    let (mine, other) = (key(1), key(2));
    let keys = [mine.verifying_key()];
    let first = contents("/m", 1, &[]);
    let next = contents("/m", 2, &[&first]);
    let all = [(&first, Some(&mine)), (&next, None), (&next, Some(&other))];
    assert_eq!(heads(&all, &keys).await, [1]);
    let all = [(&first, Some(&mine)), (&next, Some(&mine))];
    assert_eq!(heads(&all, &keys).await, [2]);
}
