//! The one place where writes meet.
//!
//! Whoever finds nobody writing leads: he takes the connection, begins a transaction, and only then
//! takes in everything that has gathered meanwhile, so that one commit serves all. Afterwards the
//! longest waiting thread leads, or the background thread if only submitted requests wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, Thread, ThreadId};

use mintkey_store::{
    Delivery, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result, submission,
};

use crate::storage::connection::{self, Connection, Fault, Opened};
use crate::store::Shared;
use crate::threads::deadline::{Stop, Watch};
use crate::threads::fork_gate::{self, Pass, locked};
use crate::workers;
use crate::writing::entry::{ANSWERED, Entry, LEADING, Parked};
use crate::writing::transaction::Transaction;

/// The requests one commit carries at most.
pub const GROUP: usize = 512;
/// How often a group is carried out whose files are lost each time.
const RENEWALS: usize = 5;

/// Who writes, and who waits to.
#[derive(Default)]
pub struct Queue {
    /// The thread that writes.
    leader: Option<ThreadId>,
    waiting: VecDeque<Entry>,
    /// The writing connection, while nobody writes.
    pub writer: Option<Connection>,
    /// The thread that leads when only submitted requests wait, once there is one.
    pub background: Option<Thread>,
    /// How many requests the last transaction carried.
    pub carried: usize,
    /// The store is closed: what waits is carried out, then the background thread ends.
    pub closed: bool,
}

impl Queue {
    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether somebody writes or is about to.
    pub const fn is_led(&self) -> bool {
        self.leader.is_some()
    }

    /// Lets the background thread end when its work is done; gives the connection if nobody needs it any more.
    pub fn close(&mut self) -> Option<Connection> {
        self.closed = true;
        if let Some(background) = &self.background {
            background.unpark();
        }
        let needed = self.is_led() || !self.waiting.is_empty();
        self.writer.take_if(|_| !needed)
    }

    /// Whether all is done that was asked before the store was closed.
    pub fn is_over(&self) -> bool {
        !self.is_led() && self.waiting.is_empty() && self.background.is_none()
    }

    /// Adds a request.
    pub fn push(&mut self, entry: Entry) {
        self.waiting.push_back(entry);
    }

    /// Makes this thread the leader.
    pub fn lead(&mut self) -> Option<Connection> {
        self.leader = Some(thread::current().id());
        self.writer.take()
    }

    fn take_waiting(&mut self) -> Vec<Entry> {
        let many = self.waiting.len().min(GROUP);
        self.waiting.drain(..many).filter(Entry::take).collect()
    }

    /// Takes out the submitted requests, none of which was begun.
    pub fn take_submitted(&mut self) -> VecDeque<Entry> {
        let waiting = std::mem::take(&mut self.waiting);
        let (threads, submitted) = waiting.into_iter().partition(Entry::is_of_thread);
        self.waiting = threads;
        submitted
    }

    /// Gives the lead to the longest waiting thread, else lets the background thread look at what there is to do. It is
    /// also woken when nothing is, to end with the store.
    fn pass_on(&mut self) {
        self.leader = None;
        let next = self.waiting.iter().position(Entry::is_to_lead);
        if let Some(entry) = next.and_then(|place| self.waiting.remove(place)) {
            self.leader = entry.thread();
            entry.wake();
        } else if (self.closed || !self.waiting.is_empty())
            && let Some(background) = &self.background
        {
            background.unpark();
        }
    }

    /// Starts anew in a child: whoever waited does so in the parent.
    pub fn forget_others(&mut self) {
        // What the answers would wake does not exist here, and must not be dropped either: it may
        // belong to an interpreter whose locks are not free at this moment.
        std::mem::forget(std::mem::take(&mut self.waiting));
        self.leader = None;
        self.background = None;
    }
}

/// The lead of one transaction; dropping it, after a panic too, passes it on.
struct Lead<'a> {
    shared: &'a Shared,
    /// The connection to go on with.
    connection: Option<Connection>,
    /// Whether it has taken in what waits.
    took: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let pass = fork_gate::enter();
        let mut queue = locked(&self.shared.queue);
        // The background thread would lead, and panic, again and again without ever taking one of them.
        let defect = thread::panicking() && !self.took && workers::is_worker();
        let unanswered = defect.then(|| queue.take_submitted());
        queue.pass_on();
        let last = queue.closed && queue.waiting.is_empty() && !queue.is_led();
        let (kept, closing): (Option<_>, Option<_>) = match self.connection.take() {
            Some(open) if !last && self.shared.is_current(&open) => (Some(open), None),
            other => (None, other),
        };
        queue.writer = kept;
        drop(queue);
        drop(closing);
        drop(pass);
        drop(unanswered);
    }
}

