//! Unpredictable words: `ChaCha` with key erasure, buffered.
//!
//! Each refill runs sixteen blocks side by side (the compiler turns a row of lanes into vector
//! registers), takes the first 32 bytes as the next key and hands out the rest. A key that
//! produced ids is gone before they leave, so what a process holds later tells nothing about
//! them. Eight rounds, as in Go's runtime generator: the best attack known reaches seven.

use std::array::from_fn;

/// Where a minter takes its random words from.
pub trait Randomness {
    /// The next 64 random bits.
    fn word(&mut self) -> u64;
}

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
/// Blocks that run side by side. Fewer, and the compiler unrolls the lanes instead of using vectors.
const LANES: usize = 16;
/// One word of the state, of all blocks.
type Row = [u32; LANES];

#[inline]
#[allow(
    clippy::many_single_char_names,
    reason = "the RFC's names, and four for their words"
)]
#[allow(
    clippy::needless_range_loop,
    reason = "the form that the compiler makes vectors of"
)]
fn quarter_round(rows: &mut [Row; 16], [a, b, c, d]: [usize; 4]) {
    for lane in 0..LANES {
        let [mut w, mut x, mut y, mut z] = [a, b, c, d].map(|row| rows[row][lane]);
        w = w.wrapping_add(x);
        z = (z ^ w).rotate_left(16);
        y = y.wrapping_add(z);
        x = (x ^ y).rotate_left(12);
        w = w.wrapping_add(x);
        z = (z ^ w).rotate_left(8);
        y = y.wrapping_add(z);
        x = (x ^ y).rotate_left(7);
        rows[a][lane] = w;
        rows[b][lane] = x;
        rows[c][lane] = y;
        rows[d][lane] = z;
    }
}

/// Consecutive blocks (RFC 8439, 2.3), block `n` in lane `n` of each row.
#[inline]
fn blocks<const DOUBLE_ROUNDS: usize>(key: &[u32; 8], counter: u32, nonce: [u32; 3]) -> [Row; 16] {
    let mut start = [[0; LANES]; 16];
    for (row, &word) in start.iter_mut().zip(CONSTANTS.iter().chain(key)) {
        *row = [word; LANES];
    }
    for (lane, word) in (0..).zip(&mut start[12]) {
        *word = counter.wrapping_add(lane);
    }
    for (row, word) in start[13..].iter_mut().zip(nonce) {
        *row = [word; LANES];
    }
    let mut rows = start;
    for _ in 0..DOUBLE_ROUNDS {
        quarter_round(&mut rows, [0, 4, 8, 12]);
        quarter_round(&mut rows, [1, 5, 9, 13]);
        quarter_round(&mut rows, [2, 6, 10, 14]);
        quarter_round(&mut rows, [3, 7, 11, 15]);
        quarter_round(&mut rows, [0, 5, 10, 15]);
        quarter_round(&mut rows, [1, 6, 11, 12]);
        quarter_round(&mut rows, [2, 7, 8, 13]);
        quarter_round(&mut rows, [3, 4, 9, 14]);
    }
    for (row, start) in rows.iter_mut().zip(&start) {
        for (word, start) in row.iter_mut().zip(start) {
            *word = word.wrapping_add(*start);
        }
    }
    rows
}

/// Double rounds of the generator (`ChaCha8`).
const DOUBLE_ROUNDS: usize = 4;
/// Words of one refill that are handed out: all but the next key.
const WORDS: usize = 16 * LANES / 2 - 4;

/// A generator seeded with 32 bytes.
pub struct ChaCha {
    key: [u32; 8],
    words: [u64; WORDS],
    next: usize,
}

impl ChaCha {
    /// A generator whose words follow from `key` alone.
    #[must_use]
    pub const fn new(key: [u32; 8]) -> Self {
        Self {
            key,
            words: [0; WORDS],
            next: WORDS,
        }
    }

