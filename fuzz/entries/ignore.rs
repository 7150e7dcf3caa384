//! An ignore file and a path: no panic, and both ways of asking agree where they must.

use parser::ignore::{Patterns, parse_file};

/// What stands before the first NUL is the file, the rest a path.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (file, path) = text.split_once('\0').unwrap_or((text, "a/b.c/de"));
    let Ok(patterns) = Patterns::new(&parse_file(file)) else { return };
    let above = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
    let mut state = patterns.top();
    let mut excluded = false;
    for part in above {
        let found = patterns.enter(&state, part);
        (state, excluded) = (found.state, found.excluded);
        let _ = patterns.may_reinclude_below(part);
    }
    // Without exceptions there is one answer.
    if !patterns.has_exceptions() {
        assert_eq!(patterns.matches(path), excluded, "{path:?}");
        assert!(!patterns.is_empty() || !excluded);
    }
}
