//! The expansion of one word.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::cursor::Cursor;
use super::frame::{Frame, Rule};
use super::split::Split;
use super::{ExpandError, ExpandErrorKind, Expanded, Expander, MAX_WORD_GROWTH, Quotes, Variables};
use crate::pattern::{Greed, Pattern};

/// Steps of pattern matching that weigh as much as one byte of growth.
const STEPS_PER_BYTE: usize = 64;

/// Reads a word from left to right; what is open is on the stack of frames.
pub(super) struct Machine<'v> {
    expander: &'v Expander,
    variables: &'v dyn Variables,
    cursor: Cursor<'v>,
    frames: Vec<Frame<'v>>,
    /// Inside double quotes, outside any `${`, since this place in the output.
    root_quote: Option<usize>,
    out: String,
    split: Option<Split>,
    grown: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

type Step = Result<(), ExpandErrorKind>;

impl<'v> Machine<'v> {
    pub(super) fn new(
        expander: &'v Expander,
        source: &'v str,
        variables: &'v dyn Variables,
        split: bool,
    ) -> Self {
        Self {
            expander,
            variables,
            cursor: Cursor::new(source),
            frames: Vec::new(),
            root_quote: None,
            out: String::with_capacity(source.len()),
            split: split.then(Split::default),
            grown: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        }
    }

    /// The expanded word, and the words it splits into if that was asked for.
    pub(super) fn run(mut self) -> Result<(Expanded, Vec<String>), ExpandError> {
        self.steps().map_err(|kind| self.error(kind))?;
        let Self { out: text, matched, unmatched, split, .. } = self;
        Ok((Expanded { text, matched, unmatched }, split.map(Split::finish).unwrap_or_default()))
    }

    fn error(&self, kind: ExpandErrorKind) -> ExpandError {
        ExpandError {
            word: self.cursor.source().to_owned(),
            at: self.cursor.at(),
            kind: self.at_end(kind),
        }
    }

    /// At the end of the word an open `${` is the cause, whatever was noticed first.
    fn at_end(&self, kind: ExpandErrorKind) -> ExpandErrorKind {
        match self.frames.first() {
            Some(frame) if self.cursor.rest().is_empty() => match frame.rule {
                Rule::Pattern { .. } => ExpandErrorKind::MissingSlash,
                _ => ExpandErrorKind::MissingBrace,
            },
            _ => kind,
        }
    }

    fn steps(&mut self) -> Step {
        while let Some(character) = self.cursor.peek() {
            if self.quoted() {
                self.step_quoted(character)?;
            } else {
                self.step(character)?;
            }
        }
        match (self.quoted(), self.frames.is_empty()) {
            (true, _) => Err(ExpandErrorKind::DoubleQuote),
            (_, false) => Err(ExpandErrorKind::MissingBrace),
            _ => Ok(()),
        }
    }

    fn step(&mut self, character: char) -> Step {
        if self.frames.last().is_some_and(|frame| frame.stop() == character) {
            self.cursor.advance(character);
            return self.close();
        }
        let quotes = self.expander.quotes != Quotes::Literal;
        match character {
            '$' => self.dollar(),
            '<' => self.less_than(),
            '\'' if quotes => self.single_quoted(),
            '"' if quotes => self.double_quote(true),
            _ if character == self.expander.escape => self.escaped(),
            _ => self.literal(),
        }
    }

    fn step_quoted(&mut self, character: char) -> Step {
        match character {
            '$' => self.dollar(),
            '"' => self.double_quote(false),
            _ if character == self.expander.escape => self.escaped_in_quotes(),
            _ => {
                let escape = self.expander.escape;
                let run = self.cursor.take(|c| !matches!(c, '"' | '$') && c != escape);
                self.out.push_str(run);
                Ok(())
            }
        }
    }

    /// A run of characters that mean nothing.
    fn literal(&mut self) -> Step {
        let (escape, stop) = (self.expander.escape, self.frames.last().map(Frame::stop));
        let run = self
            .cursor
            .take(|c| !matches!(c, '$' | '<' | '\'' | '"') && c != escape && Some(c) != stop);
        // A quote that means nothing stands alone.
        let run = if run.is_empty() { self.cursor.take_one() } else { run };
        self.out.push_str(run);
        self.split_at_root(|split| run.chars().for_each(|c| split.blank_or_letter(c)));
        Ok(())
    }

