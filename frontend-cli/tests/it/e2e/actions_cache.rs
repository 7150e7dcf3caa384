//! Caches in the service of GitHub Actions: what one job has built the next finds, by the rules for git refs.

use super::actions_service::{Fault, Service};
use super::builder::Builder;
use super::outcome::Outcome;
use super::shared_cache::{DOCKERFILE, check, command, id, world};
use super::shared_mounts;

const MAIN: (&str, u32) = ("refs/heads/main", 3);
const MAIN_READ: (&str, u32) = ("refs/heads/main", 1);
const BRANCH: (&str, u32) = ("refs/heads/branch", 3);

const TO: [&str; 2] = ["--cache-to", "type=gha,mode=max"];
const FROM: [&str; 2] = ["--cache-from", "type=gha"];

/// A job, with the variables that its runner has.
struct Job<'a> {
    builder: &'a Builder,
    service: &'a Service,
    token: String,
    /// 1 or 2.
    version: u32,
}

impl<'a> Job<'a> {
    fn of(builder: &'a Builder, service: &'a Service, refs: &[(&str, u32)]) -> Self {
        Self { builder, service, token: service.token(refs), version: 2 }
    }

    fn run(&self, store: &str, words: &[&str]) -> Outcome {
        let mut command = command(self.builder, store, words);
        command.env("ACTIONS_RUNTIME_TOKEN", &self.token);
        match self.version {
            1 => command.env("ACTIONS_CACHE_URL", self.service.url()),
            _ => command
                .env("ACTIONS_CACHE_SERVICE_V2", "True")
                .env("ACTIONS_RESULTS_URL", self.service.url())
                .env("ACTIONS_CACHE_URL", "http://127.0.0.1:9/"),
        };
        self.builder.run_command(&mut command)
    }
}

fn is_cached(outcome: &Outcome) {
    assert_eq!(outcome.ran(), Vec::<String>::new(), "{}", outcome.stderr);
}

#[test]
fn privileged_a_job_runs_nothing_that_another_has_run() {
    let Some(builder) = world() else { return };
    for version in [1, 2] {
        let service = Service::start();
        let at = |name: &str| format!("{name}-{version}");
        let main = Job { version, ..Job::of(&builder, &service, &[MAIN]) };
        main.run(&at("one"), &TO).success();
        let keys = service.keys();
        assert!(keys.last().is_some_and(|key| key.starts_with("mybuild-records-buildkit-")));
        service.calls();

        let branch = Job { version, ..Job::of(&builder, &service, &[BRANCH, MAIN_READ]) };
        let found = branch.run(&at("two"), &FROM).success();
        is_cached(&found);
        assert_eq!(id(&builder, &at("one")), id(&builder, &at("two")));
        let calls = service.calls();
        // The newest records of each ref, whether there are others behind it, the records with the small layers,
        // and a large one by its key: not what only the stage `make` has.
        assert_eq!(calls.len(), 2 + 1 + 1 + 2, "{calls:#?}");
        check(&builder, &at("two"));

        // What a branch adds is for itself.
        builder.write("context/a", "edited\n");
        let both = [&FROM[..], &TO].concat();
        let edited = branch.run(&at("three"), &both).success();
        assert_eq!(edited.ran(), ["stage-2 3/3"], "{}", edited.stderr);
        is_cached(&branch.run(&at("four"), &FROM).success());
        assert_eq!(main.run(&at("five"), &FROM).success().ran(), ["stage-2 3/3"]);
        builder.write("context/a", "a\n");

        // And another scope is another cache.
        let other = main.run(&at("six"), &["--cache-from", "type=gha,scope=other"]).success();
        assert!(other.stderr.contains("the cache gha:other is empty"), "{}", other.stderr);
    }
}

#[test]
fn privileged_ten_jobs_that_write_at_once_lose_nothing() {
    let Some(builder) = world() else { return };
    let service = Service::start();
    let job = Job::of(&builder, &service, &[MAIN]);
    let names: Vec<String> = (0..10).map(|n| format!("WHO=writer{n}")).collect();
    std::thread::scope(|scope| {
        for (number, name) in names.iter().enumerate() {
            let words = [&["--build-arg", name.as_str()][..], &TO].concat();
            let job = &job;
            scope.spawn(move || job.run(&format!("writer{number}"), &words).success().ran());
        }
    });
    for name in &names {
        let words = [&["--build-arg", name.as_str()][..], &FROM].concat();
        is_cached(&job.run(&format!("reader-{name}"), &words).success());
    }
    let packs = service.keys().into_iter().filter(|key| key.starts_with("mybuild-records"));
    assert_eq!(packs.count(), 10);

    // The next one copies what he has read, so that who comes then reads one pack.
    job.run("last", &[&FROM[..], &TO, &["--build-arg", "WHO=last"]].concat()).success();
    service.calls();
    let words = [&FROM[..], &["--build-arg", "WHO=last"]].concat();
    is_cached(&job.run("reader-last", &words).success());
    let calls = service.calls();
    assert_eq!(calls.len(), 3 + 2, "{calls:#?}");
}

