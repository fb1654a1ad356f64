//! The one place where writes meet.
//!
//! Whoever finds nobody writing leads: he takes the connection, begins a transaction, and only then
//! takes in everything that has gathered meanwhile, so that one commit serves all. Afterwards the
//! longest waiting thread leads, or the background thread if only submitted requests wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread, ThreadId};

use mintkey_store::{Done, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result};

use crate::connection::{self, Connection, Fault, Opened};
use crate::gate::{self, Pass, locked};
use crate::store::Shared;
use crate::watch::{Stop, Watch};
use crate::writer::Transaction;

/// The requests one commit carries at most.
pub const GROUP: usize = 512;
/// How often a group is carried out whose files are lost each time.
const RENEWALS: usize = 5;

/// Nobody has begun it.
const WAITING: u8 = 0;
/// A leader has it.
const TAKEN: u8 = 1;
/// It was given up before anybody began it.
const WITHDRAWN: u8 = 2;
/// Its thread is the next leader.
const LEADING: u8 = 3;
/// Its answer is there.
const ANSWERED: u8 = 4;

/// A request that waits for a leader.
pub struct Entry {
    pub request: Arc<Request>,
    stage: AtomicU8,
    answer: Mutex<Option<Result<Reply>>>,
    whose: Whose,
}

enum Whose {
    /// A thread's that is parked until it is woken.
    Thread(Thread),
    /// Submitted: the answer is passed on.
    Task(Mutex<Option<Done>>),
}

impl Entry {
    fn of_thread(request: &Request) -> Self {
        Self::new(Arc::new(request.clone()), Whose::Thread(thread::current()))
    }

    /// A submitted request.
    pub fn of_task(request: Arc<Request>, done: Done) -> Self {
        Self::new(request, Whose::Task(Mutex::new(Some(done))))
    }

    const fn new(request: Arc<Request>, whose: Whose) -> Self {
        Self {
            request,
            stage: AtomicU8::new(WAITING),
            answer: Mutex::new(None),
            whose,
        }
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.stage
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Begins it, unless it was withdrawn.
    pub fn take(&self) -> bool {
        self.step(WAITING, TAKEN)
    }

    /// Gives it up, unless somebody has begun it.
    pub fn withdraw(&self) -> bool {
        let withdrawn = self.step(WAITING, WITHDRAWN);
        if withdrawn && let Whose::Task(done) = &self.whose {
            // What the answer would have gone to is let go at once, not when the queue comes to it.
            drop(locked(done).take());
        }
        withdrawn
    }

    /// Hands over the answer of a request that was begun. The thread that holds no pass calls `done`.
    pub fn answer(&self, answer: Result<Reply>) -> Option<Delivery> {
        match &self.whose {
            Whose::Thread(thread) => {
                *locked(&self.answer) = Some(answer);
                self.stage.store(ANSWERED, Ordering::SeqCst);
                thread.unpark();
                None
            }
            Whose::Task(done) => {
                self.stage.store(ANSWERED, Ordering::SeqCst);
                let done = locked(done).take()?;
                Some(Delivery { done, answer })
            }
        }
    }
}

/// An answer on its way to whoever submitted the request.
pub struct Delivery {
    done: Done,
    answer: Result<Reply>,
}

impl Delivery {
    /// Passes the answer on. To be called without a pass: it may wait for whatever it likes.
    pub fn deliver(self) {
        (self.done)(self.answer);
    }
}

/// Who writes, and who waits to.
#[derive(Default)]
pub struct Queue {
    /// The thread that writes.
    leader: Option<ThreadId>,
    waiting: VecDeque<Arc<Entry>>,
    /// The writing connection, while nobody writes.
    pub writer: Option<Connection>,
    /// The thread that leads when only submitted requests wait, once there is one.
    pub background: Option<Thread>,
    /// How many requests the last transaction carried.
    pub carried: usize,
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

