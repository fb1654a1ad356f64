//! Forks wait until no thread is inside AWS's libraries.
//!
//! These have mutexes for the whole process. A thread that has one of them locked does not exist in the child, which would
//! then wait without end. So each step of their work passes this gate, and a fork closes it. What waits for a server holds
//! none of the mutexes, so a fork need not wait for that; it does so for a moment only, so that the child does not inherit a
//! half finished renewal.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mintkey_runtime::pause;

use crate::transport::handlers;

/// How long a fork waits at most, for renewals and again for steps.
const LONGEST: Duration = Duration::from_millis(500);
/// How often it looks.
const CHECK_INTERVAL: Duration = Duration::from_micros(200);

/// What is under way.
struct Gate {
    /// Renewals that have begun and not ended.
    renewals: AtomicUsize,
    /// Steps that run now.
    steps: AtomicUsize,
    /// Stores that wait for a fork.
    forks: AtomicUsize,
}

/// The gate of this process.
static GATE: Gate = Gate::new();

/// A part of the work. It counts as running until it is dropped.
struct Counted(&'static AtomicUsize);

impl Counted {
    fn new(count: &'static AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    const fn new() -> Self {
        Self {
            renewals: AtomicUsize::new(0),
            steps: AtomicUsize::new(0),
            forks: AtomicUsize::new(0),
        }
    }

    /// Begins a step when no fork is under way.
    fn step(&'static self) -> Counted {
        loop {
            let step = Counted::new(&self.steps);
            if self.forks.load(Ordering::SeqCst) == 0 {
                return step;
            }
            drop(step);
            pause(CHECK_INTERVAL);
        }
    }

    fn close(&self) {
        // A thread that forks in a signal handler would wait for itself.
        if self.forks.load(Ordering::SeqCst) == 0 && !handlers::is_inside() {
            wait_for(&self.renewals);
        }
        self.forks.fetch_add(1, Ordering::SeqCst);
        wait_for(&self.steps);
    }

    fn open(&self) {
        self.forks.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Work of AWS's libraries, each step of which passes the gate.
pub struct Renewal<F> {
    /// `None` while it is dropped.
    work: Option<Pin<Box<F>>>,
    gate: &'static Gate,
    _running: Counted,
}

impl<F> Renewal<F> {
    /// Begins with the first poll.
    pub fn new(work: F) -> Self {
        Self::with(&GATE, work)
    }

    fn with(gate: &'static Gate, work: F) -> Self {
        Self {
            work: Some(Box::pin(work)),
            gate,
            _running: Counted::new(&gate.renewals),
        }
    }
}

impl<F: Future> Future for Renewal<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _step = self.gate.step();
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        work.as_mut().poll(context)
    }
}

impl<F> Drop for Renewal<F> {
    fn drop(&mut self) {
        let _step = self.gate.step();
        self.work = None;
    }
}

/// Waits while there is something in a count, for a limited time.
fn wait_for(count: &AtomicUsize) {
    let until = Instant::now() + LONGEST;
    while count.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        pause(CHECK_INTERVAL);
    }
}

/// Closes the gate before a fork. Each store calls it.
pub fn before_fork() {
    GATE.close();
}

pub fn in_parent() {
    GATE.open();
}

/// Opens it in the child, which has none of the threads that were counted.
pub fn in_child() {
    for count in [&GATE.renewals, &GATE.steps, &GATE.forks] {
        count.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::task::Waker;
    use std::thread;

    use super::*;

    /// Runs one step of a renewal.
    fn turn(gate: &'static Gate, step: impl FnMut()) -> Poll<()> {
        let mut step = step;
        let mut renewal = Renewal::with(
            gate,
            std::future::poll_fn(|_| {
                step();
                Poll::Ready(())
            }),
        );
        Pin::new(&mut renewal).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_fork_waits_for_a_step_and_stops_the_next_one() {
        let gate: &'static Gate = Box::leak(Box::new(Gate::new()));
        let (entered, inside) = channel();
        let (leave, left) = channel();
        let step = thread::spawn(move || {
            turn(gate, || {
                entered.send(()).unwrap();
                left.recv().unwrap();
            })
        });
        inside.recv().unwrap();
        let fork = thread::spawn(|| gate.close());
        // It closes the gate before it waits for the step.
        while gate.forks.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        leave.send(()).unwrap();
        fork.join().unwrap();
        assert_eq!(gate.steps.load(Ordering::SeqCst), 0);
        let (entered, inside) = channel();
        let next = thread::spawn(move || {
            turn(gate, || {
                let forks = gate.forks.load(Ordering::SeqCst);
                entered.send(forks).unwrap();
            })
        });
        gate.open();
        assert_eq!(inside.recv().unwrap(), 0, "the gate was open");
        for turned in [step, next] {
            assert_eq!(turned.join().unwrap(), Poll::Ready(()));
        }
        assert_eq!(gate.renewals.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_fork_does_not_wait_for_a_renewal_that_its_own_thread_has_interrupted() {
        let gate: &'static Gate = Box::leak(Box::new(Gate::new()));
        let renewal = Renewal::with(gate, std::future::pending::<()>());
        let begin = Instant::now();
        handlers::ask(|| gate.close());
        assert!(begin.elapsed() < LONGEST, "it waited for itself");
        gate.open();
        drop(renewal);
    }
}
