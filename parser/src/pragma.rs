//! Comments just above an instruction that are for us: `# mybuild: always`, `# mybuild: ttl=6h`. To
//! other builders they are comments.

use crate::duration;
use crate::suggest::{Case, did_you_mean};

/// What such comments begin with.
const NAME: &str = "mybuild:";
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

/// What the comments above an instruction ask for, if anything; the error is for the user.
pub(crate) fn of(comments: &[String]) -> Result<Option<Pragma>, String> {
    let mut found = None;
    for text in comments.iter().filter_map(|comment| comment.strip_prefix(NAME)) {
        let text = text.trim();
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
            let nanoseconds = duration::parse(value).map_err(|error| error.to_string())?;
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
            (&["mybuild: ttl=6"], "`# mybuild: ttl=6`: time: missing unit in duration \"6\""),
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
}