#[test]
fn privileged_a_service_that_is_wrong_is_a_miss_with_one_warning() {
    let Some(builder) = world() else { return };
    let service = Service::start();
    let job = Job::of(&builder, &service, &[MAIN]);
    job.run("one", &TO).success();
    let right = id(&builder, "one");
    let from = ["--cache-from", "type=gha,timeout=1s"];
    for (fault, said) in [
        (Fault::Broken, "status 500"),
        (Fault::Babbles, "the server's answer cannot be read"),
        (Fault::Silent, "within 1 s"),
        (Fault::Lies, "is not used any more"),
        (Fault::Cuts, "is not used any more"),
        (Fault::Stalls, "is not used any more"),
        (Fault::Forgets, "is not used any more"),
        (Fault::Misleads, "refused to connect"),
    ] {
        service.fail(fault);
        let store = format!("{fault:?}");
        let built = job.run(&store, &from).success();
        assert!(built.stderr.contains(said), "{fault:?}: {}", built.stderr);
        let warnings = built.stderr.matches("\"type\":\"warning\"").count();
        assert_eq!(warnings, 1, "{fault:?}: {}", built.stderr);
        assert!(built.ran().len() >= 6, "{fault:?}: {:?}", built.ran());
        assert_eq!(id(&builder, &store), right, "{fault:?}");
        assert!(!built.stderr.contains("secret"), "{fault:?}: {}", built.stderr);
    }
    // What passes is waited for; an address that has become too old is asked for again.
    for fault in [Fault::Busy, Fault::Ages] {
        service.fail(fault);
        let store = format!("{fault:?}");
        is_cached(&job.run(&store, &FROM).success());
        check(&builder, &store);
    }
    service.fail(Fault::Busy);
    let words = [&["--build-arg", "WHO=busy"][..], &TO].concat();
    job.run("one", &words).success();
    service.fail(Fault::None);
    is_cached(&job.run("busy", &[&["--build-arg", "WHO=busy"][..], &FROM].concat()).success());
}

#[test]
fn privileged_a_token_that_does_not_count_is_named() {
    let Some(builder) = world() else { return };
    let service = Service::start();
    let stranger = Job { token: "stranger".to_owned(), ..Job::of(&builder, &service, &[MAIN]) };
    let built = stranger.run("one", &FROM).success();
    assert!(built.stderr.contains("does not accept the token"), "{}", built.stderr);
    let failed = stranger.run("one", &TO).fails_with(1);
    assert!(failed.words().contains("does not accept the token"), "{}", failed.stderr);
    assert!(failed.words().contains("401: unauthenticated"), "{}", failed.stderr);

    let reader = Job::of(&builder, &service, &[MAIN_READ]);
    let failed = reader.run("one", &TO).fails_with(1);
    assert!(failed.words().contains("may only read"), "{}", failed.stderr);
    let lenient = format!("{},ignore-error=true", TO[1]);
    let built = reader.run("one", &["--cache-to", &lenient]).success();
    assert!(built.stderr.contains("may only read"), "{}", built.stderr);
}

#[test]
fn privileged_what_a_job_left_half_written_is_nobodys() {
    let Some(builder) = world() else { return };
    let service = Service::start();
    let job = Job::of(&builder, &service, &[MAIN]);
    job.run("one", &TO).success();
    let first = service.keys().pop().expect("records");
    assert!(first.ends_with("0000000001"), "{first}");
    for number in 2..14 {
        let number = format!("{number:010x}");
        service.abandon(MAIN.0, &first.replace("0000000001", &number));
    }
    let more = ["--build-arg", "WHO=more"];
    job.run("two", &[&more[..], &FROM, &TO].concat()).success();
    assert!(service.keys().pop().expect("records").ends_with("000000000e"));
    is_cached(&job.run("three", &[&more[..], &FROM].concat()).success());
    is_cached(&job.run("four", &FROM).success());

    // So is a blob: after a while the next writer takes another key.
    let blobs = service.keys().into_iter().filter(|key| key.starts_with("mybuild-blob"));
    let blobs: Vec<String> = blobs.collect();
    service.evict("mybuild-");
    blobs.iter().for_each(|key| service.abandon(MAIN.0, key));
    let to = format!("{},timeout=1s", TO[1]);
    job.run("one", &["--cache-to", &to]).success();
    is_cached(&job.run("five", &FROM).success());
}

