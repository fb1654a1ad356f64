//! Threads of a store: how they end, and what becomes of requests.

use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::{env, mem, thread};

use mintkey_runtime::{Worker, is_worker_thread, locked};
use mintkey_store::store::Never;
use mintkey_store::{Done, ErrorKind, Interrupt, Outcome, Reply, Result, Submission};

fn submission() -> (Submission, Receiver<Result<Reply>>) {
    let (sender, answers) = channel();
    let done: Done = Box::new(move |answer| sender.send(answer).unwrap());
    (Submission::new(done), answers)
}

fn kind(answers: &Receiver<Result<Reply>>) -> Option<ErrorKind> {
    answers.recv().unwrap().err().map(|error| error.kind)
}

#[test]
fn a_thread_has_its_name_and_ends_with_its_work() {
    let (told, name) = channel();
    let work = move || {
        told.send(thread::current().name().map(str::to_owned))
            .unwrap();
    };
    let worker = Worker::start("mintkey-test", "test://", work, || unreachable!()).unwrap();
    worker.wait_for_end(&Never);
    assert!(worker.has_ended());
    assert_eq!(name.recv().unwrap().as_deref(), Some("mintkey-test"));
}

#[test]
fn a_parked_thread_is_woken() {
    let (parking, parks) = channel();
    let work = move || {
        parking.send(()).unwrap();
        thread::park();
    };
    let worker = Worker::start("parked", "test://", work, || ()).unwrap();
    parks.recv().unwrap();
    assert!(!worker.has_ended());
    worker.wake();
    worker.wait_for_end(&Never);
}

#[test]
fn a_panic_answers_all_requests_and_another_thread_can_be_started() {
    let (started, started_answers) = submission();
    let (owned, owned_answers) = submission();
    let (shared, shared_answers) = submission();
    let queue = Arc::new(Mutex::new(vec![shared]));
    let work = move || {
        let _owned = owned;
        assert!(started.start());
        panic!("as a defect would");
    };
    let emptied = Arc::clone(&queue);
    let after_panic = move || {
        let waiting = mem::take(&mut *locked(&emptied));
        drop(waiting);
    };
    let worker = Worker::start("panics", "test://", work, after_panic).unwrap();
    worker.wait_for_end(&Never);
    let unavailable = |outcome| Some(ErrorKind::Unavailable(outcome));
    assert_eq!(kind(&started_answers), unavailable(Outcome::Unknown));
    assert_eq!(kind(&owned_answers), unavailable(Outcome::NotApplied));
    assert_eq!(kind(&shared_answers), unavailable(Outcome::NotApplied));

    let (next, next_answers) = submission();
    let work = move || next.answer(Ok(Reply::Done)).deliver();
    Worker::start("next", "test://", work, || unreachable!()).unwrap();
    assert_eq!(kind(&next_answers), None);
}

/// Raised at once.
struct Raised;

impl Interrupt for Raised {
    fn raised(&self) -> bool {
        true
    }
}

#[test]
fn an_interrupt_ends_the_wait_and_not_the_thread() {
    let (end, ended) = channel::<()>();
    let worker = Worker::start(
        "lasts",
        "test://",
        move || ended.iter().for_each(drop),
        || (),
    )
    .unwrap();
    worker.wait_for_end(&Raised);
    assert!(!worker.has_ended());
    drop(end);
    worker.wait_for_end(&Never);
}

#[test]
fn a_thread_does_not_wait_for_its_own_end() {
    let (give, given) = channel::<Worker>();
    let (told, waited) = channel();
    let work = move || {
        let own = given.recv().unwrap();
        assert!(is_worker_thread());
        own.wait_for_end(&Never);
        told.send(()).unwrap();
    };
    let worker = Worker::start("own", "test://", work, || ()).unwrap();
    assert!(!is_worker_thread());
    give.send(worker.clone()).unwrap();
    waited.recv().unwrap();
    worker.wait_for_end(&Never);
}

/// The part of the next test that runs where no thread can be started.
#[test]
#[ignore = "run by a_thread_that_the_system_refuses_is_an_error"]
fn without_threads() {
    let error =
        Worker::start("refused", "test://", || unreachable!(), || unreachable!()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
    assert!(error.source.is_some());
    assert!(
        error
            .message
            .starts_with("test://: the system refuses another thread"),
        "{}",
        error.message
    );
}

#[test]
fn a_thread_that_the_system_refuses_is_an_error() {
    // No system has room for a stack of this size.
    let done = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "without_threads",
            "--ignored",
            "--test-threads=1",
        ])
        .env("RUST_MIN_STACK", (1_u64 << 50).to_string())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
