//! Mended Dockerfiles.

use std::collections::BTreeMap;

use parser::fix::{Fixed, fix};
use parser::lower::{MainContext, Options, Outcome, lower};

use crate::lint::image;

fn fixed(text: &str, build_args: &[(&str, &str)]) -> Option<Fixed> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let options = Options {
        main_context: MainContext::Local { exclude_patterns: Vec::new() },
        build_args: build_args.iter().map(own).collect(),
        all_stages: true,
        ..Options::default()
    };
    let parse = parser::parse(text);
    let mut images = BTreeMap::new();
    while let Ok(Outcome::NeedImages(requests)) = lower(&parse.dockerfile, &options, &images) {
        images.extend(requests.into_iter().map(|r| (r.clone(), image(&r))));
    }
    fix(text, &Options { all_stages: false, ..options }, &images)
}

/// The text that `text` becomes; it stays as it is where it cannot be mended.
fn check(text: &str, want: &str) {
    let fixed = fixed(text, &[]).unwrap_or_else(|| panic!("it lowers: {text}"));
    assert_eq!(fixed.text, want, "{text}");
    assert_eq!(fixed.mended.is_empty(), text == want, "{text}");
    let again = self::fixed(want, &[]).expect("it lowers");
    assert_eq!((again.text.as_str(), again.left), (want, fixed.left), "{text}");
}

#[test]
fn casing_follows_the_majority() {
    check("from x as a\nRUN b\nRun c\n", "FROM x AS a\nRUN b\nRUN c\n");
    check("from x AS a\nrun b\nRUN c\n", "from x as a\nrun b\nrun c\n");
    check("FROM x as a\n", "FROM x AS a\n");
    check("FROM x As Base\nFROM base\n", "FROM x AS base\nFROM base\n");
    check("# check=skip=FromAsCasing\nFROM x as Aa\n", "# check=skip=FromAsCasing\nFROM x as aa\n");
    check(
        "FROM x AS Aa\n# check=skip=all\nFROM y AS Bb\nCOPY --from=Aa /a /\n",
        "FROM x AS aa\n# check=skip=all\nFROM y AS Bb\nCOPY --from=Aa /a /\n",
    );
}

#[test]
fn old_pairs_get_an_equals_sign() {
    check("FROM x\nENV a b\n", "FROM x\nENV a=b\n");
    check("FROM x\r\nENV  a  b c\r\n", "FROM x\r\nENV a=\"b c\"\r\n");
    check("FROM x\nLABEL k $PATH ${b:-c}\n", "FROM x\nLABEL k=\"$PATH ${b:-c}\"\n");
    check("FROM x\nENV a \"b c\"\nENV d e\\ f\n", "FROM x\nENV a \"b c\"\nENV d e\\ f\n");
    check("FROM x\nENV a b \\\n  c\n", "FROM x\nENV a b \\\n  c\n");
}

#[test]
fn a_maintainer_becomes_a_label() {
    let label = "LABEL org.opencontainers.image.authors";
    check("FROM x\nMAINTAINER Me <me@x.org>\n", &format!("FROM x\n{label}=\"Me <me@x.org>\"\n"));
    let quoted = "FROM x\nMAINTAINER \"Me\"\n";
    check(quoted, quoted);
    // A label that is there already says who the authors are.
    let both = format!("FROM x\n{label}=you\nMAINTAINER me\n");
    check(&both, &both);
}

#[test]
fn a_command_line_that_needs_no_shell_loses_it() {
    check("FROM x\nCMD exec run -a 'b c'\n", "FROM x\nCMD [\"run\", \"-a\", \"b c\"]\n");
    check("FROM scratch\nENTRYPOINT run -a\n", "FROM scratch\nENTRYPOINT [\"run\", \"-a\"]\n");
    for needed in [
        "FROM x\nCMD run $PORT\n",
        "FROM x\nCMD cd /a && run\n",
        "FROM x\nCMD run \\\n -a\n",
        // One is the other's arguments.
        "FROM x\nENTRYPOINT [\"a\"]\nCMD run\n",
        "FROM x\nCMD [\"a\"]\nENTRYPOINT run\n",
        "FROM x\nENTRYPOINT run\nCMD run -a\n",
    ] {
        check(needed, needed);
    }
    // What cannot be mended in one stage is no hindrance in another.
    check(
        "FROM x AS a\nENTRYPOINT [\"a\"]\nCMD run\nFROM x\nCMD run\n",
        "FROM x AS a\nENTRYPOINT [\"a\"]\nCMD run\nFROM x\nCMD [\"run\"]\n",
    );
    let other = "FROM x\nSHELL [\"/bin/bash\", \"-c\"]\nCMD run\n";
    check(other, other);
}

