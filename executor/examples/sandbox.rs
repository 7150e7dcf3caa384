//! Runs a command in a sandbox, and tells how long it took.
//!
//! `sandbox [--times N] [--network default|none|host] [--user USER] [--insecure] ROOT COMMAND…`
//!
//! `ROOT` is a directory used as a read-only layer; what the command writes is thrown away.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use executor::{Emulators, Executor, Host, Network, Process, Root, Security, Stdio};

fn main() -> Result<(), Box<dyn Error>> {
    executor::run_init_if_asked();
    let namespace = executor::enter_user_namespace()?;
    let executor = Executor::new(Host::probe(), Emulators::default())?;
    let mut err = std::io::stderr();
    if let Some(warning) = namespace.and_then(|namespace| namespace.warning) {
        writeln!(err, "{warning}")?;
    }
    let options = Options::parse(std::env::args().skip(1))?;
    executor.prepare(usize::from(options.network == Network::Default));
    let scratch = tempfile::tempdir()?;
    let mut times = Vec::new();
    let mut status = None;
    for round in 0..options.times {
        let dir = scratch.path().join(round.to_string());
        for name in ["upper", "work"] {
            std::fs::create_dir_all(dir.join(name))?;
        }
        let root = Root::Overlay {
            lowers: vec![options.root.clone().into()],
            upper: dir.join("upper"),
            work: dir.join("work"),
        };
        let mut process = Process::new(root, &options.command);
        process.network = options.network;
        process.user.clone_from(&options.user);
        process.security = options.security;
        process.env.0.push(("PATH".to_owned(), "/bin:/usr/bin".to_owned()));
        let started = Instant::now();
        process.stdio =
            if options.times == 1 { Stdio::Inherit } else { Stdio::Piped { stdin: false } };
        let mut running = executor.spawn(process)?;
        let spawned = started.elapsed();
        for warning in running.warnings() {
            writeln!(err, "{warning}")?;
        }
        if let Some(stdout) = running.stdout() {
            std::io::copy(&mut File::from(stdout), &mut std::io::sink())?;
        }
        let output_ended = started.elapsed();
        status = Some(running.wait()?);
        let waited = started.elapsed();
        drop(running);
        times.push([spawned, output_ended, waited, started.elapsed()]);
    }
    if options.times > 1 {
        for (index, what) in
            ["started", "output ended", "waited for", "cleaned up"].iter().enumerate()
        {
            let mut column: Vec<Duration> = times.iter().map(|row| row[index]).collect();
            column.sort_unstable();
            let (least, median, most) =
                (column[0], column[column.len() / 2], column[column.len() * 9 / 10]);
            writeln!(err, "{what:>12}: min {least:?}, median {median:?}, p90 {most:?}")?;
        }
    }
    drop(executor);
    drop(scratch);
    std::process::exit(status.map_or(0, executor::ExitStatus::code))
}

struct Options {
    times: usize,
    network: Network,
    user: String,
    security: Security,
    root: String,
    command: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            times: 1,
            network: Network::None,
            user: String::new(),
            security: Security::Sandbox,
            root: String::new(),
            command: Vec::new(),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or("a value is missing");
            match arg.as_str() {
                "--times" => options.times = value()?.parse()?,
                "--user" => options.user = value()?,
                "--insecure" => options.security = Security::Insecure,
                "--network" => {
                    options.network = match value()?.as_str() {
                        "default" => Network::Default,
                        "none" => Network::None,
                        "host" => Network::Host,
                        other => return Err(format!("unknown network `{other}`").into()),
                    }
                }
                _ => {
                    options.root = arg;
                    break;
                }
            }
        }
        options.command.extend(args);
        if options.root.is_empty() || options.command.is_empty() {
            return Err("a root and a command are needed".into());
        }
        Ok(options)
    }
}
