//! Writes with lost calls and replies, in all orders: the reported outcome agrees with what happened.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_redis::internals::{Call, FinalReply, Replies, StoreContext, Value};
use mintkey_store::unique::Scope;
use mintkey_store::{
    Action, BatchWrite, Comparison, Condition, Delete, Error, ErrorKind, GetUnique, Guard, Item,
    Key, Operation, Outcome, Path, Reply, Request, Result, Row, Table, Transaction,
    TransactionWrite, Unique, Update, Write,
};

use super::requests::*;
use super::{Server, World, channel, final_replies};

/// The key of the row that is written. A call that contains it belongs to the write under test.
const OWN: &str = "row under test";

/// What happens to the calls that a write sends together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// The replies arrive.
    Answered,
    /// The connection breaks before the server receives them.
    LostBefore,
    /// The connection breaks after the server has carried them out.
    LostAfter,
    /// The connection breaks, and the server carries them out after the next calls.
    Late,
    /// No connection can be opened.
    Unsent,
    /// The connection breaks after they are carried out. They are sent again, and refused.
    RefusedAgain,
    /// The connection breaks after they are carried out. They are sent again, and the catalog entry has changed.
    StaleAgain,
}

const FATES: [Fate; 7] = [
    Fate::Answered,
    Fate::LostBefore,
    Fate::LostAfter,
    Fate::Late,
    Fate::Unsent,
    Fate::RefusedAgain,
    Fate::StaleAgain,
];

/// What another process does after the first calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    Nothing,
    Removes,
    Replaces,
}

/// A write, with the row before and after it.
struct Case {
    name: &'static str,
    before: Option<Item>,
    write: Write,
    after: Option<Item>,
}

/// The network between a write and the server. It notes whether a call was carried out on the row.
struct Network<'a> {
    server: &'a mut Server,
    /// The slot group of the row under test.
    home: u8,
    late: Vec<Call>,
    applied: bool,
}

impl Network<'_> {
    fn deliver(&mut self, calls: &[Call]) -> Vec<Value> {
        let values = self.server.send(calls);
        for (call, value) in calls.iter().zip(&values) {
            let mut bytes = Vec::new();
            call.write(false, &mut bytes);
            let is_own = bytes.windows(OWN.len()).any(|part| part == OWN.as_bytes());
            let first = match value {
                Value::Array(values) => values.first(),
                value => Some(value),
            };
            let done = matches!(first, Some(Value::Status(word)) if word == "OK");
            self.applied |= call.writes && is_own && done && call.slot_group == self.home;
        }
        values
    }

    fn deliver_late(&mut self) {
        let late = std::mem::take(&mut self.late);
        self.deliver(&late);
    }

    fn exchange(&mut self, calls: Vec<Call>, fate: Fate) -> Replies {
        let late = std::mem::take(&mut self.late);
        let writes = calls.iter().any(|call| call.writes);
        let repeatable = calls.iter().all(|call| call.repeatable);
        let replies = match fate {
            Fate::Answered => final_replies(self.deliver(&calls)),
            Fate::Unsent => broken(false).of_all(calls.len()),
            Fate::LostBefore => broken(writes).of_all(calls.len()),
            Fate::Late => {
                let replies = broken(writes).of_all(calls.len());
                self.late = calls;
                replies
            }
            Fate::RefusedAgain | Fate::StaleAgain if repeatable => {
                let values = self.deliver(&calls);
                let again = |(call, value): (&Call, Value)| {
                    let value = match fate {
                        _ if !call.writes => value,
                        Fate::StaleAgain => Value::Status("STALE".to_owned()),
                        _ => Value::Error("OOM command not allowed".to_owned()),
                    };
                    let sent_before = true;
                    Ok(FinalReply { value, sent_before })
                };
                calls.iter().zip(values).map(again).collect()
            }
            Fate::LostAfter | Fate::RefusedAgain | Fate::StaleAgain => {
                self.deliver(&calls);
                broken(writes).of_all(calls.len())
            }
        };
        self.deliver(&late);
        replies
    }
}

fn broken(delivered: bool) -> Error {
    let outcome = if delivered {
        Outcome::Unknown
    } else {
        Outcome::NotApplied
    };
    Error::new(ErrorKind::Unavailable(outcome), "injected")
}

