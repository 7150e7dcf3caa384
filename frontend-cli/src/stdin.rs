//! Standard input as a context or a Dockerfile.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

use anyhow::Context as _;
use engine::Allowance;
use engine::request::{BuildRequest, ContextSource, DockerfileSource, TarSource};

use crate::error::UsageError;

/// What standard input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardInput {
    /// `mybuild build -`: a tar archive, or else a Dockerfile that needs no context.
    Context,
    /// `mybuild build -f - CONTEXT`
    Dockerfile,
}

/// A Dockerfile larger than this is none.
const DOCKERFILE_MAX: u64 = 16 << 20;
/// Enough to tell a tar archive: one header block.
const HEAD: usize = 512;

/// Reads `input` and puts it into `request`. An archive is kept in a file without a name, which is given
/// back, so that nothing is left behind, however the program ends.
pub fn read(
    kind: StandardInput,
    mut input: impl Read,
    request: &mut BuildRequest,
) -> anyhow::Result<Option<File>> {
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    if kind == StandardInput::Context && is_archive(&head) {
        let file = spool(&head, input).context("failed to keep the archive on standard input")?;
        request.context = ContextSource::Archive(TarSource::Stdin);
        return Ok(Some(file));
    }
    if kind == StandardInput::Context && !matches!(request.dockerfile, DockerfileSource::File(None))
    {
        return Err(UsageError::new("standard input is a Dockerfile, and `--file` names another")
            .with_hint("a context on standard input is a tar archive")
            .into());
    }
    let mut text = head;
    input.take(DOCKERFILE_MAX + 1 - text.len() as u64).read_to_end(&mut text)?;
    if text.len() as u64 > DOCKERFILE_MAX {
        return Err(
            UsageError::new("the Dockerfile on standard input is larger than 16 MiB").into()
        );
    }
    request.dockerfile = DockerfileSource::Text { name: "Dockerfile".to_owned(), text };
    Ok(None)
}

fn spool(head: &[u8], rest: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(head)?;
    io::copy(&mut Fitting { reader: rest, room: Allowance::at(&std::env::temp_dir()) }, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// Fails when there is no room for what it has read.
struct Fitting<R> {
    reader: R,
    room: Allowance,
}

impl<R: Read> Read for Fitting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.room.take_bytes(count as u64)?;
        Ok(count)
    }
}

/// Whether the first bytes are those of a tar archive, or of a compression.
pub fn is_archive(head: &[u8]) -> bool {
    const COMPRESSIONS: &[&[u8]] = &[b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    COMPRESSIONS.iter().any(|magic| head.starts_with(magic)) || is_tar_header(head)
}

/// Whether a tar header's checksum is right, which no text's is.
fn is_tar_header(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if block.len() < HEAD {
        return false;
    }
    // An archive without members is two blocks of zeros.
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if CHECKSUM.contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum();
    let written = std::str::from_utf8(&block[CHECKSUM]).unwrap_or_default();
    u64::from_str_radix(written.trim_matches(['\0', ' ']), 8) == Ok(sum)
}
