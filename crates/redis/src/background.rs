//! Submitted requests: one thread drives them all over one connection, and sends whatever has come
//! together at once.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mintkey_store::{Done, Error, ErrorKind, Outcome, Reply, Request, Result, Ticket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::caller::{RESPITE, TRIES};
use crate::connection::{Cause, Connection};
use crate::engine::perform;
use crate::gate::{Gate, Shielded};
use crate::resp::{Call, Value};
use crate::store::Shared;
use crate::talk::Talk;
use crate::translate::is_passing;
use crate::watch::{Stop, Watch, pause};

/// Requests in flight at most; those behind them wait, and can be withdrawn.
const FLIGHTS: usize = 1024;

/// How often a closing store looks whether the thread has ended.
const CLOSING: Duration = Duration::from_millis(1);

/// Nobody has begun it.
const WAITING: u8 = 0;
/// The thread has it.
const TAKEN: u8 = 1;
/// It was given up before it was begun.
const WITHDRAWN: u8 = 2;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// A submitted request.
struct Entry {
    request: Arc<Request>,
    stage: AtomicU8,
    done: Mutex<Option<Done>>,
}

impl Entry {
    fn step(&self, to: u8) -> bool {
        self.stage
            .compare_exchange(WAITING, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn deliver(&self, answer: Result<Reply>) {
        let done = self
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(done) = done {
            done(answer);
        }
    }
}

struct Submitted(Arc<Entry>);

impl Ticket for Submitted {
    fn withdraw(&self) -> bool {
        self.0.step(WITHDRAWN)
    }
}

/// What waits for the thread.
pub struct Queue(Shielded<Waiting>);

/// The requests that wait, and how to wake the thread.
#[derive(Default)]
pub struct Waiting {
    entries: VecDeque<Arc<Entry>>,
    bell: Option<UnixStream>,
    alive: bool,
    asleep: bool,
}

impl Waiting {
    fn ring(&mut self) {
        if std::mem::take(&mut self.asleep)
            && let Some(bell) = &self.bell
        {
            // A full pipe has woken it already.
            let _ = (&*bell).write(&[1]);
        }
    }
}

impl Queue {
    /// Nothing waits yet.
    pub fn new(gate: &Arc<Gate>) -> Self {
        Self(Shielded::new(gate))
    }

    /// Wakes the thread, if there is one.
    pub fn wake(&self) {
        self.0.with(Waiting::ring);
    }

    /// Waits until the thread has finished what was submitted, unless this is that thread.
    pub fn wait_for_end(&self) {
        // A thread of the store cannot wait for its own end.
        while !IS_WORKER.get() && self.0.with(|waiting| waiting.alive) {
            pause(CLOSING);
        }
    }

    /// Starts anew in a child: whoever submitted something did so in the parent.
    pub fn forget_others(&self) {
        // What the answers would wake does not exist here, and must not be dropped either: it may belong
        // to an interpreter whose locks are not free at this moment.
        std::mem::forget(self.0.with(std::mem::take));
    }
}

/// Takes a request and returns at once.
pub fn submit(shared: &Arc<Shared>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let entry = Arc::new(Entry {
        request,
        stage: AtomicU8::new(WAITING),
        done: Mutex::new(Some(done)),
    });
    let queued = shared.check_open().and_then(|()| queue(shared, &entry));
    if let Err(error) = queued
        && entry.step(TAKEN)
    {
        entry.deliver(Err(error));
    }
    Box::new(Submitted(entry))
}

fn queue(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Result<()> {
    shared.queue.0.with(|waiting| {
        if !waiting.alive {
            let bell = start(shared).map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable(Outcome::NotApplied),
                    "no thread can be started for the store: the system's limit is reached",
                )
                .caused_by(error)
            })?;
            waiting.bell = Some(bell);
            waiting.alive = true;
        }
        waiting.entries.push_back(Arc::clone(entry));
        waiting.ring();
        Ok(())
    })
}

/// Starts the thread, and gives what wakes it. Its handle is let go: a child could neither wait for it
/// nor drop it safely.
fn start(shared: &Arc<Shared>) -> io::Result<UnixStream> {
    let (ours, its) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    its.set_nonblocking(true)?;
    let own = Arc::clone(shared);
    let named = thread::Builder::new().name("mintkey-redis".to_owned());
    named.spawn(move || {
        IS_WORKER.set(true);
        Worker::new(own, its).work();
    })?;
    Ok(ours)
}

/// A request in flight.
struct Flight {
    entry: Arc<Entry>,
    operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    talk: Talk,
    watch: Watch,
    calls: Vec<Call>,
    values: Vec<Option<Value>>,
    missing: usize,
    tries: usize,
}

/// A call on its way: whose it is, and where in the stream of bytes it begins.
struct Sent {
    flight: u64,
    place: usize,
    begins: u64,
}

/// The connection, and what is under way on it.
struct Line {
    connection: Connection,
    out: Vec<u8>,
    written: usize,
    /// The bytes that were written before `out` begins.
    before: u64,
    sent: VecDeque<Sent>,
}

