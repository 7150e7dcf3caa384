//! What a vertex gives.

use std::sync::Arc;

use cache::LayerId;

use crate::tree::View;

/// The files that a vertex gives.
#[derive(Clone)]
pub(crate) enum Files {
    /// Layers, the bottom one first.
    Layers(Arc<[LayerId]>),
    /// A directory of the client, read in place.
    Context(Arc<View>),
}

impl Files {
    /// Its layers; none for a directory of the client.
    pub(crate) fn layers(&self) -> &[LayerId] {
        match self {
            Self::Layers(layers) => layers,
            Self::Context(_) => &[],
        }
    }
}

/// What a vertex gives, by output number.
pub(crate) type Outputs = Arc<[Files]>;
