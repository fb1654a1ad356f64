//! The data in Redis after requests, read without the code under test.

use mintkey_store_testkit::requests;
mod server;

use std::sync::Arc;

use mintkey_store::store::Never;
use mintkey_store::unique::Scope;
use mintkey_store::{
    Action, ErrorKind, GetUnique, Guard, KeyKind, Operation, Path, Query, Reply, Request, Row,
    Table, Unique, Value,
};
use requests::*;
use server::{Fixture, command};

fn fresh(sort: &str) -> mintkey_store::Item {
    order("a", sort, &[("status", "new".into()), ("amount", 1.into())])
}

fn count(fixture: &Fixture, set: &str) -> String {
    command(&["ZCARD", &fixture.key(set)]).remove(0)
}

#[test]
fn rows_can_be_read_with_any_client() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let table = plain("Order", KeyKind::String);
    put(
        store,
        &table,
        item(&[
            ("id", "01ARZ".into()),
            ("n", 7.into()),
            ("b", Value::Binary(vec![1, 2])),
        ]),
    )
    .unwrap();
    assert_eq!(
        fixture.keys(),
        ["@:tables", "@Order", "@Order:rows", "Order:01ARZ"]
    );
    assert_eq!(
        command(&["HGETALL", &fixture.key("Order:01ARZ")]),
        ["id", "\"01ARZ\"", "n", "7", "b", "{\"$B\":\"AQI=\"}"]
    );
    let ordered = orders();
    put(store, &ordered, order("a{b}%", "x:y", &[])).unwrap();
    assert!(
        fixture
            .keys()
            .contains(&"orders:{a%7Bb%7D%25}:x:y".to_owned())
    );
    let numbers = plain("numbers", KeyKind::Number);
    put(
        store,
        &numbers,
        item(&[("id", Value::Number(number("4.20")))]),
    )
    .unwrap();
    assert!(fixture.keys().contains(&"numbers:4.2".to_owned()));
}

#[test]
fn a_deleted_row_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for sort in ["1", "2"] {
        put(store, &orders(), fresh(sort)).unwrap();
    }
    let changed = mintkey_store::Update {
        actions: vec![Action::Set(Path::attribute("status"), "paid".into())],
        ..update_of(&orders(), key("a", "1"))
    };
    run(store, Operation::Update(changed)).unwrap();
    assert_eq!(count(&fixture, "@orders:index:by_status"), "2");
    put(store, &orders(), order("a", "2", &[])).unwrap();
    assert_eq!(count(&fixture, "@orders:index:by_status"), "1");
    for sort in ["1", "2"] {
        run(
            store,
            delete_of(&orders(), key("a", sort), Guard::default()),
        )
        .unwrap();
    }
    assert_eq!(fixture.keys(), ["@:tables", "@orders"]);
    run(store, Operation::DeleteTable(orders())).unwrap();
    assert_eq!(fixture.keys(), [""; 0]);
}

/// A table whose rows have different emails.
fn people() -> Arc<Table> {
    let unique = Unique {
        name: "email".into(),
        attributes: vec!["email".into()],
        scope: Scope::default(),
    };
    Arc::new(Table {
        unique: vec![unique],
        ..(*orders()).clone()
    })
}

fn person(sort: &str, email: &str) -> mintkey_store::Item {
    order("a", sort, &[("email", email.into())])
}

const MARKERS: &str = "@orders:unique:email";

#[test]
fn each_unique_value_has_a_marker_which_goes_with_it() {
    let fixture = Fixture::new();
    let (store, table) = (&*fixture.store, people());
    let markers = || command(&["HGETALL", &fixture.key(MARKERS)]);
    insert(store, &table, person("1", "x")).unwrap();
    assert_eq!(markers(), ["S\0\u{1}x", "a\0\u{1}1"]);
    put(store, &table, person("1", "y")).unwrap();
    assert_eq!(markers(), ["S\0\u{1}y", "a\0\u{1}1"]);
    // An expired row is deleted by the next reader, with its marker.
    let mut expired = person("1", "z");
    expired.insert("expires".into(), (NOW - 1).into());
    put(store, &table, expired).unwrap();
    assert_eq!(markers().len(), 2);
    assert_eq!(get(store, &table, key("a", "1")), None);
    assert_eq!(fixture.keys(), ["@:tables", "@orders"]);
    insert(store, &table, person("2", "x")).unwrap();
    run(store, Operation::DeleteTable(table)).unwrap();
    assert_eq!(fixture.keys(), [""; 0]);
}

