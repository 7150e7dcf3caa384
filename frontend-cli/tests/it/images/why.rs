//! `--dry-run` and `--why`: what a prune would do, and the reason of each thing.

use super::World;

/// With `app:1`, `built:1` of it, the container `kept` of that, a cache mount, and a step that no image has.
fn world() -> Option<World> {
    let world = World::with_busybox()?;
    std::fs::create_dir(world.path("context")).expect("made");
    let build = |name: &str, dockerfile: &str| {
        std::fs::write(world.path("context/Dockerfile"), dockerfile).expect("written");
        world.ok(&["build", "-q", "--network", "none", "-t", name, "context"]);
    };
    let lines =
        "FROM app:1\nLABEL kind=built\nRUN --mount=type=cache,target=/cache echo one >/one\n";
    build("built:1", lines);
    build("other:1", &format!("{lines}RUN echo loose >/loose\n"));
    world.ok(&["rmi", "other:1"]);
    world.ok(&["run", "--name", "kept", "built:1", "true"]);
    Some(world)
}

/// Of the rows of a table that hold `what`: the verdict and the reason of each that is not a tar.
fn verdicts(table: &str, what: &str) -> Vec<String> {
    let rows = table.lines().filter(|row| row.contains(what) && !row.contains("   tar   "));
    let mut verdicts: Vec<String> = rows
        .filter_map(|row| {
            let at = row.find("   goes   ").or_else(|| row.find("   stays   "))?;
            Some(row[at..].split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    verdicts.sort();
    verdicts.dedup();
    verdicts
}

#[test]
fn privileged_each_part_of_the_cache_goes_or_stays_for_a_reason() {
    let Some(world) = world() else { return };
    let needed = "stays container `kept` needs it";
    for (words, what, expected) in [
        (
            &["prune"][..],
            "loose",
            "stays the build cache stays without `--all`, a filter or a limit",
        ),
        (&["builder", "prune"], "loose", "goes it is asked for, and nothing needs it"),
        (&["builder", "prune"], "2/2] RUN", needed),
        (&["builder", "prune"], "exec.cachemount", "goes it is asked for, and nothing needs it"),
        (&["prune", "--all"], "2/2] RUN", needed),
        (&["prune", "--filter", "type!=regular"], "loose", "stays it does not fit `type!=regular`"),
        (&["prune", "--filter", "parents~=^$"], "loose", "stays it does not fit `parents~=^$`"),
        (
            &["prune", "--filter", "unused-for=24h"],
            "loose",
            "stays used Less than a second ago, and asked for is what was not used for 24 hours",
        ),
        (&["prune", "--max-used-space", "10gb"], "loose", "stays the cache may have 10.7GB"),
        (&["system", "prune"], "2/2] RUN", "stays image `built:1` has it, too"),
        (&["system", "prune", "--all"], "2/2] RUN", "goes it is asked for, and nothing needs it"),
        (&["system", "prune", "--all"], "app:1 ", "goes no container uses it"),
        (&["system", "prune", "--all"], "built:1 ", "goes no container uses it"),
        (&["image", "prune"], "built:1 ", "stays it has a name, and `--all` is not given"),
        (&["image", "prune", "--all"], "built:1 ", "stays container `kept` uses it"),
        (&["image", "prune", "--filter", "dangling=false"], "app:1 ", "goes no container uses it"),
        (
            &["image", "prune", "-a", "--filter", "label=kind"],
            "app:1 ",
            "stays it does not have the label `kind`",
        ),
        (
            &["image", "prune", "-a", "--filter", "until=24h"],
            "built:1 ",
            "stays it was made after the time of `until`",
        ),
    ] {
        let table = world.ok(&[words, &["--dry-run", "--why"]].concat());
        let found = verdicts(&table, what);
        let ages = |text: &str| text.split(" ago").last().unwrap_or_default().to_owned();
        let found: Vec<String> = found.iter().map(|text| ages(text)).collect();
        assert_eq!(found, [ages(expected)], "{words:?} {what}: {table}");
    }
    let over = world.ok(&["prune", "--all", "--max-used-space", "1", "--dry-run", "--why"]);
    let over = verdicts(&over, "loose");
    assert!(over[0].starts_with("goes used longest ago while the cache is "), "{over:?}");
}

#[test]
fn privileged_nothing_goes_in_a_dry_run_and_what_it_lists_goes_after_it() {
    let Some(world) = world() else { return };
    let names = || world.ok(&["images", "--format", "{{.Repository}}"]);
    let there = || (names(), world.ok(&["ps", "-aq"]), world.ok(&["du", "--format", "json"]));
    for words in
        [&["image", "prune", "--all"][..], &["system", "prune"], &["system", "prune", "--all"]]
    {
        let before = there();
        let would = world.ok(&[words, &["--dry-run"]].concat());
        assert_eq!(there(), before, "{words:?}: {would}");
        let does = world.ok(&[words, &["--force"]].concat());
        // The names under each heading.
        let listed = |text: &str, heading: &str| {
            let lines = text.split_once(heading).map_or("", |(_, rest)| rest).lines().skip(1);
            let lines = lines.take_while(|line| !line.is_empty());
            let names = lines.filter(|line| !line.starts_with("deleted: "));
            names.map(|line| line.trim_start_matches("untagged: ").to_owned()).collect::<Vec<_>>()
        };
        for (before, after) in [
            ("Containers that would be removed:", "Deleted Containers:"),
            ("Images that would be removed:", "Deleted Images:"),
        ] {
            let (would, does) = (listed(&would, before), listed(&does, after));
            assert_eq!(would, does, "{words:?}");
        }
    }
    assert_eq!((names(), world.ok(&["ps", "-aq"])), (String::new(), String::new()));
}
