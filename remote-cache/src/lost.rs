//! Blobs that a place has lost: object stores have rules that remove what is old, and GitHub removes what nobody
//! used for a week.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};
use oci::{Descriptor, Digest};

use crate::error::Error;
use crate::exchange::Packs;
use crate::place::Place;
use crate::record::Record;

/// Blobs that are asked for at once.
const AT_ONCE: usize = 8;

impl Packs {
    /// Looks which blobs of the steps with these keys are still in `place`, where it may lose some, and leaves the
    /// records that name others out, here and in what is written next. Gives the steps that had such records.
    ///
    /// # Errors
    /// [`Error`] if the place does not say.
    pub async fn forget_lost(
        &mut self,
        place: &Place,
        keys: &HashSet<&Digest>,
    ) -> Result<HashSet<Digest>, Error> {
        if !place.may_lose() {
            return Ok(HashSet::new());
        }
        let asked = self.all_records().filter(|record| keys.contains(&record.key));
        let blobs: BTreeMap<Digest, Descriptor> =
            asked.flat_map(blobs).map(|blob| (blob.digest.clone(), blob.clone())).collect();
        let looks = blobs.into_values().map(|blob| async move {
            let has = place.has(&blob).await?;
            Ok::<_, Error>((!has).then_some(blob.digest))
        });
        let looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
        let lost: Vec<Option<Digest>> = looks.try_collect().await?;
        let lost: HashSet<Digest> = lost.into_iter().flatten().collect();
        // Those of other steps are right again once a lost blob has been sent again.
        Ok(self.leave_out(|record| keys.contains(&record.key) && names_any(record, &lost)))
    }
}

/// The blobs that a record names and does not bring along.
fn blobs(record: &Record) -> impl Iterator<Item = &Descriptor> {
    let blobs = record.outputs.iter().flatten().filter_map(|layer| layer.blob.as_ref());
    blobs.filter(|blob| blob.data.is_none())
}

fn names_any(record: &Record, lost: &HashSet<Digest>) -> bool {
    blobs(record).any(|blob| lost.contains(&blob.digest))
}
