//! The corpus of a target and mutations of it, through the target's entry point: what fuzzing
//! found stays found, without a fuzzer.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long mutations go on.
const TIME: Duration = Duration::from_secs(1);
/// Mutations that are tried however slow the machine is.
const AT_LEAST: u64 = 50;
/// And at most, so that a fast machine says the same every time.
const AT_MOST: u64 = 3000;
/// Longer inputs are cut.
const LENGTH_MAX: usize = 64 << 10;

/// Replays the corpus in `fuzz/corpus/NAME`.
///
/// What fails is shown as a Rust literal.
pub(crate) fn replay(name: &str, entry: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let files = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort_unstable();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(corpus.len() >= 3, "{directory:?} is nearly empty");
    for (path, input) in paths.iter().zip(&corpus) {
        run(entry, input, &path.display().to_string());
    }
    let started = Instant::now();
    let mut mutator = Mutator { state: 0x9e37_79b9_7f4a_7c15 };
    for number in 0..AT_MOST {
        if number >= AT_LEAST && started.elapsed() > TIME {
            break;
        }
        let input = mutator.mutate(&corpus);
        run(entry, &input, &format!("mutation {number}"));
    }
}

fn run(entry: fn(&[u8]), input: &[u8], about: &str) {
    let passed = std::panic::catch_unwind(|| entry(input));
    assert!(passed.is_ok(), "{about}: b\"{}\"", input.escape_ascii());
}

/// Makes new inputs of old ones, always the same ones.
struct Mutator {
    state: u64,
}

impl Mutator {
    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 + self.below(6) {
            self.change(&mut input, corpus);
        }
        input.truncate(LENGTH_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let length = self.below(32).min(input.len() - at);
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => {
                input[at] = [0, 0xff, b'0', b'\n', b'$', b'"', b'/', b'\\'][self.below(8)];
            }
            2 => drop(input.drain(at..at + length)),
            3 => {
                let repeated = input[at..at + length].repeat(1 + self.below(20));
                drop(input.splice(at..at, repeated));
            }
            4 => input.truncate(at),
            5 => {
                let number = [0, 1, 255, 65_535, 1 << 32, u64::MAX][self.below(6)].to_string();
                drop(input.splice(at..at + length, number.into_bytes()));
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let part = &other[from..(from + 64).min(other.len())];
                drop(input.splice(at..at + length, part.iter().copied()));
            }
        }
    }

    /// A number below `limit`, 0 if that is 0 (xorshift64*).
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits fit") % limit.max(1)
    }
}
