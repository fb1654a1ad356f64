//! The engine of a process: one state, behind one lock.
//!
//! [`ENGINE`] contains all state that lives longer than a call. Its lock is held for tens of
//! nanoseconds, for a microsecond or two if random numbers are refilled, and never while Python
//! code may run or a system call may block. It is locked before a fork, so that the child gets a
//! consistent state, and released after it in both processes.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spin::Yield;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::chacha::{ChaCha, derive_key};
use crate::clock::{EngineClock, Reading, system};
use crate::kind::Kind;
use crate::minter::{Host, Minter, StepBack};
use crate::node::{Claim, Lost, Nodes};
use crate::node_choice::NodeChoice;
use crate::refusal::Refusal;
use crate::strategy::{Draft, Strategy};

/// The minter of a process.
pub type EngineMinter = Minter<EngineClock, ChaCha>;

/// The seed of a repeatable block, and how often the process has forked in it.
struct Seed {
    key: [u8; 32],
    forks: u64,
}

/// The state of a block with a frozen clock. It replaces that of the process.
struct Frozen {
    id: u64,
    seed: Option<Seed>,
    minter: EngineMinter,
    seeded: bool,
    nodes: Nodes,
}

/// All state of the process that ids depend on.
pub struct Engine {
    minter: EngineMinter,
    /// Whether the random numbers come from the system; this is put off until the first id.
    seeded: bool,
    nodes: Nodes,
    /// Zero in a child whose fork ran no handlers.
    prepared: &'static AtomicU32,
    /// Whether no block is frozen and the minter is seeded: one check instead of two.
    is_ready: bool,
    frozen: Vec<Frozen>,
    last_id: u64,
}

/// A lock that is released by one store instruction: half the cost of one that has to wake up threads. A
/// thread that finds it locked yields the processor, for the tens of nanoseconds of an id or for a fork.
type Lock<T> = SpinMutex<T, Yield>;
type Guard<T> = SpinMutexGuard<'static, T, Yield>;

static ENGINE: Lock<Engine> = Lock::new(Engine {
    minter: Minter::new(EngineClock::System, ChaCha::new([0; 32]), HOST),
    seeded: false,
    nodes: Nodes::new(false),
    prepared: &PREPARED,
    is_ready: false,
    frozen: Vec::new(),
    last_id: 0,
});

/// On systems that set no word to zero in a child, a fork without handlers is not detected.
static PREPARED: AtomicU32 = AtomicU32::new(1);

/// The stream of random numbers of a child whose fork ran no handlers.
const BARE_FORK: Option<u64> = Some(u64::MAX);

const HOST: Host = Host {
    process_bits,
    stepped_back: || STEPPED_BACK.store(true, Ordering::Relaxed),
};

/// Whether a block is frozen; if not, reading the time needs no lock.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Whether [`take_step_back`] has a step to return.
static STEPPED_BACK: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The guard of the lock that the forking thread holds during the fork.
    static FORK_GUARD: RefCell<Option<Guard<Engine>>> = const { RefCell::new(None) };
}

/// The lowest bits of the process id.
#[allow(clippy::unnecessary_wraps, reason = "a repeatable block gives none")]
fn process_bits() -> Option<u16> {
    #[allow(clippy::cast_possible_truncation, reason = "two bytes are kept")]
    let bits = std::process::id() as u16;
    Some(bits)
}

/// Runs a step under the lock.
///
/// # Errors
/// The refusal of `step`, or [`Refusal::NotSeeded`].
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "else its result is returned through memory, at a tenth of the cost of an id"
)]
pub fn with<T>(
    step: impl FnOnce(&mut Session<'_>) -> Result<T, Box<Refusal>>,
) -> Result<T, Box<Refusal>> {
    let mut engine = lock();
    let mut session = engine.session()?;
    step(&mut session)
}

/// Locks the engine. Mostly the lock is free.
#[inline]
fn lock() -> Guard<Engine> {
    ENGINE.try_lock().unwrap_or_else(wait)
}

#[cold]
#[inline(never)]
fn wait() -> Guard<Engine> {
    ENGINE.lock()
}

/// The engine during a step: a minter and the nodes that it may use.
pub struct Session<'a> {
    /// The minter.
    pub minter: &'a mut EngineMinter,
    nodes: &'a mut Nodes,
}

