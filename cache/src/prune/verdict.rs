//! Why a part of the cache goes, or stays.

use super::units::CacheItem;

/// A part of the cache, and what prune makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The part.
    pub item: CacheItem,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a part of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Goes(Why),
    /// It stays.
    Stays(WhyNot),
}

/// Why a part goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is a tar, which its layer's tree gives back.
    GivenBack,
    /// It is what was asked for, and there is no limit.
    Chosen,
    /// It is what was asked for, and without it the cache has so many bytes more than it may.
    OverLimit(u64),
    /// Nothing leads to it any more.
    Unneeded,
}

/// Why a part stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    /// It is part of the build cache, and only what nothing leads to is to go.
    Cache,
    /// A session that runs, or a container, needs it.
    InUse,
    /// A named image has it, too.
    Shared,
    /// It was used after the time that was asked for, in seconds since 1970.
    UsedSince(i64),
    /// It does not fit the filter with this number.
    Unfit(usize),
    /// The cache may have so many bytes, and does not have more without it.
    WithinLimit(u64),
}

impl Verdict {
    /// Whether it was chosen to go, and does not only lead nowhere.
    pub fn is_chosen(self) -> bool {
        matches!(self, Self::Goes(Why::GivenBack | Why::Chosen | Why::OverLimit(_)))
    }
}
