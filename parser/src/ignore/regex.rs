//! The regular expressions that patterns become: all ways are followed at once, so that time is
//! the product of the lengths at worst, whatever the pattern.

/// A compiled expression. It matches whole texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// One character of a set.
    One(Set),
    /// Goes on at the next step and at another.
    Fork(usize),
    /// Goes on elsewhere.
    Jump(usize),
    /// Goes on only at such a place.
    Only(Place),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    End,
    WordBoundary,
    NoWordBoundary,
}

/// A set of characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn of(ranges: &[(char, char)]) -> Self {
        Self { negated: false, ranges: ranges.to_vec() }
    }

    fn contains(&self, character: char) -> bool {
        let found = self.ranges.iter().any(|(low, high)| (low..=high).contains(&&character));
        found != self.negated
    }

    /// Adds all characters of `other`.
    fn add(&mut self, other: &Self) {
        if !other.negated {
            self.ranges.extend_from_slice(&other.ranges);
            return;
        }
        let mut sorted = other.ranges.clone();
        sorted.sort_unstable();
        let mut next = Some('\0');
        for (low, high) in sorted {
            if let (Some(from), Some(to)) = (next, before(low))
                && from <= to
            {
                self.ranges.push((from, to));
            }
            next = next.max(after(high)).filter(|_| after(high).is_some());
        }
        self.ranges.extend(next.map(|from| (from, char::MAX)));
    }
}

fn before(character: char) -> Option<char> {
    ('\0'..character).next_back()
}

fn after(character: char) -> Option<char> {
    (character..=char::MAX).nth(1)
}

impl Program {
    /// Compiles what a pattern was translated to; `None` if Go would refuse it.
    pub(super) fn new(regex: &str) -> Option<Self> {
        let mut compiler = Compiler { rest: regex, steps: Vec::new() };
        while !compiler.rest.is_empty() {
            compiler.item()?;
        }
        compiler.steps.push(Step::End);
        Some(Self { steps: compiler.steps })
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut walk = Walk::new(self);
        let mut characters = text.chars().peekable();
        walk.begin(characters.peek().copied());
        while let Some(character) = characters.next() {
            walk.advance(character, characters.peek().copied());
            if walk.current.is_empty() {
                return false;
            }
        }
        walk.current.iter().any(|&step| self.steps[step] == Step::End)
    }

    /// Whether some text that begins with `start` and is longer could match.
    pub(super) fn may_match_after(&self, start: &str) -> bool {
        let mut walk = Walk::new(self);
        walk.begin(start.chars().next());
        let mut characters = start.chars().peekable();
        while let Some(character) = characters.next() {
            // What comes behind the start is not known: assume the best.
            let next = characters.peek().copied().or(Some('\u{fffd}'));
            walk.advance(character, next);
        }
        walk.current.iter().any(|&step| self.steps[step] != Step::End)
    }
}

/// All the steps that a text may have led to.
struct Walk<'p> {
    program: &'p Program,
    current: Vec<usize>,
    next: Vec<usize>,
    /// For each step, the round in which it was added last.
    added: Vec<usize>,
    round: usize,
}

impl<'p> Walk<'p> {
    fn new(program: &'p Program) -> Self {
        let added = vec![0; program.steps.len()];
        Self { program, current: Vec::new(), next: Vec::new(), added, round: 0 }
    }

    fn begin(&mut self, next: Option<char>) {
        self.round = 1;
        self.add(0, None, next);
        std::mem::swap(&mut self.current, &mut self.next);
    }

    fn advance(&mut self, character: char, next: Option<char>) {
        self.round += 1;
        self.next.clear();
        for at in 0..self.current.len() {
            let step = self.current[at];
            if matches!(&self.program.steps[step], Step::One(set) if set.contains(character)) {
                self.add(step + 1, Some(character), next);
            }
        }
        std::mem::swap(&mut self.current, &mut self.next);
    }

    /// Adds a step, and those that follow it without a character.
    fn add(&mut self, step: usize, previous: Option<char>, next: Option<char>) {
        let mut stack = vec![step];
        while let Some(step) = stack.pop() {
            if std::mem::replace(&mut self.added[step], self.round) == self.round {
                continue;
            }
            match &self.program.steps[step] {
                Step::One(_) | Step::End => self.next.push(step),
                Step::Jump(to) => stack.push(*to),
                Step::Fork(to) => stack.extend([step + 1, *to]),
                Step::Only(place) if place.is_between(previous, next) => stack.push(step + 1),
                Step::Only(_) => {}
            }
        }
    }
}

impl Place {
    fn is_between(self, previous: Option<char>, next: Option<char>) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let boundary = is_word(previous) != is_word(next);
        match self {
            Self::Start => previous.is_none(),
            Self::End => next.is_none(),
            Self::WordBoundary => boundary,
            Self::NoWordBoundary => !boundary,
        }
    }
}

struct Compiler<'r> {
    rest: &'r str,
    steps: Vec<Step>,
}

/// One character or place.
enum Atom {
    Set(Set),
    Place(Place),
    /// `\Q…\E`.
    Literal(String),
}

