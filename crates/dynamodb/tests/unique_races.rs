//! Unique values with several writers, on a server.

mod common;
use mintkey_store_testkit::requests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::Fixture;
use mintkey_store::unique::Scope;
use mintkey_store::{
    Action, ErrorKind, GetUnique, Guard, Item, KeyAttribute, KeyKind, Operation, Path, Reply,
    Returning, Row, Store, Table, Unique, Update, Value,
};
use requests::{
    get, key, order, orders, page, put, put_of, run, scan_of, string, submit, update_of,
};

fn people() -> Arc<Table> {
    Arc::new(Table {
        name: "people".into(),
        model: "Person".into(),
        indexes: Vec::new(),
        unique: vec![Unique {
            name: "email".into(),
            attributes: vec!["email".into()],
            scope: Scope::default(),
        }],
        ..(*orders()).clone()
    })
}

/// The same table for a class that does not know its unique values.
fn without_unique() -> Arc<Table> {
    Arc::new(Table {
        unique: Vec::new(),
        ..(*people()).clone()
    })
}

/// The table of markers.
fn markers() -> Arc<Table> {
    Arc::new(Table {
        name: "people.unique".into(),
        partition: KeyAttribute {
            name: "key".into(),
            kind: KeyKind::Binary,
        },
        sort: None,
        ttl: None,
        ..(*without_unique()).clone()
    })
}

fn person(id: &str, email: &str) -> Item {
    order(id, "0", &[("email", email.into())])
}

fn insert(id: &str, email: &str) -> Operation {
    let guard = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    put_of(&people(), person(id, email), guard)
}

fn get_by(email: &str) -> Operation {
    Operation::GetUnique(GetUnique {
        table: people(),
        unique: "email".into(),
        values: vec![string(email)],
        attributes: None,
    })
}

fn by_email(store: &dyn Store, email: &str) -> Option<Item> {
    match run(store, get_by(email)).unwrap() {
        Reply::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

fn update(action: Action, returning: Returning) -> Operation {
    Operation::Update(Update {
        actions: vec![action],
        returning,
        ..update_of(&people(), key("a", "0"))
    })
}

/// The items of the table of markers, except the catalog.
fn all_markers(store: &dyn Store) -> usize {
    let items = page(run(store, Operation::Scan(scan_of(&markers())))).items;
    let is_marker = |item: &&Item| item.get("partition").is_some();
    items.iter().filter(is_marker).count()
}

#[test]
fn renames_lose_no_increment_of_another_attribute() {
    const EACH: i64 = 15;
    let fixture = Fixture::new();
    let store = &*fixture.store;
    put(store, &people(), person("a", "first")).unwrap();
    let add = || {
        update(
            Action::Add(Path::attribute("n"), 1_i64.into()),
            Returning::New,
        )
    };
    let other = fixture.reopen();
    thread::scope(|scope| {
        for store in [&*fixture.store as &dyn Store, &*other] {
            scope.spawn(move || {
                for _ in 0..EACH {
                    run(store, add()).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for number in 0..EACH {
                let email = format!("e{number}");
                let both = Update {
                    actions: vec![
                        Action::Set(Path::attribute("email"), email.as_str().into()),
                        Action::Add(Path::attribute("n"), 1_i64.into()),
                    ],
                    ..update_of(&people(), key("a", "0"))
                };
                match run(store, Operation::Update(both)).unwrap() {
                    Reply::Item(Some(item)) => {
                        assert_eq!(item.get("email"), Some(&email.as_str().into()));
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
    });
    let last = format!("e{}", EACH - 1);
    let mut expected = person("a", &last);
    expected.insert("n".into(), (3 * EACH).into());
    assert_eq!(get(store, &people(), key("a", "0")), Some(expected.clone()));
    assert_eq!(by_email(store, &last), Some(expected));
    assert_eq!(all_markers(store), 1);
}

#[test]
fn a_value_of_a_vanished_row_has_one_next_holder() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let others: Vec<Arc<dyn Store>> = (0..4).map(|_| fixture.reopen()).collect();
    for round in 0..4 {
        run(store, insert("gone", "x")).unwrap();
        // As the server does with expired rows, or a program that does not know the unique values.
        let delete = requests::delete_of(&without_unique(), key("gone", "0"), Guard::default());
        run(store, delete).unwrap();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let claim = |number: usize| {
                let (other, id) = (&*others[number], format!("{round}-{number}"));
                move || {
                    (
                        id.clone(),
                        run(other, insert(&id, "x")).map_err(|error| error.kind),
                    )
                }
            };
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(claim(number))).collect();
            threads.into_iter().map(|own| own.join().unwrap()).collect()
        });
        let (done, refused): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .partition(|(_, outcome)| outcome.is_ok());
        let [(holder, _)] = &done[..] else {
            panic!("{done:?} {refused:?}");
        };
        for (_, outcome) in &refused {
            assert_eq!(*outcome, Err(ErrorKind::UniqueViolation));
        }
        assert_eq!(by_email(store, "x"), Some(person(holder, "x")));
        assert_eq!(all_markers(store), 1);
        let delete = requests::delete_of(&people(), key(holder, "0"), Guard::default());
        run(store, delete).unwrap();
        assert_eq!(all_markers(store), 0);
    }
}

#[test]
fn several_programs_build_the_markers_at_once() {
    const ROWS: usize = 40;
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for number in 0..ROWS {
        let row = person(&number.to_string(), &format!("e{number}"));
        put(store, &without_unique(), row).unwrap();
    }
    put(store, &without_unique(), person("second", "e7")).unwrap();
    let create = || Operation::CreateTable(people());
    let others: Vec<Arc<dyn Store>> = (0..3).map(|_| fixture.reopen()).collect();
    let build_all = || -> Vec<_> {
        let answers: Vec<_> = others
            .iter()
            .map(|own| submit(&**own, create()).1)
            .collect();
        answers
            .into_iter()
            .map(|answer| answer.recv().unwrap())
            .collect()
    };
    for outcome in build_all() {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
        let violations = error.violations.as_deref().unwrap();
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].holders, [key("7", "0"), key("second", "0")]);
    }
    let delete = requests::delete_of(&without_unique(), key("second", "0"), Guard::default());
    run(store, delete).unwrap();
    for outcome in build_all() {
        outcome.unwrap();
    }
    assert_eq!(all_markers(store), ROWS);
    run(store, create()).unwrap();
    let taken = run(store, insert("new", "e7")).unwrap_err();
    assert_eq!(taken.kind, ErrorKind::UniqueViolation, "{taken}");
}

#[test]
fn a_deleted_table_of_markers_is_built_again() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for (id, email) in [("a", "x"), ("b", "y")] {
        run(store, insert(id, email)).unwrap();
    }
    // Rows of a program that does not know the unique values.
    put(store, &without_unique(), person("c", "z")).unwrap();
    let running = fixture.reopen();
    assert_eq!(by_email(&*running, "x"), Some(person("a", "x")));
    run(store, Operation::DeleteTable(markers())).unwrap();
    let refused = run(&*running, insert("d", "w")).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TableMissing, "{refused}");
    // From now on it is as if the values were not built yet.
    run(&*running, insert("d", "w")).unwrap();
    let refused = run(&*running, get_by("w")).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TableMissing, "{refused}");
    // What an interrupted build, or rows that have changed since, left behind is in nobody's way.
    run(store, Operation::CreateTable(markers())).unwrap();
    let marker = |email: u8, holder: &str| {
        let key = [b"email\0S\0\x01", &[email][..]].concat();
        let mut marker = Item::new();
        marker.insert("key".into(), Value::Binary(key));
        marker.insert("partition".into(), holder.into());
        marker.insert("sort".into(), "0".into());
        marker
    };
    for (email, holder) in [(b'x', "gone"), (b'y', "a"), (b'z', "c")] {
        put(store, &markers(), marker(email, holder)).unwrap();
    }
    run(store, Operation::CreateTable(people())).unwrap();
    for (id, email) in [("a", "x"), ("b", "y"), ("c", "z"), ("d", "w")] {
        assert_eq!(by_email(&*running, email), Some(person(id, email)));
        let taken = run(&*running, insert("e", email)).unwrap_err();
        assert_eq!(taken.kind, ErrorKind::UniqueViolation, "{taken}");
    }
}