/// The thread's own things.
struct Worker {
    shared: Arc<Shared>,
    bell: UnixStream,
    flights: HashMap<u64, Flight>,
    number: u64,
    line: Option<Line>,
    /// Calls that are sent again after a respite.
    later: Vec<(Instant, u64, usize)>,
}

impl Worker {
    fn new(shared: Arc<Shared>, bell: UnixStream) -> Self {
        Self {
            shared,
            bell,
            flights: HashMap::new(),
            number: 0,
            line: None,
            later: Vec::new(),
        }
    }

    fn work(mut self) {
        loop {
            if !self.take_in() {
                return;
            }
            self.repeat();
            if let Err(error) = self.write() {
                self.break_off(&Cause::Broken(error));
                continue;
            }
            self.wait();
            if let Err(cause) = self.read() {
                self.break_off(&cause);
            }
            self.look_at_the_clock();
        }
    }

    /// Begins what was submitted; false if it is time to end.
    fn take_in(&mut self) -> bool {
        loop {
            let room = FLIGHTS.saturating_sub(self.flights.len());
            let ends = self.flights.is_empty() && self.shared.is_closed();
            let entries: Vec<Arc<Entry>> = self.shared.queue.0.with(|waiting| {
                let many = waiting.entries.len().min(room);
                if many == 0 {
                    waiting.alive = !ends;
                    waiting.asleep = room > 0;
                }
                waiting.entries.drain(..many).collect()
            });
            if entries.is_empty() {
                return !ends;
            }
            for entry in entries {
                if entry.step(TAKEN) {
                    self.begin(entry);
                }
            }
        }
    }

    fn begin(&mut self, entry: Arc<Entry>) {
        let talk = Talk::default();
        let operation = {
            let (shared, talk) = (Arc::clone(&self.shared), talk.clone());
            let request = Arc::clone(&entry.request);
            Box::pin(async move { perform(&shared.engine, &talk, &request).await })
        };
        self.number += 1;
        let watch = Watch::new(None, self.shared.engine.config.timeout);
        let flight = Flight {
            entry,
            operation,
            talk,
            watch,
            calls: Vec::new(),
            values: Vec::new(),
            missing: 0,
            tries: 0,
        };
        self.flights.insert(self.number, flight);
        self.go_on(self.number);
    }

    /// Lets an operation go on until it asks or ends.
    fn go_on(&mut self, number: u64) {
        let Some(flight) = self.flights.get_mut(&number) else {
            return;
        };
        let mut context = Context::from_waker(Waker::noop());
        match flight.operation.as_mut().poll(&mut context) {
            Poll::Ready(answer) => {
                if let Some(flight) = self.flights.remove(&number) {
                    flight.entry.deliver(answer);
                }
            }
            Poll::Pending => {
                let (calls, anew) = flight.talk.asked();
                if anew {
                    flight.watch.start_anew();
                }
                flight.missing = calls.len();
                flight.values = vec![None; calls.len()];
                flight.calls = calls;
                flight.tries = 0;
                if flight.missing == 0 {
                    self.answer(number, Ok(Vec::new()));
                } else {
                    self.send(number);
                }
            }
        }
    }

    fn answer(&mut self, number: u64, answer: Result<Vec<Value>>) {
        if let Some(flight) = self.flights.get(&number) {
            flight.talk.answer(answer);
            self.go_on(number);
        }
    }

    /// Puts the calls of an operation that have no answer yet on the line.
    fn send(&mut self, number: u64) {
        if self.line.is_none() {
            let Some(flight) = self.flights.get_mut(&number) else {
                return;
            };
            match connect(&self.shared, &mut flight.watch) {
                Ok(line) => self.line = Some(line),
                Err(error) => return self.answer(number, Err(error)),
            }
        }
        let (Some(line), Some(flight)) = (&mut self.line, self.flights.get(&number)) else {
            return;
        };
        for (place, call) in flight.calls.iter().enumerate() {
            if flight.values[place].is_none() {
                line.push(number, place, call, false);
            }
        }
    }

