//! Telling what is compressed or encrypted already, at a fraction of the cost of trying.

/// Bytes that tell most of what can be compressed.
const SAMPLE: usize = 4096;

/// What is tested for having been there before.
const MATCH: usize = 8;

/// Every 31st place is remembered, and as many places in a row are looked up: wherever a long repetition
/// starts, one of them is found. Odd, so as not to keep step with anybody's records.
const STEP: usize = 31;

/// Bytes from one row of look-ups to the next.
const STRIDE: usize = 512;

/// How far back deflate can refer.
const WINDOW: usize = 32 * 1024;

/// Whether deflate would not make `block` shorter, or hardly: its bytes are about equally frequent,
/// and nothing in it was seen before, neither in it nor in `before`, which comes before it.
pub(super) fn is_incompressible(before: &[u8], block: &[u8]) -> bool {
    is_flat(&block[..block.len().min(SAMPLE)], 115)
        && is_flat(block, 102)
        && !has_repetition(before, block)
}

/// Whether all bytes are about equally frequent: equal counts give a sum of squares of length² /
/// 256, of which this may be so many hundredths. Random bytes exceed it by 256 / length.
fn is_flat(bytes: &[u8], hundredths: u64) -> bool {
    // Several counters for each value: equal bytes in a row need not wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    let (quads, rest) = bytes.as_chunks::<4>();
    for [a, b, c, d] in quads {
        counts[0][usize::from(*a)] += 1;
        counts[1][usize::from(*b)] += 1;
        counts[2][usize::from(*c)] += 1;
        counts[3][usize::from(*d)] += 1;
    }
    rest.iter().for_each(|byte| counts[0][usize::from(*byte)] += 1);
    let total = |value: usize| counts.iter().map(|counts| u64::from(counts[value])).sum::<u64>();
    let squares: u64 = (0..256).map(|value| total(value) * total(value)).sum();
    let length = bytes.len() as u64;
    squares * 256 * 100 <= length * length * hundredths
}

/// Whether some eight bytes of `block` stand in the window before them, as far as samples tell. A
/// repetition of [`STRIDE`] bytes or so is found for certain, a shorter one mostly if there are many.
fn has_repetition(before: &[u8], block: &[u8]) -> bool {
    let mut seen = Seen::default();
    let start = before.len().saturating_sub(WINDOW);
    let bytes = [&before[start..], block].concat();
    let mut remembered = 0;
    for row in (before.len() - start..bytes.len()).step_by(STRIDE) {
        for place in row..row + STEP {
            while remembered < place {
                if let Some(word) = word_at(&bytes, remembered) {
                    seen.insert(word, remembered);
                }
                remembered += STEP;
            }
            if word_at(&bytes, place).is_some_and(|word| seen.has(word, place)) {
                return true;
            }
        }
    }
    false
}

fn word_at(bytes: &[u8], place: usize) -> Option<u64> {
    let word = bytes.get(place..place + MATCH)?;
    Some(u64::from_le_bytes(word.try_into().expect("its length is that of a word")))
}

/// Words and where they were last.
struct Seen(Box<[(u64, u32)]>);

impl Default for Seen {
    fn default() -> Self {
        Self(vec![(0, u32::MAX); 1 << Self::BITS].into())
    }
}

impl Seen {
    /// Nearly four times as many slots as words are remembered of one window.
    const BITS: u32 = 12;

    fn slot(word: u64) -> usize {
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::BITS)) as usize
    }

    fn insert(&mut self, word: u64, place: usize) {
        self.0[Self::slot(word)] = (word, u32::try_from(place).expect("a block is small"));
    }

    fn has(&self, word: u64, place: usize) -> bool {
        let (known, at) = self.0[Self::slot(word)];
        known == word && at != u32::MAX && place - at as usize <= WINDOW
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

    #[test]
    fn random_bytes_are_incompressible() {
        let bytes = random(1 << 20);
        for block in bytes.chunks(128 << 10) {
            assert!(is_incompressible(&[], block));
        }
        assert!(is_incompressible(&bytes[..32 << 10], &bytes[32 << 10..160 << 10]));
    }

    #[test]
    fn what_repeats_is_not() {
        let mut bytes = random(128 << 10);
        assert!(!is_incompressible(&bytes[100 << 10..], &bytes[120 << 10..]), "seen before");
        bytes.copy_within(50_003..51_003, 60_000);
        assert!(!is_incompressible(&[], &bytes), "a repetition of 1000 bytes");
        bytes.copy_within(10..1010, 50 << 10);
        assert!(!is_incompressible(&[], &bytes));
    }

    #[test]
    fn what_is_out_of_reach_does_not_count() {
        let mut bytes = random(128 << 10);
        bytes.copy_within(0..10_000, 110_000);
        assert!(is_incompressible(&[], &bytes));
    }

    #[test]
    fn uneven_bytes_are_not() {
        let mut bytes = random(128 << 10);
        bytes[60_000..80_000].fill(b'x');
        assert!(!is_incompressible(&[], &bytes));
        let text: Vec<u8> = random(128 << 10).iter().map(|byte| byte % 64 + 32).collect();
        assert!(!is_incompressible(&[], &text));
        let records: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        assert!(!is_incompressible(&[], &records));
    }
}
