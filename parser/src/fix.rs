//! Rewriting what the checks complain of, where nothing changes in what is built.
//!
//! A rule's findings become edits of the text ([`edits`]). What the edited file would build is
//! lowered for every stage, as the first one was ([`meaning`]); where they differ the rule's edits
//! are left out, so that a mistake there costs a fix and never a build.

mod edits;
mod exec_form;
mod meaning;

use std::collections::BTreeMap;

use self::edits::Edit;
use self::meaning::Meaning;
use crate::diagnostic::{Diagnostic, Severity};
use crate::lower::{BaseImage, ImageRequest, Options};

/// The rules whose findings can be mended, in the order in which that is done.
const RULES: [&str; 9] = [
    "NoEmptyContinuation",
    "ConsistentInstructionCasing",
    "FromAsCasing",
    "StageNameCasing",
    "RedundantTargetPlatform",
    "ExposeProtoCasing",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "JSONArgsRecommended",
];

/// A Dockerfile, mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The new text.
    pub text: String,
    /// How many findings of each rule are gone.
    pub mended: BTreeMap<&'static str, usize>,
    /// The warnings that are left.
    pub left: Vec<Diagnostic>,
}

/// Mends `text`, which lowers with `options` and `images`; `None` if it does not.
pub fn fix(
    text: &str,
    options: &Options,
    images: &BTreeMap<ImageRequest, BaseImage>,
) -> Option<Fixed> {
    let meaning = Meaning::of(text, options, images)?;
    let mut mending = Mending { text: text.to_owned(), meaning, options, images };
    let mut mended = BTreeMap::new();
    for rule in RULES {
        let before = mending.meaning.count(rule);
        mending.mend(rule);
        let count = before.saturating_sub(mending.meaning.count(rule));
        if count > 0 {
            mended.insert(rule, count);
        }
    }
    let is_warning = |found: &Diagnostic| found.severity == Severity::Warning;
    let left = mending.meaning.findings.into_iter().filter(is_warning).collect();
    Some(Fixed { text: mending.text, mended, left })
}

/// A Dockerfile on the way.
struct Mending<'a> {
    text: String,
    meaning: Meaning,
    options: &'a Options,
    images: &'a BTreeMap<ImageRequest, BaseImage>,
}

impl Mending<'_> {
    /// Mends what can be of one rule's findings: all at once, or those that can one by one.
    fn mend(&mut self, rule: &str) {
        let mut edits = edits::of(rule, &self.text, &self.meaning);
        edits.sort_by_key(|edit| edit.range.start);
        if !self.try_edits(rule, &edits) {
            // From the end on, so that what is before stays where it is.
            for edit in edits.iter().rev() {
                self.try_edits(rule, std::slice::from_ref(edit));
            }
        }
    }

    /// Whether the edits leave what is built as it is; if so they are made.
    fn try_edits(&mut self, rule: &str, edits: &[Edit]) -> bool {
        if edits.is_empty() {
            return true;
        }
        let text = applied(&self.text, edits);
        let new = Meaning::of(&text, self.options, self.images);
        match new.filter(|new| new.builds_what(&self.meaning, rule)) {
            Some(meaning) => {
                (self.text, self.meaning) = (text, meaning);
                true
            }
            None => false,
        }
    }
}

/// The text with all edits, which stand in its order and do not overlap.
fn applied(text: &str, edits: &[Edit]) -> String {
    let (mut out, mut copied) = (String::new(), 0);
    for edit in edits {
        out.push_str(&text[copied..edit.range.start]);
        out.push_str(&edit.text);
        copied = edit.range.end;
    }
    out.push_str(&text[copied..]);
    out
}
