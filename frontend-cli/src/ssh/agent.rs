//! An agent that has some keys, and lives as long as this process (draft-ietf-sshm-ssh-agent).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use engine::AGENT_MESSAGE_MAX;

use super::key::Key;
use super::wire::{Reader, Writer};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Keys that signatures can be asked of.
#[derive(Debug)]
pub(super) struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// The answer to a message; both without their lengths.
    pub(super) fn answer(&self, message: &[u8]) -> Vec<u8> {
        let answer = match message.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => Some(self.identities()),
            Some((&SIGN_REQUEST, rest)) => self.signature(Reader(rest)),
            _ => None,
        };
        answer.unwrap_or_else(|| vec![FAILURE])
    }

    fn identities(&self) -> Vec<u8> {
        let count = u32::try_from(self.keys.len()).expect("fewer than words on a command line");
        let start = Writer::default().byte(IDENTITIES_ANSWER).number(count);
        let add =
            |writer: Writer, key: &Key| writer.string(key.public()).string(key.comment.as_bytes());
        self.keys.iter().fold(start, add).0
    }

    fn signature(&self, mut request: Reader<'_>) -> Option<Vec<u8>> {
        let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
        let key = self.keys.iter().find(|key| key.public() == public)?;
        let signature = key.sign(data, flags)?;
        Some(Writer::default().byte(SIGN_RESPONSE).string(&signature).0)
    }
}

/// Answers one connection until its end.
pub(super) fn serve(mut stream: UnixStream, keys: &Keyring) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > AGENT_MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length as usize];
        stream.read_exact(&mut message)?;
        let answer = Writer::default().string(&keys.answer(&message)).0;
        stream.write_all(&answer)?;
    }
}
