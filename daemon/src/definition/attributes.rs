//! Attributes of sources. Each is read by somebody or refused.

use std::collections::BTreeMap;

use super::op_error::{OpError, shown};

/// Attributes that nobody has read yet.
pub(super) struct Attributes<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Attributes<'a> {
    pub(super) fn of(given: &'a BTreeMap<String, String>) -> Self {
        Self(given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }

    /// The value of `name`, if it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name)
    }

    /// The value of `name` as a text; empty if it is not there.
    pub(super) fn text(&mut self, name: &str) -> String {
        self.take(name).unwrap_or_default().to_owned()
    }

    /// A switch: `true`, or `false` and what comes to the same.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, OpError> {
        match self.take(name) {
            Some("true") => Ok(true),
            None | Some("false" | "") => Ok(false),
            Some(other) => Err(OpError::invalid(format!("value of `{name}`"), other)),
        }
    }

    /// A list, written as JSON.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<String>, OpError> {
        let Some(text) = self.take(name) else { return Ok(Vec::new()) };
        serde_json::from_str(text)
            .map_err(|_| OpError::invalid(format!("value of `{name}`, want a list in JSON"), text))
    }

    /// A number: decimal, octal with a `0` or `0o` before it, hexadecimal with `0x`.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u32>, OpError> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let (digits, radix) = match text {
            _ if text.starts_with("0x") => (&text[2..], 16),
            _ if text.starts_with("0o") => (&text[2..], 8),
            _ if text.starts_with('0') && text.len() > 1 => (&text[1..], 8),
            _ => (text, 10),
        };
        let number = u32::from_str_radix(digits, radix);
        let invalid = |_| OpError::invalid(format!("value of `{name}`, want a number"), text);
        number.map(Some).map_err(invalid)
    }

    /// Refuses a value other than `usual`, which is what this builder does anyway.
    pub(super) fn only(&mut self, name: &str, usual: &[&str]) -> Result<(), OpError> {
        match self.take(name) {
            Some(value) if !usual.contains(&value) => {
                let what = format!("the value `{}` of the attribute `{name}` is", shown(value));
                Err(OpError::not_supported(what))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what nobody has read.
    pub(super) fn finish(self) -> Result<(), OpError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(OpError::not_supported(format!("the attribute `{}` is", shown(name))))
            }
        }
    }
}
