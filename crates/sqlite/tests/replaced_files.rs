//! Files that are removed or replaced while a store has them open: by a second copy of `SQLite` in the process, or by
//! hand.

mod common;
use mintkey_store_testkit::requests;

use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;

use common::Fixture;
use mintkey_store::{Action, ErrorKind, Outcome, Path};
use requests::*;

fn next_to(fixture: &Fixture, suffix: &str) -> PathBuf {
    fixture.folder.path().join(format!("test.db{suffix}"))
}

/// Copies the log into the database and removes it, as a last connection does.
fn remove_log(fixture: &Fixture) {
    let inside = fixture.inside();
    let counts: (i64, i64, i64) = inside
        .query_row("PRAGMA wal_checkpoint", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((counts.0, counts.1), (0, counts.2), "all is copied");
    fs::remove_file(next_to(fixture, "-wal")).unwrap();
    fs::remove_file(next_to(fixture, "-shm")).unwrap();
}

fn add_one(table: &std::sync::Arc<mintkey_store::Table>) -> mintkey_store::Operation {
    mintkey_store::Operation::Update(mintkey_store::Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        ..update_of(table, key("a", "1"))
    })
}

/// Adds one to the only row, or creates it.
fn count(
    store: &dyn mintkey_store::Store,
    table: &std::sync::Arc<mintkey_store::Table>,
) -> mintkey_store::Result<mintkey_store::Reply> {
    match run(store, add_one(table)) {
        Err(error) if error.kind == mintkey_store::ErrorKind::ItemGone => {
            insert(store, table, order("a", "1", &[("n", 1.into())]))
        }
        other => other,
    }
}

/// The number of the only row in the file, when no connection has it open.
fn stored(fixture: &Fixture) -> Option<mintkey_store::Value> {
    fixture.store.close(&mintkey_store::store::Never);
    assert!(!next_to(fixture, "-wal").exists());
    let item = get(&*fixture.reopen(), &orders(), key("a", "1")).unwrap();
    item.get("n").cloned()
}

#[test]
fn what_is_written_after_the_log_was_removed_is_kept_and_counts_once() {
    let fixture = Fixture::new();
    let table = orders();
    for _ in 0..5 {
        count(&*fixture.store, &table).unwrap();
        remove_log(&fixture);
        count(&*fixture.store, &table).unwrap();
        remove_log(&fixture);
        // Reads see it too.
        assert!(get(&*fixture.store, &table, key("a", "1")).is_some());
        assert_eq!(scan(&*fixture.store, scan_of(&table)).len(), 1);
    }
    assert_eq!(stored(&fixture), Some(10.into()));
}

#[test]
fn an_insert_after_the_log_was_removed_meets_no_row_of_its_own() {
    let fixture = Fixture::new();
    let table = orders();
    insert(&*fixture.store, &table, order("a", "0", &[])).unwrap();
    remove_log(&fixture);
    insert(&*fixture.store, &table, order("a", "1", &[])).unwrap();
    let again = insert(&*fixture.store, &table, order("a", "0", &[]));
    assert_eq!(kind(again), ErrorKind::KeyCollision);
}

#[test]
fn a_group_is_carried_out_again_as_a_whole() {
    let fixture = Fixture::new();
    let table = orders();
    count(&*fixture.store, &table).unwrap();
    for _ in 0..3 {
        remove_log(&fixture);
        let answers: Vec<_> = (0..32)
            .map(|_| submit(&*fixture.store, add_one(&table)).1)
            .collect();
        for answer in answers {
            answer.recv().unwrap().unwrap();
        }
    }
    assert_eq!(stored(&fixture), Some(97.into()));
}

