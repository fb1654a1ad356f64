//! Files that are removed or renamed while only the log contains some rows: the rows are saved where possible, and the
//! loss is always reported.
#![cfg(unix)]

mod common;
use mintkey_store_testkit::requests;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::Fixture;
use mintkey_store::store::Never;
use mintkey_store::{Severity, Store};
use requests::*;

/// Notices belong to the process, so these tests run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

struct Open {
    fixture: Fixture,
    _alone: MutexGuard<'static, ()>,
}

impl Open {
    /// A store with rows that no checkpoint has copied.
    fn new(rows: usize) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let fixture = Fixture::with("?timeout=60");
        let open = Self {
            fixture,
            _alone: alone,
        };
        // Removes the notices of earlier tests.
        open.notices();
        for row in 0..rows {
            open.save(row);
        }
        assert_eq!(open.count(), rows);
        open
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.fixture.store
    }

    fn save(&self, row: usize) {
        put(
            &**self.store(),
            &orders(),
            order("a", &row.to_string(), &[]),
        )
        .unwrap();
    }

    fn count(&self) -> usize {
        scan(&**self.store(), scan_of(&orders())).len()
    }

    /// Reads until the store has detected the loss, and returns the notices.
    fn noticed(&self) -> String {
        loop {
            self.count();
            if let [notice] = &self.notices()[..] {
                return notice.clone();
            }
        }
    }

    fn notices(&self) -> Vec<String> {
        let notices = std::iter::from_fn(|| self.store().notice());
        notices
            .filter(|notice| notice.severity != Severity::Debug)
            .map(|notice| {
                assert_eq!(notice.severity, Severity::Error);
                notice.text
            })
            .collect()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.fixture.folder.path().join(name)
    }

    fn remove(&self, names: &[&str]) {
        for name in names {
            fs::remove_file(self.at(name)).unwrap();
        }
    }

    /// The rows in a file after the store is closed.
    fn stored(&self, name: &str) -> usize {
        self.store().close(&Never);
        let url = format!("sqlite:///{}", self.at(name).display());
        let reopened = mintkey_sqlite::open(&url).unwrap();
        let count = scan(&*reopened, scan_of(&orders())).len();
        reopened.close(&Never);
        count
    }
}

const SIDECARS: [&[&str]; 3] = [
    &["test.db-wal", "test.db-shm"],
    &["test.db-wal"],
    &["test.db-shm"],
];

#[test]
fn rows_of_a_removed_log_are_saved_when_a_reader_notices() {
    for removed in SIDECARS {
        let open = Open::new(5);
        open.remove(removed);
        let notice = open.noticed();
        assert!(notice.contains("no row is lost"), "{notice}");
        assert!(notice.contains("test.db-wal"), "{notice}");
        assert_eq!(open.count(), 5, "{removed:?}");
        open.save(5);
        assert_eq!(open.notices(), [""; 0], "it is said once");
        assert_eq!(open.stored("test.db"), 6);
    }
}

#[test]
fn rows_of_a_removed_log_are_saved_when_a_writer_notices() {
    for removed in SIDECARS {
        let open = Open::new(5);
        open.remove(removed);
        for row in 5..9 {
            open.save(row);
        }
        assert_eq!(open.count(), 9, "{removed:?}");
        assert_eq!(open.notices().len(), 1);
        assert_eq!(open.stored("test.db"), 9);
    }
}

#[test]
fn rows_of_a_removed_log_are_saved_when_the_store_is_closed() {
    for removed in SIDECARS {
        let open = Open::new(5);
        open.remove(removed);
        open.store().close(&Never);
        assert_eq!(open.notices().len(), 1, "{removed:?}");
        assert_eq!(open.stored("test.db"), 5, "{removed:?}");
        assert!(!open.at("test.db-wal").exists());
    }
}

#[test]
fn rows_of_a_removed_log_are_saved_when_the_process_forks() {
    let open = Open::new(5);
    open.remove(SIDECARS[0]);
    open.store().before_fork();
    open.store().in_parent();
    assert_eq!(open.count(), 5);
    assert_eq!(open.notices().len(), 1);
}

