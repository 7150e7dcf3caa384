//! Compressing and decompressing.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use cache::layer::compress::{Compression, Format, compress, decompress};
use oci::Digest;

/// Text-like bytes with long and short repetitions, always the same.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 12345_u32;
    let mut out: Vec<u8> = Vec::with_capacity(length);
    while out.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let back = (state >> 8) as usize % 5000;
        if state & 0x70 == 0 && out.len() > back {
            let run: Vec<u8> = out[out.len() - back..].iter().take(60).copied().collect();
            out.extend(run);
        } else {
            out.push(b"the quick brown fox\n jumps"[(state >> 24) as usize % 26]);
        }
    }
    out.truncate(length);
    out
}

/// Text and what looks like random bytes by turns, in pieces of no round length.
fn mixed(length: usize) -> Vec<u8> {
    let mut state = 54321_u64;
    let mut noise = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let mut out = Vec::with_capacity(length);
    for piece in sample(length).chunks(300_001) {
        out.extend(piece);
        out.extend(noise.by_ref().take(400_003));
    }
    out.truncate(length);
    out
}

/// Gives out its bytes in pieces of changing size.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 * 7 % 9973 + 1;
        let length = self.1.min(buffer.len()).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut out = Vec::new();
    let result = compress(&mut &bytes[..], &mut out, compression).unwrap();
    assert_eq!(result.digest, Digest::of(&out));
    assert_eq!(result.diff_id.0, Digest::of(bytes));
    assert_eq!((result.size, result.uncompressed_size), (out.len() as u64, bytes.len() as u64));
    out
}

fn decompressed(bytes: &[u8]) -> io::Result<(Format, Vec<u8>)> {
    let (format, mut reader) = decompress(bytes)?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out)?;
    Ok((format, out))
}

const ALL: [(Compression, Format); 5] = [
    (Compression::None, Format::Plain),
    (Compression::GZIP, Format::Gzip),
    (Compression::Gzip { level: 9 }, Format::Gzip),
    (Compression::ZSTD, Format::Zstd),
    (Compression::Zstd { level: 1 }, Format::Zstd),
];

#[test]
fn what_is_compressed_decompresses() {
    for length in [0, 1, 1000, 128 << 10, (128 << 10) + 1, 256 << 10, 1_000_003] {
        for bytes in [sample(length), mixed(length)] {
            for (compression, format) in ALL {
                let (found, back) = decompressed(&compressed(&bytes, compression)).unwrap();
                assert!(back == bytes, "{compression:?} of {length} bytes");
                assert!(found == format || length == 0, "{compression:?} of {length} bytes");
            }
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_chunks() {
    let bytes = mixed(5 << 20);
    for (compression, _) in ALL {
        let expected = compressed(&bytes, compression);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let actual = pool.install(|| {
                let mut out = Vec::new();
                compress(&mut Dribble(&bytes, threads), &mut out, compression).unwrap();
                out
            });
            assert!(actual == expected, "{compression:?} with {threads} threads");
        }
    }
}

#[test]
fn what_does_not_compress_hardly_grows() {
    let bytes = &mixed(8 << 20);
    let text = compressed(&sample(8 << 20), Compression::GZIP).len();
    let out = compressed(bytes, Compression::GZIP).len();
    let random = bytes.len() / 7 * 4;
    let most = text * 3 / 7 + random;
    assert!(out < most + most / 50, "{out} {most}");
}

/// A change of these means that every layer gets another digest: caches and registries fill up
/// with what they have already. It needs a reason, as a new version of a compressor is one.
#[test]
fn the_bytes_are_those_of_earlier_versions() {
    let bytes = sample(5 << 20);
    assert_eq!(Digest::of(&bytes).as_str(), SAMPLE);
    assert_eq!(Digest::of(&compressed(&bytes, Compression::GZIP)).as_str(), GZIP);
    assert_eq!(Digest::of(&compressed(&bytes, Compression::ZSTD)).as_str(), ZSTD);
    let bytes = mixed(5 << 20);
    assert_eq!(Digest::of(&compressed(&bytes, Compression::GZIP)).as_str(), MIXED_GZIP);
}

const SAMPLE: &str = "sha256:004df4553880f7ba19955d54742db9f7ca84667ef494ef6a910f798168f8b5ba";
const GZIP: &str = "sha256:42dc011aa40a0382e550a09d4fbaa183779d94b2ebb5239b943b624df1c8c2ed";
const MIXED_GZIP: &str = "sha256:fe4a400a2007d84a99661bd971ce8135f0a80f8e5eb77bdd2e96e35ff87e7bc3";
const ZSTD: &str = "sha256:ee307982ea975fa0deefa891158d777937941d4310152b13df4e98c2fa33006c";

#[test]
fn other_programs_read_what_is_written() {
    let bytes = mixed(3_000_000);
    for (compression, program) in [(Compression::GZIP, "gzip"), (Compression::ZSTD, "zstd")] {
        let out = compressed(&bytes, compression);
        if let Some(output) = pipe_through(program, &["-t"], &out) {
            assert!(output.is_empty(), "{program} -t");
            assert!(pipe_through(program, &["-dc"], &out).unwrap() == bytes, "{program} -dc");
        }
    }
}

#[test]
fn what_other_programs_write_is_read() {
    let bytes = sample(300_000);
    for (program, format) in [
        ("gzip", Format::Gzip),
        ("pigz", Format::Gzip),
        ("zstd", Format::Zstd),
        ("bzip2", Format::Bzip2),
        ("xz", Format::Xz),
    ] {
        let Some(one) = pipe_through(program, &["-c"], &bytes) else { continue };
        assert!(decompressed(&one).unwrap() == (format, bytes.clone()), "{program}");
        // Several streams one after another are one.
        let (found, back) = decompressed(&one.repeat(2)).unwrap();
        assert!(found == format && back == bytes.repeat(2), "two streams of {program}");
        assert!(decompressed(&one[..one.len() / 2]).is_err(), "half a stream of {program}");
    }
}

#[test]
fn damage_is_noticed() {
    let bytes = sample(100_000);
    for (compression, _) in ALL.into_iter().skip(1) {
        let mut out = compressed(&bytes, compression);
        let middle = out.len() / 2;
        out[middle] ^= 1;
        let noticed = decompressed(&out).map_or(true, |(_, back)| back != bytes);
        assert!(noticed && decompressed(&out).is_err(), "{compression:?}");
    }
    let mut trailed = compressed(&bytes, Compression::GZIP);
    trailed.extend(b"trailing garbage");
    assert!(decompressed(&trailed).is_err());
}

/// Runs a program; nothing, aloud, if there is no such program here.
pub(super) fn pipe_through(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(io::stderr(), "skipped, no {program} here: {error}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program}");
        Some(output.stdout)
    })
}
