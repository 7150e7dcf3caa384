//! Tests of what is exchanged with shared caches.

mod bundles;

use std::collections::BTreeMap;

use oci::{Descriptor, DiffId, Digest, media_type};
use proptest::prelude::*;
use remote_cache::{Layer, News, Pack, Packs, Place, Record, Signed, SigningKey, VerifyingKey};

fn layer(name: &str) -> Layer {
    let descriptor =
        Descriptor::new(media_type::LAYER_ZSTD, Digest::of(format!("{name}.zst").as_bytes()), 9);
    Layer { diff_id: DiffId(Digest::of(name.as_bytes())), blob: Some(descriptor) }
}

fn record(name: &str, layers: &[&str]) -> Record {
    Record {
        key: Digest::of(name.as_bytes()),
        aliases: vec![Digest::of(b"alias")],
        salt: String::new(),
        outputs: vec![layers.iter().map(|name| layer(name)).collect()],
        name: name.to_owned(),
        created: 7,
        duration: 8,
        parts: BTreeMap::from([("command".to_owned(), "0123".to_owned())]),
        warnings: vec!["careful".to_owned()],
    }
}

fn records(records: Vec<Record>) -> News {
    News { records, ..News::default() }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::parse(&format!("{seed:02x}").repeat(32)).unwrap()
}

