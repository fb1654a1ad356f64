//! The ids of a time range.

use crate::error::InvalidParameter;
use crate::kind::Kind;
use crate::minter::{KSUID_EPOCH, MAX_32, MAX_41, MAX_48};
use crate::strategy::{Draft, Strategy};

const LOW_62: u128 = (1 << 62) - 1;

/// The smallest and the greatest value that can be generated from `start_us` on and before `end_us`,
/// both in microseconds since the Unix epoch.
///
/// A value belongs to the start of its tick: a KSUID of second 10 is not in a range from 10.5 on.
///
/// # Errors
/// When the strategy does not sort by time, or the range contains no tick of it.
pub fn bounds(
    strategy: &Strategy,
    start_us: i64,
    end_us: i64,
) -> Result<(Draft, Draft), InvalidParameter> {
    let kind = strategy.kind();
    // Microseconds of a tick, the tick of the first value, the greatest tick.
    let (tick_us, origin, greatest) = match kind {
        Kind::Uuid4 | Kind::Nanoid | Kind::Cuid2 => {
            return Err(InvalidParameter(format!(
                "{kind} does not sort by time, so a time range is not a range of its values: \
                 use a strategy that does, such as ulid or uuid7"
            )));
        }
        Kind::Ulid | Kind::Uuid7 | Kind::Typeid => (1000, 0, MAX_48),
        Kind::Ksuid => (1_000_000, KSUID_EPOCH, MAX_32),
        Kind::Xid => (1_000_000, 0, MAX_32),
        Kind::Snowflake => (
            1000,
            strategy.snowflake().map_or(0, |(epoch, _)| epoch),
            MAX_41,
        ),
        Kind::Epoch | Kind::Iso8601 => (1_000_000, i64::MIN / 1_000_000, i64::MAX),
        Kind::EpochMs | Kind::Iso8601Ms => (1000, i64::MIN / 1000, i64::MAX),
        Kind::EpochUs if start_us < end_us => {
            return Ok((Draft::Int(start_us), Draft::Int(end_us - 1)));
        }
        Kind::EpochUs => {
            return Err(InvalidParameter(
                "the time range ends before it begins".into(),
            ));
        }
    };
    let first_from = |us: i64| us.div_euclid(tick_us) + i64::from(us.rem_euclid(tick_us) > 0);
    let low = first_from(start_us).saturating_sub(origin).max(0);
    let high = (first_from(end_us) - 1)
        .saturating_sub(origin)
        .min(greatest);
    if low > high {
        return Err(InvalidParameter(format!(
            "no {kind} can be generated in this time range: it ends before it begins, contains no \
             start of a {}, or is outside the times that {kind} can represent",
            if tick_us == 1000 {
                "millisecond"
            } else {
                "second"
            }
        )));
    }
    let wide = |tick: i64| u128::from(tick.cast_unsigned());
    Ok(match kind {
        Kind::Ulid => (
            Draft::Bits(wide(low) << 80),
            Draft::Bits(wide(high) << 80 | ((1 << 80) - 1)),
        ),
        Kind::Uuid7 | Kind::Typeid => (
            Draft::Bits(wide(low) << 80 | 0x7 << 76 | 0x2 << 62),
            Draft::Bits(wide(high) << 80 | 0x7fff << 64 | 0x2 << 62 | LOW_62),
        ),
        Kind::Xid => (
            Draft::Bits(wide(low) << 64),
            Draft::Bits(wide(high) << 64 | ((1 << 64) - 1)),
        ),
        Kind::Ksuid => {
            let time = |tick: i64| u32::try_from(tick).unwrap_or(u32::MAX);
            (
                Draft::Ksuid(time(low), 0),
                Draft::Ksuid(time(high), u128::MAX),
            )
        }
        Kind::Snowflake => (
            Draft::Int(low << 22),
            Draft::Int(high << 22 | ((1 << 22) - 1)),
        ),
        _ => {
            let ms = |tick: i64| tick.saturating_add(origin).saturating_mul(tick_us / 1000);
            (Draft::Time(ms(low)), Draft::Time(ms(high)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chacha::ChaCha;
    use crate::clock::{EngineClock, Reading};
    use crate::minter::{Host, Minter};
    use crate::node_choice::NodeChoice;

    const SORTABLE: [Kind; 10] = [
        Kind::Uuid7,
        Kind::Ulid,
        Kind::Ksuid,
        Kind::Snowflake,
        Kind::Typeid,
        Kind::Xid,
        Kind::Epoch,
        Kind::EpochMs,
        Kind::Iso8601,
        Kind::Iso8601Ms,
    ];

    fn minted(kind: Kind, at_us: i64) -> Draft {
        let host = Host {
            process_bits: || Some(1),
            stepped_back: || {},
        };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&at_us.to_le_bytes());
        let mut minter = Minter::new(EngineClock::frozen(at_us), ChaCha::new(key), host);
        let reading: Reading = minter.read();
        match kind {
            Kind::Uuid7 | Kind::Typeid => Draft::Bits(minter.uuid7(reading).unwrap()),
            Kind::Ulid => Draft::Bits(minter.ulid(reading).unwrap()),
            Kind::Ksuid => {
                let (time, payload) = minter.ksuid(reading).unwrap();
                Draft::Ksuid(time, payload)
            }
            Kind::Xid => Draft::Bits(minter.xid(reading).unwrap()),
            Kind::Snowflake => {
                let epoch = crate::minter::SNOWFLAKE_EPOCH;
                Draft::Int(
                    minter
                        .snowflake(reading, epoch, NodeChoice::ANY, |_, _| Ok(7))
                        .unwrap(),
                )
            }
            _ => Draft::Time(reading.ms()),
        }
    }

    #[test]
    fn what_is_minted_at_a_tick_lies_in_the_spans_that_hold_the_tick_and_in_no_other() {
        let start = 1_704_067_200_000_000;
        let order = |strategy: &Strategy, draft: &Draft| match strategy.int(draft) {
            Some(int) => (int, String::new()),
            None => (0, strategy.text(draft)),
        };
        for kind in SORTABLE {
            let strategy = Strategy::plain(kind);
            let tick = if matches!(kind, Kind::Ksuid | Kind::Xid | Kind::Epoch | Kind::Iso8601) {
                1_000_000
            } else {
                1000
            };
            let end = start + 3 * tick;
            let (low, high) = bounds(&strategy, start, end).unwrap();
            let (low, high) = (order(&strategy, &low), order(&strategy, &high));
            for step in -2..6 {
                let id = order(&strategy, &minted(kind, start + step * tick));
                assert_eq!(
                    (0..3).contains(&step),
                    low <= id && id <= high,
                    "{kind} {step}"
                );
            }
            let next = bounds(&strategy, end, end + tick).unwrap().0;
            assert!(
                order(&strategy, &next) > high,
                "{kind}: spans that touch share nothing"
            );
            let odd = order(&strategy, &bounds(&strategy, start + 1, end).unwrap().0);
            assert!(
                odd > order(&strategy, &minted(kind, start)),
                "{kind}: a tick begun before is left out"
            );
            assert!(
                bounds(&strategy, start + 1, start + tick).is_err(),
                "{kind}"
            );
            assert!(bounds(&strategy, end, start).is_err(), "{kind}");
        }
    }

    #[test]
    fn spans_beyond_the_bits_are_cut() {
        let ksuid = Strategy::plain(Kind::Ksuid);
        let (low, _) = bounds(&ksuid, 0, 1_704_067_200_000_000).unwrap();
        assert_eq!(ksuid.text(&low), "0".repeat(27));
        assert!(bounds(&ksuid, 0, 1_000_000).is_err());
        let (_, high) = bounds(&ksuid, 0, i64::MAX).unwrap();
        assert_eq!(ksuid.text(&high), "aWgEPTl1tmebfsQzFP4bxwgy80V");
        for kind in SORTABLE {
            assert!(
                bounds(&Strategy::plain(kind), i64::MIN, i64::MAX).is_ok(),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_does_not_sort_has_no_bounds() {
        for kind in [Kind::Uuid4, Kind::Nanoid, Kind::Cuid2] {
            assert!(bounds(&Strategy::plain(kind), 0, 1 << 50).is_err());
        }
    }
}
