//! Packs with numbers. Each git ref has a line of them, so that a branch's newest does not hide that of the branch
//! it comes from.

use oci::Digest;

use super::service::{Entry, Service};
use crate::name;
use crate::object_error::ObjectError;

/// Numbers that are looked at below the newest: as many may be written before anybody reads them.
const WINDOW: u64 = 256;
/// Keys that one request may ask for.
const KEYS: u64 = 10;
/// Hex digits of what a line is.
const DIGITS: usize = 24;
/// What is left of a cache's name in keys.
const SHOWN: usize = 100;

/// The packs of one cache that one git ref has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Digits of what it is: a part of its packs' names.
    id: String,
    /// What the keys of its packs begin with.
    prefix: String,
}

/// The newest pack of a line.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) line: Line,
    pub(super) entry: Entry,
    /// Its number.
    number: u64,
    /// The highest number that was found: somebody may have begun earlier and come later.
    pub(super) highest: u64,
}

impl Line {
    /// That of the cache `scope`, of the git ref `name`.
    pub(super) fn new(name: &str, scope: &str) -> Self {
        let id = Digest::of(format!("{name}\n{scope}").as_bytes()).hex()[..DIGITS].to_owned();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-/".contains(c) { c } else { '_' };
        let shown: String = scope.chars().take(SHOWN).map(plain).collect();
        Self { prefix: format!("mybuild-records-{shown}-{id}-"), id }
    }

    /// The key of a pack. All are of one length, so that none begins with another.
    pub(super) fn key(&self, number: u64) -> String {
        format!("{}{number:010x}", self.prefix)
    }

    fn number_of(&self, key: &str) -> Option<u64> {
        let digits = key.get(self.prefix.len()..)?;
        let begins =
            key.as_bytes()[..self.prefix.len()].eq_ignore_ascii_case(self.prefix.as_bytes());
        let number = begins.then(|| u64::from_str_radix(digits, 16).ok())??;
        key.eq_ignore_ascii_case(&self.key(number)).then_some(number)
    }

    fn name(&self, number: u64) -> String {
        name::numbered(number, &self.id)
    }

    /// The key of the pack called `name`, if it is of this line.
    pub(super) fn key_of(&self, name: &str) -> Option<String> {
        let (number, id) = name.split_once('-')?;
        (id == self.id).then(|| format!("{}{number}", self.prefix))
    }

    /// The newest pack; `None` if there is none.
    pub(super) async fn newest(&self, service: &Service) -> Result<Option<Newest>, ObjectError> {
        let found = service.find(std::slice::from_ref(&self.prefix)).await?;
        let Some(entry) = found else { return Ok(None) };
        let Some(number) = self.number_of(&entry.key) else { return Ok(None) };
        let highest = self.highest(service, number).await?;
        Ok(Some(Newest { line: self.clone(), entry, number, highest }))
    }

    /// The highest number from `found` on. What was written last need not have it: of two who wrote at once, the
    /// one with the lower may have been slower.
    async fn highest(&self, service: &Service, found: u64) -> Result<u64, ObjectError> {
        let mut highest = found;
        loop {
            let keys: Vec<String> =
                (1..=KEYS).rev().map(|more| self.key(highest.saturating_add(more))).collect();
            let entry = service.find(&keys).await?;
            match entry.and_then(|entry| self.number_of(&entry.key)) {
                Some(number) if number > highest && number - found < WINDOW => highest = number,
                _ => return Ok(highest),
            }
        }
    }
}

impl Newest {
    pub(super) fn name(&self) -> String {
        self.line.name(self.number)
    }

    /// The names of all packs that there may be.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        let lowest = self.highest.saturating_sub(WINDOW) + 1;
        (lowest..=self.highest).map(|number| self.line.name(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_has_its_number_in_key_and_name() {
        let line = Line::new("refs/heads/main", "app, too");
        let key = line.key(258);
        assert!(key.starts_with("mybuild-records-app__too-"), "{key}");
        assert_eq!(line.number_of(&key), Some(258));
        assert_eq!(line.number_of(&key.to_uppercase()), Some(258));
        assert_eq!(line.key_of(&line.name(258)), Some(key.clone()));
        assert!(name::is_name(&line.name(258)));
        for other in
            ["", "x", &key[..key.len() - 1], &format!("{key}0"), &line.prefix, "öööööööööö"]
        {
            assert_eq!(line.number_of(other), None, "{other}");
        }
        for other in [Line::new("refs/heads/main", "app"), Line::new("refs/heads/x", "app, too")] {
            assert_eq!(other.number_of(&key), None);
            assert_eq!(other.key_of(&line.name(258)), None);
        }
    }

    #[test]
    fn the_names_are_those_of_the_newest_and_before() {
        let line = Line::new("", "");
        let entry = Entry { key: line.key(2), address: String::new() };
        let names = |highest| {
            let newest = Newest { line: line.clone(), entry: entry.clone(), number: 2, highest };
            newest.names().collect::<Vec<_>>()
        };
        assert_eq!(names(3), [line.name(1), line.name(2), line.name(3)]);
        assert_eq!(names(1000).len(), 256);
        assert_eq!(names(1000)[0], line.name(745));
    }
}
