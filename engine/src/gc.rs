//! What the store keeps to by itself: BuildKit's rules for garbage collection, with its names.

use std::sync::Arc;

use cache::{Match, PruneFilter, Reach, Space, Store, Warning};
use serde::Deserialize;

use crate::units;

/// Keeps the store to its rules, so that there is room for what is written next. Where that fails,
/// whoever writes says whether there is too little.
pub(crate) fn make_room(store: &Store, rules: &[PruneFilter]) {
    if let Err(error) = store.make_room(rules) {
        store.warn(Warning::NoRoomMade { source: Arc::new(error) });
    }
}

/// `[gc]`: like `[worker.oci]` of BuildKit's configuration, as far as it is about garbage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GcConfig {
    /// Whether builds keep to the rules.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the cache may always have.
    #[serde(default)]
    pub reserved_space: Option<Amount>,
    /// The most it may have.
    #[serde(default)]
    pub max_used_space: Option<Amount>,
    /// What it leaves free on the disk.
    #[serde(default)]
    pub min_free_space: Option<Amount>,
    /// What was not used for longer goes in any case.
    #[serde(default)]
    pub keep_duration: Option<Period>,
    /// Rules that replace those above, in their order.
    #[serde(default)]
    pub policy: Vec<Policy>,
}

/// `[[gc.policy]]`: BuildKit's `gcpolicy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// Also takes layers that named images have.
    #[serde(default)]
    pub all: bool,
    /// See [`GcConfig::reserved_space`].
    #[serde(default)]
    pub reserved_space: Option<Amount>,
    /// See [`GcConfig::max_used_space`].
    #[serde(default)]
    pub max_used_space: Option<Amount>,
    /// See [`GcConfig::min_free_space`].
    #[serde(default)]
    pub min_free_space: Option<Amount>,
    /// Takes only what was not used for this long.
    #[serde(default)]
    pub keep_duration: Option<Period>,
    /// Takes only what fits all of these, see [`filter`].
    #[serde(default)]
    pub filters: Vec<String>,
}

/// Room on the disk: bytes, a size with its unit, or a share of the disk (`10%`).
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// In bytes.
    Bytes(u64),
    /// With a unit, or a share.
    Text(String),
}

/// A duration: seconds, or as Go writes them (`48h`).
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Period {
    /// In seconds.
    Seconds(u64),
    /// With a unit.
    Text(String),
}

/// The defaults: as BuildKit's, but less of the disk is kept free.
const RESERVED: (f64, u64) = (0.1, 10_000_000_000);
const MAX_USED: (f64, u64) = (0.6, 100_000_000_000);
const MIN_FREE: f64 = 0.1;
const KEEP: std::time::Duration = std::time::Duration::from_secs(60 * 24 * 3600);

impl Default for GcConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            reserved_space: None,
            max_used_space: None,
            min_free_space: None,
            keep_duration: None,
            policy: Vec::new(),
        }
    }
}

impl GcConfig {
    /// The rules, on a disk of so many bytes. Fails with what is wrong.
    pub fn rules(&self, disk: u64) -> Result<Vec<PruneFilter>, String> {
        let default = |(share, most): (f64, u64)| ((disk as f64 * share) as u64).min(most);
        let amount = |amount: &Option<Amount>, default| match amount {
            None => Ok(default),
            Some(amount) => amount.bytes(disk).map(Some),
        };
        let space = Space {
            reserved: amount(&self.reserved_space, Some(default(RESERVED)))?,
            max_used: amount(&self.max_used_space, Some(default(MAX_USED)))?,
            min_free: amount(&self.min_free_space, Some((disk as f64 * MIN_FREE) as u64))?,
        };
        let unused_for = match &self.keep_duration {
            None => KEEP,
            Some(period) => period.duration()?,
        };
        if !self.enabled {
            return Ok(Vec::new());
        }
        if !self.policy.is_empty() {
            return self.policy.iter().map(|policy| policy.rule(disk)).collect();
        }
        let aged = PruneFilter {
            reach: Reach::All,
            unused_for: Some(unused_for),
            ..PruneFilter::default()
        };
        Ok(vec![aged, PruneFilter { reach: Reach::All, space, ..PruneFilter::default() }])
    }
}

