//! Architectures that programs are built for, as images name them and as the kernel tells them apart.

/// One that there is an emulator for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// As images name it.
    pub(crate) name: &'static str,
    /// As QEMU names it.
    pub(crate) qemu: &'static str,
    /// `EI_CLASS`: 1 for 32 bits, 2 for 64.
    class: u8,
    order: Order,
    /// `e_machine`.
    machine: u16,
}

/// Which byte of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

const fn little(name: &'static str, qemu: &'static str, class: u8, machine: u16) -> Architecture {
    Architecture { name, qemu, class, order: Order::Little, machine }
}

const fn big(name: &'static str, qemu: &'static str, class: u8, machine: u16) -> Architecture {
    Architecture { name, qemu, class, order: Order::Big, machine }
}

/// All of them.
pub(crate) const ALL: [Architecture; 13] = [
    little("386", "i386", 1, 3),
    little("amd64", "x86_64", 2, 62),
    little("arm", "arm", 1, 40),
    little("arm64", "aarch64", 2, 183),
    little("loong64", "loongarch64", 2, 258),
    big("mips", "mips", 1, 8),
    little("mipsle", "mipsel", 1, 8),
    big("mips64", "mips64", 2, 8),
    little("mips64le", "mips64el", 2, 8),
    big("ppc64", "ppc64", 2, 21),
    little("ppc64le", "ppc64le", 2, 21),
    little("riscv64", "riscv64", 2, 243),
    big("s390x", "s390x", 2, 22),
];

/// Bytes of an ELF header that tell the architecture.
const HEADER: usize = 20;

impl Architecture {
    /// The one that images call `name`.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|architecture| architecture.name == name)
    }

    /// Whether this machine runs it by itself.
    pub(crate) fn is_native(&self) -> bool {
        is_native(self.name)
    }

    /// How its programs begin.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = self.class;
        header[5] = if self.order == Order::Little { 1 } else { 2 };
        header[6] = 1;
        header[16..18].copy_from_slice(&self.number(2));
        header[18..].copy_from_slice(&self.number(self.machine));
        header
    }

    /// Which bits of [`Architecture::header`] count: neither the system that a program is for, nor
    /// whether it can be loaded anywhere (type 3) or not (type 2).
    pub(crate) fn mask(&self) -> [u8; HEADER] {
        let mut mask = [0xff; HEADER];
        (mask[7], mask[8]) = (0, 0);
        mask[16..18].copy_from_slice(&self.number(0xfffe));
        mask
    }

    fn number(&self, number: u16) -> [u8; 2] {
        match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        }
    }
}

/// Whether this machine runs programs of the architecture that images call `name` by itself.
pub fn is_native(name: &str) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => matches!(name, "amd64" | "386"),
        "aarch64" => name == "arm64",
        other => name == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_their_headers() {
        // As Debian's qemu-user-static registers them, which looks at the ABI's version, too.
        for (name, header, mask) in [
            (
                "arm64",
                b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0",
                b"\xff\xff\xff\xff\xff\xff\xff\0\0\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
            ),
            (
                "s390x",
                b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16",
                b"\xff\xff\xff\xff\xff\xff\xff\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff",
            ),
        ] {
            let architecture = Architecture::named(name).unwrap();
            assert_eq!((&architecture.header(), &architecture.mask()), (header, mask), "{name}");
        }
        let mut headers: Vec<_> = ALL.iter().map(Architecture::header).collect();
        headers.sort_unstable();
        headers.dedup();
        assert_eq!(headers.len(), ALL.len());
    }
}
