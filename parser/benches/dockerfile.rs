//! What it costs to understand a Dockerfile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use parser::Expander;
use parser::ignore::Patterns;
use parser::lower::{BaseImage, ImageRequest, Options, Outcome, lower};

/// 600 instructions in 20 stages, with variables, mounts and here-documents among them.
fn long() -> String {
    let mut text = String::from("ARG VERSION=1.2\n");
    for stage in 0..20 {
        writeln!(text, "FROM base:${{VERSION}} AS stage{stage}").unwrap();
        for step in 0..6 {
            writeln!(text, "ENV NAME{step}=\"value $VERSION of {step}\" PATH=/bin/{step}:$PATH")
                .unwrap();
            writeln!(text, "RUN --mount=type=cache,target=/cache/{step} make -C /src \\\n    all \\\n    install").unwrap();
            writeln!(text, "COPY --chown=1:1 source/{step} /src/{step}").unwrap();
            writeln!(text, "RUN <<END\nset -e\necho {step}\nEND").unwrap();
            let earlier =
                if stage > 0 { format!("--from=stage{} ", stage - 1) } else { String::new() };
            writeln!(text, "COPY {earlier}/out /in").unwrap();
        }
    }
    text
}

/// One stage of 600 steps.
fn deep() -> String {
    let steps: String = (0..600).map(|step| format!("RUN step {step} $PATH\n")).collect();
    format!("FROM base\n{steps}")
}

fn known(needed: impl IntoIterator<Item = ImageRequest>) -> BTreeMap<ImageRequest, BaseImage> {
    let base = || {
        let mut config = oci::ImageConfig { os: "linux".into(), ..oci::ImageConfig::default() };
        config.config.env.push("PATH=/usr/bin:/bin".to_owned());
        BaseImage { digest: oci::Digest::of(b"base"), config }
    };
    needed.into_iter().map(|image| (image, base())).collect()
}

fn dockerfiles(c: &mut Criterion) {
    for (name, text) in [("600 instructions", long()), ("600 steps deep", deep())] {
        c.bench_function(&format!("parse {name}"), |b| b.iter(|| parser::parse(black_box(&text))));
        let parsed = parser::parse(&text);
        assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
        let options = Options::default();
        let Ok(Outcome::NeedImages(needed)) = lower(&parsed.dockerfile, &options, &BTreeMap::new())
        else {
            panic!("the base is not known yet")
        };
        let images = known(needed);
        c.bench_function(&format!("lower {name}"), |b| {
            b.iter(|| match lower(&parsed.dockerfile, &options, &images) {
                Ok(Outcome::Lowered(lowered)) => lowered,
                other => panic!("{other:?}"),
            });
        });
    }
}

fn words(c: &mut Criterion) {
    let variables = |name: &str| (name.len() < 8).then(|| "value".to_owned());
    let expander = Expander::new('\\');
    c.bench_function("expand a word", |b| {
        b.iter(|| expander.word(black_box("/a/$B/${C:-x}/${D%.*}/\"quoted $E\""), &variables));
    });
    let patterns = ["**/node_modules", "*.log", "!keep.log", ".git", "target/**", "**/*.tmp"];
    let patterns = Patterns::new(&patterns).unwrap();
    let paths: Vec<String> = (0..1000).map(|n| format!("src/a{}/b/file{n}.rs", n % 10)).collect();
    c.bench_function("ignore patterns, 1000 paths", |b| {
        b.iter(|| paths.iter().filter(|path| patterns.matches(black_box(path))).count());
    });
}

criterion_group!(benches, dockerfiles, words);
criterion_main!(benches);
