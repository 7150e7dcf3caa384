//! A word with variables, expanded in every way there is: no panic, bounded growth.

use parser::Expander;

/// Expands `bytes`; what stands before the first NUL is the value of every second variable.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (value, word) = text.split_once('\0').unwrap_or(("value", text));
    let variables = |name: &str| (name.len() % 2 == 1).then(|| value.to_owned());
    for expander in [
        Expander::new('\\'),
        Expander::new('`'),
        Expander::new('\\').for_heredoc(),
        Expander::new('\\').literal_quotes(),
        Expander::new('\\').keep_quotes().keep_escapes().keep_unset(),
    ] {
        match expander.word(word, &variables) {
            Ok(expanded) => {
                assert!(expanded.text.len() <= word.len() + parser::expand::MAX_WORD_GROWTH);
            }
            Err(error) => assert!(error.at <= word.len(), "{error:?}"),
        }
        drop(expander.words(word, &variables));
    }
    drop(parser::json_form::parse(word));
}
