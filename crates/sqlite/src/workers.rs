//! The threads that carry out submitted requests: one that writes, a few that read. They start with
//! the first request for them, end with the store, and do not live on in a child.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Thread};
use std::time::Duration;

use mintkey_store::{Done, Error, ErrorKind, Outcome, Request, Ticket};

use crate::gate::{self, locked};
use crate::queue::{Entry, GROUP};
use crate::store::Shared;
use crate::watch::{Watch, pause};

/// The threads that read at once.
const READERS: usize = 4;
/// The time between two looks of the writing thread at a crowd that gathers, and how often it looks at
/// most.
const LULL: Duration = Duration::from_micros(100);
const LOOKS: usize = 20;
/// How many looks in a row must find nobody new. One is enough when as many are there as the last
/// time; a crowd that is smaller so far may only have been kept from the processor.
const QUIET: usize = 1;
const QUIET_IF_FEWER: usize = 4;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread belongs to a store.
pub fn is_worker() -> bool {
    IS_WORKER.get()
}

/// The reads that wait, and the threads that carry them out.
#[derive(Default)]
pub struct Readers {
    waiting: VecDeque<Arc<Entry>>,
    idle: Vec<Thread>,
    alive: usize,
}

impl Readers {
    /// Starts anew in a child.
    pub fn forget_others(&mut self) {
        std::mem::forget(std::mem::take(&mut self.waiting));
        self.idle.clear();
        self.alive = 0;
    }

    /// Whether nothing waits and nobody works.
    pub fn is_over(&self) -> bool {
        self.alive == 0 && self.waiting.is_empty()
    }

    /// Wakes everybody, to end.
    pub fn wake(&self) {
        self.idle.iter().for_each(Thread::unpark);
    }
}

struct Submitted(Arc<Entry>);

