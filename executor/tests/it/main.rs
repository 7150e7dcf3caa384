//! The executor against this machine's kernel.
//!
//! These tests have a `main` of their own: the test program is also the init of the sandboxes it
//! starts and the root of its own user namespace, both of which have to be settled while there is
//! one thread. Every test gets a fresh [`Executor`](executor::Executor), and after each one nothing
//! of it may be left.

mod elf;
mod emulation;
mod errors;
mod escapes;
mod fixture;
mod identity;
mod leftovers;
mod lifetime;
mod limits;
mod masks;
mod mounts;
mod network;
mod roles;
mod rootless;
mod stdio;
mod syscalls;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fixture::Fixture;

/// A test by name; the fixture is fresh.
type Test = (&'static str, fn(&Fixture));

fn main() {
    executor::run_init_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let user_namespace = executor::enter_user_namespace().expect("a user namespace can be made");
    if args.first().is_some_and(|arg| arg == lifetime::HOLD) {
        return lifetime::hold();
    }
    let groups = [
        emulation::TESTS,
        errors::TESTS,
        escapes::TESTS,
        identity::TESTS,
        lifetime::TESTS,
        limits::TESTS,
        masks::TESTS,
        mounts::TESTS,
        network::TESTS,
        roles::TESTS,
        stdio::TESTS,
        syscalls::TESTS,
    ];
    let mut tests: Vec<Test> = groups.concat();
    if user_namespace.is_none() {
        tests.extend(rootless::TESTS);
    }
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in tests {
            say(&format!("{name}: test"));
        }
        return;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(*part));
    let failed: Vec<_> =
        tests.into_iter().filter(|(name, _)| wanted(name)).filter(|test| !passes(test)).collect();
    if !failed.is_empty() {
        say(&format!("{} failed", failed.len()));
        std::process::exit(101);
    }
}

/// Runs one test and looks for what it left.
fn passes((name, test): &Test) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let before = leftovers::Traces::of_this_process();
        let fixture = Fixture::new();
        test(&fixture);
        let directory = fixture.path();
        drop(fixture);
        before.assert_nothing_new(&directory);
    }));
    say(&format!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" }));
    outcome.is_ok()
}

/// Prints a line; the reader may be gone.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
