//! How many commits a group needs, failed commits, panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use mintkey_runtime::{Deadline, locked};
use mintkey_store::store::Never;
use mintkey_store::{
    Delivery, Done, ErrorKind, Get, Guard, Interrupt, Item, Key, KeyAttribute, KeyKind, KeyValue,
    Operation, Outcome, Put, Reply, Request, Result, Row, Store, Submission, Table, Value,
};

use super::group_commit;
use super::pending::PendingWrite;
use super::queue::GROUP;
use super::writer::{Lead, Writer};
use crate::config::Config;
use crate::shared::Shared;
use crate::storage::connection::{Connection, Opened};
use crate::storage::fork_gate;
use crate::store::SqliteStore;

/// The key of a request that panics in the middle of its transaction, as a defect would.
const DEFECT: &str = "defect";

pub fn panic_if_wanted(request: &Request) {
    assert!(request.operation.key() != Some(&key(DEFECT)), "{DEFECT}");
}

/// Panics before a transaction begins, if the database has this name.
pub fn panic_if_asked_to_begin(shared: &Shared) {
    assert!(!shared.config.address.ends_with(DEFECT), "{DEFECT}");
}

fn key(id: &str) -> Key {
    Key {
        partition: KeyValue::String(id.into()),
        sort: None,
    }
}

fn things() -> Arc<Table> {
    Arc::new(Table {
        partition: KeyAttribute {
            name: "id".into(),
            kind: KeyKind::String,
        },
        ..Table::unknown("things")
    })
}

fn put(key: &str) -> Request {
    let item = Item::from_pairs(vec![("id".into(), Value::from(key))]);
    let put = Put::new(things(), Arc::new(item), Guard::default());
    Request::new(0, Operation::Put(put.unwrap()))
}

fn get(id: &str) -> Request {
    let get = Get {
        table: things(),
        key: key(id),
        attributes: None,
        consistent: true,
    };
    Request::new(0, Operation::Get(get))
}

/// A store on a file that counts its commits, or refuses them.
fn counting(refuse: bool) -> (tempfile::TempDir, SqliteStore, Arc<AtomicUsize>) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:///{}/test.db?timeout=60", folder.path().display());
    let store = SqliteStore::new(Config::parse(&url).unwrap());
    store.execute(&put("first"), &Never).unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    let hook = {
        let commits = Arc::clone(&commits);
        move || {
            commits.fetch_add(1, Ordering::SeqCst);
            refuse
        }
    };
    let pool = &store.operations().shared.pool;
    let mut connection = pool.take_writer().unwrap();
    connection.raw.commit_hook(Some(hook)).unwrap();
    pool.put_writer(Some(connection));
    (folder, store, commits)
}

#[test]
fn sixty_four_submitted_at_once_share_few_commits() {
    let (_folder, store, commits) = counting(false);
    for round in 1..=3 {
        let (sender, receiver) = channel();
        // An event loop submits so many at once.
        for first in (0..64).step_by(16) {
            let request = |number: usize| -> (Arc<Request>, Done) {
                let sender = sender.clone();
                let done = Box::new(move |answer: Result<Reply>| sender.send(answer).unwrap());
                (Arc::new(put(&format!("{round}-{number}"))), done)
            };
            store.submit_all((first..first + 16).map(request).collect());
        }
        drop(sender);
        assert_eq!(receiver.iter().flatten().count(), 64);
        assert!(commits.swap(0, Ordering::SeqCst) <= 4);
    }
}

