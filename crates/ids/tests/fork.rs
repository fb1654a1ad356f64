//! A process that forks while its other threads are minting leaves its child an engine that works.
#![cfg(unix)]
#![allow(
    unsafe_code,
    reason = "fork, and leaving the child without the test runner's own ends"
)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mintkey_ids::{Refusal, before_fork, engine, in_child, in_parent};

fn ulid() -> u128 {
    loop {
        let minted = engine::with(|session| {
            let reading = session.minter.read();
            session.minter.ulid(reading)
        });
        match minted.map_err(|refusal| *refusal) {
            Err(Refusal::NotSeeded) => engine::seed().unwrap(),
            minted => return minted.unwrap(),
        }
    }
}

#[test]
fn a_child_of_a_busy_process_mints_at_once_and_nothing_twice() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ulid();
                }
            });
        }
        let mut ids = HashSet::new();
        for _ in 0..30 {
            let mut pipe = [0; 2];
            // SAFETY: the array has the two places that pipe() fills.
            assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
            before_fork();
            // SAFETY: the child calls only what needs no other thread: the engine, write() and _exit().
            let child = unsafe { libc::fork() };
            if child == 0 {
                in_child();
                let id = ulid().to_ne_bytes();
                // SAFETY: sixteen bytes are there; the child ends without running anything else.
                unsafe {
                    libc::write(pipe[1], id.as_ptr().cast(), 16);
                    libc::_exit(0);
                }
            }
            in_parent();
            let mut id = [0; 16];
            // SAFETY: sixteen bytes are free; the descriptors are this test's own.
            unsafe {
                libc::close(pipe[1]);
                assert_eq!(
                    libc::read(pipe[0], id.as_mut_ptr().cast(), 16),
                    16,
                    "the child died or hangs"
                );
                libc::close(pipe[0]);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
            assert!(
                ids.insert(u128::from_ne_bytes(id)),
                "two children minted the same"
            );
            assert!(ids.insert(ulid()), "the parent minted what a child did");
        }
        stop.store(true, Ordering::Relaxed);
    });
}