/// Carries out a request. The first calls have these fates. `other` runs after the first calls.
fn carry_out(
    store: &StoreContext,
    request: &Request,
    network: &mut Network<'_>,
    fates: &[Fate],
    mut other: impl FnMut(&mut Server),
) -> Result<Reply> {
    let channel = channel(&store.config);
    let mut operation = pin!(mintkey_redis::internals::run(store, &channel, request));
    let mut waker_context = Context::from_waker(Waker::noop());
    let mut fates = fates.iter();
    let mut steps = 0;
    loop {
        if let Poll::Ready(reply) = operation.as_mut().poll(&mut waker_context) {
            return reply;
        }
        steps += 1;
        assert!(steps < 40, "a write does not end");
        let fate = fates.next().copied().unwrap_or(Fate::Answered);
        let calls = channel.take_calls();
        channel.resume(network.exchange(calls, fate));
        if steps == 1 {
            other(network.server);
        }
    }
}

fn run_without_faults(store: &StoreContext, server: &mut Server, operation: Operation) -> Reply {
    let mut network = Network {
        server,
        home: home(store),
        late: Vec::new(),
        applied: false,
    };
    let reply = carry_out(store, &request(operation), &mut network, &[], |_| ());
    reply.unwrap()
}

fn home(store: &StoreContext) -> u8 {
    let keyspace = &store.config.keyspace;
    keyspace.slot_group(&Table::unknown("any"), &string(OWN))
}

fn own_key(table: &Table) -> Key {
    Key {
        partition: string(OWN),
        sort: table.sort.is_some().then(|| string("1")),
    }
}

fn row(table: &Table, partition: &str, version: i64) -> Item {
    let mut row = item(&[("version", version.into()), ("status", "new".into())]);
    row.insert(table.partition.name.clone(), partition.into());
    if let Some(sort) = &table.sort {
        row.insert(sort.name.clone(), "1".into());
    }
    if !table.unique.is_empty() {
        row.insert("email".into(), email(partition, version).as_str().into());
    }
    row
}

fn email(partition: &str, version: i64) -> String {
    format!("{partition}, {version}")
}

fn put_write(table: &Arc<Table>, version: i64, guard: Guard) -> Write {
    batch_put(table, row(table, OWN, version), guard)
}

fn cases(table: &Arc<Table>) -> Vec<Case> {
    let open = Guard::default;
    let absent = |collision_free| Guard {
        row: Row::Absent,
        collision_free,
        ..open()
    };
    let versioned = || Guard {
        version: Some(("version".into(), Some(number("1")))),
        ..open()
    };
    let held = || {
        condition(Condition::Compare {
            path: Path::attribute("version"),
            op: Comparison::Eq,
            value: 1.into(),
        })
    };
    let add = |guard| {
        let mut actions = vec![Action::Add(Path::attribute("version"), number("1"))];
        if !table.unique.is_empty() {
            let email = email(OWN, 2);
            actions.push(Action::Set(Path::attribute("email"), email.as_str().into()));
        }
        Write::Update(Update {
            actions,
            guard,
            ..update_of(table, own_key(table))
        })
    };
    let delete = |guard| {
        Write::Delete(Delete {
            table: Arc::clone(table),
            key: own_key(table),
            guard,
            returns_old: false,
        })
    };
    let stored = || Some(row(table, OWN, 1));
    let changed = || Some(row(table, OWN, 2));
    let case = |name, before, write, after| Case {
        name,
        before,
        write,
        after,
    };
    vec![
        case("put", None, put_write(table, 2, open()), changed()),
        case("put over", stored(), put_write(table, 2, open()), changed()),
        case(
            "insert",
            None,
            put_write(table, 2, absent(false)),
            changed(),
        ),
        case(
            "insert with a collision-free key",
            None,
            put_write(table, 2, absent(true)),
            changed(),
        ),
        case(
            "insert over a row",
            stored(),
            put_write(table, 2, absent(false)),
            stored(),
        ),
        case(
            "versioned put",
            stored(),
            put_write(table, 2, versioned()),
            changed(),
        ),
        case(
            "conditional put",
            stored(),
            put_write(table, 2, held()),
            changed(),
        ),
        case("update", stored(), add(open()), changed()),
        case("versioned update", stored(), add(versioned()), changed()),
        case("delete", stored(), delete(open()), None),
        case("versioned delete", stored(), delete(versioned()), None),
        case("conditional delete", stored(), delete(held()), None),
    ]
}

/// Writes the row of the start of the test.
fn restore(store: &StoreContext, server: &mut Server, table: &Arc<Table>, item: Option<&Item>) {
    let operation = match item {
        Some(item) => put_of(table, item.clone(), Guard::default()),
        None => delete_of(table, own_key(table), Guard::default()),
    };
    run_without_faults(store, server, operation);
}

