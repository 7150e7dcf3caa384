//! The kernel's table of interpreters (`binfmt_misc`): what the machine has registered, and how
//! something is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::architecture::Architecture;

/// Where the machine's own table is shown.
const TABLE: &str = "/proc/sys/fs/binfmt_misc";
/// Between the fields of a rule; no path has it.
const SEPARATOR: char = '\x1f';
/// The program's own name is passed on, its rights are kept, and the interpreter is opened when it is
/// registered, so that it need not be in the root of whoever runs something.
const FLAGS: &str = "POCF";

/// What the machine does with programs of an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It has their interpreter open.
    Open,
    /// It looks for their interpreter where the program runs.
    Path(PathBuf),
}

/// What the machine has registered for an architecture.
pub(crate) fn registered(architecture: &Architecture) -> Option<Registered> {
    let table = Path::new(TABLE);
    if fs::read_to_string(table.join("status")).ok()?.trim() != "enabled" {
        return None;
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(table).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let text = |path: &PathBuf| fs::read_to_string(path).ok();
    entries.iter().filter_map(text).find_map(|entry| parse(&entry, &architecture.header()))
}

/// What an entry of the table says of a program that begins with `header`.
fn parse(entry: &str, header: &[u8]) -> Option<Registered> {
    let value =
        |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
    let magic = bytes(value("magic ")?)?;
    let mask = value("mask ").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    let looked_at = header.get(..magic.len())?;
    let is_it = mask.len() == magic.len()
        && looked_at
            .iter()
            .zip(&mask)
            .zip(&magic)
            .all(|((byte, mask), magic)| byte & mask == *magic);
    let is_enabled = entry.lines().next() == Some("enabled") && value("offset ") == Some("0");
    if !is_it || !is_enabled {
        return None;
    }
    match value("flags:").unwrap_or_default().contains('F') {
        true => Some(Registered::Open),
        false => Some(Registered::Path(value("interpreter ")?.into())),
    }
}

/// Two digits a byte.
fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let pairs = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// What registers `interpreter` for an architecture.
pub(crate) fn rule(architecture: &Architecture, interpreter: &str) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("\\x{b:02x}")).collect() };
    let (magic, mask) = (hex(&architecture.header()), hex(&architecture.mask()));
    let fields = ["", architecture.name, "M", "0", &magic, &mask, interpreter, FLAGS];
    fields.join(&SEPARATOR.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OC\noffset 0\n\
                         magic 7f454c460201010000000000000000000200b700\n\
                         mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn entries_of_the_table_are_understood() {
        let qemu = || Some(Registered::Path("/usr/bin/qemu-aarch64-static".into()));
        for (entry, name, expected) in [
            (ENTRY.to_owned(), "arm64", qemu()),
            (ENTRY.to_owned(), "riscv64", None),
            (ENTRY.replace("flags: OC", "flags: OCF"), "arm64", Some(Registered::Open)),
            (ENTRY.replace("flags: OC", "flags: "), "arm64", qemu()),
            (ENTRY.replace("enabled", "disabled"), "arm64", None),
            (ENTRY.replace("offset 0", "offset 4"), "arm64", None),
            (ENTRY.replace("b700\n", "b7\n"), "arm64", None),
            (ENTRY.replace("magic 7f", "magic xx"), "arm64", None),
            ("enabled\ninterpreter /bin/jar\nflags: \nextension .jar\n".to_owned(), "arm64", None),
            (String::new(), "arm64", None),
        ] {
            let header = Architecture::named(name).unwrap().header();
            assert_eq!(parse(&entry, &header), expected, "{name}: {entry}");
        }
    }

    #[test]
    fn rules_are_as_the_kernel_reads_them() {
        let arm64 = Architecture::named("arm64").unwrap();
        assert_eq!(
            rule(arm64, "/usr/bin/qemu").replace('\x1f', ":"),
            r":arm64:M:0:\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\x00\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu:POCF"
        );
    }
}
