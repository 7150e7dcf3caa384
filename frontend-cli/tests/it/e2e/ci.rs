//! The recipes of `docs/ci.md`, run as they are written there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::actions_service::Service;
use super::builder::Builder;
use super::rootless::User;
use super::skip;
use crate::docker_registry::{Registry, with_passwords};

const PAGE: &str = include_str!("../../../../docs/ci.md");

/// The fenced block below a heading.
fn block(heading: &str) -> &'static str {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).expect("the page has it");
    let (_, code) = section.split_once("```").expect("a block");
    let (code, _) = code.split_once("\n```").expect("it ends");
    code.split_once('\n').expect("a language").1
}

fn yaml(heading: &str) -> Value {
    serde_saphyr::from_str(block(heading)).expect("YAML")
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// What a recipe runs, and the variables that its system gives.
struct Recipe {
    what: &'static str,
    script: String,
    variables: BTreeMap<&'static str, String>,
}

fn recipes(host: &str, service: &Service) -> Vec<Recipe> {
    let with = |pairs: &[(&'static str, &str)]| {
        pairs.iter().map(|(name, value)| (*name, value.replace("HOST", host))).collect()
    };
    let actions = yaml("GitHub Actions");
    let steps = actions["jobs"]["image"]["steps"].as_array().expect("steps").clone();
    let cached = yaml("GitHub Actions and its cache");
    let cached = cached["jobs"]["image"]["steps"].as_array().expect("steps").clone();
    let token = service.token(&[("refs/heads/branch", 3), ("refs/heads/main", 1)]);
    let gitlab = yaml("GitLab CI");
    let lines = gitlab["image"]["script"].as_array().expect("lines").clone();
    let pod = yaml("Kubernetes")["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(pod["command"], serde_json::json!(["/bin/sh", "-ec"]));
    let user = |name, password| [(name, "alice"), (password, "secret")];
    vec![
        Recipe {
            what: "a shell",
            script: block("A shell").to_owned(),
            variables: with(
                &[
                    &user("REGISTRY_USER", "REGISTRY_PASSWORD")[..],
                    &[("REGISTRY", "HOST"), ("COMMIT", "1234")],
                ]
                .concat(),
            ),
        },
        Recipe {
            what: "actions",
            script: text(&steps[2]["run"]),
            variables: with(
                &[
                    &user("GITHUB_ACTOR", "GITHUB_TOKEN")[..],
                    &[("REGISTRY", "HOST"), ("IMAGE", "HOST/team/app")],
                    &[("GITHUB_SHA", "1234"), ("GITHUB_REF_NAME", "branch")],
                ]
                .concat(),
            ),
        },
        Recipe {
            what: "actions and its cache",
            script: text(&cached[3]["run"]),
            variables: with(
                &[
                    &user("GITHUB_ACTOR", "GITHUB_TOKEN")[..],
                    &[("REGISTRY", "HOST"), ("IMAGE", "HOST/other/app"), ("GITHUB_SHA", "1234")],
                    &[("ACTIONS_CACHE_SERVICE_V2", "True"), ("ACTIONS_RUNTIME_TOKEN", &token)],
                    &[("ACTIONS_RESULTS_URL", &service.url())],
                ]
                .concat(),
            ),
        },
        Recipe {
            what: "gitlab",
            script: lines.iter().map(text).collect::<Vec<_>>().join("\n"),
            variables: with(
                &[
                    &user("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD")[..],
                    &[("CI_REGISTRY", "HOST"), ("CI_REGISTRY_IMAGE", "HOST/group/app")],
                    &[("CACHE", "HOST/group/app/cache"), ("CI_COMMIT_SHA", "1234")],
                ]
                .concat(),
            ),
        },
        Recipe {
            what: "a pod",
            script: text(&pod["args"][0]),
            variables: with(&[("REGISTRY", "HOST/pod"), ("COMMIT", "1234")]),
        },
    ]
}

/// Runs the recipe on a machine that knows nothing; what its steps wrote.
fn run(builder: &Builder, recipe: &Recipe, store: &str) -> String {
    let program = builder.program().parent().expect("a directory").display();
    let path = format!("{program}:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut command = builder.command_of("/bin/sh", &["-ec", &recipe.script]);
    command.env("PATH", path).env("MYBUILD_ROOT", builder.path(store));
    command.env("BUILDKIT_PROGRESS", "plain").envs(&recipe.variables);
    builder.run_command(command.current_dir(builder.path("context"))).success().stderr
}

fn prepare(builder: &Builder, registry: &Registry) {
    builder.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY busybox /bin/sh\nRUN echo it $((1 + 1)) runs\n",
    );
    // The secret of the pod; the others log in.
    let auth = "YWxpY2U6c2VjcmV0";
    let config = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", registry.host);
    builder.write("home/.docker/config.json", config);
}

#[test]
fn privileged_the_recipes_for_ci_work_and_the_second_machine_runs_nothing() {
    let Some(registry) = Registry::start(with_passwords) else { return };
    let Some(builder) = Builder::bare() else { return };
    let service = Service::start();
    for recipe in recipes(&registry.host, &service) {
        prepare(&builder, &registry);
        let what = recipe.what;
        let first = run(&builder, &recipe, &format!("{what}-1"));
        assert!(first.contains("it 2 runs"), "{what}: {first}");
        prepare(&builder, &registry);
        let second = run(&builder, &recipe, &format!("{what}-2"));
        assert!(!second.contains("it 2 runs") && second.contains("CACHED"), "{what}: {second}");
    }
}

#[test]
fn privileged_the_recipe_for_a_pod_works_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return skip("every test is an ordinary user's here");
    }
    let Some(registry) = Registry::start(with_passwords) else { return };
    let user = User::new();
    {
        let builder = Builder::for_user(&user.home, user.id);
        prepare(&builder, &registry);
        let recipe =
            recipes(&registry.host, &Service::start()).pop().expect("the last one is the pod's");
        assert!(run(&builder, &recipe, "one").contains("it 2 runs"));
        assert!(!run(&builder, &recipe, "two").contains("it 2 runs"));
    }
    drop(user);
}
