//! Looks through the bytes of an op for what this builder does not know. Decoding drops unknown fields
//! without a word, and an op that is understood in part is not understood.

/// A message, and the fields that it may have.
struct Message {
    name: &'static str,
    fields: &'static [(u32, Field)],
}

enum Field {
    /// A number, text or bytes; also a message that is not looked into.
    Plain,
    Of(&'static Message),
}

use Field::{Of, Plain};

const PAIR: Message = Message { name: "attribute", fields: &[(1, Plain), (2, Plain)] };
const INPUT: Message = Message { name: "input", fields: &[(1, Plain), (2, Plain)] };
const PLATFORM: Message = Message {
    name: "platform",
    fields: &[(1, Plain), (2, Plain), (3, Plain), (4, Plain), (5, Plain)],
};
const CONSTRAINTS: Message = Message { name: "constraints", fields: &[(1, Plain)] };
const SOURCE: Message = Message { name: "source op", fields: &[(1, Plain), (2, Of(&PAIR))] };

const PROXIES: Message = Message {
    name: "proxy variables",
    fields: &[(1, Plain), (2, Plain), (3, Plain), (4, Plain), (5, Plain)],
};
const HOST: Message = Message { name: "host", fields: &[(1, Plain), (2, Plain)] };
const ULIMIT: Message = Message { name: "ulimit", fields: &[(1, Plain), (2, Plain), (3, Plain)] };
const META: Message = Message {
    name: "process",
    fields: &[
        (1, Plain),
        (2, Plain),
        (3, Plain),
        (4, Plain),
        (5, Of(&PROXIES)),
        (6, Of(&HOST)),
        (7, Plain),
        (9, Of(&ULIMIT)),
        (10, Plain),
        (11, Plain),
        (12, Plain),
    ],
};
const TMPFS: Message = Message { name: "tmpfs options", fields: &[(1, Plain)] };
const CACHE: Message = Message { name: "cache options", fields: &[(1, Plain), (2, Plain)] };
const LENT: Message = Message {
    name: "secret or ssh options",
    fields: &[(1, Plain), (2, Plain), (3, Plain), (4, Plain), (5, Plain)],
};
const MOUNT: Message = Message {
    name: "mount",
    fields: &[
        (1, Plain),
        (2, Plain),
        (3, Plain),
        (4, Plain),
        (5, Plain),
        (6, Plain),
        (19, Of(&TMPFS)),
        (20, Of(&CACHE)),
        (21, Of(&LENT)),
        (22, Of(&LENT)),
        (23, Plain),
        (24, Plain),
    ],
};
const SECRET_ENV: Message =
    Message { name: "secret variable", fields: &[(1, Plain), (2, Plain), (3, Plain)] };
const DEVICE: Message = Message { name: "device", fields: &[(1, Plain), (2, Plain)] };
const EXEC: Message = Message {
    name: "exec op",
    fields: &[
        (1, Of(&META)),
        (2, Of(&MOUNT)),
        (3, Plain),
        (4, Plain),
        (5, Of(&SECRET_ENV)),
        (6, Of(&DEVICE)),
    ],
};

const NAMED_USER: Message = Message { name: "user", fields: &[(1, Plain), (2, Plain)] };
const USER: Message = Message { name: "user", fields: &[(1, Of(&NAMED_USER)), (2, Plain)] };
const OWNER: Message = Message { name: "owner", fields: &[(1, Of(&USER)), (2, Of(&USER))] };
const COPY: Message = Message {
    name: "copy",
    fields: &[
        (1, Plain),
        (2, Plain),
        (3, Of(&OWNER)),
        (4, Plain),
        (5, Plain),
        (6, Plain),
        (7, Plain),
        (8, Plain),
        (9, Plain),
        (10, Plain),
        (11, Plain),
        (12, Plain),
        (13, Plain),
        (14, Plain),
        (15, Plain),
        (16, Plain),
    ],
};
/// A file, and a directory: both have an owner at 4.
const MADE: Message = Message {
    name: "file or directory",
    fields: &[(1, Plain), (2, Plain), (3, Plain), (4, Of(&OWNER)), (5, Plain)],
};
const REMOVED: Message = Message { name: "removal", fields: &[(1, Plain), (2, Plain), (3, Plain)] };
const LINK: Message =
    Message { name: "link", fields: &[(1, Plain), (2, Plain), (3, Of(&OWNER)), (4, Plain)] };
const ACTION: Message = Message {
    name: "file action",
    fields: &[
        (1, Plain),
        (2, Plain),
        (3, Plain),
        (4, Of(&COPY)),
        (5, Of(&MADE)),
        (6, Of(&MADE)),
        (7, Of(&REMOVED)),
        (8, Of(&LINK)),
    ],
};
const FILE: Message = Message { name: "file op", fields: &[(2, Of(&ACTION))] };

const NUMBERED: Message = Message { name: "input", fields: &[(1, Plain)] };
const MERGE: Message = Message { name: "merge op", fields: &[(1, Of(&NUMBERED))] };
const DIFF: Message =
    Message { name: "diff op", fields: &[(1, Of(&NUMBERED)), (2, Of(&NUMBERED))] };

/// What is inside build and passthrough ops does not matter: they are refused.
const OP: Message = Message {
    name: "op",
    fields: &[
        (1, Of(&INPUT)),
        (2, Of(&EXEC)),
        (3, Of(&SOURCE)),
        (4, Of(&FILE)),
        (5, Plain),
        (6, Of(&MERGE)),
        (7, Of(&DIFF)),
        (8, Plain),
        (10, Of(&PLATFORM)),
        (11, Of(&CONSTRAINTS)),
    ],
};

/// Why an op is not one that this builder understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownError {
    /// A field has a number that no field of its message has.
    #[error("unknown field {number} in its {message}")]
    Field {
        /// What the message describes.
        message: &'static str,
        /// The field's number.
        number: u32,
    },
    /// The bytes are no message.
    #[error("its bytes are not a message")]
    Malformed,
    /// It has more fields than the definition may have in all.
    #[error("too many fields")]
    TooMany,
}

/// Goes through the bytes of an op. Takes the number of its fields from `left`.
pub(super) fn check(op: &[u8], left: &mut usize) -> Result<(), UnknownError> {
    check_message(op, &OP, left)
}

/// Messages nest as deep as the tables above, no deeper.
fn check_message(
    mut bytes: &[u8],
    message: &Message,
    left: &mut usize,
) -> Result<(), UnknownError> {
    while !bytes.is_empty() {
        *left = left.checked_sub(1).ok_or(UnknownError::TooMany)?;
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).map_err(|_| UnknownError::Malformed)?;
        let known = message.fields.iter().find(|(known, _)| *known == number);
        let (_, field) = known.ok_or(UnknownError::Field { message: message.name, number })?;
        let inside = match tag & 7 {
            0 => varint(&mut bytes).map(|_| None)?,
            1 => take(&mut bytes, 8).map(|_| None)?,
            2 => {
                let length = varint(&mut bytes)?;
                Some(take(&mut bytes, usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => take(&mut bytes, 4).map(|_| None)?,
            _ => return Err(UnknownError::Malformed),
        };
        if let (Of(message), Some(inside)) = (field, inside) {
            check_message(inside, message, left)?;
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], UnknownError> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(UnknownError::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

/// A number in groups of seven bits, the lowest first: at most ten of them.
fn varint(bytes: &mut &[u8]) -> Result<u64, UnknownError> {
    let mut number = 0;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or(UnknownError::Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(UnknownError::Malformed)
}
