//! Devices by the Container Device Interface: descriptions on this machine say what a process that asks
//! for one gets (<https://github.com/cncf-tags/container-device-interface>, `SPEC.md`).
//!
//! Device nodes, mounts and variables are given. What else a description may ask for would have to be run
//! or set up outside of the sandbox, and is refused by name.

mod edits;
mod spec;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use edits::Edits;
use spec::{ContainerEdits, Spec};

use crate::error::BuildError;

/// What is called a description, by the end of its name.
const SUFFIXES: [&str; 3] = ["json", "yaml", "yml"];
/// The largest that is read, in bytes.
const MAX: u64 = 1 << 20;

/// Described devices, by their whole name.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Vec<ContainerEdits>>);

/// What a process that asks for `devices` gets, by the descriptions in `directories`.
pub(crate) fn edits(directories: &[PathBuf], devices: &[llb::Device]) -> Result<Edits, BuildError> {
    let mut edits = Edits::default();
    if devices.is_empty() {
        return Ok(edits);
    }
    let known = Known::read(directories)?;
    let mut names: Vec<&str> = Vec::new();
    for device in devices {
        let found = known.find(&device.name)?;
        if found.is_empty() && !device.optional {
            let message = format!("required device \"{}\" is not registered", device.name);
            return Err(BuildError::refused(message).with_hint(known.hint(directories)));
        }
        names.extend(found);
    }
    names.sort_unstable();
    names.dedup();
    for name in names {
        known.0[name].iter().try_for_each(|one| edits.add(name, one))?;
    }
    Ok(edits)
}

impl Known {
    fn read(directories: &[PathBuf]) -> Result<Self, BuildError> {
        let mut known = Self::default();
        for directory in directories {
            for file in descriptions(directory)? {
                known.add(&file)?;
            }
        }
        Ok(known)
    }

    fn add(&mut self, file: &Path) -> Result<(), BuildError> {
        let bytes = read_bounded(file)?;
        let Spec { kind, devices, container_edits, .. } =
            spec::parse(&bytes).map_err(|problem| {
                let file = file.display();
                BuildError::input(format!("`{file}` does not describe devices: {problem}"))
            })?;
        for device in devices {
            let name = format!("{kind}={}", device.name);
            self.0.insert(name, vec![container_edits.clone(), device.container_edits]);
        }
        Ok(())
    }

    /// The devices that a name stands for: without one behind `=` the first of the class, with `*` all.
    fn find(&self, name: &str) -> Result<Vec<&str>, BuildError> {
        let (class, device) = name.split_once('=').unwrap_or((name, ""));
        if class.split_once('/').is_none_or(|(vendor, class)| vendor.is_empty() || class.is_empty())
        {
            return Err(BuildError::refused(format!("invalid device \"{name}\""))
                .with_hint("a device is written VENDOR/CLASS=NAME: `vendor.com/gpu=0`"));
        }
        let of_class = self.0.keys().map(String::as_str);
        let of_class =
            of_class.filter(|known| known.split_once('=').is_some_and(|(kind, _)| kind == class));
        Ok(match device {
            "" => of_class.take(1).collect(),
            "*" => of_class.collect(),
            _ => of_class.filter(|known| *known == name).collect(),
        })
    }

    fn hint(&self, directories: &[PathBuf]) -> String {
        let places: Vec<String> =
            directories.iter().map(|place| format!("`{}`", place.display())).collect();
        let places = places.join(" and ");
        match self.0.len() {
            0 => format!("no device is described in {places}"),
            _ => {
                let names: Vec<&str> = self.0.keys().map(String::as_str).take(10).collect();
                format!("{places} describe {}", names.join(", "))
            }
        }
    }
}

/// The files of a directory that describe devices, in the order of their names; none if it does not exist.
fn descriptions(directory: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let failed = |error: std::io::Error| {
        BuildError::system(format!("failed to look for devices in `{}`", directory.display()))
            .because(error)
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        if suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, BuildError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX + 1).read_to_end(&mut bytes))
        .map_err(|e| {
            BuildError::system(format!("failed to read `{}`", file.display())).because(e)
        })?;
    match bytes.len() as u64 > MAX {
        true => Err(BuildError::input(format!("`{}` is larger than 1 MiB", file.display()))),
        false => Ok(bytes),
    }
}
