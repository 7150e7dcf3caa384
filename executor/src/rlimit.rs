//! Resource limits by the names of `ulimit`.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The resource of that name; `None` for a name nobody knows.
pub(crate) fn resource(name: &str) -> Option<Resource> {
    RESOURCES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}

/// Open files: what a process starts with, and how far it may go where the machine allows it.
const OPEN_FILES: (u64, u64) = (1024, 1 << 20);
/// Bytes of stack that a process starts with.
const STACK: u64 = 8 << 20;

/// What is in force for a process that was told nothing else: the same whatever the caller has set
/// for itself, as far as the caller could take it back. On failure, which limit and why.
pub(crate) fn set_usual() -> Result<(), (&'static str, Errno)> {
    for (name, resource) in RESOURCES {
        let own = getrlimit(resource);
        let limit = usual(name, own.maximum);
        if (limit.current, limit.maximum) != (own.current, own.maximum) {
            setrlimit(resource, limit).map_err(|error| (name, error))?;
        }
    }
    Ok(())
}

/// The usual limit of that name beneath the most that is allowed; `None` is unlimited.
fn usual(name: &str, most: Option<u64>) -> Rlimit {
    let at_most = |wanted: u64| Some(most.map_or(wanted, |most| most.min(wanted)));
    let (current, maximum) = match name {
        "nofile" => (at_most(OPEN_FILES.0), at_most(OPEN_FILES.1)),
        "stack" => (at_most(STACK), most),
        // A program that crashes leaves no file in the layer.
        "core" => (Some(0), most),
        _ => (most, most),
    };
    Rlimit { current, maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_has_lowered_is_raised_again() {
        let cases = [
            ("nofile", None, (Some(1024), Some(1 << 20))),
            ("nofile", Some(64), (Some(64), Some(64))),
            ("stack", None, (Some(8 << 20), None)),
            ("stack", Some(4096), (Some(4096), Some(4096))),
            ("core", None, (Some(0), None)),
            ("fsize", None, (None, None)),
            ("cpu", Some(7), (Some(7), Some(7))),
        ];
        for (name, most, expected) in cases {
            let limit = usual(name, most);
            assert_eq!((limit.current, limit.maximum), expected, "{name} {most:?}");
        }
    }
}
