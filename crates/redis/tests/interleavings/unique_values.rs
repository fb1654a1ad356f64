//! Two writers that claim and give up unique values, and a reader that removes dead markers: on a single server, and in a
//! Cluster, where a write takes several steps in several slot groups.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use mintkey_redis::internals::{Call, Layout, Value, decode_row, group_of, group_of_bytes};
use mintkey_store::unique::{Scope, encode};
use mintkey_store::{
    Action, Delete, ErrorKind, GetUnique, Guard, Item, Key, Operation, Path, Put, Reply, Row,
    Table, Transaction, TransactionWrite, Unique, Update,
};

use super::requests::*;
use super::{Choices, Process, Server, Victim, World, interleave, most_steps, run, run_all, trace};

const VALUES: [&str; 3] = ["x", "y", "z"];

/// The table, the same for all processes: they know its layouts from the first step on.
fn table() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    Arc::clone(TABLE.get_or_init(|| {
        Arc::new(Table {
            indexes: Vec::new(),
            unique: vec![Unique {
                name: "email".into(),
                attributes: vec!["email".into()],
                scope: Scope::default(),
            }],
            ..(*orders()).clone()
        })
    }))
}

/// The rows of the tests. The first two are in one slot group.
fn keys() -> [Key; 4] {
    [key("a", "1"), key("a", "2"), key("b", "1"), key("c", "1")]
}

fn person(key: &Key, email: &str) -> Item {
    let mut item = table().item_of(key);
    item.insert("email".into(), email.into());
    item
}

fn expired(key: &Key, email: &str) -> Item {
    let mut item = person(key, email);
    item.insert("expires".into(), (NOW - 1).into());
    item
}

fn put_with(key: &Key, email: &str, row: Row) -> Put {
    let guard = Guard {
        row,
        ..Guard::default()
    };
    Put::new(table(), Arc::new(person(key, email)), guard).unwrap()
}

fn new(key: &Key, email: &str) -> Operation {
    Operation::Put(put_with(key, email, Row::Absent))
}

fn over(key: &Key, email: &str) -> Operation {
    Operation::Put(put_with(key, email, Row::Any))
}

fn rename(key: &Key, email: &str) -> Operation {
    Operation::Update(Update {
        actions: vec![Action::Set(Path::attribute("email"), email.into())],
        ..update_of(&table(), key.clone())
    })
}

fn removal(key: &Key) -> Operation {
    delete_of(&table(), key.clone(), Guard::default())
}

fn find(email: &str) -> Operation {
    Operation::GetUnique(GetUnique {
        table: table(),
        unique: "email".into(),
        values: vec![string(email)],
        attributes: None,
    })
}

/// Deletes one row, and gives its value to another in the same slot group.
fn handover(from: &Key, to: &Key, email: &str) -> Operation {
    let away = Delete {
        table: table(),
        key: from.clone(),
        guard: Guard {
            row: Row::Present,
            ..Guard::default()
        },
        returns_old: false,
    };
    Operation::Transaction(Transaction {
        writes: vec![
            TransactionWrite::Put(put_with(to, email, Row::Any)),
            TransactionWrite::Delete(away),
        ],
    })
}

/// The names of the values, and the rows that have them.
type Holders = BTreeMap<String, Key>;

/// Where the rows and markers of the table are.
struct Places {
    layouts: BTreeMap<u8, Layout>,
    clustered: bool,
}

impl Places {
    fn layout(&self, group: u8) -> &Layout {
        &self.layouts[&if self.clustered { group } else { 0 }]
    }

    fn layout_of(&self, key: &Key) -> &Layout {
        self.layout(group_of(&key.partition))
    }

    fn marker_set(&self, email: &str) -> Vec<u8> {
        let group = group_of_bytes(&encode(&[string(email)]));
        self.layout(group).markers_key(b"email")
    }

    /// The stored rows that have not expired, by value. No two have the same.
    fn holders(&self, server: &mut Server) -> Holders {
        let calls = keys().map(|key| {
            let layout = self.layout_of(&key);
            Call::new("HGETALL").arg(layout.row_key(&key))
        });
        let mut holders = Holders::new();
        for (key, value) in keys().into_iter().zip(server.send(&calls)) {
            let Some(row) = decode_row(value, &table(), &key).unwrap() else {
                continue;
            };
            if let Some(mintkey_store::Value::String(email)) = row.item.get("email")
                && !table().is_expired(&row.item, NOW)
            {
                let other = holders.insert(email.clone(), key);
                assert_eq!(other, None, "{email} twice");
            }
        }
        holders
    }

