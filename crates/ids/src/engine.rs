//! The one engine of a process: one state, one lock.
//!
//! Everything that promises anything across calls lies behind [`ENGINE`]. The lock is held for
//! tens of nanoseconds, for a microsecond or two where randomness is refilled, and never while
//! Python code may run or a system call may block. A fork takes it before, so that the child finds
//! the state whole, and releases it after, on both sides.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spin::Yield;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::chacha::{ChaCha, derive_key};
use crate::clock::{EngineClock, Reading, system};
use crate::error::Refusal;
use crate::minter::{Host, Minter, StepBack};
use crate::node::{Claim, Lost, NodeChoice, Nodes};
use crate::strategy::{Draft, Kind, Strategy};

/// The minter of a process.
pub type EngineMinter = Minter<EngineClock, ChaCha>;

/// The seed of a repeatable block, and how often the process has forked in it.
struct Seed {
    key: [u8; 32],
    forks: u64,
}

/// A block in which time stands still: a state of its own above the process's.
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
    /// Whether the system's randomness has been taken; put off until the first id.
    seeded: bool,
    nodes: Nodes,
    /// Zero in a child that no handler of a fork has prepared.
    prepared: &'static AtomicU32,
    /// Whether the process's own minter is the one to ask, and seeded: one look instead of two.
    plain: bool,
    frozen: Vec<Frozen>,
    last_id: u64,
}

/// A lock that opens with a plain store: half the price of one that has to look for sleepers. Who
/// finds it closed gives the processor away, for the tens of nanoseconds of an id or for a fork.
type Lock<T> = SpinMutex<T, Yield>;
type Guard<T> = SpinMutexGuard<'static, T>;

static ENGINE: Lock<Engine> = Lock::new(Engine {
    minter: Minter::new(EngineClock::System, ChaCha::new([0; 32]), HOST),
    seeded: false,
    nodes: Nodes::new(false),
    prepared: &PREPARED,
    plain: false,
    frozen: Vec::new(),
    last_id: 0,
});

/// Where the system wipes nothing, a fork without handlers is not noticed.
static PREPARED: AtomicU32 = AtomicU32::new(1);

/// The stream of a child that no handler has counted.
const BARE_FORK: Option<u64> = Some(u64::MAX);

const HOST: Host = Host {
    process_bits,
    stepped_back: || STEPPED_BACK.store(true, Ordering::Relaxed),
};

/// Whether any block is frozen, so that reading the time takes no lock otherwise.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Whether [`take_step_back`] has something to give.
static STEPPED_BACK: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The lock, held by the forking thread while it forks.
    static HELD: RefCell<Option<Guard<Engine>>> = const { RefCell::new(None) };
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
/// What `step` refuses, or [`Refusal::NotSeeded`].
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "what it returns would go through memory, at a tenth of an id"
)]
pub fn with<T>(
    step: impl FnOnce(&mut Session<'_>) -> Result<T, Box<Refusal>>,
) -> Result<T, Box<Refusal>> {
    let mut engine = lock();
    let mut session = engine.session()?;
    step(&mut session)
}

/// The lock, mostly found open.
#[inline]
fn lock() -> Guard<Engine> {
    ENGINE.try_lock().unwrap_or_else(wait)
}

#[cold]
#[inline(never)]
fn wait() -> Guard<Engine> {
    ENGINE.lock()
}

/// The engine within a step: a minter and the nodes it may use.
pub struct Session<'a> {
    /// The minter.
    pub minter: &'a mut EngineMinter,
    nodes: &'a mut Nodes,
}

