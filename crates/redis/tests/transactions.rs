//! Transactions on a server: lost connections, and what they leave behind.

mod entry_points;
mod proxy;
use mintkey_store_testkit::requests;
mod server;

use std::sync::Arc;

use entry_points::{ENTRY_POINTS, EntryPoint};
use mintkey_store::{
    Action, ErrorKind, Item, Key, KeyKind, Operation, Outcome, Path, Store, Table, Transaction,
    TransactionWrite, Update,
};
use proxy::*;
use requests::*;

fn row(id: &str, amount: i64) -> Item {
    item(&[("id", id.into()), ("amount", amount.into())])
}

fn key_of(id: &str) -> Key {
    Key {
        partition: string(id),
        sort: None,
    }
}

/// Moves 1 from one row to the other.
fn transfer(table: &Arc<Table>) -> Operation {
    let add = |id: &str, amount: &str| {
        TransactionWrite::Update(Update {
            actions: vec![Action::Add(Path::attribute("amount"), number(amount))],
            ..update_of(table, key_of(id))
        })
    };
    Operation::Transaction(Transaction {
        writes: vec![add("from", "-1"), add("to", "1")],
    })
}

fn amounts(store: &dyn Store, table: &Arc<Table>) -> [Option<Item>; 2] {
    ["from", "to"].map(|id| get(store, table, key_of(id)))
}

/// Carries out a transfer through a proxy with these faults, and compares its outcome with what is stored. Returns the kind
/// of its error.
fn reported(acts: &[Act], entry_point: EntryPoint) -> Option<ErrorKind> {
    let fixture = server::Fixture::new();
    let table = plain("accounts", KeyKind::String);
    for id in ["from", "to"] {
        put(&*fixture.store, &table, row(id, 5)).unwrap();
    }
    let proxy = Proxy::new(acts);
    let url = format!(
        "redis://127.0.0.1:{}?prefix={}&timeout=30",
        proxy.port, fixture.prefix
    );
    let faulty = mintkey_redis::open(&url).unwrap();
    let result = entry_point.run(&*faulty, vec![transfer(&table)]).remove(0);
    let before = [Some(row("from", 5)), Some(row("to", 5))];
    let after = [Some(row("from", 4)), Some(row("to", 6))];
    let stored = amounts(&*fixture.store, &table);
    let run = format!("{acts:?} {entry_point:?}: {result:?}");
    match &result {
        Ok(_) => assert_eq!(stored, after, "{run}"),
        Err(error) if error.kind.outcome() == Some(Outcome::Unknown) => {
            assert!(stored == before || stored == after, "{stored:?} {run}");
        }
        Err(_) => assert_eq!(stored, before, "{run}"),
    }
    proxy.vanish();
    result.err().map(|error| error.kind)
}

#[test]
fn a_lost_reply_is_resolved_and_nothing_is_written_twice() {
    for acts in [
        &[CUT_BEFORE][..],
        &[CUT_AFTER],
        &[CUT_BEFORE, CUT_AFTER],
        &[CUT_AFTER, CUT_AFTER],
        &[CUT_AFTER, CUT_AFTER, CUT_AFTER],
        &[CUT_AFTER, CUT_AFTER, CUT_AFTER, CUT_AFTER, CUT_AFTER],
        &[CUT_BEFORE, CUT_BEFORE, CUT_BEFORE, CUT_BEFORE],
        &[CUT_AFTER, say("+STALE\r\n")],
        &[CUT_BEFORE, say("+STALE\r\n")],
        &[CUT_AFTER, say("-OOM command not allowed\r\n")],
        &[CUT_AFTER, say("-NOSCRIPT No matching script.\r\n")],
        &[CUT_AFTER, say("-ERR because\r\n")],
    ] {
        for entry_point in ENTRY_POINTS {
            assert_eq!(reported(acts, entry_point), None, "{acts:?}");
        }
    }
}

