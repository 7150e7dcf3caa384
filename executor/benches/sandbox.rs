//! What it costs to run a command that does nothing.

use std::fs;
use std::path::Path;

use criterion::{BatchSize, Criterion};
use executor::{Emulators, Executor, Host, Network, Process, Root, Stdio};

const BUSYBOX: &str = "/bin/busybox";

// Not criterion's own `main`: this program is also the first process of its sandboxes.
fn main() {
    executor::run_init_if_asked();
    executor::enter_user_namespace().expect("this system lets nobody but root run sandboxes");
    let mut criterion = Criterion::default().configure_from_args();
    sandboxes(&mut criterion);
    criterion.final_summary();
}

/// A process on `layers` equal layers, with an upper directory of its own.
fn process(layers: usize, base: &Path, scratch: &Path, network: Network) -> Process {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for directory in [&upper, &work] {
        fs::create_dir(directory).expect("a fresh directory");
    }
    let lowers = (0..layers).map(|n| base.join(n.to_string())).collect();
    let mut process = Process::new(Root::Overlay { lowers, upper, work }, ["/busybox", "true"]);
    process.network = network;
    process.stdio = Stdio::Piped { stdin: false };
    process
}

fn sandboxes(c: &mut Criterion) {
    let base = tempfile::tempdir().expect("a temporary directory");
    for n in 0..100 {
        fs::create_dir(base.path().join(n.to_string())).expect("a fresh directory");
    }
    fs::copy(BUSYBOX, base.path().join("0/busybox")).expect("a static busybox is installed");
    let executor =
        Executor::new(Host::probe(), Emulators::default()).expect("sandboxes can be made here");
    executor.prepare(1);
    let mut group = c.benchmark_group("run `true`");
    for (name, layers, network) in [
        ("one layer, no network", 1, Network::None),
        ("100 layers, no network", 100, Network::None),
        ("one layer, the host's network", 1, Network::Host),
        ("one layer, a network of its own", 1, Network::Default),
    ] {
        group.bench_function(name, |b| {
            let fresh = || {
                let scratch = tempfile::tempdir().expect("a temporary directory");
                (process(layers, base.path(), scratch.path(), network), scratch)
            };
            let run = |(process, scratch)| {
                let running = executor.spawn(process).expect("it starts");
                assert!(running.wait().expect("it ends").success());
                (running, scratch)
            };
            b.iter_batched(fresh, run, BatchSize::PerIteration);
        });
    }
    group.finish();
}