#[test]
fn several_stores_on_the_file_go_on_together() {
    let fixture = Fixture::new();
    let table = orders();
    let second = fixture.reopen();
    for _ in 0..3 {
        count(&*fixture.store, &table).unwrap();
        count(&*second, &table).unwrap();
        get(&*second, &table, key("a", "1")).unwrap();
        remove_log(&fixture);
    }
    // A store that opens only now must not use the index of the lost log for the new one.
    let third = fixture.reopen();
    count(&*third, &table).unwrap();
    get(&*second, &table, key("a", "1")).unwrap();
    count(&*fixture.store, &table).unwrap();
    second.close(&mintkey_store::store::Never);
    third.close(&mintkey_store::store::Never);
    assert_eq!(stored(&fixture), Some(8.into()));
}

#[test]
fn threads_that_meet_the_loss_at_once_all_go_on() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 10;
    let fixture = Fixture::with("?timeout=60");
    let table = orders();
    count(&*fixture.store, &table).unwrap();
    let (begin, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    begin.wait();
                    let written = count(&*fixture.store, &table);
                    let read = run(&*fixture.store, get_of(&table, key("a", "1")));
                    end.wait();
                    written.unwrap();
                    read.unwrap();
                }
            });
        }
        for _ in 0..ROUNDS {
            remove_log(&fixture);
            begin.wait();
            end.wait();
        }
    });
    let total = i64::try_from(1 + THREADS * ROUNDS).unwrap();
    assert_eq!(stored(&fixture), Some(total.into()));
}

#[test]
fn a_database_that_was_deleted_starts_empty() {
    let fixture = Fixture::new();
    let table = orders();
    count(&*fixture.store, &table).unwrap();
    get(&*fixture.store, &table, key("a", "1")).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(next_to(&fixture, suffix)).unwrap();
    }
    count(&*fixture.store, &table).unwrap();
    assert_eq!(stored(&fixture), Some(1.into()));

    // The log alone is useless.
    let fixture = Fixture::new();
    count(&*fixture.store, &table).unwrap();
    fs::remove_file(fixture.file()).unwrap();
    count(&*fixture.store, &table).unwrap();
    assert_eq!(stored(&fixture), Some(1.into()));
}

#[test]
fn a_database_that_was_replaced_is_the_one_that_counts() {
    let (old, new) = (Fixture::new(), Fixture::new());
    let table = orders();
    for _ in 0..3 {
        count(&*new.store, &table).unwrap();
    }
    new.store.close(&mintkey_store::store::Never);
    count(&*old.store, &table).unwrap();

    // The old log is next to the new database: neither is changed.
    fs::copy(new.file(), next_to(&old, ".new")).unwrap();
    fs::rename(next_to(&old, ".new"), old.file()).unwrap();
    let before = fs::read(old.file()).unwrap();
    let error = count(&*old.store, &table).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::Unknown));
    assert!(message(&error).contains("-wal"), "{error}");
    assert_eq!(fs::read(old.file()).unwrap(), before);

    fs::remove_file(next_to(&old, "-wal")).unwrap();
    fs::remove_file(next_to(&old, "-shm")).unwrap();
    count(&*old.store, &table).unwrap();
    assert_eq!(stored(&old), Some(4.into()));
}

/// A second copy of `SQLite` requests these locks: one before it empties the log's index, the other before it removes
/// the log. The locks of `SQLite` itself belong to the process, and would not stop it.
#[cfg(target_os = "linux")]
#[test]
fn a_second_copy_in_the_process_meets_the_locks() {
    use nix::fcntl::{FcntlArg, fcntl};

    let fixture = Fixture::new();
    let is_free = |suffix, start, length| {
        let file = fs::File::open(next_to(&fixture, suffix)).unwrap();
        let mut lock = nix::libc::flock {
            l_type: i16::try_from(nix::libc::F_WRLCK).unwrap(),
            l_whence: 0,
            l_start: start,
            l_len: length,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).unwrap();
        i32::from(lock.l_type) == nix::libc::F_UNLCK
    };
    for _ in 0..2 {
        count(&*fixture.store, &orders()).unwrap();
        assert!(!is_free("", 0x4000_0002, 510));
        assert!(!is_free("-shm", 128, 1));
    }
    // No lock is left when the store is closed.
    assert_eq!(stored(&fixture), Some(2.into()));
    assert!(is_free("", 0x4000_0002, 510));
}
