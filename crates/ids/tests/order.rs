//! Ids increase whatever the clock does, by steps nobody can guess, and never run far ahead.

use std::cell::Cell;
use std::rc::Rc;

use mintkey_ids::chacha::{ChaCha, Randomness};
use mintkey_ids::clock::{Clock, Reading};
use mintkey_ids::minter::{Host, KSUID_EPOCH, MAX_LEAD_MS, Minter, SNOWFLAKE_EPOCH, StepBack};
use mintkey_ids::{NodeChoice, Refusal};
use proptest::prelude::*;

const START: i64 = 1_704_067_200_000;

/// A clock in the hands of the test.
#[derive(Clone, Default)]
struct HandClock {
    wall_ms: Rc<Cell<i64>>,
    monotonic_ms: Rc<Cell<i64>>,
}

impl HandClock {
    fn at(wall_ms: i64) -> Self {
        let clock = Self::default();
        clock.wall_ms.set(wall_ms);
        clock
    }

    fn pass(&self, ms: i64) {
        self.wall_ms.set(self.wall_ms.get() + ms);
        self.monotonic_ms.set(self.monotonic_ms.get() + ms);
    }

    fn step(&self, ms: i64) {
        self.wall_ms.set(self.wall_ms.get() + ms);
    }
}

impl Clock for HandClock {
    fn wall(&self) -> Reading {
        Reading::from_ms(self.wall_ms.get())
    }

    fn monotonic_ms(&self) -> i64 {
        self.monotonic_ms.get()
    }
}

/// Randomness that is at its highest, so that every space is spent as fast as it can be.
struct Greatest;

impl Randomness for Greatest {
    fn word(&mut self) -> u64 {
        u64::MAX
    }
}

const HOST: Host = Host {
    process_bits: || Some(7),
    stepped_back: || {},
};

fn minter<R: Randomness>(clock: &HandClock, random: R) -> Minter<HandClock, R> {
    Minter::new(clock.clone(), random, HOST)
}

/// A sortable format: generates the next id as a number, and returns the tick of one in milliseconds.
struct Format<R> {
    name: &'static str,
    mint: fn(&mut Minter<HandClock, R>) -> Outcome,
}

/// The tick in milliseconds, and a number that sorts as the ids do.
type Outcome = Result<(i64, u128), Box<Refusal>>;

/// How long to wait for new ids.
fn wait_ms(refusal: &Refusal) -> i64 {
    match refusal {
        Refusal::Exhausted {
            wait_ms: Some(wait),
            ..
        } => i64::try_from(*wait).unwrap(),
        other => panic!("{other}"),
    }
}

fn high_48(bits: u128) -> i64 {
    i64::try_from(bits >> 80).unwrap()
}

fn many_bits<R: Randomness>() -> [Format<R>; 3] {
    [
        Format {
            name: "ulid",
            mint: |minter| {
                let reading = minter.read();
                minter.ulid(reading).map(|bits| (high_48(bits), bits))
            },
        },
        Format {
            name: "uuid7",
            mint: |minter| {
                let reading = minter.read();
                minter.uuid7(reading).map(|bits| (high_48(bits), bits))
            },
        },
        Format {
            name: "ksuid",
            mint: |minter| {
                let reading = minter.read();
                let (time, payload) = minter.ksuid(reading)?;
                // The order of (time, payload) in one number: the payload's lowest bits do not matter here.
                let order = u128::from(time) << 96 | payload >> 32;
                Ok(((i64::from(time) + KSUID_EPOCH) * 1000, order))
            },
        },
    ]
}

fn counting<R: Randomness>() -> [Format<R>; 2] {
    [
        Format {
            name: "xid",
            mint: |minter| {
                let reading = minter.read();
                minter
                    .xid(reading)
                    .map(|bits| (i64::try_from(bits >> 64).unwrap() * 1000, bits))
            },
        },
        Format {
            name: "snowflake",
            mint: |minter| {
                let reading = minter.read();
                let id =
                    minter.snowflake(reading, SNOWFLAKE_EPOCH, NodeChoice::ANY, |_, _| Ok(5))?;
                let order = u128::try_from(id).unwrap();
                Ok(((id >> 22) + SNOWFLAKE_EPOCH, order))
            },
        },
    ]
}

#[derive(Debug, Clone)]
enum Event {
    Mint(usize),
    Pass(i64),
    Step(i64),
    Diverge,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1_usize..40).prop_map(Event::Mint),
        2 => (0_i64..5).prop_map(Event::Pass),
        1 => (0_i64..5_000).prop_map(Event::Pass),
        1 => Just(Event::Diverge),
        1 => (-5_000_i64..5_000).prop_map(Event::Step),
        1 => prop_oneof![Just(-3_600_000_i64), Just(86_400_000), Just(-86_400_000)].prop_map(Event::Step),
    ];
    prop::collection::vec(event, 1..60)
}

