//! The random parts of a million ids look random: each bit as often set as not, each character equally often.

use mintkey_ids::chacha::ChaCha;
use mintkey_ids::clock::EngineClock;
use mintkey_ids::minter::{Host, Minter};
use mintkey_ids::{Draft, Kind, NANOID_ALPHABET, Parameters, Strategy};

const IDS: u32 = 1_000_000;

fn minter() -> Minter<EngineClock, ChaCha> {
    let host = Host {
        process_bits: || None,
        stepped_back: || {},
    };
    Minter::new(
        EngineClock::frozen(1_704_067_200_000_000),
        ChaCha::new([11; 32]),
        host,
    )
}

/// Each of the bits is set in half of the ids, give or take five standard deviations.
fn check_bits(name: &str, bits: u32, mut next: impl FnMut() -> u128) {
    let mut set = vec![0_u32; bits as usize];
    for _ in 0..IDS {
        let id = next();
        for (bit, count) in set.iter_mut().enumerate() {
            *count += u32::from(id >> bit & 1 == 1);
        }
    }
    let (half, deviation) = (IDS / 2, 500);
    for (bit, count) in set.iter().enumerate() {
        assert!(
            count.abs_diff(half) < 5 * deviation,
            "{name}: bit {bit} is set {count} times"
        );
    }
}

#[test]
fn bits_are_balanced() {
    let mut minter = minter();
    check_bits("uuid4, last group", 62, || minter.uuid4());
    // A fresh tick each time: the start's bits, but for the highest, which is left clear.
    let mut advance = || {
        minter.clock_mut().advance(1000);
        minter.read()
    };
    let readings: Vec<_> = (0..IDS).map(|_| advance()).collect();
    let mut ticks = readings.iter().copied();
    check_bits("ulid", 79, || minter.ulid(ticks.next().unwrap()).unwrap());
    let mut ticks = readings.iter().copied();
    check_bits("uuid7, last group", 62, || {
        minter.uuid7(ticks.next().unwrap()).unwrap()
    });
    check_bits("words", 64, || u128::from(minter.word()));
}

/// Chi-square of counts against equal ones, in standard deviations from its mean.
fn chi_square_deviations(counts: &[u32]) -> f64 {
    let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let degrees = f64::from(u32::try_from(counts.len() - 1).unwrap());
    let expected = total / (degrees + 1.0);
    let chi_square: f64 = counts
        .iter()
        .map(|&count| (f64::from(count) - expected).powi(2) / expected)
        .sum();
    (chi_square - degrees) / (2.0 * degrees).sqrt()
}

#[test]
fn characters_are_equally_frequent() {
    let odd_alphabet = "abcdefghijklmnopqrstuvwxyz0123456789_";
    let odd = Parameters {
        alphabet: Some(odd_alphabet),
        ..Parameters::default()
    };
    let base36 = "abcdefghijklmnopqrstuvwxyz0123456789";
    let cases = [
        (Strategy::plain(Kind::Nanoid), NANOID_ALPHABET, 0),
        (Strategy::new(Kind::Nanoid, &odd).unwrap(), odd_alphabet, 0),
        (Strategy::plain(Kind::Cuid2), base36, 1),
    ];
    let mut minter = minter();
    for (strategy, alphabet, skipped) in cases {
        let places: Vec<Option<usize>> = (0..=255_u8)
            .map(|byte| alphabet.bytes().position(|c| c == byte))
            .collect();
        let length = strategy.body_len();
        let mut counts = vec![vec![0_u32; alphabet.len()]; length];
        let mut body = vec![0; length];
        for _ in 0..IDS / 5 {
            strategy.write_body(&Draft::Words(minter.words()), &mut body);
            for (counts, byte) in counts.iter_mut().zip(&body) {
                counts[places[usize::from(*byte)].unwrap()] += 1;
            }
        }
        for (at, counts) in counts.iter().enumerate().skip(skipped) {
            let deviations = chi_square_deviations(counts);
            assert!(
                deviations.abs() < 5.0,
                "{} at {at}: {deviations}",
                strategy.kind()
            );
        }
    }
}
