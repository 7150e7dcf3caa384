//! What holds for every text.

use oci::{ImageConfig, Platform, RawReference, Reference, manifest};
use proptest::prelude::*;

/// Texts near the grammar of references.
fn near_reference() -> impl Strategy<Value = String> {
    "(([a-zA-Z0-9.\\[\\]:-]{0,12})/)?[a-zA-Z0-9._/-]{0,20}(:[A-Za-z0-9_.-]{0,10})?(@sha256:[0-9a-fA-F]{62,65})?"
}

proptest! {
    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        drop((text.parse::<Reference>(), RawReference::parse(&text), Reference::parse_any(&text)));
        drop((text.parse::<Platform>(), text.parse::<oci::Digest>()));
        drop((manifest::parse(text.as_bytes(), Some(&text)), ImageConfig::parse(text.as_bytes())));
        if let Ok(reference) = "a/b:c".parse::<Reference>() {
            drop(reference.familiar_matches(&text));
        }
    }

    #[test]
    fn print_then_parse_agrees(text in near_reference()) {
        if let Ok(raw) = RawReference::parse(&text) {
            prop_assert_eq!(raw.to_string(), text.clone());
        }
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference.clone());
            prop_assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference.clone());
            let docker_ref = reference.docker_ref();
            prop_assert_eq!(docker_ref.docker_ref(), docker_ref);
        }
    }

    #[test]
    fn platforms_print_as_they_parse(text in "[a-z0-9_]{1,8}/[a-z0-9_]{1,8}(/v?[0-9]{1,2})?") {
        let platform: Platform = text.parse().unwrap();
        prop_assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform);
    }
}