/// Runs events; checks order always, and the lead over the highest reading where a format promises it.
fn check<R: Randomness>(format: &Format<R>, random: R, events: &[Event], paced: bool) {
    let clock = HandClock::at(START);
    let mut minter = minter(&clock, random);
    let (mut newest, mut highest_ms) = (0, START);
    for event in events {
        match event {
            Event::Pass(ms) => clock.pass(*ms),
            Event::Step(ms) => clock.step(*ms),
            Event::Diverge => minter.diverge(),
            Event::Mint(count) => {
                for _ in 0..*count {
                    highest_ms = highest_ms.max(clock.wall_ms.get());
                    match (format.mint)(&mut minter) {
                        Ok((tick_ms, order)) => {
                            assert!(order > newest, "{} does not increase", format.name);
                            newest = order;
                            if !paced {
                                let lead = tick_ms - highest_ms;
                                assert!(lead <= MAX_LEAD_MS, "{} leads by {lead} ms", format.name);
                            }
                        }
                        Err(refusal) => clock.pass(wait_ms(&refusal)),
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_increase_whatever_the_clock_does(events in events(), seed in any::<[u8; 32]>()) {
        for format in many_bits() {
            check(&format, ChaCha::new(seed), &events, false);
        }
        for format in counting() {
            check(&format, ChaCha::new(seed), &events, true);
        }
    }

    #[test]
    fn ids_increase_when_every_space_is_spent_at_once(events in events()) {
        for format in many_bits() {
            check(&format, Greatest, &events, false);
        }
        for format in counting() {
            check(&format, Greatest, &events, true);
        }
    }
}

#[test]
fn a_tick_tells_the_clock_as_long_as_it_has_room() {
    for format in many_bits().into_iter().chain(counting()) {
        let clock = HandClock::at(START);
        let mut minter = minter(&clock, ChaCha::new([1; 32]));
        for _ in 0..1000 {
            let (tick_ms, _) = (format.mint)(&mut minter).unwrap();
            assert_eq!(tick_ms, START, "{}", format.name);
        }
        clock.pass(60_000);
        assert_eq!(
            (format.mint)(&mut minter).unwrap().0,
            START + 60_000,
            "{}",
            format.name
        );
    }
}

#[test]
fn after_a_step_back_ids_stay_until_the_clock_has_caught_up() {
    for format in many_bits() {
        let clock = HandClock::at(START);
        let mut minter = minter(&clock, ChaCha::new([2; 32]));
        let (held, _) = (format.mint)(&mut minter).unwrap();
        clock.step(-3_600_000);
        for _ in 0..60 {
            clock.pass(59_000);
            assert_eq!(
                (format.mint)(&mut minter).unwrap().0,
                held,
                "{}",
                format.name
            );
        }
        clock.pass(62_000);
        assert_eq!(
            (format.mint)(&mut minter).unwrap().0,
            START + 2000,
            "{}",
            format.name
        );
    }
}

#[test]
fn after_a_step_back_counting_ids_go_on_at_the_pace_of_the_monotonic_clock() {
    for format in counting() {
        let clock = HandClock::at(START);
        let mut minter = minter(&clock, ChaCha::new([3; 32]));
        (format.mint)(&mut minter).unwrap();
        clock.step(-3_600_000);
        (format.mint)(&mut minter).unwrap();
        for passed in 1..=60_i64 {
            clock.pass(10_000);
            let (tick_ms, _) = (format.mint)(&mut minter).unwrap();
            assert_eq!(tick_ms, START + passed * 10_000, "{}", format.name);
        }
        clock.step(2 * 3_600_000);
        let (tick_ms, _) = (format.mint)(&mut minter).unwrap();
        assert_eq!(
            tick_ms,
            clock.wall_ms.get(),
            "{}: the wall clock rules again",
            format.name
        );
    }
}

#[test]
fn counting_ids_borrow_one_second_and_then_wait() {
    for format in counting() {
        let clock = HandClock::at(START);
        let mut minter = minter(&clock, ChaCha::new([4; 32]));
        let mut count = 0_u64;
        let wait = loop {
            match (format.mint)(&mut minter) {
                Ok((tick_ms, _)) => {
                    assert!(tick_ms <= START + MAX_LEAD_MS);
                    count += 1;
                }
                Err(refusal) => break wait_ms(&refusal),
            }
        };
        // At least the upper half of each tick's space: 1,001 of milliseconds, two of seconds.
        let least = if format.name == "xid" {
            2 << 23
        } else {
            1001 << 11
        };
        assert!(count >= least, "{} gave only {count}", format.name);
        clock.pass(wait);
        (format.mint)(&mut minter).unwrap();
    }
}

#[test]
fn a_clock_that_stands_still_refuses_instead_of_waiting() {
    use mintkey_ids::clock::EngineClock;
    let mut minter = Minter::new(EngineClock::frozen(START * 1000), Greatest, HOST);
    let refusal = loop {
        let reading = minter.read();
        if let Err(refusal) =
            minter.snowflake(reading, SNOWFLAKE_EPOCH, NodeChoice::ANY, |_, _| Ok(0))
        {
            break refusal;
        }
    };
    assert_eq!(
        *refusal,
        Refusal::Exhausted {
            format: "snowflake",
            wait_ms: None
        }
    );
}

#[test]
fn steps_inside_a_tick_cannot_be_guessed() {
    for (format, least) in many_bits()
        .into_iter()
        .zip([1_u128 << 44, 1 << 38, 1 << 20])
    {
        let clock = HandClock::at(START);
        let mut minter = minter(&clock, ChaCha::new([5; 32]));
        let ids: Vec<u128> = (0..10_000)
            .map(|_| (format.mint)(&mut minter).unwrap().1)
            .collect();
        let mut steps: Vec<u128> = ids.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let small = steps.iter().filter(|step| **step < least).count();
        assert!(small < 10, "{}: {small} steps are small", format.name);
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), 9_999, "{}: a step came twice", format.name);
    }
}

#[test]
fn counting_ids_start_at_random_in_the_lower_half() {
    for (format, bits) in counting().into_iter().zip([24, 12]) {
        let clock = HandClock::at(START);
        let mut minter = minter(&clock, ChaCha::new([6; 32]));
        let starts: std::collections::HashSet<u128> = (0..200)
            .map(|_| {
                clock.pass(1000);
                (format.mint)(&mut minter).unwrap().1 & ((1 << bits) - 1)
            })
            .collect();
        assert!(starts.len() > 180, "{}: starts repeat", format.name);
        assert!(
            starts.iter().all(|start| *start < 1 << (bits - 1)),
            "{}",
            format.name
        );
    }
}

#[test]
fn a_step_over_ten_seconds_is_told_once() {
    let clock = HandClock::at(START);
    let mut minter = minter(&clock, ChaCha::new([7; 32]));
    let mut tell = |step: i64| {
        clock.step(step);
        minter.read();
        minter.take_step_back()
    };
    assert_eq!(tell(0), None);
    assert_eq!(tell(-9_000), None, "a short step is no news");
    assert_eq!(tell(20_000), None);
    let highest = START + 11_000;
    let told = StepBack {
        from_ms: highest,
        to_ms: highest - 10_001,
    };
    assert_eq!(tell(-10_001), Some(told));
    assert_eq!(tell(-50_000), None, "the same step is not told again");
    assert_eq!(tell(100_000), None);
    assert!(tell(-100_000).is_some(), "a new one is");
}

#[test]
fn times_beyond_a_format_are_refused() {
    for (wall_ms, refused) in [
        (
            -1,
            ["ulid", "uuid7", "ksuid", "xid", "snowflake"].as_slice(),
        ),
        (1_000_000_000_000, &["ksuid", "snowflake"]),
        (5_000_000_000_000, &["xid", "snowflake"]),
        (6_000_000_000_000, &["ksuid", "xid", "snowflake"]),
        (1 << 48, &["ulid", "uuid7", "ksuid", "xid", "snowflake"]),
    ] {
        for format in many_bits().into_iter().chain(counting()) {
            let clock = HandClock::at(wall_ms);
            let outcome = (format.mint)(&mut minter(&clock, ChaCha::new([8; 32])));
            let is_refused = matches!(
                outcome.as_ref().map_err(Box::as_ref),
                Err(Refusal::OutOfRange { .. })
            );
            assert_eq!(
                is_refused,
                refused.contains(&format.name),
                "{} at {wall_ms}",
                format.name
            );
        }
    }
}

#[test]
fn two_strategies_that_meet_on_a_node_share_its_sequence() {
    let clock = HandClock::at(START);
    let mut minter = minter(&clock, ChaCha::new([9; 32]));
    let mut ids = Vec::new();
    for _ in 0..500 {
        for choice in [
            NodeChoice::Default,
            NodeChoice::Between(3, 3),
            NodeChoice::Between(0, 9),
        ] {
            let reading = minter.read();
            ids.push(
                minter
                    .snowflake(reading, SNOWFLAKE_EPOCH, choice, |_, _| Ok(3))
                    .unwrap(),
            );
        }
    }
    assert!(ids.is_sorted_by(|a, b| a < b));
}

#[test]
fn copies_that_part_share_no_id() {
    // Snowflakes differ by their nodes.
    let [xid, _] = counting();
    for format in many_bits().into_iter().chain([xid]) {
        let copies = [1, 2].map(|other| {
            let clock = HandClock::at(START);
            let mut minter = minter(&clock, ChaCha::new([10; 32]));
            let before = (format.mint)(&mut minter).unwrap();
            minter.diverge();
            minter.take_randomness(ChaCha::new([other; 32]));
            let mut next = || (format.mint)(&mut minter).unwrap().1;
            (before, (0..200).map(|_| next()).collect::<Vec<_>>())
        });
        assert_eq!(copies[0].0, copies[1].0, "{}: no copies", format.name);
        let [(_, one), (_, other)] = copies;
        assert!(one.iter().all(|id| !other.contains(id)), "{}", format.name);
    }
}
