//! The worker: the thread that carries out submitted requests.

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mintkey_store::store::Between;
use mintkey_store::{Done, Error, ErrorKind, Interrupt, Outcome, Request, Result, Ticket};

use crate::driver::event_loop;
use crate::driver::queue::Entry;
use crate::driver::shared::Shared;
use crate::transport::deadline::pause;

/// How often a closing store looks whether the thread has ended.
const CLOSING: Duration = Duration::from_millis(1);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Takes a request and returns at once.
pub fn submit(shared: &Arc<Shared>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let entry = Entry::new(request, done);
    let ticket = entry.ticket();
    hand_over(shared, vec![entry]);
    ticket
}

/// Takes requests that came together, and returns at once.
pub fn submit_all(
    shared: &Arc<Shared>,
    requests: Vec<(Arc<Request>, Done)>,
) -> Vec<Box<dyn Ticket>> {
    let entries: Vec<Entry> = requests
        .into_iter()
        .map(|(request, done)| Entry::new(request, done))
        .collect();
    let tickets = entries.iter().map(Entry::ticket);
    let tickets = tickets.collect();
    hand_over(shared, entries);
    tickets
}

fn hand_over(shared: &Arc<Shared>, mut entries: Vec<Entry>) {
    let refused = shared
        .check_open()
        .and_then(|()| queue(shared, &mut entries));
    if let Err(error) = refused {
        for (entry, refusal) in entries.iter().zip(error.of_all(entries.len())) {
            entry.deliver(refusal);
        }
    }
}

/// Moves requests into the queue, and starts the thread if there is none.
fn queue(shared: &Arc<Shared>, entries: &mut Vec<Entry>) -> Result<()> {
    let pushed = shared.queue.push(entries, |bell| spawn(shared, bell));
    pushed.map_err(|error| no_thread(shared, error))
}

fn no_thread(shared: &Shared, error: io::Error) -> Error {
    let address = &shared.engine.config.address;
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "{address}: the thread for awaited requests cannot be started ({error}): {}; allow more threads \
             (ulimit -u, or the pids limit of the container)",
            Outcome::NotApplied.words()
        ),
    )
    .caused_by(error)
}

/// Answers what waits for a thread that panicked.
struct AfterPanic(Arc<Shared>);

impl Drop for AfterPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.queue.reset();
        }
    }
}

/// Starts the thread. Its handle is dropped: a child of a fork could neither wait for it nor drop it safely.
fn spawn(shared: &Arc<Shared>, bell: UnixStream) -> io::Result<()> {
    let own = Arc::clone(shared);
    let named = thread::Builder::new().name("mintkey-redis".to_owned());
    named.spawn(move || {
        IS_WORKER.set(true);
        // Dropped after the requests that the thread carries out.
        let _after_panic = AfterPanic(Arc::clone(&own));
        event_loop::work(own, bell);
    })?;
    Ok(())
}

/// Waits until the thread has finished what was submitted, unless this is that thread.
pub fn wait_for_end(shared: &Shared, interrupt: &'static dyn Interrupt) {
    let mut between = Between::new(interrupt);
    // A thread of the store cannot wait for its own end.
    while !IS_WORKER.get() && shared.queue.is_served() && between.refusal().is_none() {
        pause(CLOSING);
    }
}