#[test]
fn the_marker_of_a_row_that_redis_deleted_is_removed() {
    let fixture = Fixture::new();
    let (store, table) = (&*fixture.store, people());
    let find = || {
        Operation::GetUnique(GetUnique {
            table: people(),
            unique: "email".into(),
            values: vec![string("x")],
            attributes: None,
        })
    };
    let gone = || command(&["DEL", &fixture.key("orders:{a}:1")]);
    insert(store, &table, person("1", "x")).unwrap();
    gone();
    assert_eq!(run(store, find()).unwrap(), Reply::Item(None));
    assert_eq!(command(&["EXISTS", &fixture.key(MARKERS)]), ["0"]);
    insert(store, &table, person("1", "x")).unwrap();
    gone();
    // The row is there again, with another value.
    insert(store, &table, person("1", "y")).unwrap();
    insert(store, &table, person("2", "x")).unwrap();
    let found = run(store, find()).unwrap();
    assert_eq!(found, Reply::Item(Some(person("2", "x"))));
    assert_eq!(command(&["HLEN", &fixture.key(MARKERS)]), ["2"]);
}

#[test]
fn a_table_that_cannot_get_unique_values_stays_as_it_was() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for (sort, email) in [("1", "x"), ("2", "x"), ("3", "y")] {
        insert(store, &orders(), person(sort, email)).unwrap();
    }
    let rows = || {
        ["1", "2", "3"]
            .map(|sort| command(&["HGETALL", &fixture.key(&format!("orders:{{a}}:{sort}"))]))
    };
    let before = (fixture.keys(), rows());
    let error = run(store, Operation::CreateTable(people())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
    assert_eq!((fixture.keys(), rows()), before);
    let description = command(&["HGET", &fixture.key("@orders"), "description"]);
    assert!(description[0].contains("\"unique\":[]"), "{description:?}");
}

#[test]
fn deleting_a_table_leaves_other_tables_alone() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let (table, neighbour) = (plain("a", KeyKind::String), plain("a.b", KeyKind::String));
    for number in 0..1_200_i64 {
        put(
            store,
            &table,
            item(&[("id", format!("{number}").as_str().into())]),
        )
        .unwrap();
    }
    put(store, &neighbour, item(&[("id", "1".into())])).unwrap();
    run(store, Operation::DeleteTable(table.clone())).unwrap();
    assert_eq!(fixture.keys(), ["@:tables", "@a.b", "@a.b:rows", "a.b:1"]);
}

#[test]
fn rows_that_redis_expired_are_never_returned_and_their_entries_are_removed() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for sort in ["1", "2", "3"] {
        put(store, &orders(), fresh(sort)).unwrap();
    }
    command(&["DEL", &fixture.key("orders:{a}:2")]);
    let by_status = Query {
        index: Some("by_status".into()),
        ..query_of(&orders(), &[string("new")])
    };
    let counted = Query {
        count: true,
        ..by_status.clone()
    };
    assert_eq!(page(run(store, Operation::Query(counted))).count, 2);
    assert_eq!(count(&fixture, "@orders:index:by_status"), "2");
    assert_eq!(count(&fixture, "@orders:rows"), "2");
    // Another value under the same key does not bring the old entry back.
    command(&["DEL", &fixture.key("orders:{a}:3")]);
    put(
        store,
        &orders(),
        order("a", "3", &[("status", "paid".into()), ("amount", 1.into())]),
    )
    .unwrap();
    assert_eq!(texts(&query(store, by_status), "sk"), ["1"]);
    assert_eq!(count(&fixture, "@orders:index:by_status"), "2");
}

#[test]
fn rows_get_the_remaining_time_to_live() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let expiring = |at: i64| order("a", "1", &[("expires", at.into())]);
    let left = || command(&["TTL", &fixture.key("orders:{a}:1")]).remove(0);
    put(store, &orders(), expiring(NOW + 1_000)).unwrap();
    assert!(["1000", "999"].contains(&left().as_str()));
    let later = mintkey_store::Update {
        actions: vec![Action::Set(
            Path::attribute("expires"),
            (NOW + 5_000).into(),
        )],
        ..update_of(&orders(), key("a", "1"))
    };
    run(store, Operation::Update(later)).unwrap();
    assert!(["5000", "4999"].contains(&left().as_str()));
    let never = mintkey_store::Update {
        actions: vec![Action::Remove(Path::attribute("expires"))],
        ..update_of(&orders(), key("a", "1"))
    };
    run(store, Operation::Update(never)).unwrap();
    assert_eq!(left(), "-1");
    // Beyond what Redis can store, only readers check the time of expiry.
    put(
        store,
        &orders(),
        order("a", "1", &[("expires", Value::Number(number("1E+100")))]),
    )
    .unwrap();
    assert_eq!(left(), "-1");
    assert!(get(store, &orders(), key("a", "1")).is_some());
}

