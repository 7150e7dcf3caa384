//! The instructions there are, and how each is written.

/// Names in the order of the alphabet, with a line of help.
const COMMANDS: [(&str, &str); 18] = [
    ("ADD", "ADD [--flag…] source… destination"),
    ("ARG", "ARG name[=default]…"),
    ("CMD", "CMD [\"program\", \"argument\"…]"),
    ("COPY", "COPY [--flag…] source… destination"),
    ("ENTRYPOINT", "ENTRYPOINT [\"program\", \"argument\"…]"),
    ("ENV", "ENV name=value…"),
    ("EXPOSE", "EXPOSE port[/protocol]…"),
    ("FROM", "FROM [--platform=…] image [AS name]"),
    ("HEALTHCHECK", "HEALTHCHECK [--flag…] CMD command"),
    ("LABEL", "LABEL name=value…"),
    ("MAINTAINER", "MAINTAINER name"),
    ("ONBUILD", "ONBUILD instruction"),
    ("RUN", "RUN [--flag…] command"),
    ("SHELL", "SHELL [\"program\", \"argument\"…]"),
    ("STOPSIGNAL", "STOPSIGNAL signal"),
    ("USER", "USER user[:group]"),
    ("VOLUME", "VOLUME path…"),
    ("WORKDIR", "WORKDIR path"),
];

/// The names of all instructions, in upper case.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, _)| *name)
}

/// How the instruction `name` is written, if there is such.
pub(crate) fn usage(name: &str) -> Option<&'static str> {
    let found = COMMANDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, usage)| *usage)
}