    /// Adds a submitted request.
    pub fn push(&mut self, entry: Arc<Entry>) {
        self.waiting.push_back(entry);
    }

    /// Makes this thread the leader.
    pub fn lead(&mut self) -> Option<Connection> {
        self.leader = Some(thread::current().id());
        self.writer.take()
    }

    fn take_waiting(&mut self) -> Vec<Arc<Entry>> {
        let many = self.waiting.len().min(GROUP);
        self.waiting
            .drain(..many)
            .filter(|entry| entry.take())
            .collect()
    }

    /// Gives the lead to the longest waiting thread, else wakes the background.
    fn pass_on(&mut self) {
        self.leader = None;
        let next = self.waiting.iter().position(|entry| {
            matches!(entry.whose, Whose::Thread(_)) && entry.step(WAITING, LEADING)
        });
        if let Some(entry) = next.and_then(|place| self.waiting.remove(place)) {
            if let Whose::Thread(thread) = &entry.whose {
                self.leader = Some(thread.id());
                thread.unpark();
            }
        } else if !self.waiting.is_empty()
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
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = locked(&self.shared.queue);
        let (kept, stale): (Option<_>, Option<_>) = match self.connection.take() {
            Some(open) if self.shared.is_current(&open) => (Some(open), None),
            other => (None, other),
        };
        queue.writer = kept;
        queue.pass_on();
        drop(queue);
        drop(stale);
    }
}

impl Shared {
    /// Carries out a write on the calling thread, or lets the one that writes do so.
    pub fn write(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let mut watch = Watch::new(Some(interrupt), Some(self.config.timeout));
        let pass = gate::enter();
        let mut queue = locked(&self.queue);
        if !queue.is_led() {
            let connection = queue.lead();
            drop(queue);
            return self.lead(Some(request), connection, &mut watch, pass);
        }
        if queue.leader == Some(thread::current().id()) {
            return Err(came_back());
        }
        let entry = Arc::new(Entry::of_thread(request));
        queue.push(Arc::clone(&entry));
        drop(queue);
        drop(pass);
        self.wait(request, &entry, &mut watch)
    }

    /// Carries out writes that come together: in one transaction, with what others wait for at that moment.
    pub fn write_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let mut watch = Watch::new(Some(interrupt), Some(self.config.timeout));
        let entries: Vec<_> = requests
            .iter()
            .map(|request| Arc::new(Entry::of_thread(request)))
            .collect();
        let pass = gate::enter();
        let mut queue = locked(&self.queue);
        if queue.leader == Some(thread::current().id()) {
            return came_back().of_all(requests.len());
        }
        queue.waiting.extend(entries.iter().cloned());
        if !queue.is_led() {
            // To the first of these, whose turn takes in the others.
            queue.pass_on();
        }
        drop(queue);
        drop(pass);
        let answer = |entry: &Arc<Entry>| match watch.stopped() {
            // Told with the one before, so that this one may be answered all the same.
            Some(stop) if entry.stage.load(Ordering::SeqCst) != ANSWERED => self.leave(entry, stop),
            _ => self.wait(&entry.request, entry, &mut watch),
        };
        entries.iter().map(answer).collect()
    }

    /// Waits, without a pass, until the request is answered or this thread's turn to lead has come.
    fn wait(&self, request: &Request, entry: &Entry, watch: &mut Watch) -> Result<Reply> {
        loop {
            match entry.stage.load(Ordering::SeqCst) {
                ANSWERED => {
                    let _pass = gate::enter();
                    let answer = locked(&entry.answer).take();
                    return answer.unwrap_or_else(|| Err(self.lost()));
                }
                LEADING => {
                    let pass = gate::enter();
                    let connection = locked(&self.queue).lead();
                    return self.lead(Some(request), connection, watch, pass);
                }
                _ => {}
            }
            if let Some(stop) = watch.look() {
                return self.leave(entry, stop);
            }
            thread::park_timeout(watch.pause());
        }
    }