    /// A generator from four random words.
    #[must_use]
    pub fn from_words(words: [u64; 4]) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of a word")]
        Self::new(from_fn(|i| (words[i / 2] >> (32 * (i % 2))) as u32))
    }

    /// A generator seeded by the operating system.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_bytes(&seed))
    }

    /// A generator from 32 bytes.
    #[must_use]
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self::new(from_fn(|i| {
            u32::from_le_bytes([
                seed[4 * i],
                seed[4 * i + 1],
                seed[4 * i + 2],
                seed[4 * i + 3],
            ])
        }))
    }

    /// The key that the next refill starts from.
    pub(crate) const fn key(&self) -> [u32; 8] {
        self.key
    }

    #[inline(never)]
    fn refill(&mut self) {
        let rows = blocks::<DOUBLE_ROUNDS>(&self.key, 0, [0; 3]);
        self.key = from_fn(|i| rows[0][i]);
        let (pairs, _) = rows.as_flattened().as_chunks::<2>();
        for (word, [low, high]) in self.words.iter_mut().zip(&pairs[4..]) {
            *word = u64::from(*low) | u64::from(*high) << 32;
        }
        self.next = 0;
    }
}

impl Randomness for ChaCha {
    #[inline]
    fn word(&mut self) -> u64 {
        if self.next >= WORDS {
            self.refill();
        }
        let word = std::mem::take(&mut self.words[self.next]);
        self.next += 1;
        word
    }
}

/// The key of the `number`-th stream below `key`: how a forked child goes on from a fixed seed.
#[must_use]
pub fn derive_key(key: &[u32; 8], number: u64) -> [u32; 8] {
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of a word")]
    let nonce = [number as u32, (number >> 32) as u32, 0x666f_726b];
    let rows = blocks::<10>(key, 0, nonce);
    from_fn(|i| rows[i][0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(key: &[u32; 8], counter: u32, nonce: [u32; 3], lane: usize) -> [u32; 16] {
        let rows = blocks::<10>(key, counter, nonce);
        from_fn(|i| rows[i][lane])
    }

    /// RFC 8439, 2.3.2.
    #[test]
    fn the_block_function_gives_the_published_block() {
        let key = from_fn(|i| {
            let i = u32::try_from(4 * i).unwrap();
            u32::from_le_bytes(from_fn(|j| {
                u8::try_from(i).unwrap() + u8::try_from(j).unwrap()
            }))
        });
        let nonce = [0x0900_0000, 0x4a00_0000, 0];
        let expected = [
            0xe4e7_f110,
            0x1559_3bd1,
            0x1fdd_0f50,
            0xc471_20a3,
            0xc7f4_d1c7,
            0x0368_c033,
            0x9aaa_2204,
            0x4e6c_d4c3,
            0x4664_82d2,
            0x09aa_9f07,
            0x05d7_c214,
            0xa202_8bd9,
            0xd19c_12b5,
            0xb94e_16de,
            0xe883_d0cb,
            0x4e3c_50a2,
        ];
        assert_eq!(block(&key, 1, nonce, 0), expected);
        assert_eq!(block(&key, 0, nonce, 1), expected, "lanes count on");
    }

    /// RFC 8439, appendix A.1, test vectors 1 and 2: all-zero key, blocks 0 and 1.
    #[test]
    fn lanes_are_consecutive_blocks() {
        let zero = [0; 8];
        assert_eq!(block(&zero, 0, [0; 3], 0)[..2], [0xade0_b876, 0x903d_f1a0]);
        assert_eq!(block(&zero, 0, [0; 3], 1)[..2], [0xbee7_079f, 0x7a38_5155]);
    }

    #[test]
    fn a_key_is_erased_before_its_words_leave() {
        let mut random = ChaCha::new([7; 8]);
        let first = random.word();
        assert_ne!(random.key, [7; 8]);
        assert_eq!(random.words[0], 0, "a word handed out is not kept");
        assert!(random.words[1..].iter().all(|&word| word != first));
    }

    #[test]
    fn equal_seeds_give_equal_words_and_derived_keys_differ() {
        let (mut a, mut b) = (ChaCha::new([1; 8]), ChaCha::new([1; 8]));
        for _ in 0..1000 {
            assert_eq!(a.word(), b.word());
        }
        assert_ne!(derive_key(&[1; 8], 1), derive_key(&[1; 8], 2));
        assert_ne!(derive_key(&[1; 8], 1), [1; 8]);
    }

    #[test]
    fn words_do_not_repeat_over_refills() {
        let mut random = ChaCha::new([0; 8]);
        let words: std::collections::HashSet<u64> = (0..10_000).map(|_| random.word()).collect();
        assert_eq!(words.len(), 10_000);
    }
}
