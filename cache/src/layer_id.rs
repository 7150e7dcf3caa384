//! What layers are called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a layer, at random: two equal layers may have two ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(String);

impl LayerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that is this text.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The id that a row's key or value is.
    pub(crate) fn from_key(key: &[u8]) -> Self {
        Self(String::from_utf8_lossy(key).into_owned())
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
