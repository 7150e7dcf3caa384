//! Package managers whose lists of packages stay where they were used.

use super::script::Command;
use crate::csv;
use crate::instruction::Mount;

/// A package manager.
pub(super) struct Manager {
    programs: &'static [&'static str],
    /// Its commands that fetch lists.
    fetching: &'static [&'static str],
    /// Its options that leave no lists.
    without: &'static [&'static str],
    /// Its commands that remove them.
    cleaning: &'static [&'static str],
    /// Where they are.
    places: &'static [&'static str],
    /// How to be rid of them.
    pub(super) hint: &'static str,
}

const MANAGERS: [Manager; 5] = [
    Manager {
        programs: &["apt-get", "apt", "aptitude"],
        fetching: &["update"],
        without: &[],
        cleaning: &["dist-clean", "distclean"],
        places: &["/var/lib/apt/lists"],
        hint: "end the same RUN with `rm -rf /var/lib/apt/lists/*`, or keep the lists out of the \
               image with `RUN --mount=type=cache,target=/var/lib/apt/lists`",
    },
    Manager {
        programs: &["apk"],
        fetching: &["add", "update", "upgrade"],
        without: &["--no-cache"],
        cleaning: &["cache"],
        places: &["/var/cache/apk"],
        hint: "`apk add --no-cache` leaves none",
    },
    Manager {
        programs: &["dnf", "yum", "microdnf"],
        fetching: &["install", "update", "upgrade", "makecache", "groupinstall", "builddep"],
        without: &[],
        cleaning: &["clean"],
        places: &["/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5"],
        hint: "end the same RUN with `dnf clean all`, or keep the lists out of the image with \
               `RUN --mount=type=cache,target=/var/cache/dnf`",
    },
    Manager {
        programs: &["zypper"],
        fetching: &["install", "in", "update", "up", "refresh", "ref"],
        without: &[],
        cleaning: &["clean", "cc"],
        places: &["/var/cache/zypp"],
        hint: "end the same RUN with `zypper clean --all`",
    },
    Manager {
        programs: &["pacman"],
        fetching: &[],
        without: &[],
        cleaning: &[],
        places: &["/var/cache/pacman", "/var/lib/pacman/sync"],
        hint: "end the same RUN with `rm -rf /var/cache/pacman/pkg /var/lib/pacman/sync`",
    },
];

/// The first package manager whose lists a step leaves in its layer, and as what it was called.
pub(super) fn left<'c>(
    commands: &'c [Command],
    mounts: &[Mount],
) -> Option<(&'c Command, &'static Manager)> {
    let fetches = |command: &'c Command| {
        let manager = MANAGERS.iter().find(|manager| manager.is_fetched_by(command))?;
        Some((command, manager))
    };
    let mut left = commands.iter().filter_map(fetches);
    left.find(|(_, manager)| {
        !commands.iter().any(|command| manager.is_cleaned_by(command))
            && !mounts.iter().any(|mount| manager.is_under(mount))
    })
}

impl Manager {
    fn is_fetched_by(&self, command: &Command) -> bool {
        if !self.programs.contains(&command.program.as_str()) || command.has(self.without) {
            return false;
        }
        let is_sync = |word: &String| word.starts_with("-S") && !word.contains('c');
        match self.fetching {
            [] => command.arguments.iter().any(is_sync),
            verbs => verbs.contains(&command.verb()),
        }
    }

    fn is_cleaned_by(&self, command: &Command) -> bool {
        match command.program.as_str() {
            "rm" | "find" => command.operands().any(|path| self.is_around(path)),
            program if self.programs.contains(&program) => match self.cleaning {
                [] => command.arguments.iter().any(|word| word.starts_with("-Sc")),
                verbs => verbs.contains(&command.verb()),
            },
            _ => false,
        }
    }

    /// Whether `path` is one of the places, above it, or all that is in it.
    fn is_around(&self, path: &str) -> bool {
        let path = path.trim_end_matches('*').trim_end_matches('/');
        let is_below = |path: &str, above: &str| {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut places = self.places.iter();
        path.starts_with('/') && places.any(|place| is_below(place, path) || is_below(path, place))
    }

    /// Whether the lists are on a mount rather than in the layer. A target made of variables may be
    /// anywhere.
    fn is_under(&self, mount: &Mount) -> bool {
        let fields = csv::fields(&mount.written).unwrap_or_default();
        let value = |keys: &[&str]| {
            let pairs = fields.iter().filter_map(|field| field.split_once('='));
            let mut values = pairs.filter(|(key, _)| keys.contains(&key.to_lowercase().as_str()));
            values.next().map(|(_, value)| value.to_owned())
        };
        let target = value(&["target", "dst", "destination"]).unwrap_or_default();
        let is_kept_apart = matches!(value(&["type"]).as_deref(), Some("cache" | "tmpfs"));
        is_kept_apart && (target.contains('$') || self.is_around(&target))
    }
}
