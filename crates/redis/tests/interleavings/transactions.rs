//! Two transactions on the same rows, and a reader of a snapshot.

use std::sync::{Arc, OnceLock};

use mintkey_redis::internals::{Call, Layout, decode_row};
use mintkey_store::{
    Action, Guard, Item, Key, Operation, Path, Query, Reply, Table, Transaction, TransactionGet,
    TransactionWrite, Update,
};

use super::requests::*;
use super::{
    Choices, Members, Process, Victim, World, home, interleave, items, most_steps, run, run_all,
    trace,
};

/// What both rows hold together.
const SUM: i64 = 20;

/// How often a run switches between processes that have not ended: all orders take too long.
const SWITCHES: usize = 2;

/// The table, the same for all processes: they know its layout from the first step on.
fn table() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    Arc::clone(TABLE.get_or_init(orders))
}

fn keys() -> [Key; 2] {
    [key("a", "1"), key("a", "2")]
}

fn row(sort: &str, amount: i64) -> Item {
    order(
        "a",
        sort,
        &[("status", "new".into()), ("amount", amount.into())],
    )
}

/// Moves an amount from the first row to the second.
fn transfer(amount: i64) -> Operation {
    let add = |key: Key, amount: i64| {
        TransactionWrite::Update(Update {
            actions: vec![Action::Add(Path::attribute("amount"), amount.into())],
            ..update_of(&table(), key)
        })
    };
    let [from, to] = keys();
    Operation::Transaction(Transaction {
        writes: vec![add(from, -amount), add(to, amount)],
    })
}

fn snapshot() -> Operation {
    Operation::TransactionGet(TransactionGet {
        keys: keys().map(|key| (table(), key)).to_vec(),
    })
}

fn amount(item: &Item) -> i64 {
    match item.get("amount") {
        Some(mintkey_store::Value::Number(number)) => number.to_string().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The stored rows.
fn stored(world: &mut World, layout: &Layout) -> Vec<Item> {
    let row = |key: Key| {
        let call = Call::new("HGETALL").arg(layout.row_key(&key));
        let value = world.server.send(&[call]).remove(0);
        decode_row(value, &layout.table, &key)
            .unwrap()
            .unwrap()
            .item
    };
    keys().map(row).to_vec()
}

fn once(world: &mut World, layout: &Layout, victim: Victim, choices: &mut Choices) -> usize {
    for (sort, amount) in [("1", SUM), ("2", 0)] {
        let put = put_of(&table(), row(sort, amount), Guard::default());
        run(&world.stores[3], put, &mut world.server).unwrap();
    }
    let operations = [transfer(1), transfer(3), snapshot()];
    let mut processes: Vec<Process> = operations
        .into_iter()
        .zip(&world.stores)
        .map(|(operation, store)| Process::new(store, operation, &mut world.server))
        .collect();
    interleave(
        &mut processes,
        &mut world.server,
        victim,
        choices,
        SWITCHES,
        |_| (),
    );
    let trace = trace(victim, choices);
    let rows = stored(world, layout);
    let [moved, rest] = [amount(&rows[1]), amount(&rows[0])];
    assert_eq!(moved + rest, SUM, "{trace}");
    // Each acknowledged transfer is there once. One that was not acknowledged may be there once.
    let mut possible = vec![0];
    for (process, amount) in processes.iter().zip([1, 3]) {
        possible = match &process.reply {
            Some(reply) => {
                assert!(reply.is_ok(), "{reply:?}: {trace}");
                possible.iter().map(|sum| sum + amount).collect()
            }
            None => possible
                .iter()
                .flat_map(|sum| [*sum, sum + amount])
                .collect(),
        };
    }
    assert!(
        possible.contains(&moved),
        "{moved} of {possible:?}: {trace}"
    );
    if let Some(reply) = &processes[2].reply {
        let Ok(Reply::Items(found)) = reply else {
            panic!("{reply:?}: {trace}");
        };
        let seen: i64 = found
            .iter()
            .map(|item| amount(item.as_ref().unwrap()))
            .sum();
        assert_eq!(seen, SUM, "{trace}");
    }
    check_index(world, layout, &rows, &trace);
    most_steps(&processes)
}

/// The index has an entry for each row, and no other.
fn check_index(world: &mut World, layout: &Layout, rows: &[Item], trace: &str) {
    let entries = rows.iter().zip(keys());
    let wanted: Members = entries
        .filter_map(|(row, key)| Layout::index_member(&by_status(), row, &key))
        .collect();
    assert_eq!(
        world.members(&layout.index_set("by_status")),
        wanted,
        "{trace}"
    );
}

pub fn two_transfers_and_a_snapshot() {
    let mut world = World::new(4);
    for store in &world.stores {
        let query = Operation::Query(Query {
            index: Some("by_status".into()),
            ..query_of(&table(), &[string("new")])
        });
        let found = items(run(store, query, &mut world.server).unwrap());
        assert_eq!(found, []);
    }
    let layout = Layout::new(&world.keyspace, home(), table(), String::new(), Vec::new());
    let runs = run_all(3, |victim, choices| {
        once(&mut world, &layout, victim, choices)
    });
    assert!(runs > 100, "only {runs} runs");
}
