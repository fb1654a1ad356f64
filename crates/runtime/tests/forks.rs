//! What changes in the child of a fork. A new generation concerns the whole process, so these tests have a process of
//! their own, and run one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mintkey_runtime::{Deadline, Generation, Generations, Stop, Worker, locked};
use mintkey_store::Interrupt;
use mintkey_store::store::Never;

static TURN: Mutex<()> = Mutex::new(());

/// Counts how often it is dropped.
struct Counted<'a>(u32, &'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_child_has_its_own_value_and_never_drops_its_parents() {
    let _turn = locked(&TURN);
    let dropped = AtomicUsize::new(0);
    let generations = Generations::new(Counted(0, &dropped));
    for child in 1..=3 {
        let parent = Arc::clone(generations.current());
        generations.in_child(|parent| Counted(parent.0 + 1, parent.1));
        assert_eq!((parent.0, generations.current().0), (child - 1, child));
    }
    drop(generations);
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "that of the last child");
}

#[test]
fn without_a_fork_the_value_is_dropped() {
    let dropped = AtomicUsize::new(0);
    drop(Generations::new(Counted(0, &dropped)));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn a_value_made_in_the_child_belongs_to_the_child() {
    let _turn = locked(&TURN);
    let generations = Generations::new(Generation::current());
    assert!(generations.current().is_current());
    let parents = **generations.current();
    generations.in_child(|_| Generation::current());
    assert!(!parents.is_current());
    assert!(generations.current().is_current());
}

#[test]
fn a_request_of_the_parent_ends_in_the_child() {
    let _turn = locked(&TURN);
    let mut deadline = Deadline::new(&Never, Duration::from_secs(600));
    assert_eq!(deadline.check(), Ok(()));
    Generation::begin();
    assert_eq!(deadline.check(), Err(Stop::Forked));
    let mut own = Deadline::new(&Never, Duration::from_secs(600));
    assert_eq!(own.check(), Ok(()));
}

/// A signal handler that forks.
struct Forking;

impl Interrupt for Forking {
    fn raised(&self) -> bool {
        Generation::begin();
        false
    }
}

#[test]
fn a_fork_by_a_signal_handler_ends_the_wait_for_a_thread() {
    let _turn = locked(&TURN);
    let (end, ended) = channel::<()>();
    let worker = Worker::start(
        "parent",
        "test://",
        move || ended.iter().for_each(drop),
        || (),
    )
    .unwrap();
    worker.wait_for_end(&Forking);
    drop(end);
}

#[test]
fn a_thread_of_the_parent_has_ended_for_the_child() {
    let _turn = locked(&TURN);
    let (end, ended) = channel::<()>();
    let worker = Worker::start(
        "parent",
        "test://",
        move || ended.iter().for_each(drop),
        || (),
    )
    .unwrap();
    assert!(!worker.has_ended());
    Generation::begin();
    assert!(worker.has_ended());
    // Else the child would wait for ever.
    worker.wait_for_end(&Never);
    drop(end);
}
