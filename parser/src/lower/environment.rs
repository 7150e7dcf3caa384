//! Variables with an order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use crate::expand::Variables;

/// Variables and their values. One that is set again moves to the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    /// What was set, in order; `None` where a later entry took over.
    entries: Vec<Option<(Rc<str>, Rc<str>)>>,
    places: HashMap<Rc<str>, usize>,
}

impl Environment {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let name: Rc<str> = self.remove(name).unwrap_or_else(|| name.into());
        self.places.insert(name.clone(), self.entries.len());
        self.entries.push(Some((name, value.into())));
        // Every other place is empty: close the gaps, so that memory stays in proportion.
        if self.entries.len() > 2 * self.places.len() + 16 {
            self.close_gaps();
        }
    }

    /// Forgets `name`; gives it back if it was there.
    pub(super) fn remove(&mut self, name: &str) -> Option<Rc<str>> {
        let (name, place) = self.places.remove_entry(name)?;
        self.entries[place] = None;
        Some(name)
    }

    fn close_gaps(&mut self) {
        self.entries.retain(Option::is_some);
        self.places = self.iter_entries().enumerate().map(|(i, (n, _))| (n.clone(), i)).collect();
    }

    fn iter_entries(&self) -> impl Iterator<Item = &(Rc<str>, Rc<str>)> {
        self.entries.iter().flatten()
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let place = *self.places.get(name)?;
        self.entries[place].as_ref().map(|(_, value)| &**value)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.iter_entries().map(|(name, _)| &**name)
    }

    /// `NAME=value` of each, in order.
    pub(super) fn to_list(&self) -> Vec<String> {
        self.iter_entries().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).map(Cow::Borrowed)
    }
}
