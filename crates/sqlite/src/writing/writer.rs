//! The one writer of a store: a thread that finds no leader leads, the others wait.
//!
//! A leader takes the connection, begins a transaction, and only then takes in all writes that have come meanwhile, so
//! that one commit serves them all. Then the longest waiting thread leads, or the background thread if only submitted
//! requests wait.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use mintkey_runtime::{Deadline, Stop, Worker, is_worker_thread, locked};
use mintkey_store::store::Never;
use mintkey_store::{Delivery, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result};

use crate::shared::Shared;
use crate::storage::connection::{Connection, Opened};
use crate::storage::fork_gate::{self, Pass};
use crate::writing::group_commit;
use crate::writing::pending::{ANSWERED, LEADING, Parked, PendingWrite};
use crate::writing::queue::WriteQueue;

/// How often a group is carried out whose files are lost each time.
const ATTEMPTS: usize = 5;

/// The writer of one store.
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Mutex<WriteQueue>,
}

/// The lead of one transaction; dropping it, after a panic too, passes it on.
pub(super) struct Lead<'a> {
    writer: &'a Writer,
    /// The connection to keep.
    connection: Option<Connection>,
    /// Whether it has taken in the waiting writes.
    took: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let pass = fork_gate::enter();
        let pool = &self.writer.shared.pool;
        let mut queue = locked(&self.writer.queue);
        // The background thread would lead, and panic, again and again without ever taking one of them.
        let defect = thread::panicking() && !self.took && is_worker_thread();
        let unanswered = defect.then(|| queue.take_submitted());
        queue.pass_on();
        let (kept, closing): (Option<_>, Option<_>) = match self.connection.take() {
            Some(open) if !queue.is_finished() && pool.is_current(&open) => (Some(open), None),
            other => (None, other),
        };
        // The next leader takes it once the queue is unlocked.
        pool.put_writer(kept);
        drop(queue);
        drop(closing);
        drop(pass);
        drop(unanswered);
    }
}

