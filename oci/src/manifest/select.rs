//! Choosing the image for a platform.

use super::{Descriptor, Index, Kind};
use crate::platform::Platform;

impl Index {
    /// The best manifest (or nested index) for `platform`, as containerd chooses: the exact
    /// variant before the next lower one, then what the processor runs as well (386 on amd64, arm
    /// on arm64). Entries without a platform come last and need a look at their config.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let ranked =
            self.manifests.iter().filter_map(|entry| Some((rank(entry, platform)?, entry)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    /// The platforms that can be chosen, for error messages.
    pub fn platforms(&self) -> Vec<Platform> {
        let images = self.manifests.iter().filter(|entry| is_image(entry));
        images.filter_map(|entry| entry.platform.as_ref().map(normal)).collect()
    }
}

impl Platform {
    /// Whether an image that says that it is for this platform runs where one for `wanted` is asked for, by
    /// the rule of [`Index::select`]. An image's config need not say: then it does.
    pub fn fits(&self, wanted: &Self) -> bool {
        let says_nothing = self.os.is_empty() || self.architecture.is_empty();
        says_nothing || platform_rank(self, wanted).is_some()
    }
}

const UNKNOWN_PLATFORM_RANK: u32 = u32::MAX;

fn rank(entry: &Descriptor, wanted: &Platform) -> Option<u32> {
    if !is_image(entry) {
        return None;
    }
    match &entry.platform {
        Some(offered) => platform_rank(offered, wanted),
        None => Some(UNKNOWN_PLATFORM_RANK),
    }
}

/// How far `offered` is from `wanted`, 0 being the same; `None` when it does not run there.
fn platform_rank(offered: &Platform, wanted: &Platform) -> Option<u32> {
    let offered = normal(offered);
    let same_version = wanted.os_version.is_empty() || wanted.os_version == offered.os_version;
    if offered.os != wanted.os || !same_version {
        return None;
    }
    processor_rank(&offered, &normal(wanted))
}

/// Whether an entry can be an image: attestations and signatures are manifests too, for the
/// platform `unknown/unknown`.
fn is_image(entry: &Descriptor) -> bool {
    let is_unknown =
        entry.platform.as_ref().is_some_and(|p| p.os == "unknown" || p.architecture == "unknown");
    let is_attestation = entry.annotations.contains_key("vnd.docker.reference.type");
    let is_document = entry.media_type.is_empty() || Kind::of(&entry.media_type).is_some();
    is_document && !is_unknown && !is_attestation
}

fn normal(platform: &Platform) -> Platform {
    Platform {
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        ..Platform::new(&platform.os, &platform.architecture, &platform.variant)
    }
}

/// The same for the processor alone.
fn processor_rank(offered: &Platform, wanted: &Platform) -> Option<u32> {
    const FALLBACK: u32 = 1000;
    match (wanted.architecture.as_str(), offered.architecture.as_str()) {
        ("amd64", "386") => Some(FALLBACK),
        ("arm64", "arm") => {
            let below = Platform::new(&wanted.os, "arm", "v8");
            Some(FALLBACK + variant_distance(offered, &below)?)
        }
        (w, o) if w == o => variant_distance(offered, wanted),
        _ => None,
    }
}

/// Variants are levels: a processor runs its own level and those below.
fn variant_distance(offered: &Platform, wanted: &Platform) -> Option<u32> {
    if offered.variant == wanted.variant {
        return Some(0);
    }
    level(wanted)?.checked_sub(level(offered)?)
}

/// A variant's level on a scale of its architecture, `v9.2` being 902; `None` when unknown.
fn level(platform: &Platform) -> Option<u32> {
    let lowest = match platform.architecture.as_str() {
        "amd64" => "v1",
        "arm64" => "v8",
        "arm" => "v7",
        _ => return None,
    };
    let variant = if platform.variant.is_empty() { lowest } else { &platform.variant };
    let (major, minor) = variant.strip_prefix('v')?.split_once('.').unwrap_or((&variant[1..], "0"));
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major <= 9 && minor <= 99).then_some(major * 100 + minor)
}
