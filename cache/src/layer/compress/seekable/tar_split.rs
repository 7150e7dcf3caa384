//! What gives a tar back, byte for byte, from the files in it (vbatts/tar-split): its headers and padding,
//! and in between which file comes, one JSON document a line.

use std::io;

use data_encoding::BASE64;
use serde::Serialize;

use super::Watch;
use crate::layer::archive::Member;

const FILE: u32 = 1;
const SEGMENT: u32 = 2;

/// Bytes of a segment at most: readers take one as a whole.
const SEGMENT_MAX: usize = 1 << 20;

/// Polynomial of ISO 3309, reflected.
const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

#[derive(Serialize)]
struct Line<'a> {
    r#type: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    payload: Option<String>,
    position: usize,
}

/// The documents, as the tar passes.
#[derive(Default)]
pub(super) struct TarSplit {
    lines: Vec<u8>,
    count: usize,
    /// What was seen since the last file.
    segment: Vec<u8>,
    file: Option<File>,
}

struct File {
    path: Vec<u8>,
    size: u64,
    checksum: u64,
}

impl TarSplit {
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_file();
        self.end_segment();
        self.lines
    }

    fn end_file(&mut self) {
        let Some(file) = self.file.take() else { return };
        let name = std::str::from_utf8(&file.path).ok();
        let size = (file.size > 0).then_some(file.size);
        let line = Line {
            r#type: FILE,
            name,
            name_raw: name.is_none().then(|| BASE64.encode(&file.path)),
            size,
            payload: size.map(|_| BASE64.encode(&file.checksum.to_be_bytes())),
            position: self.count,
        };
        add(&mut self.lines, &line);
        self.count += 1;
    }

    fn end_segment(&mut self) {
        let segment = std::mem::take(&mut self.segment);
        for part in segment.chunks(SEGMENT_MAX) {
            let line = Line {
                r#type: SEGMENT,
                name: None,
                name_raw: None,
                size: None,
                payload: Some(BASE64.encode(part)),
                position: self.count,
            };
            add(&mut self.lines, &line);
            self.count += 1;
        }
    }
}

fn add(lines: &mut Vec<u8>, line: &Line<'_>) {
    serde_json::to_writer(&mut *lines, line).expect("a line is plain data");
    lines.push(b'\n');
}

impl Watch for TarSplit {
    fn between(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.end_file();
            self.segment.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn member(&mut self, member: &Member) -> io::Result<()> {
        self.end_file();
        self.end_segment();
        let (path, size) = (member.path.clone(), member.content_size());
        self.file = Some(File { path, size, checksum: 0 });
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.checksum = crc64(file.checksum, bytes);
        }
        Ok(())
    }
}

/// Goes on with a checksum, which starts at 0.
fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    static TABLE: [u64; 256] = table();
    !bytes.iter().fold(!crc, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut crc = number as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[number] = crc;
        number += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_iso_3309() {
        // Check values of Go's hash/crc64 with the ISO table.
        for (text, expected) in
            [("", 0), ("a", 0x3420_0000_0000_0000), ("abc", 0x3776_c420_0000_0000)]
        {
            assert_eq!(crc64(0, text.as_bytes()), expected, "{text}");
        }
        assert_eq!(crc64(crc64(0, b"a"), b"bc"), crc64(0, b"abc"));
    }
}