#[test]
fn writes_of_one_call_share_a_commit_and_are_refused_one_by_one() {
    let (_folder, store, commits) = counting(false);
    let mut requests: Vec<_> = (0..GROUP).map(|number| put(&number.to_string())).collect();
    let mut taken = put("first");
    if let Operation::Put(put) = &mut taken.operation {
        put.guard.row = Row::Absent;
    }
    requests[7] = taken;
    let requests: Vec<_> = requests.into_iter().map(Arc::new).collect();
    let answers = store.execute_all(&requests, &Never);
    assert_eq!(commits.swap(0, Ordering::SeqCst), 1);
    let refused = answers
        .iter()
        .position(|answer| matches!(answer, Err(error) if error.kind == ErrorKind::KeyCollision));
    assert_eq!(refused, Some(7));
    assert_eq!(answers.iter().flatten().count(), GROUP - 1);
    // More than a transaction takes, with others in between.
    let (sender, receiver) = channel();
    for number in 0..GROUP {
        let sender = sender.clone();
        let done = Box::new(move |answer: Result<Reply>| sender.send(answer).unwrap());
        store.submit(Arc::new(put(&format!("other {number}"))), done);
    }
    drop(sender);
    let again: Vec<_> = requests.iter().chain(&requests).cloned().collect();
    let answers = store.execute_all(&again, &Never);
    assert_eq!(answers.iter().flatten().count(), 2 * GROUP - 2);
    assert_eq!(receiver.iter().flatten().count(), GROUP);
    assert_eq!(locked(&writer(&store).queue).waiting(), 0);
}

#[test]
fn writes_of_one_call_fail_together_when_their_commit_does() {
    let (_folder, store, _) = counting(true);
    let requests: Vec<_> = (0..9)
        .map(|number| Arc::new(put(&number.to_string())))
        .collect();
    let answers = store.execute_all(&requests, &Never);
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 9);
}

#[test]
fn a_failed_commit_fails_every_member_and_keeps_nothing() {
    let (_folder, store, commits) = counting(true);
    let (sender, receiver) = channel();
    for number in 0..16 {
        let sender = sender.clone();
        let done = Box::new(move |answer: Result<Reply>| sender.send(answer).unwrap());
        store.submit(Arc::new(put(&number.to_string())), done);
    }
    drop(sender);
    let answers: Vec<Result<Reply>> = receiver.iter().collect();
    assert_eq!(answers.len(), 16);
    for answer in answers {
        assert_eq!(
            answer.unwrap_err().kind,
            ErrorKind::Unavailable(Outcome::NotApplied)
        );
    }
    assert!(commits.load(Ordering::SeqCst) > 0);
    let connection = store.operations().shared.pool.take_writer().unwrap();
    let rows: i64 = connection
        .raw
        .query_row("SELECT count(*) FROM things", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}

fn writer(store: &SqliteStore) -> &Writer {
    &store.operations().writer
}

/// Makes this thread the leader.
fn lead(store: &SqliteStore) -> Option<Connection> {
    locked(&writer(store).queue).lead();
    store.operations().shared.pool.take_writer()
}

/// Always raised.
struct Raised;

impl Interrupt for Raised {
    fn raised(&self) -> bool {
        true
    }
}

fn begin(shared: &Shared, connection: Connection, deadline: &mut Deadline) -> Connection {
    match group_commit::begin(shared, Some(connection), deadline).unwrap() {
        Opened::Ready(connection) => connection,
        Opened::Lost(_) => panic!("the files are where they were"),
    }
}

#[test]
fn a_leader_who_carries_others_commits_before_it_is_interrupted() {
    let (_folder, store, _) = counting(false);
    let shared = &*store.operations().shared;
    let connection = lead(&store).unwrap();
    // Long enough for several checks of the interrupt, if there were any.
    let slow = "CREATE TRIGGER slow BEFORE INSERT ON things WHEN NEW.pk LIKE 'slow%' BEGIN SELECT max(x) FROM \
        (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3000000) SELECT x FROM c); END";
    connection.raw.execute_batch(slow).unwrap();
    let mut deadline = Deadline::unlimited(&Raised).polling_with(fork_gate::poll);
    let connection = begin(shared, connection, &mut deadline);
    let (sender, receiver) = channel();
    let done = Box::new(move |answer: Result<Reply>| sender.send(answer).unwrap());
    let write = PendingWrite::submitted(Arc::new(put("other")), Submission::new(done));
    assert!(write.start());
    let carried =
        group_commit::commit_group(shared, &connection, Some(&put("slow")), &[write], &deadline);
    let (own, deliveries) = carried.unwrap();
    deliveries.into_iter().for_each(Delivery::deliver);
    own.unwrap();
    receiver.recv().unwrap().unwrap();
    // A single request would have been stopped.
    let connection = begin(shared, connection, &mut deadline);
    let slow_too = put("slow too");
    let carried = group_commit::commit_group(shared, &connection, Some(&slow_too), &[], &deadline);
    let (own, _) = carried.unwrap();
    assert_eq!(
        own.unwrap_err().kind,
        ErrorKind::Interrupted(Outcome::NotApplied)
    );
    shared.pool.put_writer(Some(connection));
    locked(&writer(&store).queue).pass_on();
}

#[test]
fn a_panic_passes_the_lead_on() {
    let (_folder, store, _) = counting(false);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _connection = lead(&store);
        let _lead = Lead::new(writer(&store), None);
        panic!("as a defect would");
    }));
    assert!(panicked.is_err());
    store.execute(&put("after"), &Never).unwrap();
}

