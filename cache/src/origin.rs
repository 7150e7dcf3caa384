//! Origins: which repository of which registry is known to have a blob.

use oci::{Digest, Reference};

use crate::database::{KeyedRow, Kind};
use crate::store::Store;

impl Store {
    /// Repositories that are known to have a blob.
    pub fn origins(&self, blob: &Digest) -> Vec<Reference> {
        let rows = self.scan(Kind::Origin, format!("{blob} ").as_bytes());
        let repository = |(key, _): &(Vec<u8>, _)| repository_of(key)?.1.parse().ok();
        rows.iter().filter_map(repository).collect()
    }

    /// Notes that the repository of `image` has a blob: it came from there, or could have.
    pub fn add_origin(&self, blob: &Digest, image: &Reference) {
        let key = format!("{blob} {}", image.repository());
        self.put(Kind::Origin, key.as_bytes(), Vec::new());
    }
}

/// A row's blob and repository.
pub(crate) fn parse_origin((key, _): &KeyedRow) -> Option<(Digest, &str)> {
    repository_of(key)
}

fn repository_of(key: &[u8]) -> Option<(Digest, &str)> {
    let (blob, repository) = std::str::from_utf8(key).ok()?.split_once(' ')?;
    Some((blob.parse().ok()?, repository))
}
