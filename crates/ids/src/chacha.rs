//! Unpredictable words: `ChaCha` with key erasure, buffered.
//!
//! Each refill replaces the key and mixes fresh randomness of the system into it. A key that produced ids is erased
//! before they are returned, so the memory of a process reveals nothing about earlier ids; and two copies of one
//! process differ from their next refill on. Eight rounds, as in Go's runtime generator: the best attack known reaches seven.

use chacha20::rand_core::{Rng, SeedableRng};
use chacha20::{ChaCha8Rng, ChaCha20Rng};

/// A source of random words.
pub trait Randomness {
    /// The next 64 random bits.
    fn word(&mut self) -> u64;
}

/// Words of one refill. With the key a refill draws four kilobytes, so that its system call costs a word half a
/// nanosecond.
const WORDS: usize = 508;

/// A buffered generator.
pub struct ChaCha {
    key: [u8; 32],
    words: [u64; WORDS],
    next: usize,
    /// Whether refills mix in randomness of the system; otherwise the words follow from the first key alone.
    mixes: bool,
}

impl ChaCha {
    /// A generator whose words follow from `key` alone.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            words: [0; WORDS],
            next: WORDS,
            mixes: false,
        }
    }

    /// A generator seeded by the operating system; each refill mixes in more of its randomness. The call may block while a
    /// machine that is starting has no randomness yet.
    ///
    /// # Errors
    /// When the system returns no randomness.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut random = Self::new([0; 32]);
        getrandom::fill(&mut random.key)?;
        random.mixes = true;
        Ok(random)
    }

    #[inline(never)]
    fn refill(&mut self) {
        if self.mixes {
            // It does not block: the system has had randomness since the generator was seeded. Where the system takes
            // it back (a filter of system calls), the key alone still makes words that nobody can predict.
            let mut fresh = [0; 32];
            if getrandom::fill(&mut fresh).is_ok() {
                for (byte, fresh) in self.key.iter_mut().zip(fresh) {
                    *byte ^= fresh;
                }
            }
        }
        let mut stream = ChaCha8Rng::from_seed(self.key);
        stream.fill_bytes(&mut self.key);
        for word in &mut self.words {
            *word = stream.next_u64();
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

/// More words than an id was given: a stream that follows from them alone.
pub(crate) struct Expansion(ChaCha8Rng);

impl Expansion {
    pub(crate) fn of(words: &[u64; 4]) -> Self {
        let mut seed = [0; 32];
        for (bytes, word) in seed.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Self(ChaCha8Rng::from_seed(seed))
    }
}

impl Randomness for Expansion {
    fn word(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The key of the `number`-th stream below `key`: how a forked child continues from a fixed seed.
#[must_use]
pub fn derive_key(key: &[u8; 32], number: u64) -> [u8; 32] {
    let mut stream = ChaCha20Rng::from_seed(*key);
    stream.set_stream(number);
    let mut derived = [0; 32];
    stream.fill_bytes(&mut derived);
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_erased_before_its_words_leave() {
        let mut random = ChaCha::new([7; 32]);
        let first = random.word();
        assert_ne!(random.key, [7; 32]);
        assert_eq!(random.words[0], 0, "a word handed out is not kept");
        assert!(random.words[1..].iter().all(|&word| word != first));
    }

    #[test]
    fn equal_seeds_give_equal_words_and_derived_keys_differ() {
        let (mut a, mut b) = (ChaCha::new([1; 32]), ChaCha::new([1; 32]));
        for _ in 0..3 * WORDS {
            assert_eq!(a.word(), b.word());
        }
        assert_ne!(derive_key(&[1; 32], 1), derive_key(&[1; 32], 2));
        assert_ne!(derive_key(&[1; 32], 1), [1; 32]);
    }

    #[test]
    fn copies_of_a_generator_of_the_system_part_at_the_next_refill() {
        let mut one = ChaCha::from_system().unwrap();
        let first = one.word();
        let mut other = ChaCha {
            key: one.key,
            words: one.words,
            next: one.next,
            mixes: one.mixes,
        };
        let words =
            |random: &mut ChaCha| -> Vec<u64> { (0..2 * WORDS).map(|_| random.word()).collect() };
        let (one, other) = (words(&mut one), words(&mut other));
        assert!(!one.contains(&first));
        assert_eq!(one[..WORDS - 1], other[..WORDS - 1]);
        assert!((WORDS - 1..2 * WORDS).all(|at| one[at] != other[at]));
    }

    #[test]
    fn words_do_not_repeat_over_refills() {
        let mut random = ChaCha::new([0; 32]);
        let words: std::collections::HashSet<u64> = (0..10_000).map(|_| random.word()).collect();
        assert_eq!(words.len(), 10_000);
    }
}