#[test]
fn a_refused_script_has_written_nothing() {
    let not_applied = Some(ErrorKind::Unavailable(Outcome::NotApplied));
    for acts in [
        &[say("-OOM command not allowed\r\n")][..],
        &[CUT_BEFORE, say("-OOM command not allowed\r\n")],
        &[say("-ERR because\r\n")],
    ] {
        for entry_point in ENTRY_POINTS {
            assert_eq!(reported(acts, entry_point), not_applied, "{acts:?}");
        }
    }
}

#[test]
fn a_server_that_disappears_leaves_the_outcome_unknown() {
    for acts in [
        &[VANISH_AFTER][..],
        &[VANISH_BEFORE],
        &[CUT_AFTER, VANISH_BEFORE],
        &[CUT_AFTER, CUT_AFTER, CUT_AFTER, VANISH_AFTER],
    ] {
        for entry_point in ENTRY_POINTS {
            assert_eq!(
                reported(acts, entry_point),
                Some(ErrorKind::Unavailable(Outcome::Unknown)),
                "{acts:?}"
            );
        }
    }
}

#[test]
fn rows_that_keep_changing_cancel_a_transaction_when_its_time_is_over() {
    let fixture = server::Fixture::new();
    let table = plain("accounts", KeyKind::String);
    for id in ["from", "to"] {
        put(&*fixture.store, &table, row(id, 5)).unwrap();
    }
    for entry_point in ENTRY_POINTS {
        // The second row has changed, each time.
        let proxy = Proxy::new(&vec![say(":2\r\n"); 50_000]);
        let url = format!(
            "redis://127.0.0.1:{}?prefix={}&timeout=1",
            proxy.port, fixture.prefix
        );
        let store = mintkey_redis::open(&url).unwrap();
        let result = entry_point.run(&*store, vec![transfer(&table)]).remove(0);
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TransactionCancelled, "{error}");
        let kinds: Vec<_> = error
            .reasons
            .iter()
            .map(|reason| reason.as_ref().map(|reason| reason.kind))
            .collect();
        let conflict = ErrorKind::Unavailable(Outcome::NotApplied);
        assert_eq!(kinds, [None, Some(conflict)]);
        proxy.vanish();
    }
    let before = [Some(row("from", 5)), Some(row("to", 5))];
    assert_eq!(amounts(&*fixture.store, &table), before);
}

#[test]
fn a_transaction_leaves_a_marker_that_expires() {
    let fixture = server::Fixture::new();
    let table = plain("accounts", KeyKind::String);
    for id in ["from", "to"] {
        put(&*fixture.store, &table, row(id, 5)).unwrap();
    }
    let before = fixture.keys();
    run(&*fixture.store, transfer(&table)).unwrap();
    let mut after = fixture.keys();
    after.retain(|key| !before.contains(key));
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(after[0].starts_with("@:transaction:"), "{after:?}");
    let seconds = server::command(&["TTL", &fixture.key(&after[0])]);
    let seconds: i64 = seconds[0].parse().unwrap();
    assert!((1..=120).contains(&seconds), "{seconds}");
}

#[test]
fn a_value_of_another_type_stops_a_transaction_before_it_writes() {
    let fixture = server::Fixture::new();
    let table = plain("accounts", KeyKind::String);
    put(&*fixture.store, &table, row("from", 5)).unwrap();
    server::command(&["SET", &fixture.key("accounts:to"), "text"]);
    let puts = ["from", "to"].map(|id| {
        let Operation::Put(put) = put_of(&table, row(id, 9), mintkey_store::Guard::default())
        else {
            unreachable!();
        };
        TransactionWrite::Put(put)
    });
    let writes = puts.to_vec();
    let error = run(
        &*fixture.store,
        Operation::Transaction(Transaction { writes }),
    )
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert_eq!(
        get(&*fixture.store, &table, key_of("from")),
        Some(row("from", 5))
    );
}
