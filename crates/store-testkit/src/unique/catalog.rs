//! Writers follow the stored declarations, not only those of their class.

use std::sync::Arc;

use super::people::{
    absent, assert_email_held, assert_free, batch, by_email, change, delete, find_of, id, kinds,
    people, person, prefix, row, table_with, unique, without_unique, write,
};
use crate::fixture::{Reopen, tests};
use crate::requests::{batch_put, get, insert, kind, put, put_of, run, string};
use libtest_mimic::Trial;
use mintkey_store::unique::Scope;
use mintkey_store::{ErrorKind, Guard, Operation, Unique};

fn writers_without_the_declaration_follow_the_stored_one<F: Reopen>() {
    let fixture = F::new();
    let (old, new) = (fixture.store(), &*fixture.reopen());
    let table = people();
    let plain = without_unique(&table);
    insert(old, &plain, person("a", "x")).unwrap();
    insert(new, &table, person("b", "y")).unwrap();
    for operation in [
        put_of(&plain, person("b", "x"), Guard::default()),
        put_of(&plain, person("c", "x"), absent()),
        Operation::Update(change(&plain, "b", "email", "x".into())),
        batch(
            &plain,
            vec![batch_put(&plain, person("c", "x"), Guard::default())],
        ),
    ] {
        assert_email_held(write(old, operation), "x", "a");
    }
    put(old, &plain, person("a", "z")).unwrap();
    assert_free(new, &table, "x");
    let outcome = write(new, put_of(&table, person("c", "z"), absent()));
    assert_email_held(outcome, "z", "a");
    write(old, delete(&plain, "a")).unwrap();
    assert_free(new, &table, "z");
    assert_eq!(
        kind(run(old, find_of(&plain, "phone", &[string("x")]))),
        ErrorKind::Configuration
    );
}

fn the_first_use_builds_the_values<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = people();
    let plain = without_unique(&table);
    insert(store, &plain, person("a", "x")).unwrap();
    insert(store, &plain, person("b", "x")).unwrap();
    // Reads and writes of the new class need what is not there yet.
    for operation in [
        put_of(&table, person("c", "y"), absent()),
        find_of(&table, "email", &[string("x")]),
    ] {
        assert_eq!(kind(run(store, operation)), ErrorKind::UniqueViolation);
    }
    assert_eq!(get(store, &plain, id("c")), None);
    write(store, delete(&plain, "b")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
    let outcome = write(store, put_of(&table, person("c", "x"), absent()));
    assert_email_held(outcome, "x", "a");
}

fn what_differs_is_refused<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let declared = |unique: Unique| table_with(vec![unique]);
    let email = || Unique {
        scope: kinds(&["user"], false),
        ..unique(&["email"])
    };
    let stored = row("a", &[("kind", "user".into()), ("email", "x".into())]);
    insert(store, &declared(email()), stored.clone()).unwrap();
    for other in [
        Unique {
            attributes: vec!["phone".into()],
            ..email()
        },
        Unique {
            scope: Scope::default(),
            ..email()
        },
        Unique {
            scope: kinds(&["user"], true),
            ..email()
        },
        Unique {
            scope: Scope {
                prefixes: vec![prefix("pk", "USER#", false)],
                ..kinds(&["user"], false)
            },
            ..email()
        },
    ] {
        let table = declared(other);
        for store in [store, &*fixture.reopen()] {
            let create = Operation::CreateTable(Arc::clone(&table));
            let new = put_of(&table, person("b", "y"), absent());
            for operation in [create, new] {
                assert_eq!(kind(run(store, operation)), ErrorKind::Configuration);
            }
        }
    }
    assert_eq!(by_email(store, &declared(email()), "x"), Some(stored));
}

/// The tests of this file.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    tests!(F:
        writers_without_the_declaration_follow_the_stored_one,
        the_first_use_builds_the_values,
        what_differs_is_refused)
}