    /// The number of markers.
    fn markers(&self, server: &mut Server) -> usize {
        let calls = VALUES.map(|email| {
            let value = encode(&[string(email)]);
            Call::new("HEXISTS").arg(self.marker_set(email)).arg(value)
        });
        let replies = server.send(&calls);
        let present = replies.iter().filter(|reply| **reply == Value::Int(1));
        present.count()
    }
}

/// A server with the table, and the processes.
struct People {
    world: World,
    places: Places,
}

impl People {
    fn new(clustered: bool) -> Self {
        let mut world = World::with(4, clustered);
        for store in &world.stores {
            run(store, Operation::CreateTable(table()), &mut world.server).unwrap();
        }
        let keyspace = &world.keyspace;
        let layout = |group| Layout::new(keyspace, group, table(), String::new(), Vec::new());
        let layouts = keyspace.slot_groups();
        let layouts = layouts.map(|group| (group, layout(group))).collect();
        Self {
            world,
            places: Places { layouts, clustered },
        }
    }

    fn begin(&mut self, before: &[Item]) {
        let mut call = Call::new("DEL");
        for key in keys() {
            let layout = self.places.layout_of(&key);
            call = call.arg(layout.row_key(&key)).arg(&layout.row_set);
        }
        for email in VALUES {
            call = call.arg(self.places.marker_set(email));
        }
        self.world.server.send(&[call]);
        for item in before {
            let put = put_of(&table(), item.clone(), Guard::default());
            run(&self.world.stores[3], put, &mut self.world.server).unwrap();
        }
    }
}

/// What the processes do.
struct Scenario {
    before: Vec<Item>,
    writers: [Operation; 2],
    /// The value that a reader looks for, if there is one.
    reader: Option<&'static str>,
    /// How often a run switches between processes that have not ended. Without a limit, two writers can cancel each other for
    /// ever.
    switches: usize,
    /// How many writers may be done if nobody stops.
    done: std::ops::RangeInclusive<usize>,
}

/// The epochs of catalog entries do not change here, so reading them is no step.
fn is_step(call: &Call) -> bool {
    let mut bytes = Vec::new();
    call.write(false, &mut bytes);
    !bytes.ends_with(b"$5\r\nepoch\r\n")
}

fn once(people: &mut People, own: &Scenario, victim: Victim, choices: &mut Choices) -> usize {
    people.begin(&own.before);
    let reader = own.reader.map(find);
    let operations = own.writers.iter().cloned().chain(reader);
    let People { world, places } = &mut *people;
    let mut processes: Vec<Process> = operations
        .zip(&world.stores)
        .map(|(operation, store)| Process::with(store, operation, &mut world.server, is_step))
        .collect();
    let switches = if victim.is_none() { own.switches } else { 1 };
    let mut seen: Vec<Holders> = Vec::new();
    interleave(
        &mut processes,
        &mut world.server,
        victim,
        choices,
        switches,
        |server| seen.push(places.holders(server)),
    );
    check(people, own, &mut processes, &seen, &trace(victim, choices));
    most_steps(&processes)
}

