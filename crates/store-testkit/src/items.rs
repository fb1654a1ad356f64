//! Putting, getting, updating and deleting single items.

use std::sync::Arc;

use crate::fixture::{Reopen, fresh, tests};
use crate::requests::{
    NOW, attribute, condition, delete_of, get, insert, item, key, kind, message, number, order,
    orders, page, plain, put, put_of, query, query_of, run, scan, scan_of, string, texts,
    update_of,
};
use libtest_mimic::Trial;
use mintkey_store::{
    Action, Comparison, Condition, ErrorKind, Get, Guard, Key, KeyKind, KeyValue, Operation, Path,
    Reply, Row, Table, Value,
};

fn at_least(attribute: &str, value: i64) -> Condition {
    Condition::Compare {
        path: Path::attribute(attribute),
        op: Comparison::Ge,
        value: value.into(),
    }
}

fn what_is_put_is_got<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        let stored = order("a", "1", &[("total", Value::Number(number("99.99")))]);
        assert_eq!(get(store, &table, key("a", "1")), None);
        assert_eq!(put(store, &table, stored.clone()).unwrap(), Reply::Done);
        assert_eq!(get(store, &table, key("a", "1")), Some(stored));
        assert_eq!(get(store, &table, key("a", "2")), None);
        put(store, &table, order("a", "1", &[])).unwrap();
        assert_eq!(
            get(store, &table, key("a", "1")),
            Some(order("a", "1", &[]))
        );
    });
}

fn a_closed_store_keeps_what_was_put<F: Reopen>() {
    let fixture = F::new();
    put(fixture.store(), &orders(), order("a", "1", &[])).unwrap();
    fixture.store().close(&mintkey_store::store::Never);
    assert_eq!(
        get(&*fixture.reopen(), &orders(), key("a", "1")),
        Some(order("a", "1", &[]))
    );
}

fn keys_are_exact<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        let names = [
            "a",
            "A",
            "a\0",
            "a\0b",
            "ä",
            "a ",
            "%",
            "_",
            "*",
            "x:y",
            "'\"",
            "\u{10FFFF}",
        ];
        for name in names {
            insert(store, &table, order(name, name, &[("own", name.into())])).unwrap();
        }
        for name in names {
            let found = get(store, &table, key(name, name)).unwrap();
            assert_eq!(found.get("own"), Some(&name.into()), "{name:?}");
        }
        assert_eq!(get(store, &table, key("x", "y:z")), None);
    });
}

fn number_and_binary_keys_are_in_their_order<F: Reopen>() {
    fresh::<F>(|store| {
        if !store.capabilities().ordered_scans {
            return;
        }
        let numbers = plain("numbers", KeyKind::Number);
        for text in ["10", "-1", "9", "0.5", "1E+30", "-1E+30", "0"] {
            put(
                store,
                &numbers,
                item(&[("id", Value::Number(number(text)))]),
            )
            .unwrap();
        }
        let found = scan(store, scan_of(&numbers));
        let order: Vec<Option<&Value>> = found.iter().map(|item| item.get("id")).collect();
        let sorted =
            ["-1E+30", "-1", "0", "0.5", "9", "10", "1E+30"].map(|n| Value::Number(number(n)));
        assert_eq!(order, sorted.iter().map(Some).collect::<Vec<_>>());
        let by = Key {
            partition: KeyValue::Number(number("10.0")),
            sort: None,
        };
        assert!(get(store, &numbers, by).is_some());

        let binary = plain("binary", KeyKind::Binary);
        for bytes in [vec![0xFF], vec![0], vec![0, 0], vec![1, 2]] {
            put(store, &binary, item(&[("id", Value::Binary(bytes))])).unwrap();
        }
        let found = scan(store, scan_of(&binary));
        let order: Vec<Option<&Value>> = found.iter().map(|item| item.get("id")).collect();
        let sorted = [vec![0], vec![0, 0], vec![1, 2], vec![0xFF]].map(Value::Binary);
        assert_eq!(order, sorted.iter().map(Some).collect::<Vec<_>>());
    });
}

