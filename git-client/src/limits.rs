//! What a server may cost.

use std::sync::Arc;
use std::time::Duration;

/// Asked again and again while `git` writes: why it must end, if it must.
pub type Watch = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What a server may cost.
#[derive(Clone)]
pub struct Limits {
    /// Time without a word from the server.
    pub idle: Duration,
    /// Bytes of an answer that is kept in memory.
    pub answer: usize,
    /// Watches the disk.
    pub watch: Watch,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), answer: 16 << 20, watch: Arc::new(|| None) }
    }
}