#[test]
fn rows_of_several_stores_are_saved() {
    let open = Open::new(5);
    let other = open.fixture.reopen();
    for row in 5..9 {
        put(&*other, &orders(), order("a", &row.to_string(), &[])).unwrap();
    }
    open.remove(SIDECARS[0]);
    other.close(&Never);
    assert_eq!(open.count(), 9);
    open.save(9);
    assert_eq!(open.stored("test.db"), 10);
}

#[test]
fn rows_of_a_renamed_database_are_in_the_renamed_file() {
    for closing in [true, false] {
        let open = Open::new(5);
        fs::rename(open.at("test.db"), open.at("renamed.db")).unwrap();
        let notice = if closing {
            open.store().close(&Never);
            open.notices().join("")
        } else {
            // The store continues with a new file.
            let notice = open.noticed();
            assert_eq!(open.count(), 0);
            open.save(1);
            notice
        };
        assert!(notice.contains("in the renamed file"), "{notice}");
        assert_eq!(open.stored("renamed.db"), 5);
        if !closing {
            assert_eq!(open.stored("test.db"), 1);
        }
    }
}

#[test]
fn a_database_that_is_renamed_and_back_keeps_its_rows() {
    let open = Open::new(5);
    fs::rename(open.at("test.db"), open.at("renamed.db")).unwrap();
    fs::rename(open.at("renamed.db"), open.at("test.db")).unwrap();
    open.save(5);
    assert_eq!(open.count(), 6);
    assert_eq!(open.notices(), [""; 0]);
    // Meanwhile a store has the other name open.
    fs::rename(open.at("test.db"), open.at("renamed.db")).unwrap();
    let url = format!("sqlite:///{}", open.at("renamed.db").display());
    let renamed = mintkey_sqlite::open(&url).unwrap();
    put(&*renamed, &orders(), order("a", "6", &[])).unwrap();
    assert_eq!(scan(&*renamed, scan_of(&orders())).len(), 7);
    fs::rename(open.at("renamed.db"), open.at("test.db")).unwrap();
    open.save(7);
    eprintln!(
        "{:?} {:?}",
        open.notices(),
        texts(&scan(&**open.store(), scan_of(&orders())), "sk")
    );
    assert_eq!(open.count(), 8);
    renamed.close(&Never);
    assert_eq!(open.stored("test.db"), 8);
}

#[test]
fn a_removed_database_is_reported() {
    let open = Open::new(5);
    open.remove(&["test.db"]);
    let notice = open.noticed();
    assert!(notice.contains("its rows are lost"), "{notice}");
    open.save(1);
    assert_eq!(open.stored("test.db"), 1);
}

/// `SQLite` would use the old log for the new database.
#[test]
fn the_log_of_a_replaced_database_is_gone_when_the_store_is_closed() {
    let open = Open::new(5);
    let new = Fixture::new();
    put(&*new.store, &orders(), order("new", "1", &[])).unwrap();
    new.store.close(&Never);
    fs::rename(new.file(), open.at("test.db")).unwrap();
    open.store().close(&Never);
    assert!(open.notices().join("").contains("its rows are lost"));
    assert!(!open.at("test.db-wal").exists());
    assert_eq!(open.stored("test.db"), 1);
}

/// An old log must not overwrite what other processes have written since.
#[test]
fn rows_that_others_wrote_since_are_kept_and_the_loss_is_reported() {
    for closed in [true, false] {
        let open = Open::new(5);
        open.remove(SIDECARS[0]);
        let insert = "CREATE TABLE others (x); INSERT INTO others VALUES (1), (2), (3)";
        let script = format!("PRAGMA journal_mode=WAL; {insert}");
        let path = open.at("test.db");
        let status = std::process::Command::new("python3")
            .args(["-c", OTHER, path.to_str().unwrap(), &script])
            .args(closed.then_some("close"))
            .status();
        assert!(status.unwrap().success());
        let notice = open.noticed();
        assert!(notice.contains("may be lost"), "{notice}");
        open.save(9);
        assert_eq!(open.count(), 1);
        let inside = open.fixture.inside();
        let found: (i64, String) = inside
            .query_row(
                "SELECT count(*), (SELECT integrity_check FROM pragma_integrity_check) FROM others",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(found, (3, "ok".to_owned()), "{closed}");
    }
}

const OTHER: &str = "
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.executescript(sys.argv[2])
connection.commit()
if len(sys.argv) > 3:
    connection.close()
os._exit(0)
";
