//! Transactions next to other writers, on indexed, expired and large items.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::fixture::{Fixture, tests};
use crate::requests::{
    get, key, number, order, orders, put, query, query_of, run, string, texts, update_of,
};
use libtest_mimic::Trial;
use mintkey_store::{
    Action, Delete, Guard, Item, Operation, Path, Put, Query, Reply, Row, Store, Table,
    Transaction, TransactionGet, TransactionWrite, Update, Value,
};

/// The accounts of the transfers. All are in one partition, so that a Cluster allows their transactions.
const ACCOUNTS: usize = 4;
const THREADS: usize = 4;
const TRANSFERS: usize = 12;

fn put_item(table: &Arc<Table>, item: Item, row: Row) -> TransactionWrite {
    let guard = Guard {
        row,
        ..Guard::default()
    };
    TransactionWrite::Put(Put::new(Arc::clone(table), Arc::new(item), guard).unwrap())
}

fn change(table: &Arc<Table>, sort: &str, actions: Vec<Action>) -> TransactionWrite {
    TransactionWrite::Update(Update {
        actions,
        ..update_of(table, key("p", sort))
    })
}

fn add(amount: i64) -> Vec<Action> {
    vec![Action::Add(
        Path::attribute("amount"),
        number(&amount.to_string()),
    )]
}

fn write(store: &dyn Store, writes: Vec<TransactionWrite>) {
    run(store, Operation::Transaction(Transaction { writes })).unwrap();
}

fn sum(store: &dyn Store, table: &Arc<Table>) -> i64 {
    let key_of = |account: usize| (Arc::clone(table), key("p", &account.to_string()));
    let keys = (0..ACCOUNTS).map(key_of).collect();
    let reply = run(store, Operation::TransactionGet(TransactionGet { keys })).unwrap();
    let Reply::Items(items) = reply else {
        panic!("{reply:?}");
    };
    let amount = |item: Option<Item>| match item.unwrap().get("amount") {
        Some(Value::Number(amount)) => amount.to_string().parse::<i64>().unwrap(),
        other => panic!("{other:?}"),
    };
    items.into_iter().map(amount).sum()
}

fn the_sum_of_concurrent_transfers_never_changes<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    for account in 0..ACCOUNTS {
        let amount = [("amount", 100.into())];
        put(store, &table, order("p", &account.to_string(), &amount)).unwrap();
    }
    let expected = sum(store, &table);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|number| {
                let table = &table;
                scope.spawn(move || {
                    for transfer in 0..TRANSFERS {
                        let from = (number + transfer) % ACCOUNTS;
                        let to = (from + 1 + transfer % (ACCOUNTS - 1)) % ACCOUNTS;
                        let side = |account: usize, amount| {
                            change(table, &account.to_string(), add(amount))
                        };
                        write(store, vec![side(from, -7), side(to, 7)]);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(sum(store, &table), expected);
            }
        });
        for writer in writers {
            // The reader ends also after a failure.
            let result = writer.join();
            if result.is_err() {
                is_over.store(true, Ordering::SeqCst);
            }
            result.unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(sum(store, &table), expected);
}

fn indexes_follow_a_transaction<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    let row = |sort: &str, status: &str| {
        order(
            "p",
            sort,
            &[("status", status.into()), ("amount", 1.into())],
        )
    };
    for sort in ["1", "2", "3"] {
        put(store, &table, row(sort, "new")).unwrap();
    }
    let status = |value: &str| vec![Action::Set(Path::attribute("status"), value.into())];
    write(
        store,
        vec![
            change(&table, "1", status("paid")),
            TransactionWrite::Delete(Delete {
                table: Arc::clone(&table),
                key: key("p", "2"),
                guard: Guard::default(),
                returns_old: false,
            }),
            // Out of the index.
            put_item(&table, order("p", "3", &[]), Row::Any),
            put_item(&table, row("4", "paid"), Row::Absent),
        ],
    );
    for (status, sorts) in [("new", &[][..]), ("paid", &["1", "4"])] {
        let found = query(
            store,
            Query {
                index: Some("by_status".into()),
                ..query_of(&table, &[string(status)])
            },
        );
        assert_eq!(texts(&found, "sk"), sorts, "{status}");
    }
    assert_eq!(
        get(store, &table, key("p", "3")),
        Some(order("p", "3", &[]))
    );
}

fn items_with_many_attributes_are_written_together<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    let wide = |sort: &str, prefix: &str| {
        let mut item = order("p", sort, &[]);
        for number in 0..1_500 {
            item.insert(format!("{prefix}{number}").as_str().into(), "text".into());
        }
        item
    };
    put(store, &table, wide("1", "old")).unwrap();
    put(store, &table, wide("2", "old")).unwrap();
    write(
        store,
        vec![
            put_item(&table, wide("1", "new"), Row::Any),
            put_item(&table, wide("2", "new"), Row::Present),
            put_item(&table, wide("3", "new"), Row::Absent),
        ],
    );
    for sort in ["1", "2", "3"] {
        let found = get(store, &table, key("p", sort)).unwrap();
        assert!(found == wide(sort, "new"), "{sort}");
    }
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        the_sum_of_concurrent_transfers_never_changes,
        indexes_follow_a_transaction,
        items_with_many_attributes_are_written_together)
}