impl Session<'_> {
    /// Generates a snowflake of one of the nodes.
    ///
    /// # Errors
    /// As [`Minter::snowflake`]; [`Refusal::NodeNotChosen`], [`Refusal::NodeNotClaimed`], [`Refusal::NodesUnchecked`].
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a call costs a twentieth of a snowflake"
    )]
    pub fn snowflake(
        &mut self,
        reading: Reading,
        epoch: i64,
        choice: NodeChoice,
    ) -> Result<i64, Box<Refusal>> {
        if self.nodes.check_is_due(reading.ms()) {
            return unchecked();
        }
        let nodes = &mut *self.nodes;
        self.minter
            .snowflake(reading, epoch, choice, |choice, random| {
                nodes.claimed_node(choice, random).map_err(Box::new)
            })
    }

    /// Generates one value; timestamps use `at_ms` if it is given.
    ///
    /// # Errors
    /// When no value can be generated.
    #[inline]
    pub fn mint(
        &mut self,
        strategy: &Strategy,
        reading: Reading,
        at_ms: Option<i64>,
    ) -> Result<Draft, Box<Refusal>> {
        let minter = &mut *self.minter;
        Ok(match strategy.kind() {
            Kind::Uuid4 => Draft::Bits(minter.uuid4()),
            Kind::Uuid7 | Kind::Typeid => Draft::Bits(minter.uuid7(reading)?),
            Kind::Ulid => Draft::Bits(minter.ulid(reading)?),
            Kind::Ksuid => {
                let (time, payload) = minter.ksuid(reading)?;
                Draft::Ksuid(time, payload)
            }
            Kind::Nanoid | Kind::Cuid2 => Draft::Words(minter.words()),
            Kind::Xid => Draft::Bits(minter.xid(reading)?),
            Kind::Snowflake => {
                let (epoch, node) = strategy.snowflake().unwrap_or_default();
                Draft::Int(self.snowflake(reading, epoch, node)?)
            }
            Kind::Epoch | Kind::EpochMs | Kind::Iso8601 | Kind::Iso8601Ms => {
                Draft::Time(at_ms.unwrap_or(reading.ms()))
            }
            Kind::EpochUs => Draft::Int(reading.us()),
        })
    }
}

#[cold]
fn unchecked<T>() -> Result<T, Box<Refusal>> {
    Err(Box::new(Refusal::NodesUnchecked))
}

impl Engine {
    #[inline]
    fn session(&mut self) -> Result<Session<'_>, Box<Refusal>> {
        if self.is_ready && self.prepared.load(Ordering::Relaxed) != 0 {
            return Ok(Session {
                minter: &mut self.minter,
                nodes: &mut self.nodes,
            });
        }
        self.session_slowly()
    }

    #[cold]
    fn session_slowly(&mut self) -> Result<Session<'_>, Box<Refusal>> {
        self.detect_bare_fork();
        let seeded = match self.frozen.last() {
            Some(frozen) => frozen.seeded,
            None => self.seeded,
        };
        if !seeded {
            return Err(Box::new(Refusal::NotSeeded));
        }
        Ok(match self.frozen.last_mut() {
            Some(frozen) if frozen.seed.is_some() => Session {
                minter: &mut frozen.minter,
                nodes: &mut frozen.nodes,
            },
            Some(frozen) => Session {
                minter: &mut frozen.minter,
                nodes: &mut self.nodes,
            },
            None => {
                self.is_ready = true;
                Session {
                    minter: &mut self.minter,
                    nodes: &mut self.nodes,
                }
            }
        })
    }

    /// Gives random numbers to the minter that is not seeded.
    fn seed(&mut self, random: ChaCha) {
        let (minter, seeded) = match self.frozen.last_mut() {
            Some(frozen) => (&mut frozen.minter, &mut frozen.seeded),
            None => (&mut self.minter, &mut self.seeded),
        };
        if !*seeded {
            minter.take_randomness(random);
            *seeded = true;
        }
    }

    /// Resets the state in a child whose fork ran no handlers.
    fn detect_bare_fork(&mut self) {
        if self.prepared.load(Ordering::Relaxed) == 0 {
            self.restart_in_child(BARE_FORK);
        }
    }

    /// Resets the state to that of a new process. With a fixed seed it continues with the stream of this number, or
    /// with that of the next fork.
    fn restart_in_child(&mut self, stream: Option<u64>) {
        self.prepared.store(1, Ordering::Relaxed);
        self.is_ready = false;
        self.seeded = false;
        self.minter.restart(ChaCha::new([0; 32]));
        self.nodes.restart_in_child();
        for frozen in &mut self.frozen {
            frozen.nodes.restart_in_child();
            if let Some(seed) = &mut frozen.seed {
                seed.key = derive_key(&seed.key, stream.unwrap_or(seed.forks + 1));
                seed.forks = 0;
                frozen.minter.restart(ChaCha::new(seed.key));
            } else {
                frozen.seeded = false;
                frozen.minter.restart(ChaCha::new([0; 32]));
            }
        }
    }

    /// Makes the next ids differ from those of copies of this process, except in repeatable blocks. Dropping the result
    /// releases the nodes.
    #[must_use]
    fn diverge(&mut self) -> Vec<Claim> {
        self.is_ready = false;
        self.seeded = false;
        self.minter.diverge();
        for frozen in &mut self.frozen {
            if frozen.seed.is_none() {
                frozen.seeded = false;
                frozen.minter.diverge();
            }
        }
        self.nodes.release()
    }

    /// A new number for a block, a search or a check.
    fn number(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The nodes of the next snowflake.
    fn nodes(&mut self) -> &mut Nodes {
        match self.frozen.last_mut() {
            Some(frozen) if frozen.seed.is_some() => &mut frozen.nodes,
            _ => &mut self.nodes,
        }
    }

    /// The nodes of a running search or check; `None` if it was cancelled.
    fn nodes_of(&mut self, number: u64) -> Option<&mut Nodes> {
        let blocks = self.frozen.iter_mut().map(|frozen| &mut frozen.nodes);
        std::iter::once(&mut self.nodes)
            .chain(blocks)
            .find(|nodes| nodes.is_running(number))
    }

    /// Removes nodes whose locks are lost. Dropping the result releases them.
    #[must_use]
    fn lose(&mut self, number: u64, lost: &Lost) -> Vec<Claim> {
        let ours = self.nodes.is_running(number);
        if ours {
            self.minter.forget_nodes();
        }
        for frozen in &mut self.frozen {
            if ours && frozen.seed.is_none() || frozen.nodes.is_running(number) {
                frozen.minter.forget_nodes();
            }
        }
        self.nodes_of(number)
            .map_or_else(Vec::new, |nodes| nodes.remove(lost))
    }
}

