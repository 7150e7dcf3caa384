//! `RUN --mount=…`.

use crate::csv::{self, CsvError};
use crate::device::parse_bool;
use crate::expand::ExpandError;
use crate::instruction::{Mount, MountKind, Sharing};
use crate::quote::quote;
use crate::span::Text;
use crate::suggest::{Case, did_you_mean};

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];
const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
    ("tmpfs", MountKind::Tmpfs),
];
const SHARINGS: [(&str, Sharing); 3] =
    [("locked", Sharing::Locked), ("private", Sharing::Private), ("shared", Sharing::Shared)];

/// No size reaches it, in bytes (BuildKit counts them in 63 bits).
const MAX_SIZE: f64 = 9_223_372_036_854_775_808.0;

/// Why the value of `--mount` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// No comma-separated values.
    #[error("failed to parse csv mounts: {0}")]
    Csv(#[from] CsvError),
    /// A value does not expand.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A field that needs a value has none.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// A key there is not.
    #[error("unexpected key '{key}' in '{field}'{suggestion}")]
    UnknownKey {
        /// The key in lower case.
        key: String,
        /// The field.
        field: String,
        /// ` (did you mean …?)` or nothing.
        suggestion: String,
    },
    /// A key that this kind of mount does not have, or not before `type=`.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherKind {
        /// The key.
        key: String,
        /// The kind so far.
        kind: &'static str,
    },
    /// A kind there is not.
    #[error("unsupported mount type {}{suggestion}", quote(value))]
    UnknownKind {
        /// The value.
        value: String,
        /// ` (did you mean …?)` or nothing.
        suggestion: String,
    },
    /// A way of sharing there is not.
    #[error("unsupported sharing value {}{suggestion}", quote(value))]
    UnknownSharing {
        /// The value.
        value: String,
        /// ` (did you mean …?)` or nothing.
        suggestion: String,
    },
    /// Neither true nor false, or no size.
    #[error("invalid value for {key}: {value}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// No number.
    #[error("invalid value {value} for {key}")]
    InvalidNumber {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Owner or mode of a mount that has none of its own.
    #[error("{key} not allowed for \"{kind}\" type mounts")]
    OwnerNotAllowed {
        /// `mode`, `uid` or `gid`.
        key: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// `from=` of a secret.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// `sharing=` of a secret.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretWithoutName,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretWithTwoNames,
    /// `sharing=` of something other than a cache.
    #[error("invalid cache sharing set for {kind} mount")]
    SharingNotAllowed {
        /// The kind.
        kind: &'static str,
    },
}

impl MountKind {
    /// The kind as `type=` names it.
    pub fn name(self) -> &'static str {
        let found = KINDS.iter().find(|(_, kind)| *kind == self);
        found.map_or("", |(name, _)| name)
    }
}

/// Checks what can be checked without variables, and fills in what has none.
pub(crate) fn parse(value: &Text) -> Result<Mount, MountError> {
    let unresolved = Mount { written: value.value.clone(), span: value.span, ..Mount::default() };
    let literal = unresolved.resolve(|value| Ok(value.to_owned()));
    Ok(literal.unwrap_or(unresolved))
}