impl Session<'_> {
    /// A snowflake of one of the nodes.
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
                nodes.held(choice, random).map_err(Box::new)
            })
    }

    /// Mints one value; timestamps tell `at_ms` where it is given.
    ///
    /// # Errors
    /// When the format has no value to give.
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
        if self.plain && self.prepared.load(Ordering::Relaxed) != 0 {
            return Ok(Session {
                minter: &mut self.minter,
                nodes: &mut self.nodes,
            });
        }
        self.session_slowly()
    }

    #[cold]
    fn session_slowly(&mut self) -> Result<Session<'_>, Box<Refusal>> {
        self.notice_bare_fork();
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
                self.plain = true;
                Session {
                    minter: &mut self.minter,
                    nodes: &mut self.nodes,
                }
            }
        })
    }

    /// Gives randomness to the minter that lacks it.
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

    /// Starts anew in a child that no handler of a fork has prepared.
    fn notice_bare_fork(&mut self) {
        if self.prepared.load(Ordering::Relaxed) == 0 {
            self.restart_in_child(BARE_FORK);
        }
    }

    /// Makes the state that of a new process. From a fixed seed it goes on with the stream of this number, or with
    /// that of the next fork.
    fn restart_in_child(&mut self, stream: Option<u64>) {
        self.prepared.store(1, Ordering::Relaxed);
        self.plain = false;
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

    /// Parts from copies of this process, except in blocks that repeat. The nodes end with what is returned.
    #[must_use]
    fn part(&mut self) -> Vec<Claim> {
        self.plain = false;
        self.seeded = false;
        self.minter.part();
        for frozen in &mut self.frozen {
            if frozen.seed.is_none() {
                frozen.seeded = false;
                frozen.minter.part();
            }
        }
        self.nodes.release()
    }

    /// A number that no block, search or check has had.
    fn number(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The nodes that the next snowflake is of.
    fn nodes(&mut self) -> &mut Nodes {
        match self.frozen.last_mut() {
            Some(frozen) if frozen.seed.is_some() => &mut frozen.nodes,
            _ => &mut self.nodes,
        }
    }

    /// The nodes that a search or a check began with, unless it is no longer wanted.
    fn nodes_of(&mut self, number: u64) -> Option<&mut Nodes> {
        let blocks = self.frozen.iter_mut().map(|frozen| &mut frozen.nodes);
        std::iter::once(&mut self.nodes)
            .chain(blocks)
            .find(|nodes| nodes.is_running(number))
    }

    /// Gives back nodes whose locks are lost. They end with what is returned.
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

/// Gives the engine randomness of the system, for [`Refusal::NotSeeded`]. The call may block while a machine that is
/// starting has none yet; the lock is not held meanwhile.
///
/// # Errors
/// [`Refusal::NoRandomness`].
pub fn seed() -> Result<(), Refusal> {
    let random = ChaCha::from_system().map_err(|error| Refusal::NoRandomness(error.to_string()))?;
    whole().seed(random);
    Ok(())
}

/// Makes the next ids differ from those of every copy of this process: one that was resumed from the same snapshot.
///
/// Randomness is drawn anew, and so are the machine of an XID and the node of snowflakes. Ids stay in order.
pub fn reseed() {
    let given_back = whole().part();
    drop(given_back);
}

/// A search for a node or a check of locks, for which the engine's lock is not held.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(nodes) = whole().nodes_of(self.0) {
            nodes.end();
        }
    }
}

/// Claims a node, for [`Refusal::NodeNotClaimed`]; `random` chooses where many are free. May wait for the file system; the lock is not held meanwhile.
///
/// # Errors
/// [`Refusal::Node`] when none is free; [`Refusal::NodesBusy`], [`Refusal::NodeNotChosen`].
pub fn claim_node(choice: NodeChoice, random: u64) -> Result<(), Refusal> {
    let mut engine = whole();
    let number = engine.number();
    let Some(search) = engine.nodes().search(choice, number)? else {
        return Ok(());
    };
    drop(engine);
    let running = Running(number);
    let found = search.run(random)?;
    let now_ms = now_ms();
    let mut engine = whole();
    let unwanted = match engine.nodes_of(number) {
        Some(nodes) => {
            nodes.add(found, now_ms);
            None
        }
        None => Some(found),
    };
    drop(engine);
    drop((unwanted, running));
    Ok(())
}