/// Seeds the engine from the operating system, for [`Refusal::NotSeeded`]. The call may block while a machine is
/// starting; the lock is not held meanwhile.
///
/// # Errors
/// [`Refusal::NoRandomness`].
pub fn seed() -> Result<(), Refusal> {
    let random = ChaCha::from_system().map_err(|error| Refusal::NoRandomness(error.to_string()))?;
    lock_checked().seed(random);
    Ok(())
}

/// Makes the next ids differ from those of every copy of this process, such as one resumed from the same snapshot.
///
/// The random numbers, the machine of an XID and the node of snowflakes are replaced. Ids stay in order.
pub fn reseed() {
    let released = lock_checked().diverge();
    drop(released);
}

/// A search for a node or a check of locks, which run without the engine's lock.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(nodes) = lock_checked().nodes_of(self.0) {
            nodes.end();
        }
    }
}

/// Claims a node, for [`Refusal::NodeNotClaimed`]; `random` chooses one if many are free. May wait for the file system;
/// the lock is not held meanwhile.
///
/// # Errors
/// [`Refusal::Node`] when none is free; [`Refusal::NodesBusy`], [`Refusal::NodeNotChosen`].
pub fn claim_node(choice: NodeChoice, random: u64) -> Result<(), Refusal> {
    let mut engine = lock_checked();
    let number = engine.number();
    let Some(search) = engine.nodes().search(choice, number)? else {
        return Ok(());
    };
    drop(engine);
    let running = Running(number);
    let found = search.run(random)?;
    let now_ms = now_ms();
    let mut engine = lock_checked();
    let cancelled = match engine.nodes_of(number) {
        Some(nodes) => {
            nodes.add(found, now_ms);
            None
        }
        None => Some(found),
    };
    drop(engine);
    drop((cancelled, running));
    Ok(())
}

/// Checks the locks of nodes, for [`Refusal::NodesUnchecked`]: a node whose lock is lost is released. May wait for the
/// file system; the lock is not held meanwhile.
pub fn check_nodes() {
    let now_ms = now_ms();
    let mut engine = lock_checked();
    let number = engine.number();
    let Some(check) = engine.nodes().check(now_ms, number) else {
        return;
    };
    drop(engine);
    let running = Running(number);
    if let Some(lost) = check.run() {
        let released = lock_checked().lose(number, &lost);
        drop((released, lost));
    }
    drop(running);
}

/// Sets the word that the system sets to zero in a child, by which a fork without handlers is detected.
pub fn watch_forks(prepared: &'static AtomicU32) {
    prepared.store(1, Ordering::Relaxed);
    ENGINE.lock().prepared = prepared;
}