#[test]
fn a_pack_is_read_as_it_was_written_and_a_stack_of_layers_is_written_once() {
    let names: Vec<String> = (0..100).map(|n| format!("layer {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let records: Vec<Signed<Record>> = (1..=100)
        .map(|height| {
            Signed::new(record(&format!("step {height}"), &names[..height]), Some(&key(1)))
        })
        .collect();
    let pack = Pack { includes: vec!["older".to_owned()], records, mounts: Vec::new() };
    let bytes = pack.to_bytes();
    assert_eq!(Pack::parse(&bytes).unwrap(), pack);
    assert_eq!(pack.blobs().len(), 100);
    assert!(bytes.len() < 100 * 1000, "{} bytes", bytes.len());
}

#[test]
fn a_record_whose_key_or_result_was_exchanged_is_nobodys() {
    let (mine, other) = (key(1), key(2));
    let trusted = [mine.verifying_key()];
    let signed = Signed::new(record("a", &["x", "y"]), Some(&mine));
    assert!(signed.is_trusted(&trusted) && signed.is_trusted(&[]));
    assert!(!signed.is_trusted(&[other.verifying_key()]));
    assert!(!Signed::new(record("a", &["x"]), None).is_trusted(&trusted));
    let edits: [fn(&mut Record); 8] = [
        |r| r.key = Digest::of(b"b"),
        |r| r.aliases.clear(),
        |r| r.salt = "s".to_owned(),
        |r| r.outputs[0].swap(0, 1),
        |r| r.outputs.push(Vec::new()),
        |r| r.created += 1,
        |r| r.parts.clear(),
        |r| r.warnings.clear(),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut edited = signed.clone();
        edit(&mut edited.said);
        assert!(!edited.is_trusted(&trusted), "edit {number}");
    }
    // Another compressor's blob is still the same layer.
    let mut edited = signed;
    edited.said.outputs[0][0].blob = None;
    assert!(edited.is_trusted(&trusted));
}

#[test]
fn keys_are_read_in_the_forms_that_tools_write() {
    // RFC 8032, 7.1, test 1; RFC 8410, section 10.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(SigningKey::parse(seed).unwrap().verifying_key().to_string(), public);
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    let public_pem = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----";
    let read = SigningKey::parse(pem).unwrap();
    assert_eq!(read.verifying_key(), VerifyingKey::parse(public_pem).unwrap());
    for wrong in ["", "abc", &seed[2..], "-----BEGIN PRIVATE KEY-----", public_pem] {
        assert!(SigningKey::parse(wrong).is_err(), "{wrong}");
        if wrong != public_pem {
            assert!(VerifyingKey::parse(wrong).is_err(), "{wrong}");
        }
    }
    assert!(!format!("{read:?}").contains("d4ee72"));
}

#[test]
fn documents_that_are_no_packs_are_refused() {
    let digest = Digest::of(b"x");
    let node = |below: &str| format!("{{\"diffId\":\"{digest}\"{below}}}");
    let with = |layers: &[String], outputs: &str| {
        let record = format!("{{\"key\":\"{digest}\",\"outputs\":{outputs},\"created\":1}}");
        format!("{{\"version\":1,\"layers\":[{}],\"records\":[{record}]}}", layers.join(","))
    };
    let below = |n: usize| node(&format!(",\"below\":{n}"));
    let high: Vec<String> = std::iter::once(node("")).chain((0..2000).map(below)).collect();
    for (text, word) in [
        ("".to_owned(), "not records"),
        ("[]".to_owned(), "not records"),
        ("{\"version\":2}".to_owned(), "version 2"),
        (with(&[], "[0]"), "number"),
        (with(&[below(0)], "[0]"), "number"),
        (with(&[node(""), below(1)], "[1]"), "number"),
        (with(&high, "[5]"), "too many"),
        (with(&high[..1000], &format!("[{}]", vec!["999"; 2000].join(","))), "too many"),
        (with(&["{\"diffId\":\"sha256:../../x\"}".to_owned()], "[0]"), "not records"),
    ] {
        let error = Pack::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}: {}", &text[..text.len().min(200)]);
    }
    assert!(Pack::parse(with(&[node("")], "[0,null]").as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_reading_fail_otherwise(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..2000,
        with in any::<u8>(),
    ) {
        let _ = Pack::parse(&bytes);
        let signed = Signed::new(record("a", &["x", "y"]), Some(&key(1)));
        let mut edited = Pack { records: vec![signed], ..Pack::default() }.to_bytes();
        let length = edited.len();
        edited[at % length] = with;
        let _ = Pack::parse(&edited);
    }
}

#[tokio::test]
async fn what_many_add_is_there_and_is_read_from_few_packs() {
    let directory = tempfile::tempdir().unwrap();
    let place = || Place::directory(directory.path(), "latest");
    // Each two see the same, and add at the same time.
    for round in 0..20 {
        let (one, two) =
            (Packs::read(&place()).await.unwrap(), Packs::read(&place()).await.unwrap());
        for (packs, who) in [(one, "one"), (two, "two")] {
            let news = records(vec![record(&format!("{who} {round}"), &["x"])]);
            assert_eq!(packs.add(&place(), news, None).await.unwrap(), 1);
        }
    }
    let packs = Packs::read(&place()).await.unwrap();
    assert_eq!(packs.records(&[]).len(), 40);
    assert_eq!(packs.warnings, Vec::<String>::new());
    // Nothing new is nothing to write.
    let known = record("one 3", &["x"]);
    assert_eq!(packs.add(&place(), records(vec![known]), None).await.unwrap(), 0);
    // Another cache of the same directory has nothing of it.
    let other = Place::directory(directory.path(), "other");
    assert!(Packs::read(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn packs_that_others_include_go_when_they_are_a_day_old() {
    let directory = tempfile::tempdir().unwrap();
    let place = || Place::directory(directory.path(), "latest");
    let folder = directory.path().join("records/latest");
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let add = async |name: &str| {
        let packs = Packs::read(&place()).await.unwrap();
        packs.add(&place(), records(vec![record(name, &["x"])]), None).await.unwrap();
    };
    // Written two days ago, as far as its name says.
    let old = |name: &String| {
        let (time, digest) = name.split_once('-').unwrap();
        let time = u64::from_str_radix(time, 16).unwrap() - 2 * 24 * 3600;
        std::fs::rename(folder.join(name), folder.join(format!("{time:010x}-{digest}"))).unwrap();
    };
    add("one").await;
    add("two").await;
    assert_eq!(names().len(), 2, "a young one stays");
    names().iter().for_each(old);
    // Somebody who has seen neither of the two, and another's that is none of ours.
    let blind = Packs::default();
    blind.add(&place(), records(vec![record("blind", &["x"])]), None).await.unwrap();
    std::fs::write(folder.join("other.json"), "{}").unwrap();
    assert_eq!(names().len(), 4, "{:?}", names());
    add("three").await;
    assert_eq!(names().len(), 3, "the old ones go: {:?}", names());
    let packs = Packs::read(&place()).await.unwrap();
    let mut known: Vec<&str> = packs.records(&[]).iter().map(|r| r.name.as_str()).collect();
    known.sort_unstable();
    assert_eq!(known, ["blind", "one", "three", "two"]);
}

#[tokio::test]
async fn the_oldest_of_several_records_of_a_step_counts_for_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::directory(directory.path(), "latest");
    let nothing = Packs::read(&place).await.unwrap();
    let (mut late, mut early) = (record("a", &["late"]), record("a", &["early"]));
    (late.created, early.created) = (20, 10);
    nothing.add(&place, records(vec![late]), Some(&key(2))).await.unwrap();
    nothing.add(&place, records(vec![early]), Some(&key(1))).await.unwrap();
    let packs = Packs::read(&place).await.unwrap();
    let of = |keys: &[VerifyingKey]| packs.records(keys)[0].created;
    assert_eq!((of(&[]), of(&[key(2).verifying_key()])), (10, 20));
}