impl Ticket for Submitted {
    fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

/// Takes a request and returns at once.
pub fn submit(shared: &Arc<Shared>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let write = shared.writes(&request);
    let entry = Arc::new(Entry::of_task(request, done));
    let refused = match shared.check_usable() {
        Err(error) => Some(error),
        Ok(()) if write => submit_write(shared, &entry),
        Ok(()) => submit_read(shared, &entry),
    };
    if let Some(error) = refused
        && entry.take()
        && let Some(delivery) = entry.answer(Err(error))
    {
        delivery.deliver();
    }
    Box::new(Submitted(entry))
}

fn submit_write(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Option<Error> {
    let _pass = gate::enter();
    let mut queue = locked(&shared.queue);
    if let Some(background) = &queue.background {
        background.unpark();
    } else {
        let own = Arc::clone(shared);
        match spawn("mintkey-writer", move || write(&own)) {
            Ok(thread) => queue.background = Some(thread),
            Err(error) => return Some(error),
        }
    }
    queue.push(Arc::clone(entry));
    None
}

fn submit_read(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Option<Error> {
    let _pass = gate::enter();
    let mut readers = locked(&shared.readers);
    if let Some(idle) = readers.idle.pop() {
        idle.unpark();
    } else if readers.alive < READERS {
        let own = Arc::clone(shared);
        match spawn("mintkey-reader", move || read(&own)) {
            Ok(_) => readers.alive += 1,
            Err(error) if readers.alive == 0 => return Some(error),
            // Those who are there will do.
            Err(_) => {}
        }
    }
    readers.waiting.push_back(Arc::clone(entry));
    None
}

/// Starts a thread. Its handle is let go: a child could neither wait for it nor drop it safely.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread, Error> {
    let named = thread::Builder::new().name(name.to_owned());
    let started = named.spawn(move || {
        IS_WORKER.set(true);
        work();
    });
    started
        .map(|handle| handle.thread().clone())
        .map_err(|error| {
            Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                "no thread can be started for the store: the system's limit is reached",
            )
            .caused_by(error)
        })
}

/// The life of the writing thread.
fn write(shared: &Shared) {
    loop {
        let pass = gate::enter();
        let mut queue = locked(&shared.queue);
        if queue.is_led() || queue.waiting() == 0 {
            if shared.closed.load(Ordering::SeqCst) && queue.waiting() == 0 {
                queue.background = None;
                return;
            }
            drop(queue);
            drop(pass);
            thread::park();
            continue;
        }
        if queue.waiting() < 2 && queue.carried < 2 {
            let connection = queue.lead();
            drop(queue);
            let mut watch = Watch::new(None, Some(shared.config.timeout));
            // Whatever failed was said to those whom it concerns.
            let _ = shared.lead(None, connection, &mut watch, pass);
            continue;
        }
        drop(queue);
        drop(pass);
        gather(shared);
        let pass = gate::enter();
        let mut queue = locked(&shared.queue);
        if !queue.is_led() && queue.waiting() > 0 {
            let connection = queue.lead();
            drop(queue);
            let mut watch = Watch::new(None, Some(shared.config.timeout));
            let _ = shared.lead(None, connection, &mut watch, pass);
        }
    }
}

/// Waits until a crowd has come together: many tasks that save at once then share one commit.
fn gather(shared: &Shared) {
    let mut crowd = Crowd::default();
    for _ in 0..LOOKS {
        let pass = gate::enter();
        let queue = locked(&shared.queue);
        let (waiting, before) = (queue.waiting(), queue.carried);
        drop(queue);
        drop(pass);
        if crowd.is_complete(waiting, before) {
            return;
        }
        pause(LULL);
    }
}

/// Those who wait, as one look after the other finds them.
#[derive(Default)]
struct Crowd {
    found: usize,
    quiet: usize,
}

impl Crowd {
    /// Whether nobody else is expected, when so many wait and so many shared the last commit.
    const fn is_complete(&mut self, waiting: usize, before: usize) -> bool {
        if waiting >= GROUP {
            return true;
        }
        if waiting != self.found {
            self.found = waiting;
            self.quiet = 0;
            return false;
        }
        self.quiet += 1;
        // One alone after a crowd is more likely to be alone than to be its first.
        let patience = if waiting > 1 && waiting < before {
            QUIET_IF_FEWER
        } else {
            QUIET
        };
        self.quiet >= patience
    }
}

/// The life of a reading thread.
fn read(shared: &Shared) {
    loop {
        let pass = gate::enter();
        let mut readers = locked(&shared.readers);
        let own = thread::current().id();
        readers.idle.retain(|thread| thread.id() != own);
        let Some(entry) = readers.waiting.pop_front() else {
            if shared.closed.load(Ordering::SeqCst) {
                readers.alive -= 1;
                return;
            }
            readers.idle.push(thread::current());
            drop(readers);
            drop(pass);
            thread::park();
            continue;
        };
        drop(readers);
        drop(pass);
        if entry.take() {
            let answer = shared.carry_out(&entry.request, &mintkey_store::store::Never);
            let pass = gate::enter();
            let delivery = entry.answer(answer);
            drop(pass);
            if let Some(delivery) = delivery {
                delivery.deliver();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(waiting: &[usize], before: usize) -> Vec<bool> {
        let mut crowd = Crowd::default();
        let look = |waiting: &usize| crowd.is_complete(*waiting, before);
        waiting.iter().map(look).collect()
    }

    #[test]
    fn a_crowd_is_complete_when_nobody_new_comes() {
        assert_eq!(looks(&[2, 30, 64, 64], 64), [false, false, false, true]);
        assert_eq!(looks(&[70, 70], 64), [false, true]);
        assert_eq!(looks(&[GROUP], 0), [true]);
    }

    #[test]
    fn a_smaller_crowd_than_the_last_is_given_more_time() {
        assert_eq!(
            looks(&[9, 9, 9, 40, 40, 40, 64, 64], 64),
            [false, false, false, false, false, false, false, true]
        );
        assert_eq!(looks(&[9; 5], 64), [false, false, false, false, true]);
    }

    #[test]
    fn one_alone_waits_for_one_look_at_most() {
        assert_eq!(looks(&[1, 1], 64), [false, true]);
        assert_eq!(looks(&[1, 1], 1), [false, true]);
    }
}