    /// Gives up waiting.
    fn leave(&self, entry: &Entry, stop: Stop) -> Result<Reply> {
        let error = |outcome| stop.error("waiting to write", self.config.timeout, outcome);
        if entry.withdraw() {
            return Err(error(Outcome::NotApplied));
        }
        let _pass = gate::enter();
        match entry.stage.load(Ordering::SeqCst) {
            // The turn to lead came at this very moment.
            LEADING => {
                locked(&self.queue).pass_on();
                Err(error(Outcome::NotApplied))
            }
            // So did the answer. An interrupt is gone once it was seen, and must be told.
            ANSWERED if stop == Stop::Late => locked(&entry.answer)
                .take()
                .unwrap_or_else(|| Err(self.lost())),
            _ => Err(error(Outcome::Unknown)),
        }
    }

    /// Carries out the leader's own request, if any, with all that wait.
    pub fn lead(
        &self,
        own: Option<&Request>,
        mut connection: Option<Connection>,
        watch: &mut Watch,
        mut pass: Pass,
    ) -> Result<Reply> {
        let mut lead = Lead {
            shared: self,
            connection: None,
        };
        let mut group: Option<Vec<Arc<Entry>>> = None;
        let mut times = 0;
        let (result, deliveries) = loop {
            let lost = match self.begin(connection.take(), watch) {
                Ok(Opened::Ready(open)) => {
                    let group = group.get_or_insert_with(|| locked(&self.queue).take_waiting());
                    let done = self.carry(&open, own, group, watch);
                    match &open.files {
                        Some(files) if done.is_none() && !files.is_mixed_up() => {
                            let id = files.id();
                            open.abandon();
                            Ok(id)
                        }
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
                Err(_) if gate::is_wanted() => {
                    drop(pass);
                    pass = gate::enter();
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
                    pass = gate::enter();
                    renewed
                }
            };
            if let Err(error) = renewed {
                break self.fail(own, group, error);
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
        group: Option<Vec<Arc<Entry>>>,
        error: Error,
    ) -> (Result<Reply>, Vec<Delivery>) {
        // Threads that wait try for themselves; submitted requests have nobody else to.
        let group = match group {
            None if own.is_none() => locked(&self.queue).take_waiting(),
            group => group.unwrap_or_default(),
        };
        let failed = |entry: &Arc<Entry>| entry.answer(Err(again(&error)));
        let deliveries = group.iter().filter_map(failed).collect();
        let own = match own {
            Some(_) => Err(error),
            None => Ok(Reply::Done),
        };
        (own, deliveries)
    }

    /// Opens the connection if need be, and begins a transaction.
    fn begin(&self, connection: Option<Connection>, watch: &mut Watch) -> Result<Opened> {
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
                let id = files.id();
                connection.abandon();
                Ok(Opened::Lost(id))
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
        group: &[Arc<Entry>],
        watch: &Watch,
    ) -> Option<(Result<Reply>, Vec<Delivery>)> {
        // Who carries others' requests commits first; who is alone can stop at any time.
        connection.post.set(group.is_empty().then(|| watch.clone()));
        let requests = own
            .into_iter()
            .chain(group.iter().map(|entry| &*entry.request));
        let answers = self.transact(connection, &requests);
        connection.post.set(None);
        let mut answers = answers?.into_iter();
        let reply = match own {
            Some(_) => answers.next().unwrap_or_else(|| Err(self.lost())),
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
                Err(Fault::Stale) => answers.push(Err(self.lost())),
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
                // A commit into a log that was removed counts only if the log was copied into the database
                // first, which its index tells. All of a transaction is copied or nothing, so nothing of
                // this one is there when anything is missing, and it can be carried out again.
                let counts = connection.keeps_commits()
                    || (raw.total_changes() != changes && connection.is_saved());
                counts.then(|| {
                    transaction.learned();
                    answers
                })
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

    fn lost(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!(
                "{} lost the answer to a request: look whether it was done",
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
mod tests;