/// Removes the log after each commit, before the store can check it.
fn remove_after_commit(store: &SqliteStore, copied: bool) {
    let shared = &store.operations().shared;
    let path = shared.config.path.clone().unwrap();
    let mut connection = shared.pool.take_writer().unwrap();
    let hook = move |log: &mut rusqlite::hooks::Wal, _pages: i32| {
        if copied {
            log.checkpoint()?;
        }
        for suffix in ["-wal", "-shm"] {
            std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
        }
        Ok(())
    };
    connection.raw.wal_hook(Some(hook)).unwrap();
    shared.pool.put_writer(Some(connection));
}

#[test]
fn a_commit_whose_log_is_lost_counts_once_whether_it_was_copied_or_not() {
    for copied in [true, false] {
        let (_folder, store, commits) = counting(false);
        remove_after_commit(&store, copied);
        let mut only = put("only");
        if let Operation::Put(put) = &mut only.operation {
            put.guard.row = Row::Absent;
        }
        // Carried out a second time although it was copied, it would find its own row.
        store.execute(&only, &Never).unwrap();
        assert_eq!(commits.load(Ordering::SeqCst), 1);
        let again = store.execute(&only, &Never).unwrap_err();
        assert_eq!(again.kind, ErrorKind::KeyCollision);
    }
}

fn submit(store: &SqliteStore, request: Request) -> Receiver<Result<Reply>> {
    let (sender, receiver) = channel();
    let done = Box::new(move |answer: Result<Reply>| drop(sender.send(answer)));
    store.submit(Arc::new(request), done);
    receiver
}

/// The answer. A request without an answer fails the test.
fn answer(receiver: &Receiver<Result<Reply>>) -> std::result::Result<(), ErrorKind> {
    let answer = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
    answer.map(drop).map_err(|error| error.kind)
}

const UNKNOWN: std::result::Result<(), ErrorKind> = Err(ErrorKind::Unavailable(Outcome::Unknown));

/// Closes the store, which must not wait for a thread that does not exist.
fn close(store: SqliteStore) {
    let (sender, closed) = channel();
    thread::spawn(move || {
        store.close(&Never);
        sender.send(store).unwrap();
    });
    let store = closed.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(
        store.execute(&get("first"), &Never).unwrap_err().kind,
        ErrorKind::Configuration
    );
}

#[test]
fn after_a_panic_of_the_writing_thread_all_are_answered_and_the_store_goes_on() {
    let (_folder, store, _) = counting(false);
    for _ in 0..3 {
        let group: Vec<_> = (0..9)
            .map(|number| submit(&store, put(if number == 4 { DEFECT } else { "other" })))
            .collect();
        let answers: Vec<_> = group.iter().map(answer).collect();
        assert_eq!(answers[4], UNKNOWN);
        // In one transaction with the defect, or before or after it.
        let is_fine = |answer| matches!(answer, Ok(()) | Err(ErrorKind::Unavailable(_)));
        assert!(answers.iter().copied().all(is_fine), "{answers:?}");
        assert_eq!(answer(&submit(&store, put("after"))), Ok(()));
        store.execute(&put("after"), &Never).unwrap();
    }
    close(store);
}