impl<'a> Lead<'a> {
    pub(super) const fn new(writer: &'a Writer, connection: Option<Connection>) -> Self {
        Self {
            writer,
            connection,
            took: false,
        }
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            queue: Mutex::default(),
        }
    }

    /// Carries out a write on the calling thread, or lets the leader do so.
    pub fn write(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let mut deadline = self.shared.deadline(interrupt);
        let pass = fork_gate::enter();
        let mut queue = locked(&self.queue);
        self.check_open(&queue)?;
        if !queue.is_led() {
            return self.lead(queue, Some(request), &mut deadline, pass);
        }
        let (write, parked) = PendingWrite::blocking(Arc::new(request.clone()));
        queue.push(write);
        drop(queue);
        drop(pass);
        self.wait(request, &parked, &mut deadline)
    }

    /// Carries out several writes in one transaction, together with all that wait at that moment.
    pub fn write_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let mut deadline = self.shared.deadline(interrupt);
        let (writes, parked): (Vec<_>, Vec<_>) =
            requests.iter().cloned().map(PendingWrite::blocking).unzip();
        let pass = fork_gate::enter();
        let mut queue = locked(&self.queue);
        if let Err(error) = self.check_open(&queue) {
            return error.of_all(requests.len());
        }
        for write in writes {
            queue.push(write);
        }
        if !queue.is_led() {
            // To the first of these, which takes in the others.
            queue.pass_on();
        }
        drop(queue);
        drop(pass);
        let answer = |(request, parked): (&Arc<Request>, &Arc<Parked>)| match deadline.stopped() {
            // A write before this one reported it, so that an answer to this one can be returned all the same.
            Some(stop) if parked.stage() != ANSWERED => self.give_up(parked, stop),
            _ => self.wait(request, parked, &mut deadline),
        };
        requests.iter().zip(&parked).map(answer).collect()
    }

    /// Queues submitted writes, all under one lock, so that a leader takes in all or none of them. The first ones start
    /// the background thread.
    pub fn submit_all(
        &self,
        writes: Vec<PendingWrite>,
        start: impl FnOnce() -> Result<Worker>,
    ) -> Vec<Delivery> {
        let _pass = fork_gate::enter();
        let mut queue = locked(&self.queue);
        let refused = if queue.is_closed() {
            Some(Error::closed(&self.shared.config.address))
        } else if queue.has_background() {
            queue.wake_background();
            None
        } else {
            start().map(|thread| queue.set_background(thread)).err()
        };
        if let Some(error) = refused {
            let refuse = |write: &PendingWrite| write.answer(Err(error.for_another()));
            return writes.iter().filter_map(refuse).collect();
        }
        for write in writes {
            queue.push(write);
        }
        Vec::new()
    }

    /// One step of the background thread: waits for something to write, and writes it. False: the store is closed.
    pub fn work(&self) -> bool {
        let pass = fork_gate::enter();
        let queue = locked(&self.queue);
        if queue.is_led() || queue.waiting() == 0 {
            let over = queue.is_closed() && queue.waiting() == 0;
            drop(queue);
            drop(pass);
            if !over {
                thread::park();
            }
            return !over;
        }
        let mut deadline = self.shared.deadline(&Never);
        // Errors were delivered to the requests that they concern.
        let _ = self.lead(queue, None, &mut deadline, pass);
        true
    }

    /// Refuses a write of this thread after the store was closed, or in the middle of another write of the thread. What
    /// was submitted before is completed, with the writes that it needs.
    fn check_open(&self, queue: &WriteQueue) -> Result<()> {
        if queue.is_closed() && !is_worker_thread() {
            return Err(Error::closed(&self.shared.config.address));
        }
        if queue.is_leader() {
            return Err(reentered());
        }
        Ok(())
    }

    /// Waits, without a pass, until the request is answered or this thread is the next leader.
    fn wait(&self, request: &Request, parked: &Parked, deadline: &mut Deadline) -> Result<Reply> {
        loop {
            match parked.stage() {
                ANSWERED => {
                    let _pass = fork_gate::enter();
                    return parked.answer();
                }
                LEADING => {
                    let pass = fork_gate::enter();
                    return self.lead(locked(&self.queue), Some(request), deadline, pass);
                }
                _ => {}
            }
            if let Err(stop) = deadline.check() {
                return self.give_up(parked, stop);
            }
            thread::park_timeout(deadline.wait());
            if self.is_reentrant() && parked.withdraw() {
                return Err(reentered());
            }
        }
    }

    /// Whether this thread leads, although it waits: a signal handler waits for the write that it has interrupted,
    /// which can only continue after the handler.
    fn is_reentrant(&self) -> bool {
        let _pass = fork_gate::enter();
        locked(&self.queue).is_leader()
    }

    /// Gives up waiting.
    fn give_up(&self, parked: &Parked, stop: Stop) -> Result<Reply> {
        let error = |outcome| stop.error(&self.shared.config.address, "waiting to write", outcome);
        if parked.withdraw() {
            return Err(error(Outcome::NotApplied));
        }
        let _pass = fork_gate::enter();
        match parked.stage() {
            // This thread has just become the leader.
            LEADING => {
                locked(&self.queue).pass_on();
                Err(error(Outcome::NotApplied))
            }
            // The answer has just come. An interrupt, however, is reported only once, and must not be lost.
            ANSWERED if matches!(stop, Stop::Timeout(_)) => parked.answer(),
            _ => Err(error(Outcome::Unknown)),
        }
    }

    /// Makes this thread the leader, which carries out its own request, if any, with all that wait.
    fn lead(
        &self,
        mut queue: MutexGuard<'_, WriteQueue>,
        own: Option<&Request>,
        deadline: &mut Deadline,
        pass: Pass,
    ) -> Result<Reply> {
        queue.lead();
        let mut connection = self.shared.pool.take_writer();
        drop(queue);
        let mut lead = Lead::new(self, None);
        let mut group: Option<Vec<PendingWrite>> = None;
        // The last variable: a panic drops it first, so that the group is answered without a pass.
        let mut pass = pass;
        let mut attempts = 0;
        let (result, deliveries) = loop {
            let lost = match group_commit::begin(&self.shared, connection.take(), deadline) {
                Ok(Opened::Ready(open)) => {
                    let group = group.get_or_insert_with(|| locked(&self.queue).take_group());
                    lead.took = true;
                    let done =
                        group_commit::commit_group(&self.shared, &open, own, group, deadline);
                    match &open.files {
                        Some(files) if done.is_none() && !files.is_replaced() => Ok(files.id()),
                        _ => {
                            // What could not be rolled back ends with its connection.
                            lead.connection = Some(open).filter(|open| open.raw.is_autocommit());
                            match done {
                                Some(done) => break done,
                                None => Err(self.shared.replaced(Outcome::Unknown)),
                            }
                        }
                    }
                }
                Ok(Opened::Lost(id)) => Ok(id),
                // It waited for a lock of another program, and its connection is closed: a fork need not wait for it.
                Err(_) if fork_gate::is_pass_wanted() => {
                    drop(pass);
                    pass = fork_gate::enter();
                    continue;
                }
                Err(error) => Err(error),
            };
            attempts += 1;
            let reopened = match lost {
                Err(error) => Err(error),
                Ok(_) if attempts == ATTEMPTS => Err(self.files_keep_vanishing()),
                Ok(id) => {
                    // Only without a pass can this thread wait for other threads to return theirs.
                    drop(pass);
                    let reopened = self.shared.close_lost_files(id);
                    pass = fork_gate::enter();
                    reopened
                }
            };
            if let Err(error) = reopened {
                break self.fail(own, group.as_deref(), error);
            }
        };
        drop(lead);
        drop(pass);
        for delivery in deliveries {
            delivery.deliver();
        }
        result
    }

    /// Answers with an error, when no transaction could begin.
    fn fail(
        &self,
        own: Option<&Request>,
        group: Option<&[PendingWrite]>,
        error: Error,
    ) -> (Result<Reply>, Vec<Delivery>) {
        // Waiting threads try again themselves; submitted requests have no other thread.
        let waiting = match group {
            None if own.is_none() => locked(&self.queue).take_group(),
            _ => Vec::new(),
        };
        let failed = |write: &PendingWrite| write.answer(Err(error.for_another()));
        let group = group.unwrap_or(&waiting);
        let deliveries = group.iter().filter_map(failed).collect();
        let own = match own {
            Some(_) => Err(error),
            None => Ok(Reply::Done),
        };
        (own, deliveries)
    }

    /// Whether everything is complete that was requested before the store was closed.
    pub fn is_over(&self) -> bool {
        locked(&self.queue).is_over()
    }

    /// Refuses new writes, lets the background thread end when its work is done, and closes the connection once no
    /// write needs it.
    pub fn close(&self) {
        let mut queue = locked(&self.queue);
        queue.close();
        let connection = queue.is_finished().then(|| self.shared.pool.take_writer());
        drop(queue);
        drop(connection);
    }

    /// Resets the writer in the child of a fork.
    pub fn reset_in_child(&self) {
        locked(&self.queue).reset_in_child();
    }

    fn files_keep_vanishing(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: another program removes the database's files again and again",
                self.shared.config.address
            ),
        )
        .advice(
            "end it, or inspect the file from another process, never with a second SQLite in this one",
        )
    }
}

fn reentered() -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        "a signal handler called the store in the middle of a write of the same thread: nothing was done; let the \
         handler set a flag instead",
    )
}
