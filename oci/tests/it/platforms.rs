//! Platforms: reading, and choosing an image by them.

use oci::{Descriptor, Digest, Index, Platform, media_type};

#[test]
fn platforms_are_read_into_their_normal_form() {
    for (text, expected) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
    ] {
        let platform: Platform = text.parse().unwrap();
        assert_eq!(platform.to_string(), expected, "{text}");
        assert_eq!(platform.to_string().parse(), Ok(platform));
    }
}

#[test]
fn a_system_may_name_its_version_and_features() {
    for (text, os, version, features) in [
        ("windows(10.0.20348.1006)/amd64", "windows", "10.0.20348.1006", &[][..]),
        ("windows(10.0.1+win32k+x)/arm64/v8", "windows", "10.0.1", &["win32k", "x"]),
        ("Linux(1)/amd64", "linux", "1", &[]),
        ("linux(+x)/amd64", "linux", "", &["x"]),
    ] {
        let platform: Platform = text.parse().unwrap();
        assert_eq!(platform.to_string().parse().as_ref(), Ok(&platform));
        let found = (platform.os.as_str(), platform.os_version.as_str());
        assert_eq!(
            (found, platform.os_features),
            ((os, version), features.iter().map(ToString::to_string).collect()),
            "{text}"
        );
    }
}

#[test]
fn texts_that_name_no_platform_are_refused() {
    for text in [
        "",
        "/",
        "linux/",
        "/amd64",
        "linux/amd64/v1/x",
        "linux/am d64",
        "linux/../x",
        "windows(/amd64",
        "windows()/amd64",
        "windows(1/amd64",
        "windows(1)",
        "windows(1)x/amd64",
        "(1)/amd64",
        "linux/amd64(1)",
        "windows(1+)/amd64",
        "windows(a b)/amd64",
    ] {
        assert!(text.parse::<Platform>().is_err(), "{text}");
    }
}

/// Which entry is chosen from an index; entries are `os/arch[/variant]`, as written there.
fn check(entries: &[&str], wanted: &str, expected: Option<usize>) {
    let manifests = entries.iter().enumerate().map(|(number, entry)| {
        let mut parts = entry.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let platform = Platform {
            os,
            architecture,
            variant: parts.next().unwrap_or_default(),
            os_version: String::new(),
            os_features: Vec::new(),
        };
        let digest = Digest::of(number.to_string().as_bytes());
        let platform = (!entry.is_empty()).then_some(platform);
        Descriptor { platform, ..Descriptor::new(media_type::MANIFEST, digest, 1) }
    });
    let index = Index { manifests: manifests.collect(), ..Index::default() };
    let chosen = index.select(&wanted.parse().unwrap());
    let number = chosen.map(|chosen| index.manifests.iter().position(|m| m == chosen).unwrap());
    assert_eq!(number, expected, "{wanted} of {entries:?}");
}

#[test]
fn the_exact_variant_is_preferred() {
    let arm = ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm64/v8"];
    check(&arm, "linux/arm/v7", Some(1));
    check(&arm, "linux/arm/v6", Some(2));
    check(&arm, "linux/arm64", Some(3));
    check(&["linux/arm64", "linux/arm64/v8"], "linux/arm64/v8", Some(0));
    check(&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], "linux/amd64/v3", Some(2));
}

#[test]
fn lower_variants_and_older_processors_come_next() {
    check(&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", Some(1));
    check(&["linux/386", "linux/amd64"], "linux/amd64/v2", Some(1));
    check(&["linux/386"], "linux/amd64", Some(0));
    check(&["linux/arm/v6", "linux/arm/v7"], "linux/arm64", Some(1));
    check(&["linux/arm64/v9"], "linux/arm64", None);
    check(&["linux/amd64/v2"], "linux/amd64", None);
    check(&["linux/arm/v7"], "linux/arm/v6", None);
    check(&["windows/amd64", "linux/s390x"], "linux/amd64", None);
}

#[test]
fn attestations_are_never_chosen_and_bare_entries_last() {
    check(&["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1));
    check(&["unknown/unknown"], "linux/amd64", None);
    check(&["", "linux/amd64"], "linux/amd64", Some(1));
    check(&["", "linux/s390x"], "linux/amd64", Some(0));
}

#[test]
fn the_first_of_equals_is_chosen() {
    check(&["linux/s390x", "linux/amd64", "linux/amd64"], "linux/amd64", Some(1));
}

#[test]
fn an_image_fits_where_its_platform_runs() {
    for (own, wanted, fits) in [
        ("linux/amd64", "linux/amd64", true),
        ("linux/386", "linux/amd64", true),
        ("linux/amd64", "linux/386", false),
        ("linux/arm/v6", "linux/arm/v7", true),
        ("linux/arm/v7", "linux/arm/v6", false),
        ("linux/arm/v7", "linux/arm64", true),
        ("windows/amd64", "linux/amd64", false),
    ] {
        let [own, wanted]: [Platform; 2] = [own, wanted].map(|text| text.parse().unwrap());
        assert_eq!(own.fits(&wanted), fits, "{own} for {wanted}");
    }
    let silent = oci::ImageConfig::default().platform();
    assert!(silent.fits(&"linux/amd64".parse().unwrap()), "a config need not say");
}