impl Shared {
    /// Carries out a write on the calling thread, or lets the one that writes do so.
    pub fn write(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let mut watch = Watch::new(Some(interrupt), Some(self.config.timeout));
        let pass = fork_gate::enter();
        let mut queue = locked(&self.queue);
        self.check_open(&queue)?;
        if !queue.is_led() {
            let connection = queue.lead();
            drop(queue);
            return self.lead(Some(request), connection, &mut watch, pass);
        }
        let (entry, parked) = Entry::of_thread(Arc::new(request.clone()));
        queue.push(entry);
        drop(queue);
        drop(pass);
        self.wait(request, &parked, &mut watch)
    }

    /// Carries out writes that come together: in one transaction, with what others wait for at that moment.
    pub fn write_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let mut watch = Watch::new(Some(interrupt), Some(self.config.timeout));
        let (entries, parked): (Vec<_>, Vec<_>) =
            requests.iter().cloned().map(Entry::of_thread).unzip();
        let pass = fork_gate::enter();
        let mut queue = locked(&self.queue);
        if let Err(error) = self.check_open(&queue) {
            return error.of_all(requests.len());
        }
        queue.waiting.extend(entries);
        if !queue.is_led() {
            // To the first of these, whose turn takes in the others.
            queue.pass_on();
        }
        drop(queue);
        drop(pass);
        let answer = |(request, parked): (&Arc<Request>, &Arc<Parked>)| match watch.stopped() {
            // Told with the one before, so that this one may be answered all the same.
            Some(stop) if parked.stage() != ANSWERED => self.leave(parked, stop),
            _ => self.wait(request, parked, &mut watch),
        };
        requests.iter().zip(&parked).map(answer).collect()
    }

    /// Refuses a write of this thread after the store was closed, or in the middle of another. What was submitted before
    /// is finished, with what it needs.
    fn check_open(&self, queue: &Queue) -> Result<()> {
        if queue.closed && !workers::is_worker() {
            return Err(Error::closed(&self.config.address));
        }
        if queue.leader == Some(thread::current().id()) {
            return Err(came_back());
        }
        Ok(())
    }

    /// Waits, without a pass, until the request is answered or this thread's turn to lead has come.
    fn wait(&self, request: &Request, parked: &Parked, watch: &mut Watch) -> Result<Reply> {
        loop {
            match parked.stage() {
                ANSWERED => {
                    let _pass = fork_gate::enter();
                    return parked.answer();
                }
                LEADING => {
                    let pass = fork_gate::enter();
                    let connection = locked(&self.queue).lead();
                    return self.lead(Some(request), connection, watch, pass);
                }
                _ => {}
            }
            if let Some(stop) = watch.look() {
                return self.leave(parked, stop);
            }
            thread::park_timeout(watch.pause());
        }
    }

    /// Gives up waiting.
    fn leave(&self, parked: &Parked, stop: Stop) -> Result<Reply> {
        let error = |outcome| stop.error("waiting to write", self.config.timeout, outcome);
        if parked.withdraw() {
            return Err(error(Outcome::NotApplied));
        }
        let _pass = fork_gate::enter();
        match parked.stage() {
            // The turn to lead came at this very moment.
            LEADING => {
                locked(&self.queue).pass_on();
                Err(error(Outcome::NotApplied))
            }
            // So did the answer. An interrupt is gone once it was seen, and must be told.
            ANSWERED if stop == Stop::Late => parked.answer(),
            _ => Err(error(Outcome::Unknown)),
        }
    }

    /// Carries out the leader's own request, if any, with all that wait.
    pub fn lead(
        &self,
        own: Option<&Request>,
        mut connection: Option<Connection>,
        watch: &mut Watch,
        pass: Pass,
    ) -> Result<Reply> {
        let mut lead = Lead {
            shared: self,
            connection: None,
            took: false,
        };
        let mut group: Option<Vec<Entry>> = None;
        // The last variable: a panic drops it first, so that the group is answered without a pass.
        let mut pass = pass;
        let mut times = 0;
        let (result, deliveries) = loop {
            let lost = match self.begin(connection.take(), watch) {
                Ok(Opened::Ready(open)) => {
                    let group = group.get_or_insert_with(|| locked(&self.queue).take_waiting());
                    lead.took = true;
                    let done = self.carry(&open, own, group, watch);
                    match &open.files {
                        Some(files) if done.is_none() && !files.is_mixed_up() => Ok(files.id()),
                        _ => {
                            // What could not be rolled back ends with its connection.
                            lead.connection = Some(open).filter(|open| open.raw.is_autocommit());
                            match done {
                                Some(done) => break done,
                                None => Err(self.mixed_up(Outcome::Unknown)),
                            }
                        }
                    }
                }
                Ok(Opened::Lost(id)) => Ok(id),
                // It waited for another program's lock, and its connection is closed: nothing keeps a fork waiting.
                Err(_) if fork_gate::is_wanted() => {
                    drop(pass);
                    pass = fork_gate::enter();
                    continue;
                }
                Err(error) => Err(error),
            };
            times += 1;
            let renewed = match lost {
                Err(error) => Err(error),
                Ok(_) if times == RENEWALS => Err(self.restless()),
                Ok(id) => {
                    // Only without a pass can this thread wait for the others to bring theirs back.
                    drop(pass);
                    let renewed = self.renew(id);
                    pass = fork_gate::enter();
                    renewed
                }
            };
            if let Err(error) = renewed {
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

    /// Answers with an error, when no transaction came to be.
    fn fail(
        &self,
        own: Option<&Request>,
        group: Option<&[Entry]>,
        error: Error,
    ) -> (Result<Reply>, Vec<Delivery>) {
        // Threads that wait try for themselves; submitted requests have nobody else to.
        let waiting = match group {
            None if own.is_none() => locked(&self.queue).take_waiting(),
            _ => Vec::new(),
        };
        let failed = |entry: &Entry| entry.answer(Err(again(&error)));
        let group = group.unwrap_or(&waiting);
        let deliveries = group.iter().filter_map(failed).collect();
        let own = match own {
            Some(_) => Err(error),
            None => Ok(Reply::Done),
        };
        (own, deliveries)
    }

    /// Opens the connection if need be, and begins a transaction.
    fn begin(&self, connection: Option<Connection>, watch: &mut Watch) -> Result<Opened> {
        #[cfg(test)]
        tests::panic_if_asked_to_begin(self);
        self.check_whole()?;
        let mut connection = match connection {
            Some(connection) => connection,
            None => match Connection::open(&self.config, watch)? {
                Opened::Ready(connection) => {
                    self.adopt(&connection);
                    connection
                }
                lost @ Opened::Lost(_) => return Ok(lost),
            },
        };
        connection.looks_first = true;
        let begun = connection::patiently(&self.config, watch, || {
            connection
                .raw
                .prepare_cached("BEGIN IMMEDIATE")?
                .raw_execute()
        });
        match (begun, &connection.files) {
            (Err(_), Some(files)) if !files.is_in_place() && !files.is_mixed_up() => {
                Ok(Opened::Lost(files.id()))
            }
            (begun, _) => begun.map(|_| Opened::Ready(connection)),
        }
    }

    /// Carries out a group in the transaction that was begun, commits, and hands out the answers.
    /// `None`: nothing was done, for the files are lost.
    fn carry(
        &self,
        connection: &Connection,
        own: Option<&Request>,
        group: &[Entry],
        watch: &Watch,
    ) -> Option<(Result<Reply>, Vec<Delivery>)> {
        // Who carries others' requests commits first; who is alone can stop at any time.
        let watch = || watch.of_transaction(connection.files.is_some());
        connection.post.set(group.is_empty().then(watch));
        let requests = own
            .into_iter()
            .chain(group.iter().map(|entry| &*entry.request));
        let answers = self.transact(connection, &requests);
        connection.post.set(None);
        let mut answers = answers?.into_iter();
        let reply = match own {
            Some(_) => answers
                .next()
                .unwrap_or_else(|| Err(submission::lost(true))),
            None => Ok(Reply::Done),
        };
        let deliveries = group
            .iter()
            .zip(answers)
            .filter_map(|(entry, answer)| entry.answer(answer));
        let deliveries = deliveries.collect();
        locked(&self.queue).carried = group.len() + usize::from(own.is_some());
        Some((reply, deliveries))
    }

    /// One transaction: an answer for each request, in order. `None`: it left nothing behind, for the
    /// files are lost.
    fn transact<'a>(
        &self,
        connection: &Connection,
        requests: &(impl Iterator<Item = &'a Request> + Clone),
    ) -> Option<Vec<Result<Reply>>> {
        let raw = &connection.raw;
        let fail_all = |error: rusqlite::Error, outcome: Outcome| -> Option<Vec<Result<Reply>>> {
            if !raw.is_autocommit() {
                // If this fails too, the connection is given up.
                let _ = raw.execute_batch("ROLLBACK");
            }
            if outcome == Outcome::NotApplied && !connection.is_in_place() {
                return None;
            }
            let first = self.explain(connection, error, outcome);
            let mut answers: Vec<Result<Reply>> = requests
                .clone()
                .skip(1)
                .map(|_| Err(again(&first)))
                .collect();
            answers.insert(0, Err(first));
            Some(answers)
        };
        let changes = raw.total_changes();
        let begun = Transaction::begin(connection, &self.layouts, self.config.max_item);
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return fail_all(error, Outcome::NotApplied),
        };
        let mut answers = Vec::new();
        for request in requests.clone() {
            match transaction.perform(request) {
                Ok(reply) => answers.push(Ok(reply)),
                Err(Fault::Refused(error)) => answers.push(Err(error)),
                Err(Fault::Stale) => answers.push(Err(submission::lost(true))),
                Err(Fault::Sqlite(error)) => {
                    if raw.is_autocommit() || connection::is_stopped(&error) {
                        return fail_all(error, Outcome::NotApplied);
                    }
                    answers.push(Err(self.explain(connection, error, Outcome::NotApplied)));
                }
            }
        }
        let ended = transaction.sweep().and_then(|()| {
            // From here on the outcome is the disk's to say.
            connection.post.set(None);
            raw.prepare_cached("COMMIT")?.raw_execute()
        });
        match ended {
            Ok(_) => {
                // A commit into a log that was removed counts only if the log is copied into the database,
                // which its index tells. All of a transaction is copied or nothing, so nothing of this one is
                // there when anything is missing, and it can be carried out again.
                let counts = connection.keeps_commits()
                    || (raw.total_changes() != changes && connection.saves_commits());
                if counts {
                    transaction.learned();
                    Some(answers)
                } else if connection.may_be_found() {
                    let unknown = |_| Err(self.index_lost());
                    Some(answers.into_iter().map(unknown).collect())
                } else {
                    None
                }
            }
            Err(error) => {
                let unknown =
                    error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
                fail_all(
                    error,
                    if unknown {
                        Outcome::Unknown
                    } else {
                        Outcome::NotApplied
                    },
                )
            }
        }
    }

    /// The typed error of a failed statement; one that the watch stopped says why.
    pub fn explain(
        &self,
        connection: &Connection,
        error: rusqlite::Error,
        outcome: Outcome,
    ) -> Error {
        match connection.post.stopped() {
            Some(stop) if connection::is_stopped(&error) => {
                stop.error("running a statement", self.config.timeout, outcome)
            }
            _ => connection::failure(&self.config, error, outcome),
        }
    }

    fn index_lost(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!(
                "{}: another program removed the file that ends in -shm while the store had it open: {}",
                self.config.address,
                Outcome::Unknown.words()
            ),
        )
    }

    fn restless(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: another program removes the database's files again and again; nothing was written: end it, or \
                 look into the file from another process, never with a second SQLite in this one",
                self.config.address
            ),
        )
    }
}

fn came_back() -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        "a signal handler came back to the store in the middle of a write of the same thread: nothing was done; \
         let the handler set a flag instead",
    )
}

/// The same error for another request that failed with it.
fn again(error: &Error) -> Error {
    Error::new(error.kind, error.message.clone())
}

#[cfg(test)]
pub mod tests;
