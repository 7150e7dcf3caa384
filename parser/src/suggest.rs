//! "Did you mean …": the nearest known word to one that is not.

/// Words this many edits away or more are no suggestion.
const TOO_FAR: usize = 3;

/// Whether `Run` and `run` are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They are not.
    Sensitive,
    /// They are; the suggestion follows the case of the word where it has one.
    Insensitive,
}

/// The first of `options` with the fewest edits to `word`, unless `word` is itself among them.
pub fn nearest<'o>(
    word: &str,
    options: impl IntoIterator<Item = &'o str>,
    case: Case,
) -> Option<String> {
    let fold = |text: &str| match case {
        Case::Sensitive => text.to_owned(),
        Case::Insensitive => text.to_lowercase(),
    };
    let wanted: Vec<char> = fold(word).chars().collect();
    let mut best = None;
    for option in options {
        let candidate: Vec<char> = fold(option).chars().collect();
        let edits = distance(&wanted, &candidate);
        match edits {
            0 => return None,
            TOO_FAR.. => continue,
            _ => {}
        }
        // Of equally near words one with the same letters: they were only mixed up.
        let rank = (edits, sorted(&wanted) != sorted(&candidate));
        if best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, option));
        }
    }
    best.map(|(_, option)| option).map(|option| match case {
        Case::Sensitive => option.to_owned(),
        Case::Insensitive => match_case(option, word),
    })
}

/// ` (did you mean …?)` where there is something near, else nothing.
pub fn did_you_mean<'o>(
    word: &str,
    options: impl IntoIterator<Item = &'o str>,
    case: Case,
) -> String {
    nearest(word, options, case).map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
}

fn sorted(word: &[char]) -> Vec<char> {
    let mut letters = word.to_vec();
    letters.sort_unstable();
    letters
}

fn match_case(option: &str, like: &str) -> String {
    if like != like.to_lowercase() && like == like.to_uppercase() {
        option.to_uppercase()
    } else {
        option.to_lowercase()
    }
}

/// Insertions, deletions and replacements from one word to the other, [`TOO_FAR`] for more.
fn distance(from: &[char], to: &[char]) -> usize {
    if from.len().abs_diff(to.len()) >= TOO_FAR {
        return TOO_FAR;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let edits = if a == b { diagonal } else { 1 + diagonal.min(row[j]).min(row[j + 1]) };
            diagonal = std::mem::replace(&mut row[j + 1], edits);
        }
    }
    row[to.len()].min(TOO_FAR)
}

#[cfg(test)]
mod tests {
    use super::{Case, nearest};

    #[test]
    fn the_nearest_word_within_two_edits_is_suggested() {
        let names = ["ENTRYPOINT", "FROM", "ONBUILD", "RUN"];
        let cases = [
            ("FFOM", Some("FROM")),
            ("form", Some("from")),
            ("%sONBUILD", Some("onbuild")),
            ("RUN", None),
            ("WHATEVER", None),
            ("", None),
        ];
        for (word, want) in cases {
            assert_eq!(nearest(word, names, Case::Insensitive).as_deref(), want, "{word}");
        }
        let flags = ["chmod", "chown"];
        assert_eq!(nearest("chwon", flags, Case::Sensitive).as_deref(), Some("chown"));
        assert_eq!(nearest("Run", ["RUN"], Case::Sensitive).as_deref(), Some("RUN"));
    }
}