fn number_and_binary_sort_keys_are_in_their_order<F: Reopen>() {
    fresh::<F>(|store| {
        let by = |name: &str, kind| {
            Arc::new(Table {
                sort: Some(attribute("at", kind)),
                ..(*plain(name, KeyKind::String)).clone()
            })
        };
        let sorted = |table: &Arc<Table>, values: Vec<Value>| -> Vec<Value> {
            for value in values {
                put(store, table, item(&[("id", "p".into()), ("at", value)])).unwrap();
            }
            let found = query(store, query_of(table, &[string("p")]));
            found
                .iter()
                .filter_map(|item| item.get("at").cloned())
                .collect()
        };
        let numbers = |texts: [&str; 7]| texts.map(|text| Value::Number(number(text))).to_vec();
        assert_eq!(
            sorted(
                &by("numbers", KeyKind::Number),
                numbers(["10", "-1", "9", "0.5", "1E+30", "-1E+30", "0"])
            ),
            numbers(["-1E+30", "-1", "0", "0.5", "9", "10", "1E+30"])
        );
        let binary = |all: [&[u8]; 4]| all.map(|bytes| Value::Binary(bytes.to_vec())).to_vec();
        assert_eq!(
            sorted(
                &by("binary", KeyKind::Binary),
                binary([&[0xFF], &[0], &[0, 0], &[1, 2]])
            ),
            binary([&[0], &[0, 0], &[1, 2], &[0xFF]])
        );
        let own = plain("own", KeyKind::Number);
        put(store, &own, item(&[("id", Value::Number(number("10")))])).unwrap();
        let by = Key {
            partition: KeyValue::Number(number("10.0")),
            sort: None,
        };
        assert!(get(store, &own, by).is_some());
    });
}

fn table_names_in_other_case_are_other_tables<F: Reopen>() {
    fresh::<F>(|store| {
        if !store.capabilities().creates_tables {
            // The names are the server's business.
            return;
        }
        for name in [
            "orders",
            "Orders",
            "ORDERS",
            "sqlite_x",
            "SQLite_x",
            "mintkey.catalog",
            "a-b",
            "a.b",
        ] {
            let table = plain(name, KeyKind::String);
            put(
                store,
                &table,
                item(&[("id", "1".into()), ("own", name.into())]),
            )
            .unwrap();
        }
        for name in [
            "orders",
            "Orders",
            "ORDERS",
            "sqlite_x",
            "SQLite_x",
            "mintkey.catalog",
            "a-b",
            "a.b",
        ] {
            let table = plain(name, KeyKind::String);
            let found = scan(store, scan_of(&table));
            assert_eq!(texts(&found, "own"), [name]);
        }
    });
}

fn bad_keys_and_items_are_refused_and_write_nothing<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        for bad in [
            item(&[("sk", "1".into())]),
            item(&[("pk", "a".into())]),
            order("", "1", &[]),
            order("a", "", &[]),
            order(&"a".repeat(2049), "1", &[]),
            order("a", &"b".repeat(1025), &[]),
            item(&[("pk", 1.into()), ("sk", "1".into())]),
            order(
                "a",
                "1",
                &[("tags", Value::StringSet(std::collections::BTreeSet::new()))],
            ),
        ] {
            assert_eq!(kind(put(store, &table, bad)), ErrorKind::InvalidValue);
        }
        // Only DynamoDB refuses a value that its index cannot hold. Elsewhere the item is not in the index.
        for status in [5.into(), "".into()] {
            let result = put(store, &table, order("a", "1", &[("status", status)]));
            if store.capabilities().engine == "dynamodb" {
                assert_eq!(kind(result), ErrorKind::InvalidValue);
            } else {
                assert_eq!(result.unwrap(), Reply::Done);
                let delete = delete_of(&table, key("a", "1"), Guard::default());
                run(store, delete).unwrap();
            }
        }
        let large = order(
            "a",
            "1",
            &[("text", "x".repeat(400 * 1024).into()), ("n", 1.into())],
        );
        let error = put(store, &table, large).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ItemTooLarge);
        assert_eq!(error.attribute.as_deref(), Some("text"));
        assert_eq!(scan(store, scan_of(&table)), []);
        let longest = order(&"a".repeat(2048), &"b".repeat(1024), &[]);
        put(store, &table, longest).unwrap();
    });
}