impl Compiler<'_> {
    /// One atom with what repeats it.
    fn item(&mut self) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix("(.*/)?") {
            self.rest = rest;
            self.any_directories();
            return Some(());
        }
        let atom = self.atom()?;
        match atom {
            Atom::Set(set) => self.steps.push(Step::One(set)),
            Atom::Place(place) => self.steps.push(Step::Only(place)),
            Atom::Literal(text) => {
                let one = |c| Step::One(Set::of(&[(c, c)]));
                self.steps.extend(text.chars().map(one));
            }
        }
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            // L: fork to behind; the atom; jump to L.
            let step = self.steps.pop()?;
            let start = self.steps.len();
            self.steps.extend([Step::Fork(start + 3), step, Step::Jump(start)]);
        }
        Some(())
    }

    /// `(.*/)?`
    fn any_directories(&mut self) {
        let start = self.steps.len();
        self.steps.extend([
            Step::Fork(start + 5),
            Step::Fork(start + 4),
            Step::One(any()),
            Step::Jump(start + 1),
            Step::One(Set::of(&[('/', '/')])),
        ]);
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn atom(&mut self) -> Option<Atom> {
        Some(match self.next()? {
            '^' => Atom::Place(Place::Start),
            '$' => Atom::Place(Place::End),
            '.' => Atom::Set(any()),
            '[' => Atom::Set(self.class()?),
            '\\' => self.escape()?,
            character => Atom::Set(Set::of(&[(character, character)])),
        })
    }

    fn escape(&mut self) -> Option<Atom> {
        let place = |place| Some(Atom::Place(place));
        match self.rest.chars().next()? {
            'A' => self.next().and(place(Place::Start)),
            'z' => self.next().and(place(Place::End)),
            'b' => self.next().and(place(Place::WordBoundary)),
            'B' => self.next().and(place(Place::NoWordBoundary)),
            'Q' => {
                self.next();
                let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                let text = text.to_owned();
                self.rest = rest;
                Some(Atom::Literal(text))
            }
            _ => self.escaped_set().map(Atom::Set),
        }
    }

    /// What follows a backslash, in or outside brackets.
    fn escaped_set(&mut self) -> Option<Set> {
        let set = match self.next()? {
            letter @ ('d' | 'D' | 's' | 'S' | 'w' | 'W') => {
                Set { negated: letter.is_uppercase(), ..perl_class(letter) }
            }
            character => {
                let character = self.escaped_character(character)?;
                Set::of(&[(character, character)])
            }
        };
        Some(set)
    }

    fn escaped_character(&mut self, character: char) -> Option<char> {
        match character {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(character),
            _ if character.is_ascii_punctuation() || character == ' ' => Some(character),
            _ => None,
        }
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits = match self.rest.strip_prefix('{') {
            Some(braced) => {
                let (digits, rest) = braced.split_once('}')?;
                self.rest = rest;
                digits
            }
            None => {
                let digits = self.rest.get(..2)?;
                self.rest = &self.rest[2..];
                digits
            }
        };
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    fn octal(&mut self, first: char) -> Option<char> {
        let is_octal = |c: &char| ('0'..='7').contains(c);
        let more: String = self.rest.chars().take(2).take_while(is_octal).collect();
        // One digit alone would refer back to a group.
        if first != '0' && more.is_empty() {
            return None;
        }
        self.rest = &self.rest[more.len()..];
        char::from_u32(u32::from_str_radix(&format!("{first}{more}"), 8).ok()?)
    }

    /// The inside of brackets.
    fn class(&mut self) -> Option<Set> {
        let mut set = Set::default();
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            set.negated = true;
        }
        let mut first = true;
        loop {
            if !first && self.rest.starts_with(']') {
                self.next();
                return Some(set);
            }
            first = false;
            self.class_item(&mut set)?;
        }
    }

    fn class_item(&mut self, set: &mut Set) -> Option<()> {
        if let Some(named) = self.rest.strip_prefix("[:")
            && let Some((name, rest)) = named.split_once(":]")
        {
            self.rest = rest;
            set.add(&posix_class(name)?);
            return Some(());
        }
        let escaped = self.rest.strip_prefix('\\');
        if escaped.is_some_and(|rest| rest.starts_with(['d', 'D', 's', 'S', 'w', 'W'])) {
            self.next();
            set.add(&self.escaped_set()?);
            return Some(());
        }
        let low = self.bound()?;
        let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
        let high = if is_range && self.rest.len() > 1 {
            self.next();
            self.bound()?
        } else {
            low
        };
        set.ranges.push((low, high));
        (low <= high).then_some(())
    }

    fn bound(&mut self) -> Option<char> {
        match self.next()? {
            '\\' => {
                let character = self.next()?;
                self.escaped_character(character)
            }
            character => Some(character),
        }
    }
}

/// `.`: anything but a line feed.
fn any() -> Set {
    Set { negated: true, ranges: vec![('\n', '\n')] }
}

fn perl_class(letter: char) -> Set {
    match letter.to_ascii_lowercase() {
        'd' => Set::of(&[('0', '9')]),
        's' => Set::of(&[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')]),
        _ => Set::of(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
    }
}

fn posix_class(name: &str) -> Option<Set> {
    let (negated, name) = match name.strip_prefix('^') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let ranges: &[(char, char)] = match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\u{7f}')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    };
    Some(Set { negated, ranges: ranges.to_vec() })
}