    fn escaped(&mut self) -> Step {
        let escape = self.cursor.take_one();
        if self.keep_escapes() {
            self.push_unsplit(escape);
        }
        // At the end of the word the escape character is dropped.
        let character = self.cursor.take_one();
        self.push_unsplit(character);
        Ok(())
    }

    fn escaped_in_quotes(&mut self) -> Step {
        let escape = self.cursor.take_one();
        if self.keep_escapes() {
            self.out.push_str(escape);
        }
        match self.cursor.peek() {
            None => {}
            Some(c @ ('"' | '$')) => self.push_next(c),
            Some(c) if c == self.expander.escape => self.push_next(c),
            // Anything else is not escaped: the escape character stands for itself.
            Some(_) => self.out.push_str(escape),
        }
        Ok(())
    }

    fn push_next(&mut self, character: char) {
        self.cursor.advance(character);
        self.out.push(character);
    }

    fn single_quoted(&mut self) -> Step {
        let Some(length) = self.cursor.rest()[1..].find('\'') else {
            self.cursor.skip_all();
            return Err(ExpandErrorKind::SingleQuote);
        };
        let quoted = self.cursor.take_bytes(length + 2);
        let keep = self.expander.quotes == Quotes::Keep;
        self.push_unsplit(if keep { quoted } else { &quoted[1..=length] });
        Ok(())
    }

    fn double_quote(&mut self, open: bool) -> Step {
        let mark = self.out.len();
        let quote = self.cursor.take_one();
        if self.expander.quotes == Quotes::Keep {
            self.out.push_str(quote);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.quoted = open;
        } else if open {
            self.root_quote = Some(mark);
        } else {
            let mark = self.root_quote.take().expect("a quote closes only when it is open");
            let text = &self.out[mark..];
            if let Some(split) = &mut self.split {
                split.text(text);
            }
        }
        Ok(())
    }

    /// `<<` and the blanks after it stay together when words are split, so that `<< EOF` is one.
    fn less_than(&mut self) -> Step {
        let rest = self.cursor.rest();
        let after = match rest.strip_prefix("<<") {
            Some(after) => after.trim_start_matches(['\t', '\r', ' ']),
            None => &rest[1..],
        };
        let arrows = self.cursor.take_bytes(rest.len() - after.len());
        self.push_unsplit(arrows);
        Ok(())
    }

    fn dollar(&mut self) -> Step {
        let mark = self.out.len();
        self.cursor.advance('$');
        if self.cursor.peek() == Some('{') {
            self.cursor.advance('{');
            self.brace(mark)?;
        } else {
            let name = self.cursor.name();
            if name.is_empty() {
                self.out.push('$');
            } else {
                self.simple(name, "$", "")?;
            }
        }
        self.split_expansion(mark);
        Ok(())
    }