/// Locks the engine, and resets its state first in a child whose fork ran no handlers.
fn lock_checked() -> Guard<Engine> {
    let mut engine = ENGINE.lock();
    engine.detect_bare_fork();
    engine
}

/// The time of the engine's clock, which a test may have frozen.
#[inline]
#[must_use]
pub fn now() -> Reading {
    if FROZEN.load(Ordering::Acquire) {
        return frozen_now();
    }
    system()
}

#[cold]
fn frozen_now() -> Reading {
    let engine = ENGINE.lock();
    match engine.frozen.last() {
        Some(frozen) => frozen.minter.now(),
        None => system(),
    }
}

/// Milliseconds since the Unix epoch by the engine's clock.
#[inline]
#[must_use]
pub fn now_ms() -> i64 {
    now().ms()
}

/// Whether a step back is to be reported; reads without the lock.
#[inline]
#[must_use]
pub fn stepped_back() -> bool {
    STEPPED_BACK.load(Ordering::Relaxed)
}

/// A step back of the clock by more than ten seconds that has not been reported yet.
#[must_use]
pub fn take_step_back() -> Option<StepBack> {
    let mut engine = ENGINE.lock();
    STEPPED_BACK.store(false, Ordering::Relaxed);
    match engine.frozen.last_mut() {
        Some(frozen) => frozen.minter.take_step_back(),
        None => engine.minter.take_step_back(),
    }
}

/// Sets the nodes of snowflakes without `node=`, and the directory of the locks.
pub fn choose_node(default: NodeChoice, directory: Option<&Path>) {
    let mut engine = lock_checked();
    engine.nodes.choose(default, directory);
    for frozen in &mut engine.frozen {
        frozen.nodes.choose(default, directory);
    }
}

/// Freezes the clock at `wall_us` microseconds since the Unix epoch; with a `seed`, random numbers repeat.
///
/// The result identifies the block until [`thaw`].
#[must_use]
pub fn freeze(wall_us: i64, seed: Option<[u8; 32]>) -> u64 {
    let mut engine = lock_checked();
    let id = engine.number();
    let key = seed.map(|seed| derive_key(&seed, 0));
    let mut host = HOST;
    if key.is_some() {
        // A process id would not repeat.
        host.process_bits = || None;
    }
    engine.is_ready = false;
    engine.frozen.push(Frozen {
        id,
        minter: Minter::new(
            EngineClock::frozen(wall_us),
            ChaCha::new(key.unwrap_or_default()),
            host,
        ),
        seeded: key.is_some(),
        seed: key.map(|key| Seed { key, forks: 0 }),
        nodes: Nodes::new(true),
    });
    FROZEN.store(true, Ordering::Release);
    id
}

/// Ends the block; false if there is no such block.
pub fn thaw(id: u64) -> bool {
    let mut engine = ENGINE.lock();
    let before = engine.frozen.len();
    engine.frozen.retain(|frozen| frozen.id != id);
    FROZEN.store(!engine.frozen.is_empty(), Ordering::Release);
    engine.frozen.len() < before
}

/// Changes the clock of a frozen block and returns its reading in microseconds; `None` if there is no such block.
pub fn move_clock(id: u64, change: impl FnOnce(&mut EngineClock)) -> Option<i64> {
    let mut engine = ENGINE.lock();
    let frozen = engine.frozen.iter_mut().find(|frozen| frozen.id == id)?;
    let clock = frozen.minter.clock_mut();
    change(clock);
    clock.wall_us()
}

/// Takes the lock, so that the child gets a consistent state. To be called before `fork()`.
pub fn before_fork() {
    // A thread that is ending has no thread-local variables, so it does not take the lock.
    let _ = FORK_GUARD.try_with(|guard| *guard.borrow_mut() = Some(ENGINE.lock()));
}

/// Releases the lock in the parent after `fork()`.
pub fn in_parent() {
    let _ = FORK_GUARD.try_with(|guard| {
        if let Some(mut engine) = guard.borrow_mut().take() {
            for seed in engine
                .frozen
                .iter_mut()
                .filter_map(|frozen| frozen.seed.as_mut())
            {
                seed.forks += 1;
            }
        }
    });
}

/// Resets the state in the child after `fork()`: random numbers, order, nodes.
pub fn in_child() {
    let _ = FORK_GUARD.try_with(|guard| {
        if let Some(mut engine) = guard.borrow_mut().take() {
            engine.restart_in_child(None);
        }
    });
}
