//! Invalid URLs, files that cannot be used, locks, interrupts, closing.

mod common;
use mintkey_store_testkit::requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use common::Fixture;
use mintkey_store::store::Never;
use mintkey_store::{BatchWrite, ErrorKind, Guard, Interrupt, Operation, Outcome, Result, Store};
use requests::*;

fn failing(url: &str) -> String {
    let error = mintkey_sqlite::open(url).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{url}");
    error.message
}

#[test]
fn addresses_say_what_is_wrong_with_them() {
    for (url, part) in [
        ("redis://localhost", "unknown scheme"),
        ("sqlite:shop.db", "no ://"),
        ("sqlite://shop.db", "sqlite:///shop.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:////srv/shop.db/", "names no file"),
        ("sqlite://:memory:", "sqlite:// for a database in memory"),
        ("sqlite:///:memory:", "sqlite:// for a database in memory"),
        ("sqlite:///a%00b.db", "NUL character"),
        ("sqlite:///a%FF.db", "UTF-8"),
        ("sqlite://?sync=off", "sync=\"off\""),
        ("sqlite://?timeout=-1", "timeout=\"-1\""),
        ("sqlite://?timeout=nan", "timeout=\"nan\""),
        ("sqlite://?timeout=soon", "timeout=\"soon\""),
        ("sqlite://?max_item=1", "max_item=\"1\""),
        ("sqlite://?mode=600", "in memory"),
        ("sqlite:///a.db?mode=ro", "in octal"),
        ("sqlite:///a.db?mode=1600", "in octal"),
        ("sqlite:///a.db?mode=440", "in octal"),
        ("sqlite://?synch=full", "unknown parameter \"synch\""),
        ("sqlite://?sync=full&sync=normal", "twice"),
    ] {
        let message = failing(url);
        assert!(message.contains(part), "{url}: {message}");
    }
}

#[test]
fn addresses_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite:///{}/my%20shop%3F.db?timeout=2.5&sync=normal",
        folder.path().display()
    );
    put(
        &*mintkey_sqlite::open(&url).unwrap(),
        &orders(),
        order("a", "1", &[]),
    )
    .unwrap();
    assert!(folder.path().join("my shop?.db").exists());
}

#[test]
fn opening_does_nothing_yet() {
    let fixture = Fixture::new();
    fixture.store.close(&mintkey_store::store::Never);
    assert!(!fixture.file().exists());
}

#[test]
fn a_larger_item_is_allowed_where_the_address_says_so() {
    let fixture = Fixture::with("?max_item=1000000");
    put(
        &*fixture.store,
        &orders(),
        order("a", "1", &[("text", "x".repeat(900_000).into())]),
    )
    .unwrap();
    let larger = order("a", "2", &[("text", "x".repeat(1_000_001).into())]);
    assert_eq!(
        kind(put(&*fixture.store, &orders(), larger)),
        ErrorKind::ItemTooLarge
    );
}

fn attempt(fixture: &Fixture) -> (ErrorKind, String) {
    let error = put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap_err();
    let read = mintkey_store::Operation::Scan(scan_of(&orders()));
    assert_eq!(kind(run(&*fixture.store, read)), error.kind);
    (error.kind, error.message)
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let fixture = Fixture::new();
    let text = "This is not a database, but a letter of some length.\n".repeat(100);
    std::fs::write(fixture.file(), &text).unwrap();
    let (kind, message) = attempt(&fixture);
    assert_eq!(kind, ErrorKind::Configuration);
    assert!(message.contains("not an SQLite database"), "{message}");
    assert_eq!(std::fs::read_to_string(fixture.file()).unwrap(), text);
}

#[test]
fn folders_are_named() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.file()).unwrap();
    let (kind, message) = attempt(&fixture);
    assert_eq!(kind, ErrorKind::Configuration);
    assert!(message.contains("is a folder"), "{message}");

    let fixture = Fixture::new();
    std::fs::remove_dir(fixture.folder.path()).unwrap();
    let (kind, message) = attempt(&fixture);
    assert_eq!(kind, ErrorKind::Unavailable(Outcome::NotApplied));
    assert!(message.contains("does not exist"), "{message}");
    // Once the folder exists, the same store works.
    std::fs::create_dir(fixture.folder.path()).unwrap();
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
}

#[test]
fn a_file_in_place_of_the_folder_is_reported() {
    let fixture = Fixture::new();
    std::fs::write(fixture.file(), "").unwrap();
    let url = format!("sqlite:///{}/test.db", fixture.file().display());
    let store = mintkey_sqlite::open(&url).unwrap();
    let error = put(&*store, &orders(), order("a", "1", &[])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(message(&error).contains("is not a folder"), "{error}");
}

/// Raised when its flag is set; counts the checks.
#[derive(Default)]
struct Keyboard {
    pressed: AtomicBool,
    asked: AtomicUsize,
}

impl Keyboard {
    fn new(pressed: bool) -> &'static Self {
        let keyboard: &'static Self = Box::leak(Box::default());
        keyboard.pressed.store(pressed, Ordering::SeqCst);
        keyboard
    }
}

