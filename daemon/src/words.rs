//! What clients ask for in BuildKit's words: names and values. What they mean is somebody else's.

use std::collections::BTreeMap;

use engine::{BuildRequest, Checked, PruneFilter};
use parser::lower::Outline;

/// Somebody who knows BuildKit's words.
pub trait Vocabulary: Send + Sync {
    /// The build that is asked for. Contexts and the Dockerfile are not in it.
    fn request(&self, asked: &Asked) -> Result<BuildRequest, Refused>;

    /// What `filters` choose among the parts of the cache.
    fn filter(&self, filters: &[String]) -> Result<PruneFilter, Refused>;

    /// What is answered to one who asks about a Dockerfile, whose text is given.
    fn told(&self, told: &Told, name: &str, text: &str) -> Answered;
}

/// A build in BuildKit's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Options of the frontend.
    pub options: BTreeMap<String, String>,
    /// Exporters, in order. Where a result goes that leaves the daemon is called by its number here.
    pub outputs: Vec<Attributes>,
    /// Caches to ask.
    pub cache_from: Vec<Attributes>,
    /// Caches to add to.
    pub cache_to: Vec<Attributes>,
    /// What is granted.
    pub entitlements: Vec<String>,
}

/// A type and its attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `type=`
    pub kind: String,
    /// All others.
    pub rest: BTreeMap<String, String>,
}

/// What looking a Dockerfile over has shown.
#[derive(Debug)]
pub enum Told {
    /// Warnings and notes, or what is wrong.
    Check(Checked),
    /// What the target takes.
    Outline(Box<Outline>),
    /// What can be built.
    Targets(parser::Dockerfile),
    /// What can be asked.
    Describe,
}

/// The same for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// JSON as BuildKit has it.
    pub json: String,
    /// Text.
    pub text: String,
    /// Whether nothing was found; only checks find something.
    pub is_clean: Option<bool>,
}

/// What cannot be done, and how to go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// One line.
    pub message: String,
    /// How to go on.
    pub hint: Option<String>,
}

impl Refused {
    /// Without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }
}