impl Policy {
    fn rule(&self, disk: u64) -> Result<PruneFilter, String> {
        let amount =
            |amount: &Option<Amount>| amount.as_ref().map(|amount| amount.bytes(disk)).transpose();
        Ok(PruneFilter {
            reach: if self.all { Reach::All } else { Reach::Unshared },
            matches: self.filters.iter().map(|text| filter(text)).collect::<Result<_, _>>()?,
            unused_for: self.keep_duration.as_ref().map(Period::duration).transpose()?,
            space: Space {
                reserved: amount(&self.reserved_space)?,
                max_used: amount(&self.max_used_space)?,
                min_free: amount(&self.min_free_space)?,
            },
        })
    }
}

impl Amount {
    fn bytes(&self, disk: u64) -> Result<u64, String> {
        match self {
            Self::Bytes(bytes) => Ok(*bytes),
            Self::Text(text) => units::bytes_or_share(text, disk)
                .ok_or_else(|| format!("`{text}` is not a size: write 10GB or 10%")),
        }
    }
}

impl Period {
    fn duration(&self) -> Result<std::time::Duration, String> {
        match self {
            Self::Seconds(seconds) => Ok(std::time::Duration::from_secs(*seconds)),
            Self::Text(text) => units::duration(text)
                .ok_or_else(|| format!("`{text}` is not a duration: write 48h or 60d")),
        }
    }
}

