//! What update actions mean.

mod common;

use common::{any_item, item, list, map, number, numbers, strings, table};
use mintkey_store::{Action, ErrorKind, Item, Map, Path, Step, Value, update};
use proptest::prelude::*;

fn at(name: &str) -> Path {
    Path::attribute(name)
}

fn inner(name: &str, steps: &[Step]) -> Path {
    Path(
        std::iter::once(Step::Name(name.into()))
            .chain(steps.iter().cloned())
            .collect(),
    )
}

fn place(index: usize) -> Step {
    Step::Index(index)
}

fn name(name: &str) -> Step {
    Step::Name(name.into())
}

fn applied(stored: &[(&str, Value)], actions: &[Action]) -> Result<Item, ErrorKind> {
    update::check(actions, &table()).map_err(|error| error.kind)?;
    let mut changed = item(stored);
    update::apply(actions, &mut changed).map_err(|error| error.kind)?;
    Ok(changed)
}

#[test]
fn each_action_does_what_it_says() {
    let one_two = || list(&[1.into(), 2.into()]);
    for (stored, action, expected) in [
        (None, Action::Set(at("a"), 1.into()), Some(1.into())),
        (
            Some("x".into()),
            Action::Set(at("a"), 1.into()),
            Some(1.into()),
        ),
        (Some(1.into()), Action::Remove(at("a")), None),
        (None, Action::Remove(at("a")), None),
        (
            None,
            Action::Add(at("a"), number("0.1")),
            Some(Value::Number(number("0.1"))),
        ),
        (
            Some(Value::Number(number("0.2"))),
            Action::Add(at("a"), number("0.1")),
            Some(Value::Number(number("0.3"))),
        ),
        (
            Some(5.into()),
            Action::Add(at("a"), number("-5")),
            Some(0.into()),
        ),
        (
            Some(list(&[1.into()])),
            Action::Append(at("a"), vec![2.into()]),
            Some(one_two()),
        ),
        (
            Some(list(&[2.into()])),
            Action::Prepend(at("a"), vec![1.into()]),
            Some(one_two()),
        ),
        (
            None,
            Action::Append(at("a"), vec![1.into(), 2.into()]),
            Some(one_two()),
        ),
        (
            None,
            Action::Prepend(at("a"), vec![1.into(), 2.into()]),
            Some(one_two()),
        ),
        (None, Action::SetIfAbsent(at("a"), 1.into()), Some(1.into())),
        (
            Some(2.into()),
            Action::SetIfAbsent(at("a"), 1.into()),
            Some(2.into()),
        ),
        (
            None,
            Action::AddToSet(at("a"), strings(&["x"])),
            Some(strings(&["x"])),
        ),
        (
            Some(strings(&["y"])),
            Action::AddToSet(at("a"), strings(&["x", "y"])),
            Some(strings(&["x", "y"])),
        ),
        (
            Some(numbers(&["1", "2"])),
            Action::DeleteFromSet(at("a"), numbers(&["2", "3"])),
            Some(numbers(&["1"])),
        ),
        (
            Some(strings(&["x"])),
            Action::DeleteFromSet(at("a"), strings(&["x"])),
            None,
        ),
        (None, Action::DeleteFromSet(at("a"), strings(&["x"])), None),
    ] {
        let before: Vec<(&str, Value)> = stored.into_iter().map(|value| ("a", value)).collect();
        let after: Vec<(&str, Value)> = expected.into_iter().map(|value| ("a", value)).collect();
        assert_eq!(
            applied(&before, std::slice::from_ref(&action)),
            Ok(item(&after)),
            "{action:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let stored = [
        ("s", "x".into()),
        ("n", Value::Number(number("9E+125"))),
        ("l", list(&[1.into()])),
        ("m", map(&[])),
    ];
    for action in [
        Action::Add(at("s"), number("1")),
        Action::Add(at("n"), number("9E+125")),
        Action::Add(at("n"), number("1")),
        Action::Append(at("s"), vec![1.into()]),
        Action::Prepend(at("m"), vec![1.into()]),
        Action::AddToSet(at("s"), strings(&["x"])),
        Action::AddToSet(at("l"), strings(&["x"])),
        Action::AddToSet(at("a"), 1.into()),
        Action::AddToSet(at("a"), strings(&[])),
        Action::DeleteFromSet(at("s"), strings(&["x"])),
        Action::Set(inner("absent", &[name("x")]), 1.into()),
        Action::Remove(inner("absent", &[name("x")])),
        Action::Set(inner("s", &[name("x")]), 1.into()),
        Action::Set(inner("l", &[name("x")]), 1.into()),
        Action::Set(inner("m", &[place(0)]), 1.into()),
        Action::Set(inner("m", &[name("x"), name("y")]), 1.into()),
        Action::Set(at("pk"), "other".into()),
        Action::Remove(at("sk")),
        Action::Set(inner("pk", &[name("x")]), 1.into()),
        Action::Set(Path(vec![]), 1.into()),
    ] {
        assert_eq!(
            applied(&stored, std::slice::from_ref(&action)),
            Err(ErrorKind::InvalidValue),
            "{action:?}"
        );
    }
}

#[test]
fn overlapping_paths_are_refused() {
    let set = |path: Path| Action::Set(path, 1.into());
    for (one, other) in [
        (at("a"), at("a")),
        (at("a"), inner("a", &[name("x")])),
        (inner("a", &[place(1), name("x")]), inner("a", &[place(1)])),
    ] {
        for actions in [
            [set(one.clone()), Action::Remove(other.clone())],
            [set(other.clone()), set(one.clone())],
        ] {
            let error = update::check(&actions, &table()).unwrap_err();
            assert!(error.message.contains("overlap"), "{error}");
        }
    }
    let apart = [
        set(at("a")),
        set(at("ab")),
        set(inner("b", &[place(1)])),
        set(inner("b", &[place(10)])),
    ];
    update::check(&apart, &table()).unwrap();
}

#[test]
fn a_place_is_not_a_map_and_a_list() {
    let set = |path: Path| Action::Set(path, 1.into());
    let actions = [
        set(inner("a", &[name("x"), name("y")])),
        set(inner("b", &[name("z")])),
        Action::Remove(inner("a", &[name("x"), place(0)])),
        set(inner("a", &[name("w"), name("y")])),
    ];
    let error = update::check(&actions, &table()).unwrap_err();
    assert!(
        error.message.contains("a.x.y and a.x[0] conflict"),
        "{error}"
    );
    update::check(&actions[1..], &table()).unwrap();
}

#[test]
fn indexes_count_as_stored_whatever_else_happens() {
    let stored = [("l", list(&[0.into(), 1.into(), 2.into(), 3.into()]))];
    let actions = [
        Action::Remove(inner("l", &[place(0)])),
        Action::Set(inner("l", &[place(9)]), "second".into()),
        Action::Set(inner("l", &[place(7)]), "first".into()),
        Action::Set(inner("l", &[place(3)]), "three".into()),
        Action::Remove(inner("l", &[place(2)])),
        Action::Remove(inner("l", &[place(20)])),
    ];
    let expected = list(&[1.into(), "three".into(), "first".into(), "second".into()]);
    assert_eq!(applied(&stored, &actions), Ok(item(&[("l", expected)])));
}

#[test]
fn nested_values_change_in_place() {
    let stored = [(
        "m",
        map(&[
            ("n", 1.into()),
            ("tags", strings(&["a"])),
            ("l", list(&[map(&[])])),
        ]),
    )];
    let actions = [
        Action::Add(inner("m", &[name("n")]), number("2")),
        Action::DeleteFromSet(inner("m", &[name("tags")]), strings(&["a"])),
        Action::Set(inner("m", &[name("l"), place(0), name("x")]), "deep".into()),
    ];
    let expected = map(&[
        ("n", 3.into()),
        ("l", list(&[map(&[("x", "deep".into())])])),
    ]);
    assert_eq!(applied(&stored, &actions), Ok(item(&[("m", expected)])));
}

#[test]
fn a_value_set_beyond_the_end_is_not_the_one_removed_there() {
    let stored = [("l", list(&[0.into()]))];
    let actions = [
        Action::Remove(inner("l", &[place(1)])),
        Action::Set(inner("l", &[place(5)]), "new".into()),
    ];
    let expected = list(&[0.into(), "new".into()]);
    assert_eq!(applied(&stored, &actions), Ok(item(&[("l", expected)])));
}

/// Changes to so many entries of a map or list, in no order; every third is a removal.
fn many_changes(count: usize, step: impl Fn(usize) -> Step) -> Vec<Action> {
    let positions = (0..count).map(|number| number * 7919 % count);
    let change = |position: usize| {
        let path = inner("c", &[step(position)]);
        match position % 3 {
            0 => Action::Remove(path),
            1 => Action::Set(path, "changed".into()),
            _ => Action::Add(path, number("1")),
        }
    };
    positions.map(change).collect()
}

#[test]
fn many_changes_to_one_large_value_are_made_in_one_pass() {
    // Looked up or moved one by one, the entries would take minutes.
    const COUNT: usize = 90_000;
    let numbers = || (0..COUNT).map(|number| Value::from(i64::try_from(number).unwrap()));
    let named = |number: usize| name(&format!("n{number}"));
    let entries = numbers().enumerate();
    let entries = entries.map(|(number, value)| (format!("n{number}").into(), value));
    for (value, actions) in [
        (
            Value::Map(entries.collect::<Map>()),
            many_changes(COUNT, named),
        ),
        (Value::List(numbers().collect()), many_changes(COUNT, place)),
    ] {
        let changed = applied(&[("c", value)], &actions).unwrap();
        let members: Vec<&Value> = match changed.get("c") {
            Some(Value::Map(map)) => map.iter().map(|(_, value)| value).collect(),
            Some(Value::List(list)) => list.iter().collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(members.len(), COUNT / 3 * 2);
        for (pair, number) in members.chunks(2).zip((0..).step_by(3)) {
            assert_eq!(pair, [&"changed".into(), &Value::from(number + 3)]);
        }
    }
}

proptest! {
    #[test]
    fn many_changes_to_a_map_are_as_one_after_the_other(
        stored in proptest::collection::btree_set(0_usize..80, 0..60),
        changed in proptest::collection::btree_map(0_usize..80, 0_u8..4, 0..60),
        rotation in any::<prop::sample::Index>(),
    ) {
        let entry = |key: usize| (format!("n{key}").into(), Value::from(i64::try_from(key).unwrap()));
        let mut together = item(&[("m", Value::Map(stored.into_iter().rev().map(entry).collect()))]);
        let mut one_by_one = together.clone();
        let mut actions: Vec<Action> = changed.into_iter().map(|(key, kind)| {
            let path = inner("m", &[name(&format!("n{key}"))]);
            match kind {
                0 => Action::Set(path, list(&[])),
                1 => Action::Remove(path),
                2 => Action::Add(path, number("0.5")),
                _ => Action::SetIfAbsent(path, "absent".into()),
            }
        }).collect();
        if !actions.is_empty() {
            let places = rotation.index(actions.len());
            actions.rotate_left(places);
        }
        update::apply(&actions, &mut together).unwrap();
        for action in &actions {
            update::apply(std::slice::from_ref(action), &mut one_by_one).unwrap();
        }
        prop_assert_eq!(together, one_by_one);
    }

    #[test]
    fn what_is_set_is_there_and_the_rest_stays(stored in any_item(), value in common::any_value(), name in "[a-c]{1,2}") {
        let mut changed = stored.clone();
        update::apply(&[Action::Set(at(&name), value.clone())], &mut changed).unwrap();
        prop_assert_eq!(changed.get(&name), Some(&value));
        for (other, value) in stored.iter().filter(|(other, _)| **other != *name) {
            prop_assert_eq!(changed.get(other), Some(value));
        }
        update::apply(&[Action::Remove(at(&name))], &mut changed).unwrap();
        let mut without = stored;
        without.remove(&name);
        prop_assert_eq!(changed, without);
    }
}