fn an_insert_never_overwrites<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        insert(store, &table, order("a", "1", &[("n", 1.into())])).unwrap();
        let error = insert(store, &table, order("a", "1", &[("n", 2.into())])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyCollision);
        assert_eq!(error.key.as_deref(), Some(&key("a", "1")));
        assert_eq!(
            error.item.as_deref(),
            Some(&order("a", "1", &[("n", 1.into())]))
        );
        assert!(
            message(&error).contains("an item with this key exists already"),
            "{error}"
        );
    });
}

fn guards_check_the_stored_row<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        let present = Guard {
            row: Row::Present,
            ..Guard::default()
        };
        let version = |expected: Option<&str>| Guard {
            version: Some(("v".into(), expected.map(number))),
            ..Guard::default()
        };
        let write = |guard: Guard| {
            run(
                store,
                put_of(&table, order("a", "1", &[("v", 2.into())]), guard),
            )
        };
        assert_eq!(kind(write(present.clone())), ErrorKind::ItemGone);
        assert_eq!(kind(write(version(Some("1")))), ErrorKind::VersionConflict);
        assert_eq!(
            kind(write(condition(at_least("v", 0)))),
            ErrorKind::ConditionFailed
        );
        assert_eq!(get(store, &table, key("a", "1")), None);
        write(version(None)).unwrap();
        let error = write(version(None)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::VersionConflict);
        assert!(error.item.is_some());
        write(version(Some("2"))).unwrap();
        write(present).unwrap();
        write(condition(at_least("v", 2))).unwrap();
        assert_eq!(
            kind(write(condition(at_least("v", 3)))),
            ErrorKind::ConditionFailed
        );
    });
}

fn updates_start_from_the_stored_row<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        let change = |actions: Vec<Action>| {
            let update = update_of(&table, key("a", "1"));
            run(
                store,
                Operation::Update(mintkey_store::Update { actions, ..update }),
            )
        };
        let add = || vec![Action::Add(Path::attribute("n"), number("0.1"))];
        assert_eq!(kind(change(add())), ErrorKind::ItemGone);
        put(store, &table, order("a", "1", &[])).unwrap();
        let expected =
            |n: &str| Reply::Item(Some(order("a", "1", &[("n", Value::Number(number(n)))])));
        assert_eq!(change(add()).unwrap(), expected("0.1"));
        assert_eq!(change(add()).unwrap(), expected("0.2"));
        assert_eq!(change(add()).unwrap(), expected("0.3"));
        let key_change = vec![Action::Set(Path::attribute("sk"), "2".into())];
        assert_eq!(kind(change(key_change)), ErrorKind::InvalidValue);
        let no_parent = vec![
            Action::Set(Path::attribute("x"), 1.into()),
            Action::Add(Path::attribute("pk"), number("1")),
        ];
        assert_eq!(kind(change(no_parent)), ErrorKind::InvalidValue);
        assert_eq!(change(vec![]).unwrap(), expected("0.3"));
        // The condition is checked before the values, on every store.
        let invalid = condition(Condition::BeginsWith {
            path: Path::attribute("n"),
            prefix: 1.into(),
        });
        let large = Action::Set(Path::attribute("text"), "x".repeat(400 * 1024).into());
        let update = mintkey_store::Update {
            actions: vec![large],
            guard: invalid,
            ..update_of(&table, key("a", "1"))
        };
        let error = run(store, Operation::Update(update)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidValue);
    });
}

