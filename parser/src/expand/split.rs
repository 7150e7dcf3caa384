//! Words that one word splits into.

/// Words on the way.
#[derive(Debug, Default)]
pub(super) struct Split {
    words: Vec<String>,
    word: String,
}

impl Split {
    pub(super) fn blank_or_letter(&mut self, character: char) {
        if !character.is_whitespace() {
            self.word.push(character);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.word.push_str(text);
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