fn check(
    store: &StoreContext,
    server: &mut Server,
    case: &Case,
    fates: &[Fate],
    other: Other,
    batch: bool,
) {
    let table = match &case.write {
        Write::Put(put) => &put.table,
        Write::Update(update) => &update.table,
        Write::Delete(delete) => &delete.table,
    };
    restore(store, server, table, case.before.as_ref());
    let operation = match (batch, case.write.clone()) {
        (true, own) => {
            let neighbour = batch_put(table, row(table, "neighbour", 1), Guard::default());
            Operation::BatchWrite(BatchWrite {
                table: Arc::clone(table),
                writes: vec![own, neighbour],
            })
        }
        (false, Write::Put(put)) => Operation::Put(put),
        (false, Write::Update(update)) => Operation::Update(update),
        (false, Write::Delete(delete)) => Operation::Delete(delete),
    };
    let mut network = Network {
        server,
        home: home(store),
        late: Vec::new(),
        applied: false,
    };
    let result = carry_out(
        store,
        &request(operation),
        &mut network,
        fates,
        |server| match other {
            Other::Nothing => {}
            Other::Removes => restore(store, server, table, None),
            Other::Replaces => restore(store, server, table, Some(&row(table, OWN, 7))),
        },
    );
    network.deliver_late();
    let applied = network.applied;
    let result = match result {
        Ok(Reply::Written(outcomes)) => outcomes.into_iter().next().unwrap(),
        other => other.map(drop),
    };
    let run = format!("{} {fates:?} {other:?} {batch}: {result:?}", case.name);
    let reply = run_without_faults(store, server, get_of(table, own_key(table)));
    let Reply::Item(stored) = reply else {
        panic!("{reply:?}");
    };
    match &result {
        Ok(()) if other == Other::Nothing => assert_eq!(stored, case.after, "{run}"),
        Ok(()) => assert!(applied || case.after.is_none(), "{run}"),
        Err(error) if error.kind.outcome() == Some(Outcome::Unknown) => {}
        Err(_) => assert!(!applied, "{run}"),
    }
    if !table.unique.is_empty() {
        check_values(store, server, table, stored.as_ref(), &run);
    }
    let harmless = [Fate::Answered, Fate::Unsent];
    if fates.iter().all(|fate| harmless.contains(fate)) {
        let kind = result.map_err(|error| error.kind.outcome());
        assert_ne!(kind, Err(Some(Outcome::Unknown)), "{run}");
    }
}

/// Each value is found with the row that has it, and no other is taken.
fn check_values(
    store: &StoreContext,
    server: &mut Server,
    table: &Arc<Table>,
    stored: Option<&Item>,
    run: &str,
) {
    for version in [1, 2, 7] {
        let email = email(OWN, version);
        let find = Operation::GetUnique(GetUnique {
            table: Arc::clone(table),
            unique: "email".into(),
            values: vec![string(&email)],
            attributes: None,
        });
        let holder = stored.filter(|item| item.get("email") == Some(&email.as_str().into()));
        let found = run_without_faults(store, server, find);
        assert_eq!(found, Reply::Item(holder.cloned()), "{email}: {run}");
        if holder.is_none() {
            let mut other = row(table, "other", 1);
            other.insert("email".into(), email.as_str().into());
            let put = put_of(table, other, Guard::default());
            assert_eq!(run_without_faults(store, server, put), Reply::Done, "{run}");
        }
    }
    let other = table.key_of(&row(table, "other", 1)).unwrap();
    run_without_faults(store, server, delete_of(table, other, Guard::default()));
}

fn sequences(length: usize) -> Vec<Vec<Fate>> {
    (0..length).fold(vec![Vec::new()], |sequences, _| {
        let longer = |own: &Vec<Fate>| FATES.map(|fate| [&own[..], &[fate]].concat());
        sequences.iter().flat_map(longer).collect()
    })
}

pub fn the_reported_outcome_agrees_with_what_happened() {
    for clustered in [false, true] {
        let mut world = World::with(1, clustered);
        let (store, server) = (&world.stores[0], &mut world.server);
        for table in [orders(), plain("plain", mintkey_store::KeyKind::String)] {
            for case in cases(&table) {
                for fates in sequences(3) {
                    check(store, server, &case, &fates, Other::Nothing, false);
                }
                for fates in sequences(2) {
                    for other in [Other::Nothing, Other::Removes, Other::Replaces] {
                        check(store, server, &case, &fates, other, false);
                        check(store, server, &case, &fates, other, true);
                    }
                }
            }
        }
    }
}