fn deleting_twice_is_deleting_once<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        put(store, &table, order("a", "1", &[("v", 1.into())])).unwrap();
        let guard = Guard {
            version: Some(("v".into(), Some(number("2")))),
            ..Guard::default()
        };
        let guarded = || delete_of(&table, key("a", "1"), guard.clone());
        assert_eq!(kind(run(store, guarded())), ErrorKind::VersionConflict);
        for _ in 0..2 {
            run(store, delete_of(&table, key("a", "1"), Guard::default())).unwrap();
        }
        assert_eq!(get(store, &table, key("a", "1")), None);
        assert_eq!(kind(run(store, guarded())), ErrorKind::VersionConflict);
    });
}

fn chosen_attributes_come_with_the_keys<F: Reopen>() {
    fresh::<F>(|store| {
        let table = orders();
        put(
            store,
            &table,
            order("a", "1", &[("n", 1.into()), ("m", 2.into())]),
        )
        .unwrap();
        let get = Get {
            table: Arc::clone(&table),
            key: key("a", "1"),
            consistent: true,
            attributes: Some(vec!["m".into()]),
        };
        let found = run(store, Operation::Get(get)).unwrap();
        assert_eq!(
            found,
            Reply::Item(Some(order("a", "1", &[("m", 2.into())])))
        );
    });
}

fn expired_rows_count_as_absent_and_go_away<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = orders();
    let expiring = |sort: &str, time: i64| {
        order(
            "a",
            sort,
            &[
                ("expires", time.into()),
                ("status", "new".into()),
                ("amount", 1.into()),
            ],
        )
    };
    for (sort, time) in [("old", NOW - 1), ("now", NOW), ("new", NOW + 1)] {
        // At an earlier time, so that they are not swept away at once.
        let put = put_of(&table, expiring(sort, time), Guard::default());
        let early = mintkey_store::Request::new(NOW - 10, put);
        store.execute(&early, &mintkey_store::store::Never).unwrap();
    }
    assert_eq!(get(store, &table, key("a", "old")), None);
    assert_eq!(get(store, &table, key("a", "now")), None);
    assert!(get(store, &table, key("a", "new")).is_some());
    assert_eq!(texts(&scan(store, scan_of(&table)), "sk"), ["new"]);
    assert_eq!(
        texts(&query(store, query_of(&table, &[string("a")])), "sk"),
        ["new"]
    );
    let by_status = mintkey_store::Query {
        index: Some("by_status".into()),
        ..query_of(&table, &[string("new")])
    };
    assert_eq!(texts(&query(store, by_status.clone()), "sk"), ["new"]);
    let counted = mintkey_store::Query {
        count: true,
        ..by_status
    };
    assert_eq!(page(run(store, Operation::Query(counted))).count, 1);
    let present = Guard {
        row: Row::Present,
        ..Guard::default()
    };
    let refused = run(store, put_of(&table, expiring("old", NOW + 5), present));
    assert_eq!(kind(refused), ErrorKind::ItemGone);
    insert(store, &table, expiring("old", NOW + 5)).unwrap();
    assert!(get(store, &table, key("a", "old")).is_some());
}

/// The tests of this file.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    tests!(F: what_is_put_is_got, a_closed_store_keeps_what_was_put, keys_are_exact, number_and_binary_keys_are_in_their_order, number_and_binary_sort_keys_are_in_their_order, table_names_in_other_case_are_other_tables, bad_keys_and_items_are_refused_and_write_nothing, an_insert_never_overwrites, guards_check_the_stored_row, updates_start_from_the_stored_row, deleting_twice_is_deleting_once, chosen_attributes_come_with_the_keys, expired_rows_count_as_absent_and_go_away)
}
