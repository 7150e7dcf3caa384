//! Telling what is compressed or encrypted already, at a fraction of the cost of trying.

use std::ops::Range;

/// Bytes that tell most of what can be compressed.
const SAMPLE: usize = 1024;

/// Bytes that are looked up together.
const MATCH: usize = 8;

/// Every 31st place is remembered, and as many places in a row are looked up: wherever a long repetition
/// starts, one of them is found. Odd, so as not to keep step with anybody's records.
const STEP: usize = 31;

/// Bytes from one row of look-ups to the next.
const STRIDE: usize = 512;

/// How far back deflate can refer.
pub(super) const WINDOW: usize = 32 * 1024;

/// Tells which parts of some bytes deflate would not make shorter, or hardly: their bytes are about
/// equally frequent, and nothing in them was seen before. Parts are asked for from the first to the
/// last.
pub(super) struct Detector<'a> {
    bytes: &'a [u8],
    seen: Positions,
    /// Up to where places are remembered.
    remembered: usize,
}

impl<'a> Detector<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, seen: Positions::default(), remembered: 0 }
    }

    pub(super) fn is_incompressible(&mut self, part: Range<usize>) -> bool {
        let bytes = &self.bytes[part.clone()];
        is_flat(&bytes[..bytes.len().min(SAMPLE)], 140)
            && is_flat(bytes, 104)
            && !self.has_repetition(part)
    }

    /// Whether some eight bytes of `part` stand in the window before them, as far as samples tell. A
    /// repetition of [`STRIDE`] bytes or so is found for certain, a shorter one mostly if there are
    /// many.
    fn has_repetition(&mut self, part: Range<usize>) -> bool {
        let first = part.start.saturating_sub(WINDOW).next_multiple_of(STEP);
        self.remembered = self.remembered.max(first);
        for row in part.step_by(STRIDE) {
            for place in row..row + STEP {
                while self.remembered < place {
                    self.seen.insert(self.bytes, self.remembered);
                    self.remembered += STEP;
                }
                if self.seen.has(self.bytes, place) {
                    return true;
                }
            }
        }
        false
    }
}

/// Whether all bytes are about equally frequent: equal counts give a sum of squares of length² /
/// 256, of which this may be so many hundredths. Random bytes exceed it by 256 / length.
fn is_flat(bytes: &[u8], hundredths: u64) -> bool {
    // Several counters for each value: equal bytes in a row need not wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word);
        for number in 0..8 {
            counts[number % 4][(word & 0xff) as usize] += 1;
            word >>= 8;
        }
    }
    for byte in rest {
        counts[0][usize::from(*byte)] += 1;
    }
    let [a, b, c, d] = &counts;
    let mut squares = 0;
    for value in 0..256 {
        let total = u64::from(a[value] + b[value] + c[value] + d[value]);
        squares += total * total;
    }
    let length = bytes.len() as u64;
    squares * 256 * 100 <= length * length * hundredths
}

fn word_at(bytes: &[u8], place: usize) -> Option<u64> {
    let word = bytes.get(place..place + MATCH)?;
    Some(u64::from_le_bytes(word.try_into().expect("its length is that of a word")))
}

/// Where words were last: each slot has part of the word's hash, and below it the place. Other words are told
/// apart by the hash alone, so that the answer is nearly always the same and the processor can count on it.
struct Positions(Box<[u64; 1 << Self::BITS]>);

impl Default for Positions {
    fn default() -> Self {
        Self(Box::new([0; 1 << Self::BITS]))
    }
}

impl Positions {
    /// Nearly four times as many slots as words are remembered of one window.
    const BITS: u32 = 12;

    /// Bits of a place.
    const PLACE_BITS: u32 = 32;

    /// The slot of a word, and the part of its hash that is kept there.
    fn hash(word: u64) -> (usize, u64) {
        let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> (64 - Self::BITS)) as usize, hash << Self::BITS >> Self::PLACE_BITS)
    }

    fn insert(&mut self, bytes: &[u8], place: usize) {
        let Some(word) = word_at(bytes, place) else { return };
        let (slot, tag) = Self::hash(word);
        let place = u32::try_from(place).expect("a block is small");
        self.0[slot] = tag << Self::PLACE_BITS | u64::from(place);
    }

    /// Whether the word at `place` was seen not too far before it.
    fn has(&self, bytes: &[u8], place: usize) -> bool {
        let Some(word) = word_at(bytes, place) else { return false };
        let (slot, tag) = Self::hash(word);
        let kept = self.0[slot];
        if kept >> Self::PLACE_BITS != tag {
            return false;
        }
        let before = (kept & u64::from(u32::MAX)) as usize;
        before < place && place - before <= WINDOW && word_at(bytes, before) == Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64*, always the same.
    fn random(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
        };
        std::iter::repeat_with(&mut next).flat_map(|word| word[..4].to_vec()).take(length).collect()
    }

    fn is_incompressible(bytes: &[u8], part: Range<usize>) -> bool {
        Detector::new(bytes).is_incompressible(part)
    }

    #[test]
    fn random_bytes_are_incompressible() {
        let bytes = random(1 << 20);
        for length in [16 << 10, 128 << 10] {
            let mut detector = Detector::new(&bytes);
            for start in (0..bytes.len()).step_by(length) {
                assert!(detector.is_incompressible(start..start + length), "{length} at {start}");
            }
        }
    }

    #[test]
    fn what_repeats_is_not() {
        let mut bytes = random(128 << 10);
        let length = bytes.len();
        bytes.copy_within(50_003..51_003, 60_000);
        assert!(is_incompressible(&bytes, 0..60_000), "nothing so far");
        assert!(!is_incompressible(&bytes, 0..length), "a repetition of 1000 bytes");
        assert!(!is_incompressible(&bytes, 60_000..length), "seen before");
        bytes.copy_within(10..1010, 50 << 10);
        assert!(!is_incompressible(&bytes, 0..length));
    }

    #[test]
    fn what_is_out_of_reach_does_not_count() {
        let mut bytes = random(128 << 10);
        let length = bytes.len();
        bytes.copy_within(0..10_000, 110_000);
        assert!(is_incompressible(&bytes, 0..length));
        let mut detector = Detector::new(&bytes);
        assert!(detector.is_incompressible(0..20_000));
        assert!(detector.is_incompressible(100_000..length));
    }

    #[test]
    fn uneven_bytes_are_not() {
        let mut bytes = random(128 << 10);
        let length = bytes.len();
        bytes[60_000..80_000].fill(b'x');
        assert!(!is_incompressible(&bytes, 0..length));
        let text: Vec<u8> = random(128 << 10).iter().map(|byte| byte % 64 + 32).collect();
        assert!(!is_incompressible(&text, 0..length));
        let records: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        assert!(!is_incompressible(&records, 0..records.len()));
    }
}