#[test]
fn privileged_layers_that_the_service_has_removed_come_again() {
    let Some(builder) = world() else { return };
    let both = [&FROM[..], &TO].concat();
    let is_quiet = |outcome: &Outcome| {
        assert!(!outcome.stderr.contains("\"type\":\"warning\""), "{}", outcome.stderr);
    };
    let make = "make 1/1";
    let larger = DOCKERFILE.replace("/made /made", "/big /big");
    for everything in [true, false] {
        let service = Service::start();
        let job = Job::of(&builder, &service, &[MAIN]);
        let at = |name: &str| format!("{name}-{everything}");
        builder.write("Dockerfile", DOCKERFILE);
        job.run(&at("one"), &TO).success();
        let blobs: Vec<String> =
            service.keys().into_iter().filter(|key| key.starts_with("mybuild-blob")).collect();
        assert_eq!(blobs.len(), 2, "what busybox and the stage `make` have");
        // Only what a stage on the way has, or all.
        let found = job.run(&at("two"), &FROM).success();
        is_cached(&found);
        let fetched =
            |blob: &&String| found.stderr.contains(&blob["mybuild-blob-sha256:".len()..][..12]);
        let (image, way): (Vec<&String>, Vec<&String>) = blobs.iter().partition(fetched);
        assert_eq!((image.len(), way.len()), (1, 1), "{}", found.stderr);
        service.evict(way[0]);
        if everything {
            service.evict(image[0]);
            let third = job.run(&at("three"), &both).success();
            assert!(third.stderr.contains("is not in the cache any more"), "{}", third.stderr);
        } else {
            let third = job.run(&at("three"), &both).success();
            is_cached(&third);
            is_quiet(&third);
        }
        let fourth = job.run(&at("four"), &FROM).success();
        is_cached(&fourth);
        is_quiet(&fourth);
        // What nobody had any more has to be run where it is needed, and only that.
        builder.write("Dockerfile", &larger);
        let fifth = job.run(&at("five"), &FROM).success();
        is_quiet(&fifth);
        let ran: Vec<String> = fifth.ran();
        assert_eq!(ran.contains(&make.to_owned()), !everything, "{ran:?}");
    }
}

#[test]
fn privileged_who_began_earlier_and_came_later_hides_nobody() {
    let Some(builder) = world() else { return };
    let service = Service::start();
    let job = Job::of(&builder, &service, &[MAIN]);
    let write = |who: &str| {
        job.run(who, &[&["--build-arg", who][..], &TO].concat()).success();
        service.keys().pop().expect("records")
    };
    let early = write("WHO=early");
    service.hold(&early);
    let late = write("WHO=late");
    assert!(early.ends_with("01") && late.ends_with("02"), "{early} {late}");
    service.release(&early);
    for who in ["WHO=early", "WHO=late"] {
        let words = [&["--build-arg", who][..], &FROM].concat();
        is_cached(&job.run(&format!("reader-{who}"), &words).success());
    }
}

#[test]
fn privileged_a_large_layer_travels_in_parts() {
    let Some(builder) = world() else { return };
    builder.write("Dockerfile", format!("{DOCKERFILE}COPY large /large\n"));
    builder.write_random("context/large", 70 << 20);
    for version in [1, 2] {
        let service = Service::start();
        let job = Job { version, ..Job::of(&builder, &service, &[MAIN]) };
        job.run("one", &TO).success();
        let parts = service.calls().iter().filter(|call| call.starts_with("P")).count();
        assert!(parts > 6, "{parts}");
        let store = format!("two-{version}");
        is_cached(&job.run(&store, &FROM).success());
        check(&builder, &store);
    }
}

#[test]
fn privileged_cache_mounts_travel_from_job_to_job() {
    let Some(builder) = world() else { return };
    builder.write("Dockerfile", shared_mounts::DOCKERFILE);
    let service = Service::start();
    let main = Job::of(&builder, &service, &[MAIN]);
    let words = |who: &'static str| ["--build-arg", who, "--cache-from", "type=gha"];
    let to = ["--cache-to", "type=gha,mode=max,mounts=true"];
    for who in ["WHO=one", "WHO=two"] {
        main.run(who, &[&words(who)[..], &to].concat()).success();
    }
    let branch = Job::of(&builder, &service, &[BRANCH, MAIN_READ]);
    let found = branch.run("three", &words("WHO=three")).success();
    let wanted = shared_mounts::names(&["big", "common", "one", "two"]);
    assert_eq!(shared_mounts::found(&found), wanted, "{}", found.log());
}