pub fn the_reported_outcome_of_unique_values_agrees_with_what_happened() {
    let unique = Unique {
        name: "email".into(),
        attributes: vec!["email".into()],
        scope: Scope::default(),
    };
    let table = Arc::new(Table {
        unique: vec![unique],
        ..(*plain("people", mintkey_store::KeyKind::String)).clone()
    });
    for clustered in [false, true] {
        let mut world = World::with(1, clustered);
        let (store, server) = (&world.stores[0], &mut world.server);
        for case in cases(&table) {
            for fates in sequences(2) {
                check(store, server, &case, &fates, Other::Nothing, false);
            }
            for fate in FATES {
                // The first calls of a Cluster read the row and write an intent, the second ones claim.
                let late = [Fate::Answered, Fate::Answered, fate];
                for other in [Other::Nothing, Other::Removes, Other::Replaces] {
                    check(store, server, &case, &late, other, false);
                    check(store, server, &case, &[fate], other, true);
                }
            }
        }
    }
}

/// A transaction that adds to the row under test, inserts another one and deletes a third.
fn transaction(table: &Arc<Table>, partitions: [&str; 2]) -> Operation {
    let [inserted, deleted] = partitions;
    let insert = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    let Write::Put(put) = batch_put(table, row(table, inserted, 1), insert) else {
        unreachable!();
    };
    let add = Update {
        actions: vec![Action::Add(Path::attribute("version"), number("1"))],
        ..update_of(table, own_key(table))
    };
    let delete = Delete {
        table: Arc::clone(table),
        key: table.key_of(&row(table, deleted, 1)).unwrap(),
        guard: Guard::default(),
        returns_old: false,
    };
    Operation::Transaction(Transaction {
        writes: vec![
            TransactionWrite::Update(add),
            TransactionWrite::Put(put),
            TransactionWrite::Delete(delete),
        ],
    })
}

/// Carries out the transaction, and compares its outcome with the three rows.
fn check_transaction(
    store: &StoreContext,
    server: &mut Server,
    table: &Arc<Table>,
    fates: &[Fate],
    other: Other,
) {
    const PARTITIONS: [&str; 2] = ["inserted", "deleted"];
    let key_of = |partition: &str| table.key_of(&row(table, partition, 1)).unwrap();
    restore(store, server, table, Some(&row(table, OWN, 1)));
    let delete = delete_of(table, key_of(PARTITIONS[0]), Guard::default());
    run_without_faults(store, server, delete);
    let put = put_of(table, row(table, PARTITIONS[1], 1), Guard::default());
    run_without_faults(store, server, put);
    let mut network = Network {
        server,
        home: home(store),
        late: Vec::new(),
        applied: false,
    };
    let operation = request(transaction(table, PARTITIONS));
    let result = carry_out(
        store,
        &operation,
        &mut network,
        fates,
        |server| match other {
            Other::Nothing => {}
            Other::Removes => restore(store, server, table, None),
            Other::Replaces => restore(store, server, table, Some(&row(table, OWN, 7))),
        },
    );
    network.deliver_late();
    let applied = network.applied;
    let run = format!("{fates:?} {other:?}: {result:?}");
    let mut stored = |key: Key| match run_without_faults(store, server, get_of(table, key)) {
        Reply::Item(item) => item,
        reply => panic!("{reply:?}"),
    };
    let inserted = stored(key_of(PARTITIONS[0])).is_some();
    let deleted = stored(key_of(PARTITIONS[1])).is_none();
    assert_eq!((inserted, deleted), (applied, applied), "{run}");
    let own = stored(own_key(table));
    match other {
        Other::Nothing => {
            let version = if applied { 2 } else { 1 };
            assert_eq!(own, Some(row(table, OWN, version)), "{run}");
        }
        // Written before or after the transaction.
        Other::Removes => assert_eq!(own, None, "{run}"),
        Other::Replaces => {
            let possible = [7, 8].map(|version| Some(row(table, OWN, version)));
            assert!(possible.contains(&own), "{run}");
        }
    }
    let faults = fates.iter().filter(|fate| **fate != Fate::Answered);
    let faults = faults.count();
    match &result {
        // After a single fault, the outcome is always found out.
        Ok(_) => assert!(applied, "{run}"),
        Err(error) if error.kind.outcome() == Some(Outcome::Unknown) => {
            assert!(faults > 1, "{run}");
        }
        Err(_) => assert!(!applied, "{run}"),
    }
}

pub fn the_reported_outcome_of_a_transaction_agrees_with_what_happened() {
    let plain = plain("plain", mintkey_store::KeyKind::String);
    for (table, length) in [(orders(), 3), (plain, 2)] {
        let mut world = World::with(1, false);
        let (store, server) = (&world.stores[0], &mut world.server);
        for fates in sequences(length) {
            check_transaction(store, server, &table, &fates, Other::Nothing);
        }
        for fates in sequences(2) {
            for other in [Other::Removes, Other::Replaces] {
                check_transaction(store, server, &table, &fates, other);
            }
        }
    }
}