/// Reads one filter of BuildKit's: `type==exec.cachemount`, `id=…`, `description~=…`, `shared`,
/// `private`, `inuse`, each also with `!=`; what follows `~=` is a regular expression. Fails with what is
/// wrong.
pub fn filter(text: &str) -> Result<Match, String> {
    use cache::{Pattern, Property, Text};
    let split = text.find(['=', '!', '~']).unwrap_or(text.len());
    let (name, rest) = text.split_at(split);
    let (operator, value) = match rest {
        "" => ("", ""),
        rest => {
            let operators = ["==", "!=", "~=", "="];
            let operator = operators.iter().find(|operator| rest.starts_with(**operator));
            let operator = operator.ok_or_else(|| format!("`{text}`: use =, != or ~="))?;
            (*operator, &rest[operator.len()..])
        }
    };
    let yes = || match (operator, value) {
        ("", _) | ("=" | "==", "1" | "true") | ("!=", "0" | "false") => Ok(true),
        ("=" | "==", "0" | "false") | ("!=", "1" | "true") => Ok(false),
        _ => Err(format!("`{text}`: `{name}` is true or false")),
    };
    let is_equal = match operator {
        "=" | "==" => Ok(true),
        "!=" => Ok(false),
        _ => Err(format!("`{text}`: `{name}` needs = or != and a value")),
    };
    let (wanted, property) = match name {
        "id" | "parents" | "description" | "type" if operator == "~=" => {
            let matched = match name {
                "id" => Text::Id,
                "parents" => Text::Parents,
                "description" => Text::Description,
                _ => Text::Kind,
            };
            let pattern = Pattern::new(value).map_err(|why| format!("`{text}`: {why}"))?;
            (true, Property::Matching(matched, pattern))
        }
        "id" => (is_equal?, Property::Id(value.to_owned())),
        "parents" => (is_equal?, Property::Parent(value.to_owned())),
        "description" => (is_equal?, Property::Description(value.to_owned())),
        "type" => (
            is_equal?,
            match value {
                "exec.cachemount" => Property::Mount,
                "regular" => Property::Regular,
                "internal" => Property::Internal,
                "source.git.checkout" => Property::Mirror,
                "source.local" => Property::Received,
                "frontend" => Property::Never,
                _ => {
                    return Err(format!(
                        "`{text}`: there are regular, internal, exec.cachemount, \
                         source.git.checkout and source.local"
                    ));
                }
            },
        ),
        "shared" => (yes()?, Property::Shared),
        "private" => (!yes()?, Property::Shared),
        "inuse" => (yes()?, Property::InUse),
        "immutable" => (!yes()?, Property::Mutable),
        "mutable" => (yes()?, Property::Mutable),
        _ => {
            return Err(format!(
                "`{text}`: there are until=, id, parents, description and type with =, != or ~=, and \
                 shared, private, inuse, mutable and immutable"
            ));
        }
    };
    Ok(Match { wanted, property })
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use cache::{Pattern, Property, Text};

    use super::*;

    #[test]
    fn filters_are_those_of_buildkit() {
        let fits = |wanted, property| Some(Match { wanted, property });
        let matching = |text, pattern| {
            fits(true, Property::Matching(text, Pattern::new(pattern).expect("a pattern")))
        };
        for (text, expected) in [
            ("type==exec.cachemount", fits(true, Property::Mount)),
            ("type!=exec.cachemount", fits(false, Property::Mount)),
            ("type=regular", fits(true, Property::Regular)),
            ("type=internal", fits(true, Property::Internal)),
            ("immutable", fits(false, Property::Mutable)),
            ("type==source.git.checkout", fits(true, Property::Mirror)),
            ("type=source.local", fits(true, Property::Received)),
            ("type=x", None),
            ("id=abc", fits(true, Property::Id("abc".to_owned()))),
            ("description~=^apt", matching(Text::Description, "^apt")),
            ("type~=mount|git", matching(Text::Kind, "mount|git")),
            ("parents~=ab", matching(Text::Parents, "ab")),
            ("description~=(", None),
            ("description=apt", fits(true, Property::Description("apt".to_owned()))),
            ("parents!=a", fits(false, Property::Parent("a".to_owned()))),
            ("shared", fits(true, Property::Shared)),
            ("private", fits(false, Property::Shared)),
            ("inuse=false", fits(false, Property::InUse)),
            ("mutable=1", fits(true, Property::Mutable)),
            ("nosuch=1", None),
        ] {
            assert_eq!(filter(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn rules_come_from_the_configuration_or_the_disk() {
        let read = |text: &str| toml::from_str::<GcConfig>(text).unwrap().rules(1000);
        let defaults = read("").unwrap();
        let space = |filter: &PruneFilter| filter.space;
        let limits = |reserved, max_used, min_free| Space { reserved, max_used, min_free };
        assert_eq!(defaults[0].unused_for, Some(KEEP));
        assert_eq!(space(&defaults[1]), limits(Some(100), Some(600), Some(100)));
        let own = read("maxUsedSpace = \"50%\"\nminFreeSpace = 7\nkeepDuration = \"2d\"").unwrap();
        assert_eq!(space(&own[1]), limits(Some(100), Some(500), Some(7)));
        assert_eq!(own[0].unused_for.unwrap().as_secs(), 172_800);
        assert_eq!(read("enabled = false").unwrap(), []);
        let rules = read(
            "[[policy]]\nfilters = [\"type==exec.cachemount\"]\nkeepDuration = 60\n\
                          [[policy]]\nall = true\nmaxUsedSpace = \"1KB\"",
        )
        .unwrap();
        assert_eq!((rules[0].reach, rules[0].matches.len()), (Reach::Unshared, 1));
        assert_eq!(
            (rules[1].reach, space(&rules[1])),
            (Reach::All, limits(None, Some(1024), None))
        );
        assert!(read("maxUsedSpace = \"half\"").is_err());
        assert!(toml::from_str::<GcConfig>("maxUsed = 1").is_err());
    }
}
