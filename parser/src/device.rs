//! `RUN --device=…`.

use crate::csv::{self, CsvError};
use crate::suggest::{Case, did_you_mean};

/// A device that a RUN asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Name of the device, as the CDI specification has it (`vendor.com/class=name`).
    pub name: String,
    /// The build fails when there is no such device.
    pub required: bool,
}

/// Why the value of `--device` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No comma-separated values.
    #[error("failed to parse csv devices: {0}")]
    Csv(#[from] CsvError),
    /// A second field without a key.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// Two names.
    #[error("device name already set to {name}")]
    NameTwice {
        /// The first one.
        name: String,
    },
    /// `required` is neither true nor false.
    #[error("invalid value for required: {value}")]
    NotBoolean {
        /// The value.
        value: String,
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
}

/// Reads the value of `--device`.
pub fn parse(value: &str) -> Result<Device, DeviceError> {
    let mut device = Device::default();
    for field in csv::fields(value)? {
        read_field(&mut device, &field)?;
    }
    Ok(device)
}

/// Whether who may have the device `known` may have `name`: a class, alone or with `*`, stands for all its
/// devices.
pub fn covers(known: &str, name: &str) -> bool {
    let class = known.strip_suffix("=*").unwrap_or(known);
    known == name || (!class.contains('=') && name.split('=').next() == Some(class))
}

fn read_field(device: &mut Device, field: &str) -> Result<(), DeviceError> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key.to_lowercase(), Some(value)),
        None => (field.to_lowercase(), None),
    };
    match (key.as_str(), value) {
        ("required", None) => device.required = true,
        ("required", Some(value)) => {
            device.required = parse_bool(value)
                .ok_or_else(|| DeviceError::NotBoolean { value: value.to_owned() })?;
        }
        ("name", Some(value)) if device.name.is_empty() => device.name = value.to_owned(),
        ("name", Some(_)) => return Err(DeviceError::NameTwice { name: device.name.clone() }),
        _ if device.name.is_empty() => device.name = field.to_owned(),
        (_, None) => return Err(DeviceError::NoValue { field: field.to_owned() }),
        (_, Some(_)) => {
            let suggestion = did_you_mean(&key, ["name", "required"], Case::Sensitive);
            return Err(DeviceError::UnknownKey { key, field: field.to_owned(), suggestion });
        }
    }
    Ok(())
}

/// The spellings of true and false that flag values may have.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
