//! Evaluations take work in proportion to what they compare, and can be ended.

mod common;

use common::{item, list};
use mintkey_store::{Comparison, Condition, Item, Map, Path, Value, Work};

const MANY: i64 = 200_000;

fn path() -> Path {
    Path::attribute("v")
}

fn equal(value: Value) -> Condition {
    Condition::Compare {
        path: path(),
        op: Comparison::Eq,
        value,
    }
}

fn contains(value: Value) -> Condition {
    Condition::Contains {
        path: path(),
        value,
    }
}

/// A map of so many entries; from the last to the first if it is reversed.
fn large(entries: i64, reversed: bool) -> Value {
    let mut pairs: Vec<_> = (0..entries)
        .map(|number| (format!("key {number}").into(), number.into()))
        .collect();
    if reversed {
        pairs.reverse();
    }
    Value::Map(Map::from_pairs(pairs))
}

/// The result of an evaluation, and how often it asked whether to continue.
fn asked(condition: &Condition, value: Value) -> (bool, u32) {
    let mut asked = 0;
    let mut ask = || -> Result<(), ()> {
        asked += 1;
        Ok(())
    };
    let holds = condition.evaluate(&item(&[("v", value)]), &mut Work::new(&mut ask));
    (holds.unwrap(), asked)
}

#[test]
fn large_maps_are_compared_in_time_that_grows_with_their_size() {
    let (equal_maps, few) = asked(&equal(large(MANY, true)), large(MANY, false));
    let (_, many) = asked(&equal(large(4 * MANY, true)), large(4 * MANY, false));
    assert!(equal_maps && few > 0);
    assert!(many <= 5 * (few + 1), "{few}, then {many}");
}

#[test]
fn long_evaluations_of_each_kind_ask_whether_to_go_on() {
    let bytes = |length| Value::Binary(vec![7; length]);
    let long = 3 << 20;
    let maps = || (0..100).map(|_| large(2000, false));
    let conditions = [
        (equal(bytes(long)), bytes(long)),
        (contains(bytes(3)), bytes(long)),
        (equal(large(MANY, false)), large(MANY, false)),
        (
            contains(large(2000, true)),
            Value::List(maps().chain([large(2001, true)]).collect()),
        ),
        (
            Condition::IsIn {
                path: path(),
                values: maps().collect(),
            },
            large(2000, true),
        ),
        (
            Condition::Between {
                path: path(),
                low: bytes(long),
                high: bytes(long + 1),
            },
            bytes(long),
        ),
        (
            Condition::BeginsWith {
                path: path(),
                prefix: bytes(long),
            },
            bytes(long + 1),
        ),
        (
            Condition::Or(vec![Condition::Missing(path()); 200_000]),
            Value::Null,
        ),
    ];
    for (position, (condition, value)) in conditions.into_iter().enumerate() {
        let stored = item(&[("v", value)]);
        let mut ask = || Err("enough");
        let mut work = Work::new(&mut ask);
        let mut evaluations = 0..200;
        let ended = evaluations.any(|_| condition.evaluate(&stored, &mut work) == Err("enough"));
        assert!(ended, "{position}");
    }
}

#[test]
fn short_evaluations_do_not_ask() {
    let value = list(&["a".into(), 1.into(), Value::Null]);
    assert_eq!(asked(&equal(value.clone()), value), (true, 0));
}

#[test]
fn the_work_of_many_short_evaluations_adds_up() {
    let condition = equal("a".into());
    let stored: Item = item(&[("v", "a".into())]);
    let mut ask = || Err("enough");
    let mut work = Work::new(&mut ask);
    assert!((0..1 << 20).any(|_| condition.evaluate(&stored, &mut work).is_err()));
}