#[test]
fn values_are_built_while_programs_write() {
    const WRITERS: usize = 4;
    let fixture = Fixture::new();
    let store = &*fixture.store;
    // Rows of programs that did not know the unique values.
    for number in 0..30 {
        let row = person(&format!("old-{number}"), &format!("o{number}"));
        put(store, &without_unique(), row).unwrap();
    }
    run(store, Operation::DeleteTable(markers())).unwrap();
    let stores: Vec<Arc<dyn Store>> = (0..=WRITERS).map(|_| fixture.reopen()).collect();
    let is_built = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, store) in stores[..WRITERS].iter().enumerate() {
            let (store, is_built) = (&**store, &is_built);
            scope.spawn(move || {
                let mut after = 0;
                let mut step = 0;
                while after < 5 {
                    after += usize::from(is_built.load(Ordering::SeqCst));
                    // Values pass from row to row, and several writers want some of them.
                    let id = format!("{writer}-{}", step % 7);
                    let email = match step % 3 {
                        0 => format!("shared-{}", step % 5),
                        _ => format!("{writer}-{}", step % 11),
                    };
                    let operation = match step % 4 {
                        3 => requests::delete_of(&people(), key(&id, "0"), Guard::default()),
                        _ => put_of(&people(), person(&id, &email), Guard::default()),
                    };
                    match run(store, operation) {
                        Err(error) if error.kind != ErrorKind::UniqueViolation => panic!("{error}"),
                        _ => step += 1,
                    }
                }
            });
        }
        // Duplicates from before are reported, and the writers resolve them or not.
        while run(&*stores[WRITERS], Operation::CreateTable(people()))
            .inspect_err(|error| assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}"))
            .is_err()
        {
            resolve(&*stores[WRITERS]);
        }
        is_built.store(true, Ordering::SeqCst);
    });
    let rows = page(run(store, Operation::Scan(scan_of(&without_unique())))).items;
    let mut seen = HashSet::new();
    for row in &rows {
        let Some(Value::String(email)) = row.get("email") else {
            panic!("{row:?}");
        };
        assert!(seen.insert(email.clone()), "two rows have {email}");
        assert_eq!(by_email(store, email).as_ref(), Some(row));
    }
    assert!(rows.len() >= 30);
}

/// Deletes all rows that have the same value as another one.
fn resolve(store: &dyn Store) {
    let mut seen = HashSet::new();
    for row in page(run(store, Operation::Scan(scan_of(&without_unique())))).items {
        let Some(Value::String(email)) = row.get("email") else {
            panic!("{row:?}");
        };
        if !seen.insert(email.clone()) {
            let key = people().key_of(&row).unwrap();
            let delete = requests::delete_of(&people(), key, Guard::default());
            run(store, delete).unwrap();
        }
    }
}