#[test]
fn an_expired_row_is_deleted_by_the_read_that_finds_it() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let mut expiring = fresh("1");
    expiring.insert("expires".into(), (NOW + 60).into());
    put(store, &orders(), expiring).unwrap();
    let later = Request::new(NOW + 60, get_of(&orders(), key("a", "1")));
    assert_eq!(
        store.execute(&later, &Never).unwrap(),
        mintkey_store::Reply::Item(None)
    );
    assert_eq!(fixture.keys(), ["@:tables", "@orders"]);
}

#[test]
fn a_flushed_script_is_sent_again() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for sort in ["1", "2"] {
        command(&["SCRIPT", "FLUSH"]);
        insert(store, &orders(), fresh(sort)).unwrap();
    }
    assert_eq!(scan(store, scan_of(&orders())).len(), 2);
}

#[test]
fn tables_are_created_again_after_a_flush() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    put(store, &orders(), fresh("1")).unwrap();
    for key in fixture.keys() {
        command(&["DEL", &fixture.key(&key)]);
    }
    assert_eq!(get(store, &orders(), key("a", "1")), None);
    put(store, &orders(), fresh("2")).unwrap();
    assert_eq!(texts(&scan(store, scan_of(&orders())), "sk"), ["2"]);
    assert!(fixture.keys().contains(&"@orders".to_owned()));
}

#[test]
fn a_key_of_another_type_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    put(store, &orders(), fresh("1")).unwrap();
    command(&["SET", &fixture.key("orders:{a}:2"), "mine"]);
    let present = Guard {
        row: Row::Present,
        ..Guard::default()
    };
    for operation in [
        put_of(&orders(), fresh("2"), Guard::default()),
        put_of(&orders(), fresh("2"), present),
        get_of(&orders(), key("a", "2")),
        delete_of(&orders(), key("a", "2"), Guard::default()),
    ] {
        assert_eq!(kind(run(store, operation)), ErrorKind::Configuration);
    }
    assert_eq!(
        kind(insert(store, &orders(), fresh("2"))),
        ErrorKind::Configuration
    );
    assert_eq!(command(&["GET", &fixture.key("orders:{a}:2")]), ["mine"]);
    assert_eq!(count(&fixture, "@orders:rows"), "1");
    // An index set of another type refuses the whole row.
    command(&["DEL", &fixture.key("@orders:index:by_status")]);
    command(&["SET", &fixture.key("@orders:index:by_status"), "mine"]);
    assert_eq!(
        kind(insert(store, &orders(), fresh("3"))),
        ErrorKind::Configuration
    );
    assert_eq!(get(store, &orders(), key("a", "3")), None);
    assert_eq!(count(&fixture, "@orders:rows"), "1");
}

#[test]
fn a_newer_layout_is_refused() {
    let fixture = Fixture::new();
    put(&*fixture.store, &orders(), fresh("1")).unwrap();
    command(&[
        "HSET",
        &fixture.key("@orders"),
        "layout",
        "99",
        "epoch",
        "x",
    ]);
    for store in [&fixture.store, &fixture.reopen()] {
        let error = put(&**store, &orders(), fresh("2")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration);
        assert!(message(&error).contains("newer mintkey"), "{error}");
    }
}

#[test]
fn many_attributes_fit() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let mut wide = fresh("1");
    for number in 0..6_000_i64 {
        wide.insert(format!("a{number}").as_str().into(), number.into());
    }
    put(store, &orders(), wide.clone()).unwrap();
    assert_eq!(get(store, &orders(), key("a", "1")), Some(wide.clone()));
    let one = mintkey_store::Update {
        actions: vec![Action::Add(Path::attribute("a0"), number("1"))],
        ..update_of(&orders(), key("a", "1"))
    };
    run(store, Operation::Update(one)).unwrap();
    wide.insert("a0".into(), 1.into());
    assert_eq!(get(store, &orders(), key("a", "1")), Some(wide));
}
