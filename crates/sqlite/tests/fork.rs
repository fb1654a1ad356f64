//! Forks: the parent closes, the child continues, and no acknowledged row is lost.
#![cfg(unix)]
#![allow(unsafe_code, reason = "fork() is what is tested")]

mod common;
use mintkey_store_testkit::requests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::Fixture;
use mintkey_store::Store;
use requests::*;

/// Forks with the handlers before and after, and does the work in the child, which then ends.
fn fork(store: &dyn Store, work: impl FnOnce()) -> libc::pid_t {
    store.before_fork();
    // SAFETY: the child only does `work`, whose locks the handlers have reset, and ends without running
    // code of the parent.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child > 0 {
        store.in_parent();
        return child;
    }
    store.in_child();
    let result = catch_unwind(AssertUnwindSafe(work));
    // SAFETY: as above.
    unsafe { libc::_exit(i32::from(result.is_err())) }
}

fn wait_for(child: libc::pid_t) {
    let mut status = -1;
    // SAFETY: a plain system call with a valid address.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0), "the child failed");
}

#[test]
fn the_parent_closes_and_the_child_goes_on() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    put(store, &orders(), order("parent", "before", &[])).unwrap();
    get(store, &orders(), key("parent", "before")).unwrap();
    let child = fork(store, || {
        for number in 0..200 {
            put(store, &orders(), order("child", &number.to_string(), &[])).unwrap();
        }
        let (_, answer) = submit(
            store,
            put_of(
                &orders(),
                order("child", "submitted", &[]),
                mintkey_store::Guard::default(),
            ),
        );
        answer.recv().unwrap().unwrap();
    });
    put(store, &orders(), order("parent", "after", &[])).unwrap();
    store.close(&mintkey_store::store::Never);
    wait_for(child);
    let reopened = fixture.reopen();
    assert_eq!(
        query(&*reopened, query_of(&orders(), &[string("child")])).len(),
        201
    );
    assert_eq!(
        query(&*reopened, query_of(&orders(), &[string("parent")])).len(),
        2
    );
}

#[test]
fn a_fork_amid_busy_threads_loses_nothing() {
    let fixture = Fixture::with("?sync=normal&timeout=60");
    let store = &*fixture.store;
    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let busy: Vec<_> = (0..3)
            .map(|thread| {
                let over = &over;
                scope.spawn(move || {
                    let mut written = 0;
                    while !over.load(Ordering::SeqCst) {
                        let sort = format!("{thread}-{written}");
                        if thread == 0 {
                            let operation = put_of(
                                &orders(),
                                order("parent", &sort, &[]),
                                mintkey_store::Guard::default(),
                            );
                            submit(store, operation).1.recv().unwrap().unwrap();
                        } else {
                            put(store, &orders(), order("parent", &sort, &[])).unwrap();
                        }
                        get(store, &orders(), key("parent", &sort)).unwrap();
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        let children: Vec<_> = (0..8)
            .map(|child| {
                fork(store, move || {
                    for number in 0..20 {
                        put(
                            store,
                            &orders(),
                            order("child", &format!("{child}-{number}"), &[]),
                        )
                        .unwrap();
                    }
                    store.close(&mintkey_store::store::Never);
                })
            })
            .collect();
        children.into_iter().for_each(wait_for);
        over.store(true, Ordering::SeqCst);
        busy.into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(
        query(store, query_of(&orders(), &[string("child")])).len(),
        8 * 20
    );
    assert_eq!(
        query(store, query_of(&orders(), &[string("parent")])).len(),
        written
    );
}

#[test]
fn a_store_in_memory_goes_on_as_a_copy() {
    let store = &*mintkey_sqlite::open("sqlite://").unwrap();
    put(store, &orders(), order("a", "1", &[])).unwrap();
    let child = fork(store, || {
        assert!(get(store, &orders(), key("a", "1")).is_some());
        put(store, &orders(), order("a", "2", &[])).unwrap();
        assert_eq!(scan(store, scan_of(&orders())).len(), 2);
    });
    wait_for(child);
    assert_eq!(scan(store, scan_of(&orders())).len(), 1);
}