fn check(
    people: &mut People,
    own: &Scenario,
    processes: &mut [Process],
    seen: &[Holders],
    trace: &str,
) {
    let all_ended = processes.iter().all(|process| process.reply.is_some());
    let mut done = 0;
    for process in &mut processes[..2] {
        match process.reply.take() {
            Some(Ok(_)) => done += 1,
            None => {}
            Some(Err(error)) => {
                let reason = error.reasons.iter().flatten().next().unwrap_or(&error);
                let expected = [ErrorKind::UniqueViolation, ErrorKind::ItemGone];
                assert!(expected.contains(&reason.kind), "{error}: {trace}");
                // The row that is named has had the value.
                for violation in reason.violations.as_deref().unwrap_or_default() {
                    let holder = Some(&violation.holders[0]);
                    let mintkey_store::KeyValue::String(email) = &violation.values[0] else {
                        panic!("{violation:?}");
                    };
                    let had = own.before.iter().any(|item| {
                        item.get("email") == Some(&email.as_str().into())
                            && table().key_of(item).ok().as_ref() == holder
                    });
                    let had = had || seen.iter().any(|holders| holders.get(email) == holder);
                    assert!(had, "{error}: {trace}");
                }
            }
        }
    }
    if all_ended {
        assert!(own.done.contains(&done), "{done} writers: {trace}");
    }
    if let Some(Some(reply)) = processes.get_mut(2).map(|process| process.reply.take()) {
        let Reply::Item(found) = reply.unwrap() else {
            panic!("not an item: {trace}");
        };
        if let Some(item) = found {
            let wanted = own.reader.map(mintkey_store::Value::from);
            assert_eq!(item.get("email"), wanted.as_ref(), "{trace}");
        }
    }
    // The next writer or reader of a value finds its holder, or gets it. Nothing is blocked, and nothing dead is left.
    let (store, server) = (&people.world.stores[3], &mut people.world.server);
    let holders = people.places.holders(server);
    let probe = &keys()[3];
    for email in VALUES {
        let Some(holder) = holders.get(email) else {
            let mut uses = [find(email), new(probe, email), removal(probe)];
            // A dead marker is met by a reader first, or by a writer.
            if seen.len() % 2 == 1 {
                uses.rotate_left(1);
            }
            for operation in uses {
                let reply = run(store, operation, server).unwrap();
                let allowed = [Reply::Item(None), Reply::Done];
                assert!(allowed.contains(&reply), "{reply:?}: {trace}");
            }
            continue;
        };
        let Reply::Item(found) = run(store, find(email), server).unwrap() else {
            panic!("not an item: {trace}");
        };
        let found = found.map(|item| table().key_of(&item).unwrap());
        assert_eq!(found.as_ref(), Some(holder), "{email}: {trace}");
        let error = run(store, new(probe, email), server).unwrap_err();
        let violations = error.violations.as_deref().unwrap_or_default();
        assert_eq!(
            &violations[0].holders[..],
            std::slice::from_ref(holder),
            "{trace}"
        );
    }
    assert_eq!(people.places.markers(server), holders.len(), "{trace}");
}

fn run_scenario(scenario: &Scenario, clustered: bool) {
    let mut people = People::new(clustered);
    let processes = 2 + usize::from(scenario.reader.is_some());
    let runs = run_all(processes, |victim, choices| {
        once(&mut people, scenario, victim, choices)
    });
    assert!(runs > 20, "only {runs} runs");
}

/// In a Cluster and on a single server.
fn run_both(scenario: &Scenario) {
    for clustered in [true, false] {
        run_scenario(scenario, clustered);
    }
}

pub fn two_new_rows_with_one_value() {
    let [a, _, b, _] = keys();
    run_both(&Scenario {
        before: Vec::new(),
        writers: [new(&b, "x"), new(&a, "x")],
        reader: Some("x"),
        switches: 2,
        done: 1..=1,
    });
}

pub fn two_new_rows_with_one_value_in_many_orders() {
    let [a, _, b, _] = keys();
    let scenario = Scenario {
        before: Vec::new(),
        writers: [new(&b, "x"), new(&a, "x")],
        reader: None,
        switches: 5,
        done: 1..=1,
    };
    run_scenario(&scenario, true);
}

pub fn a_value_is_given_up_and_claimed() {
    let [a, _, b, _] = keys();
    for away in [rename(&a, "y"), removal(&a)] {
        run_both(&Scenario {
            before: vec![person(&a, "x")],
            writers: [away, over(&b, "x")],
            reader: Some("x"),
            switches: 2,
            done: 1..=2,
        });
    }
}

pub fn two_changes_of_one_row() {
    let [a, ..] = keys();
    run_both(&Scenario {
        before: vec![person(&a, "x")],
        writers: [rename(&a, "y"), rename(&a, "z")],
        reader: Some("x"),
        switches: 2,
        done: 2..=2,
    });
}

pub fn an_expired_row_has_one_successor() {
    let [a, _, b, _] = keys();
    run_both(&Scenario {
        before: vec![expired(&a, "x")],
        writers: [new(&b, "x"), over(&a, "x")],
        reader: Some("x"),
        switches: 2,
        done: 1..=1,
    });
}

pub fn a_value_changes_hands_in_a_transaction() {
    let [a, other, b, _] = keys();
    run_both(&Scenario {
        before: vec![person(&a, "x")],
        writers: [handover(&a, &other, "x"), new(&b, "x")],
        reader: Some("x"),
        switches: 2,
        done: 1..=1,
    });
}