impl Interrupt for Keyboard {
    fn raised(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.pressed.load(Ordering::SeqCst)
    }
}

fn put_with(
    store: &dyn Store,
    partition: &str,
    interrupt: &'static dyn Interrupt,
) -> Result<mintkey_store::Reply> {
    let operation = put_of(&orders(), order(partition, "1", &[]), Guard::default());
    store.execute(&request(operation), interrupt)
}

/// Makes each write of the partition "slow" run without end.
fn slow_down(fixture: &Fixture) {
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    fixture.slow_down();
}

#[test]
fn a_locked_database_is_a_typed_timeout() {
    let fixture = Fixture::with("?timeout=1");
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    let other = fixture.inside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = put(&*fixture.store, &orders(), order("a", "2", &[])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout(Outcome::NotApplied));
    assert!(
        message(&error).contains("locked by another process"),
        "{error}"
    );
    // Readers do not block a writer.
    assert_eq!(scan(&*fixture.store, scan_of(&orders())).len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    put(&*fixture.store, &orders(), order("a", "2", &[])).unwrap();
}

#[test]
fn an_interrupt_ends_the_wait_for_a_lock() {
    let fixture = Fixture::with("?timeout=600");
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    let other = fixture.inside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = put_with(&*fixture.store, "b", Keyboard::new(true)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(get(&*fixture.store, &orders(), key("b", "1")), None);
}

#[test]
fn an_interrupt_rolls_a_running_write_back_and_keeps_the_connection() {
    let fixture = Fixture::with("?timeout=600");
    slow_down(&fixture);
    let error = put_with(&*fixture.store, "slow", Keyboard::new(true)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
    let calm = Keyboard::new(false);
    put_with(&*fixture.store, "b", calm).unwrap();
    assert_eq!(
        calm.asked.load(Ordering::SeqCst),
        0,
        "a short request asks nothing"
    );
    assert_eq!(
        texts(&scan(&*fixture.store, scan_of(&orders())), "pk"),
        ["a", "b"]
    );
}

#[test]
fn after_an_interrupted_request_the_others_of_the_call_are_not_begun() {
    /// Raised once.
    struct Once(AtomicBool);
    impl Interrupt for Once {
        fn raised(&self) -> bool {
            !self.0.swap(true, Ordering::SeqCst)
        }
    }
    static ONCE: Once = Once(AtomicBool::new(false));

    let fixture = Fixture::with("?timeout=600");
    slow_down(&fixture);
    let write = |partition| put_of(&orders(), order(partition, "1", &[]), Guard::default());
    let read = get_of(&orders(), key("a", "1"));
    let requests = [write("slow"), read, write("b"), write("c")];
    let requests = requests.map(|operation| Arc::new(request(operation)));
    for answer in fixture.store.execute_all(&requests, &ONCE) {
        let error = answer.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
        assert!(error.message.starts_with("sqlite:///"), "{error}");
    }
    assert_eq!(
        texts(&scan(&*fixture.store, scan_of(&orders())), "pk"),
        ["a"]
    );
}

#[test]
fn a_write_that_runs_on_and_on_times_out() {
    let fixture = Fixture::with("?timeout=1");
    slow_down(&fixture);
    let error = put_with(&*fixture.store, "slow", &Never).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout(Outcome::NotApplied));
    put_with(&*fixture.store, "b", &Never).unwrap();
}

/// A batch of orders of these partitions.
fn batch_of(partitions: &[&str]) -> Operation {
    let writes = partitions
        .iter()
        .map(|partition| batch_put(&orders(), order(partition, "1", &[]), Guard::default()));
    Operation::BatchWrite(BatchWrite {
        table: orders(),
        writes: writes.collect(),
    })
}

#[test]
fn a_batch_that_fails_in_the_middle_leaves_nothing() {
    let fixture = Fixture::with("?timeout=1");
    slow_down(&fixture);
    let store = &*fixture.store;
    let error = run(store, batch_of(&["b", "slow", "c"])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout(Outcome::NotApplied));
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.pk = 'refused' \
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    fixture.inside().execute_batch(refuse).unwrap();
    let error = run(store, batch_of(&["b", "refused", "c"])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
    assert_eq!(texts(&scan(store, scan_of(&orders())), "pk"), ["a"]);
    run(store, batch_of(&["b", "c"])).unwrap();
    assert_eq!(
        texts(&scan(store, scan_of(&orders())), "pk"),
        ["a", "b", "c"]
    );
}

#[test]
fn an_interrupt_withdraws_a_waiting_write() {
    let fixture = Fixture::with("?timeout=600");
    slow_down(&fixture);
    let leader = Keyboard::new(false);
    thread::scope(|scope| {
        let leading = scope.spawn(|| put_with(&*fixture.store, "slow", leader));
        // The first check comes once its statement runs.
        while leader.asked.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let error = put_with(&*fixture.store, "b", Keyboard::new(true)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
        leader.pressed.store(true, Ordering::SeqCst);
        assert_eq!(
            kind(leading.join().unwrap()),
            ErrorKind::Interrupted(Outcome::NotApplied)
        );
    });
    assert_eq!(get(&*fixture.store, &orders(), key("b", "1")), None);
    put_with(&*fixture.store, "b", &Never).unwrap();
}

#[test]
fn a_submitted_request_can_be_withdrawn_until_it_is_begun() {
    let fixture = Fixture::with("?timeout=600");
    slow_down(&fixture);
    let leader = Keyboard::new(false);
    thread::scope(|scope| {
        let leading = scope.spawn(|| put_with(&*fixture.store, "slow", leader));
        while leader.asked.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let waiting = put_of(&orders(), order("b", "1", &[]), Guard::default());
        let (ticket, answer) = submit(&*fixture.store, waiting);
        let (_, kept) = submit(
            &*fixture.store,
            put_of(&orders(), order("c", "1", &[]), Guard::default()),
        );
        assert!(ticket.withdraw());
        assert!(!ticket.withdraw(), "it is withdrawn already");
        leader.pressed.store(true, Ordering::SeqCst);
        leading.join().unwrap().unwrap_err();
        kept.recv().unwrap().unwrap();
        assert!(
            answer.recv().is_err(),
            "a withdrawn request is not answered, and its callback is dropped"
        );
    });
    assert_eq!(
        texts(&scan(&*fixture.store, scan_of(&orders())), "pk"),
        ["a", "c"]
    );
    let (ticket, answer) = submit(
        &*fixture.store,
        put_of(&orders(), order("d", "1", &[]), Guard::default()),
    );
    answer.recv().unwrap().unwrap();
    assert!(!ticket.withdraw());
}

#[test]
fn an_interrupt_that_comes_back_to_the_store_is_refused_and_does_not_hang() {
    struct Handler(&'static dyn Store, AtomicBool);
    impl Interrupt for Handler {
        fn raised(&self) -> bool {
            let error = put_with(self.0, "b", &Never).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
            // Reads work.
            assert_eq!(scan(self.0, scan_of(&orders())).len(), 1);
            self.1.store(true, Ordering::SeqCst);
            true
        }
    }
    let fixture: &'static Fixture = Box::leak(Box::new(Fixture::with("?timeout=600")));
    slow_down(fixture);
    let handler: &'static Handler =
        Box::leak(Box::new(Handler(&*fixture.store, AtomicBool::new(false))));
    let error = put_with(&*fixture.store, "slow", handler).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
    assert!(handler.1.load(Ordering::SeqCst));
    std::fs::remove_dir_all(fixture.folder.path()).unwrap();
}

#[test]
fn closing_finishes_what_was_submitted_and_refuses_the_rest() {
    for url in [None, Some("sqlite://")] {
        let fixture = Fixture::new();
        let store = url.map_or_else(
            || fixture.store.clone(),
            |url| mintkey_sqlite::open(url).unwrap(),
        );
        let (sender, receiver) = channel();
        for number in 0..50 {
            let sender = sender.clone();
            let operation = put_of(
                &orders(),
                order("a", &number.to_string(), &[]),
                Guard::default(),
            );
            let done = Box::new(move |answer: Result<mintkey_store::Reply>| {
                sender.send(answer.is_ok()).unwrap();
            });
            store.submit(request(operation).into(), done);
        }
        drop(sender);
        store.close(&mintkey_store::store::Never);
        store.close(&mintkey_store::store::Never);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), vec![true; 50]);
        let error = put(&*store, &orders(), order("a", "x", &[])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration);
        assert!(message(&error).contains("is closed"), "{error}");
        let (_, late) = submit(
            &*store,
            put_of(&orders(), order("a", "x", &[]), Guard::default()),
        );
        assert_eq!(kind(late.recv().unwrap()), ErrorKind::Configuration);
        if url.is_none() {
            // The last connection has removed the log.
            assert!(!fixture.folder.path().join("test.db-wal").exists());
            assert_eq!(scan(&*fixture.reopen(), scan_of(&orders())).len(), 50);
        }
    }
}
