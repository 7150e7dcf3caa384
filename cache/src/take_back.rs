//! Taking back out of the trash what a session may already count on: it was alive when that was thrown
//! away.

use std::sync::Arc;

use oci::DiffId;

use crate::database::{Kind, Write};
use crate::error::StoreError;
use crate::layer_id::LayerId;
use crate::store::{Inner, Store};
use crate::trash::{self, Waits};
use crate::warning::Warning;
use crate::{form, layer_row};

impl Store {
    /// Sees whether a row that was not found is there after all: another session has just taken
    /// it back out of the trash, or this one may do so, since it may already count on it.
    pub(crate) fn take_back(&self, kind: Kind, key: &str) -> bool {
        let taken = self.inner.database.write(|write| -> Result<bool, StoreError> {
            let key = key.as_bytes();
            if write.get(kind, key)?.is_some() {
                return Ok(true);
            }
            if !may_restore(&self.inner, write, kind, key)? {
                return Ok(false);
            }
            match kind {
                Kind::Layer => layer_row::restore_layer(write, &LayerId::from_key(key))?,
                _ => drop(trash::restore(write, kind, key)?),
            }
            Ok(true)
        });
        self.was_taken_back(taken)
    }

    /// The same for the forms of a layer of which none was found.
    pub(crate) fn take_back_forms(&self, diff_id: &DiffId) -> bool {
        let (prefix, in_trash) = (form::form_prefix(diff_id), form::forms_in_trash(diff_id));
        // Mostly there never were any: to find that out nothing is written.
        let places = [(Kind::Form, &prefix[..]), (Kind::Trash, &in_trash[..])];
        match self.inner.database.scan_at_once(places) {
            Ok([there, thrown]) if there.is_empty() && thrown.is_empty() => return false,
            Ok([there, _]) if !there.is_empty() => return true,
            Ok(_) => {}
            Err(error) => return self.was_taken_back(Err(error.into())),
        }
        let taken = self.inner.database.write(|write| -> Result<bool, StoreError> {
            let mut taken = !write.scan(Kind::Form, &prefix)?.is_empty();
            for (key, _) in write.scan(Kind::Trash, &in_trash)? {
                if may_restore(&self.inner, write, Kind::Form, &key[1..])? {
                    form::restore_thrown_form(write, &key[1..])?;
                    taken = true;
                }
            }
            Ok(taken)
        });
        self.was_taken_back(taken)
    }

    fn was_taken_back(&self, taken: Result<bool, StoreError>) -> bool {
        taken.unwrap_or_else(|error| {
            match error {
                StoreError::Database(error) => self.database_failed(error),
                error => self.warn(Warning::DatabaseFailed { source: Arc::new(error) }),
            }
            false
        })
    }
}

/// Whether this session may take `kind` and `key` back out: it was alive when they were thrown
/// away, so it may already count on them.
fn may_restore(store: &Inner, write: &Write<'_>, kind: Kind, key: &[u8]) -> rusqlite::Result<bool> {
    let Some(row) = write.get(Kind::Trash, &trash::trash_key(kind, key))? else { return Ok(false) };
    let epoch = write.get(Kind::Epoch, &trash::epoch_of_value(&row.value).0.to_be_bytes())?;
    Ok(match epoch.map(|epoch| trash::waits(&epoch)) {
        Some(Waits::For(sessions)) => sessions.contains(store.lease.session()),
        Some(Waits::Undecided) => true,
        None => false,
    })
}
