//! What a prune is asked to take.

use std::borrow::Cow;
use std::time::Duration;

use super::units::{CacheItem, ItemKind};
use super::verdict::WhyNot;
use crate::clock::ago;

/// What prune takes. By default only what nothing leads to any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// From what it takes.
    pub reach: Reach,
    /// Of that, only what all of these fit.
    pub matches: Vec<Match>,
    /// Of that, only what was not used for this long.
    pub unused_for: Option<Duration>,
    /// Of that, the longest unused first, and no more than it takes to keep to these limits. Without
    /// limits, all of it.
    pub space: Space,
}

/// From what prune takes. Each takes what the one before it takes, and none of them named images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// What nothing leads to any more, and tars that a layer's tree gives back.
    #[default]
    Garbage,
    /// The cache, except for the layers of named images.
    Unshared,
    /// All of the cache.
    All,
}

/// One property of parts of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The part has the property, or has it not.
    pub wanted: bool,
    /// The property.
    pub property: Property,
}

/// What parts of the cache are chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// Its id starts with this.
    Id(String),
    /// It is a cache mount.
    Mount,
    /// It is what was fetched of a git repository.
    Mirror,
    /// It is a directory received from a client.
    Received,
    /// It changes in place: a cache mount or a git repository.
    Mutable,
    /// It is the layer of a step or of an image, or a layer's tar.
    Regular,
    /// It is a layer that was made beside the steps.
    Internal,
    /// Its description is this.
    Description(String),
    /// It lies on the layer with this id.
    Parent(String),
    /// A text of it matches.
    Matching(Text, Pattern),
    /// A named image has it, too.
    Shared,
    /// A session that runs says that it needs it.
    InUse,
    /// None has it: a kind that this store does not have.
    Never,
}

/// The texts of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Its id.
    Id,
    /// The ids of the layers that it lies on, with semicolons between them.
    Parents,
    /// Its description.
    Description,
    /// The word for its kind.
    Kind,
}

/// A regular expression.
#[derive(Debug, Clone)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Reads one. Fails with what is wrong, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let found = regex::Regex::new(text).map(Self);
        found.map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Text {
    fn of(self, item: &CacheItem) -> Cow<'_, str> {
        match self {
            Self::Id => (&item.id).into(),
            Self::Parents => item.parents.join(";").into(),
            Self::Description => (&item.description).into(),
            Self::Kind => item.kind.word().into(),
        }
    }
}

impl Match {
    /// Whether a part of the cache fits.
    pub fn fits(&self, item: &CacheItem) -> bool {
        let has = match &self.property {
            Property::Id(id) => item.id.starts_with(id),
            Property::Mount => item.kind == ItemKind::Mount,
            Property::Mirror => item.kind == ItemKind::Mirror,
            Property::Received => item.kind == ItemKind::Received,
            Property::Mutable => item.kind.is_mutable(),
            Property::Regular => matches!(item.kind, ItemKind::Layer | ItemKind::Tar),
            Property::Internal => item.kind == ItemKind::Internal,
            Property::Description(text) => item.description == *text,
            Property::Parent(id) => item.parents.contains(id),
            Property::Matching(text, pattern) => pattern.0.is_match(&text.of(item)),
            Property::Shared => item.is_shared,
            Property::InUse => item.is_in_use,
            Property::Never => false,
        };
        has == self.wanted
    }
}

/// How much room the cache may take. All in bytes, and named as BuildKit names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// The cache may always have this much, whatever the others say.
    pub reserved: Option<u64>,
    /// It may have no more than this.
    pub max_used: Option<u64>,
    /// It may have no more than leaves this much free on the disk.
    pub min_free: Option<u64>,
}

impl PruneFilter {
    /// What was last used before this may go, in seconds since 1970.
    pub(super) fn before(&self) -> i64 {
        match (self.unused_for, self.reach) {
            (Some(unused_for), _) => ago(unused_for),
            (None, Reach::Garbage) => i64::MIN,
            (None, _) => i64::MAX,
        }
    }

    /// The same for what takes next to no room: records without layers, what registries said, logs.
    /// It goes with a prune of everything, and with age.
    pub(super) fn facts_before(&self) -> i64 {
        let takes_everything = self.reach == Reach::All && self.space == Space::default();
        match self.unused_for {
            _ if !self.matches.is_empty() => i64::MIN,
            Some(unused_for) => ago(unused_for),
            None if takes_everything => i64::MAX,
            None => i64::MIN,
        }
    }

    /// Why it must not take this part of the cache, whatever the limits; nothing if it may.
    pub(super) fn spares(&self, item: &CacheItem) -> Option<WhyNot> {
        let is_tar = item.kind == ItemKind::Tar;
        if item.is_in_use {
            return Some(WhyNot::InUse);
        }
        if self.reach == Reach::Garbage && !is_tar {
            return Some(WhyNot::Cache);
        }
        if self.reach == Reach::Unshared && item.is_shared && !is_tar {
            return Some(WhyNot::Shared);
        }
        if item.used >= self.before() && !is_tar {
            return Some(WhyNot::UsedSince(self.before()));
        }
        let unfit = self.matches.iter().position(|wanted| !wanted.fits(item));
        unfit.map(WhyNot::Unfit)
    }
}

impl Space {
    /// How much may stay of `used` bytes on a disk that has `free`; nothing where there is no limit.
    pub(super) fn limit(&self, used: u64, free: u64) -> Option<u64> {
        let by_disk = self.min_free.map(|wanted| used.saturating_sub(wanted.saturating_sub(free)));
        let most = [self.max_used, by_disk].into_iter().flatten().min();
        match (most, self.reserved) {
            (None, None) => None,
            (most, reserved) => Some(most.unwrap_or(0).max(reserved.unwrap_or(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_the_strictest_but_never_below_the_reserve() {
        let space = |reserved, max_used, min_free| Space { reserved, max_used, min_free };
        for (space, used, free, expected) in [
            (space(None, None, None), 100, 0, None),
            (space(Some(10), None, None), 100, 0, Some(10)),
            (space(None, Some(60), None), 100, 0, Some(60)),
            (space(None, None, Some(30)), 100, 30, Some(100)),
            (space(None, None, Some(30)), 100, 10, Some(80)),
            (space(None, None, Some(300)), 100, 10, Some(0)),
            (space(None, Some(60), Some(30)), 100, 10, Some(60)),
            (space(None, Some(90), Some(30)), 100, 10, Some(80)),
            (space(Some(70), Some(60), Some(300)), 100, 10, Some(70)),
        ] {
            assert_eq!(space.limit(used, free), expected, "{space:?} of {used}, {free} free");
        }
    }
}
