//! `source-date-epoch=` and `rewrite-timestamp=` of outputs. They are said of an output and hold for
//! the build, which makes one image for all of them.

use engine::request::{Epoch, Rewrite, Times};

use crate::spelling::boolean;

/// The last second of the year 9999; documents have no later times.
const LATEST: i64 = 253_402_300_799;

/// Reads `source-date-epoch=`, whose empty value takes the time away; `None`: it is not a time.
pub(super) fn epoch(value: &str) -> Option<Epoch> {
    if value.is_empty() {
        return Some(Epoch::None);
    }
    let seconds = value.parse().ok().filter(|seconds| (0..=LATEST).contains(seconds))?;
    Some(Epoch::Given(seconds))
}

/// Reads `rewrite-timestamp=`; `None`: it is not a value that this takes.
pub(super) fn rewrite(value: &str) -> Option<Rewrite> {
    match value {
        "all" => Some(Rewrite::All),
        value => boolean(value).map(|on| if on { Rewrite::Later } else { Rewrite::None }),
    }
}

/// What two outputs say together; the attribute that they disagree about, if they do.
pub(super) fn merge(one: Times, other: Times) -> Result<Times, &'static str> {
    let epoch = agree(one.epoch, other.epoch).ok_or("source-date-epoch")?;
    let rewrite = agree(one.rewrite, other.rewrite).ok_or("rewrite-timestamp")?;
    Ok(Times { epoch, rewrite })
}

fn agree<T: Default + PartialEq>(one: T, other: T) -> Option<T> {
    let default = T::default();
    if one == other || other == default { Some(one) } else { (one == default).then_some(other) }
}
