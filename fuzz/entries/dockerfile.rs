//! A Dockerfile, read and lowered: no panic, and what is said about it has its place in it.

use std::collections::BTreeMap;

use parser::lower::{BaseImage, ImageRequest, Options, Outcome, lower};

/// How often lowering may ask for more images: a base's `ONBUILD` may bring new ones, and that is
/// all it may.
const ROUNDS: usize = 3;

/// Reads `bytes` as a Dockerfile and lowers it.
pub(crate) fn run(bytes: &[u8]) {
    let parsed = parser::parse_bytes(bytes);
    let text = str::from_utf8(bytes).ok();
    for problem in &parsed.diagnostics {
        assert!(
            problem.lines.start >= 1 && problem.lines.start <= problem.lines.end,
            "{problem:?}"
        );
        assert!(text.is_none_or(|text| text.get(problem.span.range()).is_some()), "{problem:?}");
    }
    if let Some(text) = text {
        assert_eq!(parser::parse(text), parsed);
        drop(parser::parse_onbuild(text));
    }
    if parsed.has_errors() {
        return;
    }
    let options = Options { syntax_warnings: parsed.diagnostics.clone(), ..Options::default() };
    let mut images = BTreeMap::<ImageRequest, BaseImage>::new();
    for _ in 0..ROUNDS {
        match lower(&parsed.dockerfile, &options, &images) {
            Err(problems) => return assert!(!problems.is_empty()),
            Ok(Outcome::NeedImages(needed)) => {
                assert!(needed.iter().any(|image| !images.contains_key(image)), "{needed:?}");
                images.extend(needed.into_iter().map(|image| (image, base())));
            }
            Ok(Outcome::Lowered(lowered)) => {
                // The same text gives the same steps.
                let again = lower(&parsed.dockerfile, &options, &images);
                let Ok(Outcome::Lowered(again)) = again else { panic!("lowered once, not twice") };
                return assert_eq!(steps(&lowered.definition), steps(&again.definition));
            }
        }
    }
    panic!("images are asked for without end");
}

/// The digests of all steps.
fn steps(definition: &llb::Definition) -> Vec<oci::Digest> {
    definition.vertices().map(|id| definition.vertex(id).digest.clone()).collect()
}

/// An image that any `FROM` may stand for.
fn base() -> BaseImage {
    let mut config = oci::ImageConfig { os: "linux".into(), ..oci::ImageConfig::default() };
    config.config.env.push("PATH=/bin".to_owned());
    BaseImage { digest: oci::Digest::of(b"base"), config }
}