impl Mount {
    /// The mount that [`Mount::written`] means, each value expanded by `expand`.
    pub fn resolve(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Self, MountError> {
        let mut reader = Reading {
            mount: Self { written: self.written.clone(), span: self.span, ..Self::default() },
            readonly: None,
            sharing: None,
        };
        for field in csv::fields(&self.written)? {
            match field.split_once('=') {
                // A source is found before anything is gone through, with variables of its own.
                Some((key, value)) if key.eq_ignore_ascii_case("from") => {
                    reader.option("from", value.to_owned(), &field)?;
                }
                Some((key, value)) => {
                    let value = expand(value)?;
                    reader.option(&key.to_lowercase(), value, &field)?;
                }
                None => reader.switch(&field)?,
            }
        }
        reader.finish()
    }
}

/// A mount while its fields are read.
struct Reading {
    mount: Mount,
    readonly: Option<bool>,
    sharing: Option<Sharing>,
}

impl Reading {
    fn switch(&mut self, field: &str) -> Result<(), MountError> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.readonly = Some(true),
            "readwrite" | "rw" => self.readonly = Some(false),
            "required" => {
                self.only_for("required", &[MountKind::Secret, MountKind::Ssh])?;
                self.mount.required = true;
            }
            _ => return Err(MountError::NoValue { field: field.to_owned() }),
        }
        Ok(())
    }

    fn option(&mut self, key: &str, value: String, field: &str) -> Result<(), MountError> {
        match key {
            "type" => self.mount.kind = parse_kind(&value)?,
            "from" => self.mount.from = non_empty(value),
            "source" | "src" => self.mount.source = non_empty(value),
            "target" | "dst" | "destination" => self.mount.target = non_empty(value),
            "readonly" | "ro" => self.readonly = Some(parse_switch(key, &value)?),
            "readwrite" | "rw" => self.readonly = Some(!parse_switch(key, &value)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.mount.required = parse_switch(key, &value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                self.mount.size = Some(parse_size(&value).ok_or_else(|| invalid(key, &value))?);
            }
            "id" => self.mount.id = non_empty(value),
            "sharing" => self.sharing = Some(parse_sharing(&value)?),
            "mode" => self.mount.mode = Some(parse_number(key, &value, 8)?),
            "uid" => self.mount.uid = Some(parse_number(key, &value, 10)?),
            "gid" => self.mount.gid = Some(parse_number(key, &value, 10)?),
            "env" => self.mount.env = Some(value),
            _ => {
                let suggestion = did_you_mean(key, KEYS, Case::Sensitive);
                let (key, field) = (key.to_owned(), field.to_owned());
                return Err(MountError::UnknownKey { key, field, suggestion });
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), MountError> {
        let kind = self.mount.kind;
        if kinds.contains(&kind) {
            return Ok(());
        }
        Err(MountError::KeyOfOtherKind { key: key.to_owned(), kind: kind.name() })
    }

    fn finish(mut self) -> Result<Mount, MountError> {
        let kind = self.mount.kind;
        self.check_owner()?;
        let writable = matches!(kind, MountKind::Cache | MountKind::Tmpfs);
        self.mount.readonly = self.readonly.unwrap_or(!writable);
        if kind == MountKind::Secret {
            self.check_secret()?;
        }
        if self.sharing.is_some() && kind != MountKind::Cache {
            return Err(MountError::SharingNotAllowed { kind: kind.name() });
        }
        self.mount.sharing = self.sharing.unwrap_or_default();
        Ok(self.mount)
    }

    fn check_owner(&self) -> Result<(), MountError> {
        let Mount { kind, mode, uid, gid, .. } = self.mount;
        let given = [("mode", mode), ("uid", uid), ("gid", gid)];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) if matches!(kind, MountKind::Bind | MountKind::Tmpfs) => {
                Err(MountError::OwnerNotAllowed { key, kind: kind.name() })
            }
            _ => Ok(()),
        }
    }

    fn check_secret(&self) -> Result<(), MountError> {
        let Mount { from, source, target, id, .. } = &self.mount;
        if from.is_some() {
            return Err(MountError::SecretFrom);
        }
        if self.sharing.is_some() {
            return Err(MountError::SecretSharing);
        }
        if source.is_none() && target.is_none() && id.is_none() {
            return Err(MountError::SecretWithoutName);
        }
        if source.is_some() && id.is_some() {
            return Err(MountError::SecretWithTwoNames);
        }
        Ok(())
    }
}

/// An empty value is the same as none.
fn non_empty(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

fn parse_kind(value: &str) -> Result<MountKind, MountError> {
    let name = value.to_lowercase();
    let found = KINDS.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind).ok_or_else(|| MountError::UnknownKind {
        value: value.to_owned(),
        suggestion: did_you_mean(value, KINDS.map(|(name, _)| name), Case::Sensitive),
    })
}

fn parse_sharing(value: &str) -> Result<Sharing, MountError> {
    let name = value.to_lowercase();
    let found = SHARINGS.iter().find(|(known, _)| *known == name);
    found.map(|(_, sharing)| *sharing).ok_or_else(|| MountError::UnknownSharing {
        value: value.to_owned(),
        suggestion: did_you_mean(value, SHARINGS.map(|(name, _)| name), Case::Sensitive),
    })
}

fn parse_switch(key: &str, value: &str) -> Result<bool, MountError> {
    parse_bool(value).ok_or_else(|| invalid(key, value))
}

fn parse_number(key: &str, value: &str, radix: u32) -> Result<u32, MountError> {
    // The standard library would take a plus sign.
    let number = u32::from_str_radix(value, radix).ok().filter(|_| !value.starts_with('+'));
    number.ok_or_else(|| MountError::InvalidNumber { key: key.to_owned(), value: value.to_owned() })
}

fn invalid(key: &str, value: &str) -> MountError {
    MountError::InvalidValue { key: key.to_owned(), value: value.to_owned() }
}

/// Bytes of a size such as `128m`, `1.5 GiB` or `4096`; units are powers of 1024.
fn parse_size(value: &str) -> Option<u64> {
    let last = value.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let unit = value[last + 1..].to_ascii_lowercase();
    let number = if value[last..].starts_with(' ') { &value[..last] } else { &value[..=last] };
    let number: f64 = number.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes < MAX_SIZE).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_binary_units() {
        let cases = [
            ("128m", Some(134_217_728)),
            ("1.5 GiB", Some(1_610_612_736)),
            ("4096", Some(4096)),
            ("4096b", Some(4096)),
            ("1KB", Some(1024)),
            ("0", Some(0)),
            ("-1", None),
            ("m", None),
            ("", None),
            ("1mm", None),
            ("1e", None),
            ("1  k", None),
            ("8191p", Some(8191 << 50)),
            ("8192p", None),
            ("999999999999999999999", None),
            ("1e999", None),
        ];
        for (value, want) in cases {
            assert_eq!(parse_size(value), want, "{value:?}");
        }
    }
}
