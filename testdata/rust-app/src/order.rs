//! Which version is newer.

use semver::{Error, Version};

pub fn newest(versions: impl Iterator<Item = String>) -> Result<Option<Version>, Error> {
    let versions: Result<Vec<Version>, Error> =
        versions.map(|version| Version::parse(&version)).collect();
    Ok(versions?.into_iter().max())
}