#[test]
fn a_panic_of_a_thread_that_leads_answers_those_whom_it_carries() {
    let (_folder, store, _) = counting(false);
    let store = &store;
    // This thread leads, so that all others wait.
    let connection = lead(store);
    thread::scope(|scope| {
        let waiting = || locked(&writer(store).queue).waiting();
        let defect = scope.spawn(|| {
            let carried = catch_unwind(AssertUnwindSafe(|| store.execute(&put(DEFECT), &Never)));
            carried.is_err()
        });
        while waiting() < 1 {
            thread::yield_now();
        }
        let thread = scope.spawn(|| store.execute(&put("thread"), &Never));
        while waiting() < 2 {
            thread::yield_now();
        }
        let task = submit(store, put("task"));
        // The lead goes to the thread that waits longest.
        drop(Lead::new(writer(store), connection));
        assert!(defect.join().unwrap(), "the panic goes to its caller");
        assert_eq!(answer(&task), UNKNOWN);
        assert_eq!(
            thread.join().unwrap().map_err(|error| error.kind).map(drop),
            UNKNOWN
        );
    });
    for id in ["thread", "task", "first"] {
        let found = store.execute(&get(id), &Never).unwrap();
        assert_eq!(matches!(found, Reply::Item(Some(_))), id == "first", "{id}");
    }
    store.execute(&put("after"), &Never).unwrap();
}

#[test]
fn after_a_panic_of_reading_threads_all_are_answered_and_the_store_goes_on() {
    let (_folder, store, _) = counting(false);
    for _ in 0..3 {
        let defects: Vec<_> = (0..8).map(|_| submit(&store, get(DEFECT))).collect();
        for defect in &defects {
            assert_eq!(answer(defect), UNKNOWN);
        }
        assert_eq!(answer(&submit(&store, get("first"))), Ok(()));
    }
    close(store);
}

#[test]
fn requests_are_answered_even_if_no_transaction_can_begin() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:///{}/{DEFECT}", folder.path().display());
    let store = SqliteStore::new(Config::parse(&url).unwrap());
    for _ in 0..3 {
        let group: Vec<_> = (0..9).map(|_| submit(&store, put("a"))).collect();
        for request in &group {
            let never_begun = ErrorKind::Unavailable(Outcome::NotApplied);
            assert_eq!(answer(request), Err(never_begun));
        }
    }
    close(store);
}

#[test]
fn an_answer_that_panics_stops_no_other_and_no_worker() {
    for request in [put, get] {
        let (_folder, store, _) = counting(false);
        for _ in 0..3 {
            let done = Box::new(|_: Result<Reply>| panic!("as a callback would"));
            store.submit(Arc::new(request("first")), done);
            let others: Vec<_> = (0..9).map(|_| submit(&store, request("first"))).collect();
            for other in &others {
                assert_eq!(answer(other), Ok(()));
            }
        }
        close(store);
    }
}

/// A signal handler that writes to the store, when it runs for the first time.
struct Handler {
    store: OnceLock<SqliteStore>,
    answer: OnceLock<Result<Reply>>,
}

impl Interrupt for Handler {
    fn raised(&self) -> bool {
        if self.answer.get().is_none() {
            let store = self.store.get().unwrap();
            let answer = store.execute(&put("handler"), &Never);
            self.answer.set(answer).unwrap();
        }
        false
    }
}

#[test]
fn a_signal_handler_does_not_wait_for_the_write_that_it_interrupted() {
    static HANDLER: Handler = Handler {
        store: OnceLock::new(),
        answer: OnceLock::new(),
    };
    let (_folder, store, _) = counting(false);
    let store = HANDLER.store.get_or_init(|| store);
    // This thread leads, so that the write waits, and then the write of the handler behind it.
    let connection = lead(store);
    thread::scope(|scope| {
        let interrupted = scope.spawn(|| store.execute(&put("interrupted"), &HANDLER));
        while locked(&writer(store).queue).waiting() < 2 {
            thread::yield_now();
        }
        drop(Lead::new(writer(store), connection));
        interrupted.join().unwrap().unwrap();
    });
    let refused = HANDLER.answer.get().unwrap().as_ref().unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable(Outcome::NotApplied));
    assert!(refused.message.contains("signal handler"), "{refused}");
}