/// Looks at the locks of nodes, for [`Refusal::NodesUnchecked`]: a node whose lock is lost is given back. May wait for
/// the file system; the lock is not held meanwhile.
pub fn check_nodes() {
    let now_ms = now_ms();
    let mut engine = whole();
    let number = engine.number();
    let Some(check) = engine.nodes().check(now_ms, number) else {
        return;
    };
    drop(engine);
    let running = Running(number);
    if let Some(lost) = check.run() {
        let given_back = whole().lose(number, &lost);
        drop((given_back, lost));
    }
    drop(running);
}

/// Watches a word that the system sets to zero in a child, so that a fork is noticed that runs no handlers.
pub fn watch_forks(prepared: &'static AtomicU32) {
    prepared.store(1, Ordering::Relaxed);
    ENGINE.lock().prepared = prepared;
}

/// The lock, with the state of this process behind it.
fn whole() -> Guard<Engine> {
    let mut engine = ENGINE.lock();
    engine.notice_bare_fork();
    engine
}

/// What the engine's clock shows; a test may have frozen it.
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

/// Whether a step back waits to be told, without the lock.
#[inline]
#[must_use]
pub fn stepped_back() -> bool {
    STEPPED_BACK.load(Ordering::Relaxed)
}

/// A step back of the clock by more than ten seconds that has not been told yet.
#[must_use]
pub fn take_step_back() -> Option<StepBack> {
    let mut engine = ENGINE.lock();
    STEPPED_BACK.store(false, Ordering::Relaxed);
    match engine.frozen.last_mut() {
        Some(frozen) => frozen.minter.take_step_back(),
        None => engine.minter.take_step_back(),
    }
}

/// Says which nodes a snowflake without `node=` may use, and in which directory their locks lie.
pub fn choose_node(default: NodeChoice, directory: Option<&Path>) {
    let mut engine = whole();
    engine.nodes.choose(default, directory);
    for frozen in &mut engine.frozen {
        frozen.nodes.choose(default, directory);
    }
}

/// Stops the clock at `wall_us` microseconds since the Unix epoch; with a `seed`, randomness repeats.
///
/// The number returned names the block until [`thaw`].
#[must_use]
pub fn freeze(wall_us: i64, seed: Option<[u8; 32]>) -> u64 {
    let mut engine = whole();
    let id = engine.number();
    let key = seed.map(|seed| derive_key(&seed, 0));
    let mut host = HOST;
    if key.is_some() {
        // A process id would not repeat.
        host.process_bits = || None;
    }
    engine.plain = false;
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

/// Ends the block; whether it was there.
pub fn thaw(id: u64) -> bool {
    let mut engine = ENGINE.lock();
    let before = engine.frozen.len();
    engine.frozen.retain(|frozen| frozen.id != id);
    FROZEN.store(!engine.frozen.is_empty(), Ordering::Release);
    engine.frozen.len() < before
}

/// Changes the clock of a frozen block; its reading in microseconds after it, if the block is there.
pub fn move_clock(id: u64, change: impl FnOnce(&mut EngineClock)) -> Option<i64> {
    let mut engine = ENGINE.lock();
    let frozen = engine.frozen.iter_mut().find(|frozen| frozen.id == id)?;
    let clock = frozen.minter.clock_mut();
    change(clock);
    clock.wall_us()
}

/// Takes the lock, so that the fork finds the state whole. To be called before `fork()`.
pub fn before_fork() {
    // Without a place to keep it (a thread that is ending), the lock is left alone.
    let _ = HELD.try_with(|held| *held.borrow_mut() = Some(ENGINE.lock()));
}

/// Goes on in the parent after `fork()`.
pub fn in_parent() {
    let _ = HELD.try_with(|held| {
        if let Some(mut engine) = held.borrow_mut().take() {
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

/// Starts anew in the child after `fork()`: randomness, order, nodes, everything derived from the process.
pub fn in_child() {
    let _ = HELD.try_with(|held| {
        if let Some(mut engine) = held.borrow_mut().take() {
            engine.restart_in_child(None);
        }
    });
}
