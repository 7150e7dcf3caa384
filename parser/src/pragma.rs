//! Comments just above an instruction that are for us: `# mybuild: always`, `# mybuild: ttl=6h`. To
//! other builders they are comments.

use crate::duration;
use crate::suggest::{Case, did_you_mean};

/// What such comments begin with.
const NAME: &str = "mybuild:";
/// Where they belong.
pub(crate) const HINT: &str = "put it above a `RUN`, `COPY` or `ADD`";
/// What they may say.
const WORDS: [&str; 2] = ["always", "ttl"];

/// When the known result of a step is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pragma {
    /// Never: it always runs.
    Always,
    /// As long as it is not older, in seconds.
    Ttl(u64),
}

/// What a comment, with or without its `#`, says to us, if it is for us.
pub(crate) fn text(comment: &str) -> Option<&str> {
    let said = comment.trim_start_matches(|c: char| c == '#' || c.is_whitespace());
    said.strip_prefix(NAME).map(str::trim)
}

/// What the comments above an instruction ask for, if anything; the error is for the user.
pub(crate) fn of(comments: &[String]) -> Result<Option<Pragma>, String> {
    let mut found = None;
    for text in comments.iter().filter_map(|comment| text(comment)) {
        let pragma = parse(text).map_err(|why| format!("`# {NAME} {text}`: {why}"))?;
        if found.replace(pragma).is_some() {
            return Err(format!("`# {NAME} {text}`: there is another one above"));
        }
    }
    Ok(found)
}

fn parse(text: &str) -> Result<Pragma, String> {
    match text.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
        None if text == "always" => Ok(Pragma::Always),
        Some(("ttl", value)) => {
            let nanoseconds = duration::parse(value)
                .map_err(|error| format!("{error}; want a duration as in `ttl=6h`"))?;
            match u64::try_from(nanoseconds) {
                Ok(nanoseconds) if nanoseconds > 0 => Ok(Pragma::Ttl(nanoseconds / 1_000_000_000)),
                _ => Err("want a duration above zero, as in `ttl=6h`".to_owned()),
            }
        }
        found => {
            let name = found.map_or(text, |(name, _)| name);
            let meant = did_you_mean(name, WORDS, Case::Sensitive);
            Err(format!("want `always` or `ttl=DURATION`{meant}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pragmas_are_understood_or_told() {
        for (comments, expected) in [
            (&[][..], "None"),
            (&["about this step", "check=skip=all"], "None"),
            (&["mybuild: always"], "Some(Always)"),
            (&["mybuild:always", "more"], "Some(Always)"),
            (&["# mybuild: always"], "Some(Always)"),
            (&["mybuild: ttl=6h"], "Some(Ttl(21600))"),
            (&["mybuild: ttl = 1m30s"], "Some(Ttl(90))"),
            (
                &["mybuild: alway"],
                "`# mybuild: alway`: want `always` or `ttl=DURATION` (did you mean always?)",
            ),
            (&["mybuild:"], "`# mybuild: `: want `always` or `ttl=DURATION`"),
            (&["mybuild: ttl=0"], "`# mybuild: ttl=0`: want a duration above zero, as in `ttl=6h`"),
            (
                &["mybuild: ttl=-1h"],
                "`# mybuild: ttl=-1h`: want a duration above zero, as in `ttl=6h`",
            ),
            (
                &["mybuild: ttl=6"],
                "`# mybuild: ttl=6`: time: missing unit in duration \"6\"; want a duration as in `ttl=6h`",
            ),
            (
                &["mybuild: always", "mybuild: ttl=1h"],
                "`# mybuild: ttl=1h`: there is another one above",
            ),
        ] {
            let comments: Vec<String> = comments.iter().map(|c| (*c).to_owned()).collect();
            let told = of(&comments).map_or_else(|why| why, |pragma| format!("{pragma:?}"));
            assert_eq!(told, expected, "{comments:?}");
        }
    }

    /// The lines and words of the errors of a file.
    fn told(dockerfile: &str) -> Vec<String> {
        let (_, diagnostics) = crate::tree::parse(dockerfile);
        let line = |d: &crate::Diagnostic| format!("{}: {}", d.lines.start, d.message);
        diagnostics.iter().map(line).collect()
    }

    #[test]
    fn a_pragma_that_no_instruction_takes_is_told() {
        let at_end = "a `# mybuild:` comment at the end of the file does nothing";
        let inside = "a `# mybuild:` comment inside an instruction does nothing";
        let cut_off = "a `# mybuild:` comment above an empty comment does nothing";
        for (dockerfile, expected) in [
            ("FROM a\n# mybuild: always\nRUN b", None),
            ("FROM a\n  # mybuild: always\n# why\n\nRUN b", None),
            ("FROM a\nRUN <<E\n# mybuild: always\nE", None),
            ("FROM a\nRUN b\n# my own\n#\n", None),
            ("FROM a\nRUN b\n# mybuild: alwayz", Some((3, at_end))),
            ("FROM a\nRUN b\n#mybuild: always\n# more\n\n", Some((3, at_end))),
            ("FROM a\nRUN b \\\n  # mybuild: always\n  c", Some((3, inside))),
            ("FROM a\nRUN b \\\n# mybuild: always", Some((3, inside))),
            ("FROM a\n# mybuild: always\n#\nRUN b", Some((2, cut_off))),
            ("FROM a\n# mybuild: always\n# why\n#\nRUN b", Some((2, cut_off))),
        ] {
            let expected = expected.map(|(line, message)| format!("{line}: {message}"));
            assert_eq!(told(dockerfile), Vec::from_iter(expected), "{dockerfile:?}");
        }
    }
}
