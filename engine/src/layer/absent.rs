//! Layers that steps have given elsewhere, and that nobody has needed here yet: they are fetched when a step
//! mounts them or an output has them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use cache::{LayerId, Store};
use futures_util::future::{BoxFuture, try_join_all};
use oci::{Descriptor, DiffId};

use crate::error::BuildError;

/// Has the bytes of layers.
pub(crate) trait Elsewhere: Send + Sync {
    /// Brings layers into the store, as the blobs that are given back, in order.
    fn fetch(&self, diff_ids: Vec<DiffId>) -> BoxFuture<'_, Result<Vec<Descriptor>, BuildError>>;
}

/// The layers of one build that are elsewhere.
#[derive(Default)]
pub(crate) struct AbsentLayers {
    layers: Mutex<Table>,
    /// Held while some are fetched: who needs the same finds them.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Table {
    absent: HashMap<LayerId, Absent>,
    /// What each layer is called, by what it lies on and its digest: two steps may make equal layers, at
    /// different times.
    names: HashMap<(Option<LayerId>, DiffId), LayerId>,
    given: HashSet<LayerId>,
}

/// A layer that is elsewhere.
#[derive(Clone)]
struct Absent {
    diff_id: DiffId,
    from: Arc<dyn Elsewhere>,
}

impl AbsentLayers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.layers.lock().expect("no panic while held")
    }

    /// The layer with this digest that lies on `below`: the store's, or else the one that `from` has.
    pub(crate) fn layer(
        &self,
        store: &Store,
        below: Option<&LayerId>,
        diff_id: &DiffId,
        from: &Arc<dyn Elsewhere>,
    ) -> LayerId {
        let mut table = self.table();
        let key = (below.cloned(), diff_id.clone());
        if let Some(known) = table
            .names
            .get(&key)
            .filter(|id| table.absent.contains_key(id) || store.layer(id).is_some())
        {
            return known.clone();
        }
        let stored = store.layer_of_diff_id(diff_id).filter(|id| !table.given.contains(id));
        let id = stored.unwrap_or_else(|| {
            let id = store.reserve_layer();
            let absent = Absent { diff_id: diff_id.clone(), from: from.clone() };
            table.absent.insert(id.clone(), absent);
            id
        });
        table.given.insert(id.clone());
        table.names.insert(key, id.clone());
        id
    }

    /// Digest of a layer that is elsewhere; `None` if it is here.
    pub(crate) fn diff_id(&self, id: &LayerId) -> Option<DiffId> {
        self.table().absent.get(id).map(|absent| absent.diff_id.clone())
    }

    /// Forgets the layers that `from` has said to have.
    pub(crate) fn forget(&self, from: &dyn Elsewhere) {
        let is_its = |absent: &Absent| std::ptr::addr_eq(Arc::as_ptr(&absent.from), from);
        self.table().absent.retain(|_, absent| !is_its(absent));
    }

    fn among(&self, layers: &[LayerId]) -> Vec<(LayerId, Absent)> {
        let table = self.table();
        if table.absent.is_empty() {
            return Vec::new();
        }
        let absent = |id: &LayerId| Some((id.clone(), table.absent.get(id)?.clone()));
        layers.iter().filter_map(absent).collect()
    }

    /// Brings those of `layers` into the store that are elsewhere.
    pub(crate) async fn bring(&self, store: &Store, layers: &[LayerId]) -> Result<(), BuildError> {
        if self.among(layers).is_empty() {
            return Ok(());
        }
        let _fetching = self.fetching.lock().await;
        let mut absent = self.among(layers);
        let who = |(_, absent): &(LayerId, Absent)| Arc::as_ptr(&absent.from).addr();
        absent.sort_by_key(who);
        let by_who = absent.chunk_by(|a, b| who(a) == who(b));
        let fetches = by_who.map(|layers| async move {
            let diff_ids = layers.iter().map(|(_, absent)| absent.diff_id.clone()).collect();
            let blobs = layers[0].1.from.fetch(diff_ids).await?;
            for ((id, absent), blob) in layers.iter().zip(blobs) {
                store.add_reserved_layer(id, &absent.diff_id, &blob);
                self.table().absent.remove(id);
            }
            Ok(())
        });
        try_join_all(fetches).await.map(drop)
    }
}