    /// What follows `${`.
    fn brace(&mut self, mark: usize) -> Step {
        match self.cursor.peek() {
            None => return Err(ExpandErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.cursor.name();
        let mut modifier = self.cursor.take_one().to_owned();
        let rule = match modifier.as_str() {
            "}" => return self.simple(name, "${", "}"),
            ":" => {
                let operator = self.cursor.next_or_replacement();
                modifier.push(operator);
                match operator {
                    '#' | '%' => return Err(ExpandErrorKind::Modifier { modifier }),
                    '-' | '+' | '?' => Rule::Choice { operator, empty_is_unset: true },
                    _ => Rule::Unsupported { modifier: modifier.clone() },
                }
            }
            "-" => Rule::Choice { operator: '-', empty_is_unset: false },
            "+" => Rule::Choice { operator: '+', empty_is_unset: false },
            "?" => Rule::Choice { operator: '?', empty_is_unset: false },
            "#" => Rule::Trim { operator: '#' },
            "%" => Rule::Trim { operator: '%' },
            "/" => {
                let every = self.cursor.rest().starts_with('/');
                self.cursor.skip(usize::from(every));
                Rule::Pattern { every }
            }
            "" => return Err(ExpandErrorKind::Modifier { modifier: '\u{fffd}'.to_string() }),
            _ => return Err(ExpandErrorKind::Modifier { modifier }),
        };
        self.open(name, &modifier, rule, mark);
        Ok(())
    }

    fn open(&mut self, name: &'v str, modifier: &str, rule: Rule, mark: usize) {
        let value = self.lookup(name);
        let kept = value.is_none() && self.expander.keep_unset;
        if kept {
            self.out.push_str("${");
            self.out.push_str(name);
            self.out.push_str(modifier);
        }
        let keep_escapes = !matches!(rule, Rule::Choice { .. } | Rule::Unsupported { .. });
        let mark = if kept { mark } else { self.out.len() };
        self.frames.push(Frame { name, value, rule, mark, keep_escapes, quoted: false, kept });
    }

    /// The `}` of the innermost `${`, or the second slash of a replacement.
    fn close(&mut self) -> Step {
        let mut frame = self.frames.pop().expect("a stop character is looked for in a frame only");
        if let Rule::Pattern { every } = frame.rule {
            let pattern = if frame.kept {
                self.out.push('/');
                String::new()
            } else {
                self.out.split_off(frame.mark)
            };
            frame.rule = Rule::Replace { every, pattern };
            self.frames.push(frame);
            return Ok(());
        }
        let mark = frame.mark;
        if frame.kept {
            self.out.push('}');
        } else {
            self.apply(frame)?;
        }
        self.split_expansion(mark);
        Ok(())
    }

    /// Puts what `${name…word}` stands for where its word is now.
    fn apply(&mut self, frame: Frame<'v>) -> Step {
        match frame.rule {
            Rule::Choice { operator, empty_is_unset } => {
                let unset_or_empty =
                    frame.value.as_ref().is_none_or(|v| empty_is_unset && v.is_empty());
                self.choose(operator, &frame, unset_or_empty)
            }
            Rule::Unsupported { modifier } => Err(ExpandErrorKind::Modifier { modifier }),
            Rule::Trim { operator } => {
                let word = self.out.split_off(frame.mark);
                self.trim(operator, &word, &frame.value.unwrap_or_default())
            }
            Rule::Replace { every, pattern } => {
                let text = self.out.split_off(frame.mark);
                self.replace(every, &pattern, &text, &frame.value.unwrap_or_default())
            }
            Rule::Pattern { .. } => unreachable!("a pattern ends at its slash"),
        }
    }

    fn choose(&mut self, operator: char, frame: &Frame<'v>, unset: bool) -> Step {
        match (operator, unset) {
            ('-', true) | ('+', false) => return Ok(()),
            ('+', true) => {
                self.out.truncate(frame.mark);
                return Ok(());
            }
            ('?', true) => {
                let mut message = self.out.split_off(frame.mark);
                if message.is_empty() {
                    let state = if frame.value.is_none() { "unset" } else { "empty" };
                    message = format!("is not allowed to be {state}");
                }
                return Err(ExpandErrorKind::Required { name: frame.name.to_owned(), message });
            }
            _ => {}
        }
        self.out.truncate(frame.mark);
        self.push_value(frame.value.as_deref().unwrap_or_default())
    }

    fn trim(&mut self, operator: char, word: &str, value: &str) -> Step {
        let (greed, pattern) = match word.strip_prefix(operator) {
            Some(pattern) => (Greed::Longest, pattern),
            None => (Greed::Shortest, word),
        };
        let pattern = self.pattern(pattern, greed, value)?;
        let trimmed = match operator {
            '#' => pattern.trim_prefix(value),
            _ => pattern.trim_suffix(value),
        };
        self.push_value(trimmed)
    }

    fn replace(&mut self, every: bool, pattern: &str, text: &str, value: &str) -> Step {
        match pattern.chars().next() {
            Some(anchor @ ('#' | '%')) if !every => {
                self.replace_end(anchor, &pattern[1..], text, value)
            }
            // Escaped, they are what they are.
            Some('\\') if pattern[1..].starts_with(['#', '%']) => {
                self.replace_within(every, &pattern[1..], text, value)
            }
            _ => self.replace_within(every, pattern, text, value),
        }
    }

    /// `${v/#p/text}` and `${v/%p/text}`: what stands at the beginning, or at the end, and as much of
    /// it as the pattern fits. BuildKit takes the character for one of the pattern; shells and buildah
    /// do not, and neither does whoever writes it.
    fn replace_end(&mut self, anchor: char, pattern: &str, text: &str, value: &str) -> Step {
        let pattern = self.pattern(pattern, Greed::Longest, value)?;
        let rest = match anchor {
            '#' => pattern.trim_prefix(value),
            _ => pattern.trim_suffix(value),
        };
        let fits = rest.len() < value.len() || pattern.find(value, 0).is_some_and(|f| f.is_empty());
        let (before, after) = match (fits, anchor) {
            (false, _) => (value, ""),
            (true, '#') => (text, rest),
            (true, _) => (rest, text),
        };
        self.push_value(before)?;
        self.push_value(after)
    }

    fn replace_within(&mut self, every: bool, pattern: &str, text: &str, value: &str) -> Step {
        let pattern = self.pattern(pattern, Greed::Longest, value)?;
        let (mut copied, mut from) = (0, 0);
        while let Some(found) = pattern.find(value, from) {
            self.push_value(&value[copied..found.start])?;
            // An empty match right behind another match is none.
            if found.end > copied || found.start == 0 {
                self.push_value(text)?;
            }
            copied = found.end;
            let Some(next) = value[found.end..].chars().next().filter(|_| every) else { break };
            from = found.end + if found.is_empty() { next.len_utf8() } else { 0 };
        }
        self.push_value(&value[copied..])
    }

    fn pattern(
        &mut self,
        text: &str,
        greed: Greed,
        value: &str,
    ) -> Result<Pattern, ExpandErrorKind> {
        let pattern = Pattern::new(text, greed)
            .map_err(|source| ExpandErrorKind::Pattern { pattern: text.to_owned(), source })?;
        self.grow(pattern.cost(value.len()) / STEPS_PER_BYTE)?;
        Ok(pattern)
    }

    /// `$name` and `${name}`; `open` and `close` are what stands around the name.
    fn simple(&mut self, name: &'v str, open: &str, close: &str) -> Step {
        match self.lookup(name) {
            Some(value) => self.push_value(&value),
            None if self.expander.keep_unset => {
                self.out.extend([open, name, close]);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn lookup(&mut self, name: &str) -> Option<Cow<'v, str>> {
        let variables = self.variables;
        let value = variables.get(name);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }

    fn push_value(&mut self, value: &str) -> Step {
        self.grow(value.len())?;
        self.out.push_str(value);
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Step {
        self.grown = self.grown.saturating_add(bytes);
        if self.grown > MAX_WORD_GROWTH {
            return Err(ExpandErrorKind::WordTooLarge);
        }
        if !self.expander.spend(bytes) {
            return Err(ExpandErrorKind::BuildTooLarge);
        }
        Ok(())
    }

    fn quoted(&self) -> bool {
        match self.frames.last() {
            Some(frame) => frame.quoted,
            None => self.root_quote.is_some(),
        }
    }

    fn keep_escapes(&self) -> bool {
        self.frames.last().map_or(self.expander.keep_escapes, |frame| frame.keep_escapes)
    }

    /// Text that belongs to the current word, blanks or not.
    fn push_unsplit(&mut self, text: &str) {
        self.out.push_str(text);
        self.split_at_root(|split| split.text(text));
    }

    fn split_at_root(&mut self, write: impl FnOnce(&mut Split)) {
        if self.frames.is_empty()
            && let Some(split) = &mut self.split
        {
            write(split);
        }
    }

    /// Splits what a finished `$…` outside quotes put into the output since `mark`.
    fn split_expansion(&mut self, mark: usize) {
        if self.frames.is_empty()
            && self.root_quote.is_none()
            && let Some(split) = &mut self.split
        {
            self.out[mark..].chars().for_each(|c| split.blank_or_letter(c));
        }
    }
}