    /// Sends again what a server could not answer a moment ago.
    fn repeat(&mut self) {
        let now = Instant::now();
        let mut place = 0;
        while place < self.later.len() {
            if self.later[place].0 > now {
                place += 1;
                continue;
            }
            let (_, number, call) = self.later.swap_remove(place);
            if let (Some(line), Some(flight)) = (&mut self.line, self.flights.get(&number)) {
                line.push(number, call, &flight.calls[call], false);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        while line.written < line.out.len() {
            match line.connection.stream.write(&line.out[line.written..]) {
                Ok(count) => line.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        line.before += line.out.len() as u64;
        line.out.clear();
        line.written = 0;
        Ok(())
    }

    /// Waits until the server or somebody with a request calls, or until it is time to look at the clock.
    fn wait(&mut self) {
        let mut flags = PollFlags::IN;
        if self.line.as_ref().is_some_and(Line::is_full) {
            flags |= PollFlags::OUT;
        }
        let ends = self.flights.values().map(|flight| flight.watch.end());
        let ends = ends.chain(self.later.iter().map(|(time, _, _)| *time));
        let left = ends
            .min()
            .map(|end| end.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let time = left.and_then(|left| Timespec::try_from(left).ok());
        let mut sockets = vec![PollFd::new(&self.bell, PollFlags::IN)];
        if let Some(line) = &self.line {
            sockets.push(PollFd::new(&line.connection.stream, flags));
        }
        // An interrupted wait is one that ends early.
        let _ = poll(&mut sockets, time.as_ref());
        let rung = !sockets[0].revents().is_empty();
        self.shared.queue.0.with(|waiting| waiting.asleep = false);
        if rung {
            let mut bytes = [0; 64];
            while matches!(self.bell.read(&mut bytes), Ok(64)) {}
        }
    }

    /// Takes in what the server said, and lets the operations go on.
    fn read(&mut self) -> std::result::Result<(), Cause> {
        loop {
            let Some(line) = &mut self.line else {
                return Ok(());
            };
            match line.connection.parser.next()? {
                Some(value) => {
                    let Some(sent) = line.sent.pop_front() else {
                        let surplus = "the server answered what nobody asked";
                        return Err(Cause::Broken(io::Error::other(surplus)));
                    };
                    self.arrived(&sent, value);
                }
                None => match line.connection.parser.fill(&mut line.connection.stream) {
                    Ok(0) => {
                        let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                        return Err(Cause::Broken(ended));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(Cause::Broken(error)),
                },
            }
        }
    }

    fn arrived(&mut self, sent: &Sent, value: Value) {
        let Some(flight) = self.flights.get_mut(&sent.flight) else {
            return;
        };
        if let Value::Error(text) = &value {
            if text.starts_with("NOSCRIPT") {
                if let Some(line) = &mut self.line {
                    let call = &flight.calls[sent.place];
                    line.push(sent.flight, sent.place, call, true);
                }
                return;
            }
            if is_passing(text) && Instant::now() + RESPITE < flight.watch.end() {
                let then = Instant::now() + RESPITE;
                self.later.push((then, sent.flight, sent.place));
                return;
            }
        }
        flight.values[sent.place] = Some(value);
        flight.missing -= 1;
        if flight.missing == 0 {
            let values = std::mem::take(&mut flight.values);
            self.answer(sent.flight, Ok(values.into_iter().flatten().collect()));
        }
    }

    /// Gives the connection up. What may be sent again is; of the rest nobody knows.
    fn break_off(&mut self, cause: &Cause) {
        let Some(line) = self.line.take() else { return };
        let reached = line.before + line.written as u64;
        self.later.clear();
        let mut delivered: HashMap<u64, bool> = HashMap::new();
        for sent in line.sent {
            let Some(flight) = self.flights.get(&sent.flight) else {
                continue;
            };
            let doubtful = sent.begins < reached && !flight.calls[sent.place].repeatable;
            *delivered.entry(sent.flight).or_default() |= doubtful;
        }
        let mut numbers: Vec<u64> = self.flights.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(flight) = self.flights.get_mut(&number) else {
                continue;
            };
            flight.tries += 1;
            let doubtful = delivered.get(&number).copied().unwrap_or(false);
            if !doubtful && flight.tries < TRIES && flight.watch.look().is_ok() {
                self.send(number);
                continue;
            }
            let writes = flight.calls.iter().any(Call::runs_script);
            let outcome = if writes {
                Outcome::Unknown
            } else {
                Outcome::NotApplied
            };
            let repeated = match (flight.watch.look(), cause) {
                (Err(stop), _) => Cause::Stopped(stop),
                (Ok(()), Cause::Stopped(stop)) => Cause::Stopped(*stop),
                (Ok(()), Cause::Broken(error)) => {
                    Cause::Broken(io::Error::new(error.kind(), error.to_string()))
                }
            };
            let error = repeated.error(&self.shared.engine.config.address, outcome);
            self.answer(number, Err(error));
        }
    }

    /// Gives up the connection when it leaves a request without an answer for too long.
    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        if self
            .flights
            .values()
            .any(|flight| flight.watch.end() <= now)
        {
            let cause = Cause::Stopped(Stop::Late(self.shared.engine.config.timeout));
            self.break_off(&cause);
        }
    }
}

impl Line {
    /// Whether something waits to be written.
    fn is_full(&self) -> bool {
        !self.out.is_empty() || self.connection.stream.holds_back()
    }

    fn push(&mut self, flight: u64, place: usize, call: &Call, whole: bool) {
        self.sent.push_back(Sent {
            flight,
            place,
            begins: self.before + self.out.len() as u64,
        });
        call.write(whole, &mut self.out);
    }
}

fn connect(shared: &Shared, watch: &mut Watch) -> Result<Line> {
    let connection = Connection::open(&shared.engine.config, watch)?;
    connection.unblock(&shared.engine.config)?;
    Ok(Line {
        connection,
        out: Vec::new(),
        written: 0,
        before: 0,
        sent: VecDeque::new(),
    })
}