#[test]
fn empty_lines_protocols_and_platforms_are_mended() {
    check(
        "FROM x\nRUN a \\\n\n  # b\n \t\n  c\n\nRUN <<E\n\nd\nE\n",
        "FROM x\nRUN a \\\n  # b\n  c\n\nRUN <<E\n\nd\nE\n",
    );
    check("FROM x\nEXPOSE 80/TCP 53/Udp $p\n", "FROM x\nEXPOSE 80/tcp 53/udp $p\n");
    check("FROM --platform=$TARGETPLATFORM x AS a\n", "FROM x AS a\n");
}

#[test]
fn what_is_not_mended_is_left() {
    let fixed = fixed("FROM x AS Base\nENV key secret\nWORKDIR a\n", &[]).expect("it lowers");
    assert_eq!(fixed.text, "FROM x AS base\nENV key=secret\nWORKDIR a\n");
    let mended = BTreeMap::from([("LegacyKeyValueFormat", 1), ("StageNameCasing", 1)]);
    assert_eq!(fixed.mended, mended);
    let left: Vec<_> = fixed.left.iter().map(|found| (found.rule, found.lines.start)).collect();
    assert_eq!(left, [(Some("SecretsUsedInArgOrEnv"), 2), (Some("WorkdirRelativePath"), 3)]);
    assert_eq!(self::fixed("FROM x\nCOPY\n", &[]), None);
    assert_eq!(self::fixed("FROM x\nWORKDIR ${a:?}\n", &[]), None);
}

#[test]
fn a_broken_directive_or_argument_is_no_reason_to_mend_what_is_skipped() {
    let text = "FROM x AS Base\n";
    let skipped = fixed(text, &[("BUILDKIT_DOCKERFILE_CHECK", "skip=all")]).expect("it lowers");
    assert_eq!(skipped.text, text);
}

/// Steps and configuration of the last stage, but for what starts and who made it.
fn built(text: &str) -> (Vec<oci::Digest>, oci::ImageConfig) {
    let options = Options { main_context: MainContext::Empty, ..Options::default() };
    let parse = parser::parse(text);
    let mut images = BTreeMap::new();
    loop {
        match lower(&parse.dockerfile, &options, &images) {
            Ok(Outcome::NeedImages(requests)) => {
                images.extend(requests.into_iter().map(|r| (r.clone(), image(&r))));
            }
            Ok(Outcome::Lowered(lowered)) => {
                let targets: Vec<_> = lowered.target.iter().map(|target| target.vertex).collect();
                let vertices = lowered.definition.reachable(&targets).into_iter();
                let digests = vertices.map(|v| lowered.definition.vertex(v).digest.clone());
                let mut config = lowered.config.clone();
                config.history.clear();
                config.author.clear();
                config.config.labels.remove("org.opencontainers.image.authors");
                (config.config.cmd, config.config.entrypoint) = (None, None);
                return (digests.collect(), config);
            }
            Err(diagnostics) => panic!("{diagnostics:?}"),
        }
    }
}

/// Files that mix what can be mended, in ways nobody thought of: whatever is done, it builds the same.
#[test]
fn whatever_is_mended_builds_the_same() {
    let pieces = [
        "from x as Aa\n",
        "FROM Aa\n",
        "FROM scratch AS Bb\n",
        "ENV a b c\n",
        "env k 'v' \"w\"\n",
        "Label x y\\\n\n z\n",
        "MAINTAINER m e\n",
        "CMD run a\n",
        "entrypoint run\n",
        "EXPOSE 1/TCP 2/$p\n",
        "RUN a \\\n\n\n b\n",
        "COPY --from=Aa / /\n",
        "ARG p=tcp\n",
        "# check=skip=all\n",
        "SHELL [\"b\"]\n",
        "ENV \u{fc} \u{df} \u{e9}\n",
        "onbuild env a b\n",
        "FROM --platform=$TARGETPLATFORM  x\n",
        "WORKDIR W\n",
        "\r\n",
        "USER u \\\n",
    ];
    let mut seed = 1_u64;
    let mut mended = 0;
    for _ in 0..120 {
        let mut text = "FROM x AS aa\n".to_owned();
        for _ in 0..6 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        if let Some(fixed) = fixed(&text, &[]) {
            mended += fixed.mended.len();
            let again = self::fixed(&fixed.text, &[]).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(again.left, fixed.left, "{text}");
            assert_eq!(built(&fixed.text), built(&text), "{text}");
        }
    }
    assert!(mended > 40, "{mended}");
}
