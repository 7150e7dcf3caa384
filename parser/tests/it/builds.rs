//! Whole builds whose results BuildKit has recorded, as far as lowering decides them: the image's
//! config and history, the names of the steps, errors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci::{ImageConfig, Platform};
use parser::lower::{
    BaseImage, ImageRequest, Lowered, MainContext, NamedContext, NoCache, Options, Outcome,
    RequestedImage, lower,
};
use serde_json::{Map, Value};

use crate::conformance;

/// Images of the cases: repository, and the layout that stands in for it.
const IMAGES: [(&str, &str); 3] =
    [("library/busybox", "busybox"), ("library/alpine", "alpine"), ("library/debian", "debian")];
/// Digest of the image that is built again on every machine.
const DEBIAN: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn layout_image(root: &Path, layout: &str) -> BaseImage {
    let layout = root.join("bases/layouts").join(layout);
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let index = read_json(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let manifest = read_json(&blob(digest));
    let config = manifest["config"]["digest"].as_str().expect("a digest");
    let config = std::fs::read(blob(config)).expect("a config");
    let config = ImageConfig::parse(&config).expect("a config");
    BaseImage { digest: digest.parse().expect("a digest"), config }
}

fn debian_image(root: &Path) -> BaseImage {
    let mut image = layout_image(root, "busybox");
    image.digest = DEBIAN.parse().expect("a digest");
    image.config.config.cmd = Some(vec!["bash".to_owned()]);
    image.config.history[0].created_by = "local debian base, see mkbase.py".to_owned();
    image
}

/// The image that a request means, if the cases have it.
fn find_image(root: &Path, request: &ImageRequest) -> Option<BaseImage> {
    let RequestedImage::Named(reference) = &request.image else { return None };
    let (_, layout) = IMAGES.iter().find(|(path, _)| *path == reference.path())?;
    Some(match *layout {
        "debian" => debian_image(root),
        layout => layout_image(root, layout),
    })
}

/// A case as options: everything that does not depend on the platform.
fn options_of(directory: &Path, case: &Value) -> Options {
    let mut options = Options {
        build_platform: Platform::new("linux", "amd64", ""),
        target_platform: Platform::new("linux", "amd64", ""),
        main_context: MainContext::Local { exclude_patterns: ignore_patterns(directory, case) },
        entitlements: conformance::strings(&case["entitlements"]).into_iter().collect(),
        ..Options::default()
    };
    for (name, value) in case["attrs"].as_object().expect("attrs") {
        let value = value.as_str().expect("a string").to_owned();
        match name.split_once(':') {
            Some(("build-arg", name)) => drop(options.build_args.insert(name.to_owned(), value)),
            Some(("label", name)) => drop(options.labels.insert(name.to_owned(), value)),
            Some(("context", name)) => {
                drop(options.named_contexts.insert(name.to_owned(), named_context(&value)));
            }
            _ => set_attribute(&mut options, name, value),
        }
    }
    options
}

fn named_context(value: &str) -> NamedContext {
    match value.split_once(':') {
        Some(("local", name)) => {
            NamedContext::Local { name: name.to_owned(), exclude_patterns: Vec::new() }
        }
        Some(("docker-image", name)) => {
            NamedContext::Image(name.trim_start_matches('/').to_owned())
        }
        _ => panic!("unknown context {value}"),
    }
}

fn set_attribute(options: &mut Options, name: &str, value: String) {
    match name {
        "target" => options.target = Some(value),
        "hostname" => options.hostname = value,
        "shm-size" => options.shm_size = value.parse().expect("a size"),
        "force-network-mode" => options.network = llb::NetworkMode::Host,
        "no-cache" if value.is_empty() => options.no_cache = NoCache::Always,
        "no-cache" => {
            options.no_cache = NoCache::Stages(value.split(',').map(str::to_owned).collect());
        }
        "platform" | "ulimit" => {}
        _ => panic!("unknown attribute {name}"),
    }
}

fn ignore_patterns(directory: &Path, case: &Value) -> Vec<String> {
    let dockerfile = case["dockerfile"].as_str().expect("a name");
    let beside = case["dockerfile_dir"].as_str().expect("a directory");
    let own = directory.join(beside).join(format!("{dockerfile}.dockerignore"));
    let context = case["context"].as_str().unwrap_or(beside);
    let general = directory.join(context).join(".dockerignore");
    let text = std::fs::read_to_string(own).or_else(|_| std::fs::read_to_string(general));
    text.map(|text| parser::ignore::parse_file(&text)).unwrap_or_default()
}

/// Lowers with all the images that are asked for; `None` if one is not among the cases'.
fn lower_with_images(
    root: &Path,
    dockerfile: &parser::Dockerfile,
    options: &Options,
) -> Option<Result<Lowered, String>> {
    let mut images = BTreeMap::new();
    loop {
        match lower(dockerfile, options, &images) {
            Ok(Outcome::Lowered(lowered)) => return Some(Ok(*lowered)),
            Ok(Outcome::NeedImages(requests)) => {
                for request in requests {
                    let image = find_image(root, &request)?;
                    assert!(images.insert(request, image).is_none(), "asked for twice");
                }
            }
            Err(diagnostics) => {
                return Some(Err(diagnostics.last().expect("a reason").message.clone()));
            }
        }
    }
}

fn config_of(lowered: &Lowered) -> Value {
    let config = ImageConfig { history: Vec::new(), ..lowered.config.clone() };
    let mut config = serde_json::to_value(config).expect("a config is JSON");
    let config = config.as_object_mut().expect("an object");
    config.remove("rootfs");
    Value::Object(std::mem::take(config))
}

fn history_of(lowered: &Lowered) -> Value {
    let without_time = |entry: &oci::History| {
        let entry = oci::History { created: None, ..entry.clone() };
        serde_json::to_value(entry).expect("an entry is JSON")
    };
    Value::Array(lowered.config.history.iter().map(without_time).collect())
}

fn steps_of(lowered: &Lowered) -> BTreeSet<String> {
    let targets: Vec<_> = lowered.target.iter().map(|input| input.vertex).collect();
    let reachable = lowered.definition.reachable(&targets);
    let names = reachable.iter().map(|&id| lowered.definition.vertex(id).metadata.name.clone());
    names.filter(|name| is_step(name)).map(|name| plain(&name)).collect()
}

/// Cases in which steps of two stages are equal, although they are written differently.
const EQUAL_STEPS: [&str; 1] = ["dockerignore"];

/// The same steps, whatever stage they are shown in. Of equal steps of several stages BuildKit
/// shows the last one's name, which for an image may be none at all, and we the first one's; and
/// it renumbers a stage when an `ONBUILD` turns out to need it.
fn same_steps(found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> bool {
    let text = |name: &'_ String| name.split_once("] ").map_or(name.clone(), |(_, t)| t.to_owned());
    let is_base = |text: &String| text.starts_with("FROM ");
    let split = |steps: &BTreeSet<String>| -> (BTreeSet<String>, BTreeSet<String>) {
        steps.iter().map(text).partition(is_base)
    };
    let ((found_bases, found), (wanted_bases, wanted)) = (split(found), split(wanted));
    found == wanted && wanted_bases.is_subset(&found_bases)
}

/// What BuildKit shows as a step but is none of a definition's, is left out.
fn is_step(name: &str) -> bool {
    let is_load = |text: &str| text.contains("] load ") && !text.ends_with("load from client");
    name.starts_with('[') && !name.starts_with("[internal") && !is_load(name)
}

/// Without the digest that differs from machine to machine.
fn plain(name: &str) -> String {
    match name.split_once("library/debian:latest@sha256:") {
        Some((before, after)) => format!("{before}library/debian:latest{}", &after[64..]),
        None => name.to_owned(),
    }
}

/// Whether `wanted`, in which `*` stands for anything, agrees with `found`.
fn agrees(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (_, Value::String(star)) if star == "*" => true,
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && b.iter().all(|(k, v)| a.get(k).is_some_and(|a| agrees(a, v)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agrees(a, b))
        }
        _ => found == wanted,
    }
}

/// How a case came out.
enum Verdict {
    Same,
    /// The same but for the stages in names of steps: see [`same_steps`].
    SameButStages,
    /// Nothing in it can be compared.
    Skipped(String),
    Different(String),
}

fn judge(root: &Path, directory: &Path) -> Verdict {
    let case = read_json(&directory.join("case.json"));
    let golden = read_json(&directory.join("golden.json"));
    let beside = case["dockerfile_dir"].as_str().expect("a directory");
    let name = case["dockerfile"].as_str().expect("a name");
    let file = directory.join(beside).join(name);
    let text = std::fs::read(&file)
        .or_else(|_| std::fs::read(file.with_file_name(name.to_lowercase())))
        .expect("a Dockerfile");
    let parse = parser::parse_bytes(&text);
    let error = golden["error"].as_str().unwrap_or_default();
    if let Some(found) = parse.errors().next() {
        let message = &found.message;
        let same = !error.is_empty() && error.contains(message.as_str());
        return if same { Verdict::Same } else { Verdict::Different(message.clone()) };
    }
    let options =
        Options { syntax_warnings: parse.diagnostics.clone(), ..options_of(directory, &case) };
    let platforms = case["attrs"]["platform"].as_str().unwrap_or_default();
    let mut platforms: Vec<Platform> =
        platforms.split(',').filter_map(|platform| platform.parse().ok()).collect();
    let requested = !platforms.is_empty();
    let multi_platform = case["attrs"]["platform"].as_str().is_some_and(|p| p.contains(','));
    if !requested {
        platforms.push(options.target_platform.clone());
    }
    let has_equal_steps =
        directory.file_name().is_some_and(|n| EQUAL_STEPS.iter().any(|e| n == *e));
    let mut found = Found { has_equal_steps, ..Found::default() };
    for platform in platforms {
        let options = Options {
            target_platform: platform,
            platform_requested: requested,
            multi_platform,
            ..options.clone()
        };
        match lower_with_images(root, &parse.dockerfile, &options) {
            None => return Verdict::Skipped("another image".to_owned()),
            Some(Ok(lowered)) => found.add(&lowered),
            Some(Err(message)) if error.contains(&message) => return Verdict::Same,
            Some(Err(message)) => return Verdict::Different(format!("error: {message}")),
        }
    }
    found.compare(&golden)
}

/// The results for all platforms.
#[derive(Default)]
struct Found {
    configs: Vec<Value>,
    histories: Vec<Value>,
    steps: BTreeSet<String>,
    warnings: BTreeSet<String>,
    /// See [`EQUAL_STEPS`].
    has_equal_steps: bool,
}

impl Found {
    fn add(&mut self, lowered: &Lowered) {
        self.configs.push(config_of(lowered));
        self.histories.push(history_of(lowered));
        self.steps.extend(steps_of(lowered));
        // BuildKit warns about the first platform only.
        let is_first = self.configs.len() == 1;
        for warning in lowered.warnings.iter().filter(|_| is_first) {
            let (rule, message) = (warning.rule.unwrap_or_default(), &warning.message);
            let line = warning.lines.start;
            let short = format!("{rule}: {message} (line {line})");
            let warning = serde_json::json!({ "line": line, "short": short });
            self.warnings.insert(warning.to_string());
        }
    }

    fn compare(&self, golden: &Value) -> Verdict {
        if let Some(error) = golden["error"].as_str() {
            // What goes wrong later is nothing for lowering.
            let later = ["did not complete", "not found", "cannot replace", "cannot copy to"];
            return match later.iter().any(|text| error.contains(text)) {
                true => Verdict::Skipped("fails when it runs".to_owned()),
                false => Verdict::Different(format!("no error, wanted {error}")),
            };
        }
        let empty = Vec::new();
        let images = golden["images"].as_array().unwrap_or(&empty);
        let pick = |what: &str| images.iter().map(|image| image[what].clone()).collect();
        let mut differences = Map::new();
        for (what, found) in [("config", &self.configs), ("history", &self.histories)] {
            let wanted: Vec<Value> = pick(what);
            let wanted = Value::Array(wanted);
            let found = Value::Array(found.clone());
            if !agrees(&found, &wanted) {
                let both = serde_json::json!({ "found": found, "wanted": wanted });
                differences.insert(what.to_owned(), both);
            }
        }
        let steps = conformance::strings(&golden["steps"]);
        let steps_differ = steps.iter().any(|name| name == "*");
        let steps = steps.iter().filter(|name| is_step(name)).map(|name| plain(name));
        let steps: BTreeSet<String> = steps.collect();
        let warnings = golden["warnings"].as_array().unwrap_or(&empty).iter();
        // Those without a line are not about the Dockerfile.
        let warnings = warnings.filter(|warning| warning["line"].is_u64());
        let warnings: BTreeSet<String> = warnings.map(Value::to_string).collect();
        if self.warnings != warnings {
            let more: Vec<_> = self.warnings.difference(&warnings).collect();
            let less: Vec<_> = warnings.difference(&self.warnings).collect();
            let both = serde_json::json!({ "found only": more, "wanted only": less });
            differences.insert("warnings".to_owned(), both);
        }
        if !steps_differ && !same_steps(&self.steps, &steps) && !self.has_equal_steps {
            let more: Vec<_> = self.steps.difference(&steps).collect();
            let less: Vec<_> = steps.difference(&self.steps).collect();
            let both = serde_json::json!({ "found only": more, "wanted only": less });
            differences.insert("steps".to_owned(), both);
        }
        match differences.is_empty() {
            true if self.steps != steps && !steps_differ => Verdict::SameButStages,
            true => Verdict::Same,
            false => Verdict::Different(format!("{:#}", Value::Object(differences))),
        }
    }
}

fn case_directories(root: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let suites = entries(&root.join("cases"));
    let mut cases: Vec<PathBuf> = suites.iter().flat_map(|suite| entries(suite)).collect();
    cases.retain(|case| case.join("golden.json").exists());
    cases.sort();
    cases
}

#[test]
fn builds_lower_as_buildkit_lowers_them() {
    let Some(root) = conformance::root() else { return };
    let (mut same, mut other_stages) = (0, 0);
    let (mut skipped, mut different) = (BTreeMap::<String, usize>::new(), Vec::new());
    for directory in case_directories(&root) {
        match judge(&root, &directory) {
            Verdict::Same => same += 1,
            Verdict::SameButStages => other_stages += 1,
            Verdict::Skipped(why) => *skipped.entry(why).or_default() += 1,
            Verdict::Different(how) => {
                let name = directory.file_name().expect("a name").to_string_lossy().into_owned();
                different.push(format!("{name}: {how}"));
            }
        }
    }
    println!(
        "{same} the same, {other_stages} with steps under another stage, {} different, \
         not compared: {skipped:?}",
        different.len()
    );
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert!(other_stages * 20 < same, "{other_stages} of {same} have steps under other stages");
}
