//! Closing a store must not release the locks of another one on the same file: another process could write at once.
//!
//! This is the only test of its program, because other tests would wait for the statement that runs without end.
#![cfg(target_os = "linux")]

mod common;
use mintkey_store_testkit::requests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::Fixture;
use mintkey_store::store::Never;
use mintkey_store::{Guard, Interrupt, Store};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use requests::*;

/// The byte of the log's index that a writer locks.
const WRITER: i64 = 120;

/// Counts as running after its first check.
#[derive(Default)]
struct Running {
    asked: AtomicBool,
    over: AtomicBool,
}

impl Interrupt for Running {
    fn raised(&self) -> bool {
        self.asked.store(true, Ordering::SeqCst);
        self.over.load(Ordering::SeqCst)
    }
}

/// Whether any process, including this one, holds a lock of this byte.
fn is_locked(file: &File, byte: i64) -> bool {
    let mut lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: 0,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
    i32::from(lock.l_type) != libc::F_UNLCK
}

fn open(path: &Path) -> Arc<dyn Store> {
    mintkey_sqlite::open(&format!("sqlite:///{}?timeout=60", path.display())).unwrap()
}

#[test]
fn locks_of_a_running_write_are_kept_when_a_store_by_another_path_closes() {
    let fixture = Fixture::with("?timeout=60");
    let store = &*fixture.store;
    put(store, &orders(), order("a", "1", &[])).unwrap();
    fixture.slow_down();
    let folder = fixture.folder.path();
    std::fs::create_dir(folder.join("sub")).unwrap();
    std::os::unix::fs::symlink(folder, folder.join("folder")).unwrap();
    std::os::unix::fs::symlink("test.db", folder.join("link.db")).unwrap();
    // Closed after the store, because this releases the locks of the process too.
    let index = File::open(folder.join("test.db-shm")).unwrap();
    for path in ["test.db", "sub/../test.db", "folder/test.db", "link.db"] {
        let running: &'static Running = Box::leak(Box::default());
        let locked = thread::scope(|scope| {
            let slow = put_of(&orders(), order("slow", "1", &[]), Guard::default());
            let writing = scope.spawn(move || store.execute(&request(slow), running));
            while !running.asked.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let before = is_locked(&index, WRITER);
            for _ in 0..3 {
                let other = open(&folder.join(path));
                assert_eq!(scan(&*other, scan_of(&orders())).len(), 1);
                other.close(&Never);
            }
            let after = is_locked(&index, WRITER);
            running.over.store(true, Ordering::SeqCst);
            assert!(writing.join().unwrap().is_err(), "interrupted");
            (before, after)
        });
        assert_eq!(locked, (true, true), "{path}");
        assert!(!is_locked(&index, WRITER));
    }
    store.close(&Never);
}
