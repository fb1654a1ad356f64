//! The order of ids: they increase whatever the clock does, by random steps.
//!
//! A sortable format keeps the tick of its last id. Until the clock is past it, the low bits
//! advance by a random step (RFC 9562, 6.2 method 2); when they are exhausted, the next tick is
//! borrowed, up to one second ahead of the highest reading so far. SNOWFLAKE and XID have too few
//! low bits for that: they start at a random number in the lower half of a tick's space and count.

use crate::chacha::Randomness;
use crate::clock::{Clock, Reading};
use crate::node_choice::NodeChoice;
use crate::refusal::Refusal;

/// How far ids may run ahead of the highest clock reading.
pub const MAX_LEAD_MS: i64 = 1000;
/// A wall clock that steps back by more than this is reported.
const NOTABLE_STEP_MS: i64 = 10_000;
/// Seconds from the Unix epoch to that of KSUID.
pub const KSUID_EPOCH: i64 = 1_400_000_000;
/// Milliseconds from the Unix epoch to Twitter's for snowflakes.
pub const SNOWFLAKE_EPOCH: i64 = 1_288_834_974_657;

pub(crate) const MAX_48: i64 = (1 << 48) - 1;
pub(crate) const MAX_41: i64 = (1 << 41) - 1;
pub(crate) const MAX_32: i64 = (1 << 32) - 1;

const SEQUENCE_BITS: u32 = 12;
const COUNTER_BITS: u32 = 24;
/// Bits of a snowflake's sequence, as a mask.
pub const SEQUENCE_MASK: u32 = (1 << SEQUENCE_BITS) - 1;

/// The last id of a format with many low bits.
struct LastId {
    tick: i64,
    low: u128,
}

impl LastId {
    const NONE: Self = Self {
        tick: i64::MIN,
        low: 0,
    };

    /// Advances to the next id: a new random start in a new tick, else a random step.
    ///
    /// A start leaves the highest of `SPACE` bits clear, so that steps of up to 2^`STEP` have room:
    /// 2^24 of them for ULID and UUID7, more than a tick can take.
    #[inline]
    fn advance<const SPACE: u32, const STEP: u32>(
        &mut self,
        now: i64,
        limit: impl FnOnce() -> i64,
        random: &mut impl Randomness,
    ) -> Result<(), TickExhausted> {
        if now > self.tick {
            self.tick = now;
            self.low = start::<SPACE>(random);
            return Ok(());
        }
        let step = u128::from(random.word() >> (64 - STEP)) + 1;
        match self.low.checked_add(step) {
            Some(low) if SPACE == 128 || low >> (SPACE % 128) == 0 => self.low = low,
            _ if self.tick < limit() => {
                self.tick += 1;
                self.low = start::<SPACE>(random);
            }
            _ => return Err(TickExhausted { tick: self.tick }),
        }
        Ok(())
    }
}

#[inline]
fn start<const SPACE: u32>(random: &mut impl Randomness) -> u128 {
    let bits = u128::from(random.word()) << 64 | u128::from(random.word());
    bits >> (129 - SPACE)
}

/// A count beyond the space of every format, so that the next id starts another tick.
const EXHAUSTED: u32 = 1 << 31;

/// The last id of a format that counts.
struct LastCount {
    tick: i64,
    count: u32,
}

impl LastCount {
    const NONE: Self = Self {
        tick: i64::MIN,
        count: 0,
    };

    #[inline]
    fn advance<const SPACE: u32>(
        &mut self,
        now: i64,
        limit: impl FnOnce() -> i64,
        random: &mut impl Randomness,
    ) -> Result<(), TickExhausted> {
        if now <= self.tick {
            if self.count + 1 < 1 << SPACE {
                self.count += 1;
                return Ok(());
            }
            if self.tick >= limit() {
                return Err(TickExhausted { tick: self.tick });
            }
        }
        self.tick = now.max(self.tick.saturating_add(1));
        #[allow(
            clippy::cast_possible_truncation,
            reason = "fewer than 32 bits are left"
        )]
        let count = (random.word() >> (65 - SPACE)) as u32;
        self.count = count;
        Ok(())
    }
}

/// No id is left up to this tick.
struct TickExhausted {
    tick: i64,
}

/// The sequence of the snowflakes of one epoch and node.
struct Sequence {
    epoch: i64,
    node: u16,
    last: LastCount,
}

/// The sequence of the snowflakes of a strategy: two strategies may use one node.
struct Assignment {
    epoch: i64,
    choice: NodeChoice,
    sequence: usize,
}

/// The highest reading before the wall clock stepped back. Time continues from it by the monotonic clock.
struct MonotonicBase {
    from_ms: i64,
    since_monotonic_ms: i64,
}

/// A step of the wall clock that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBack {
    /// The highest reading so far, in milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// The reading after the step.
    pub to_ms: i64,
}

/// What a minter needs to know of its process, and what it reports to it.
#[derive(Clone, Copy)]
pub struct Host {
    /// The process bits of an XID; if there are none, they are random, as the machine bits are.
    pub process_bits: fn() -> Option<u16>,
    /// Called when [`Minter::take_step_back`] has a step to report.
    pub stepped_back: fn(),
}

/// All state that ids depend on, with their clock and their random numbers.
pub struct Minter<C, R> {
    clock: C,
    random: R,
    highest_ms: i64,
    behind: bool,
    monotonic_base: Option<MonotonicBase>,
    step_back: Option<StepBack>,
    ulid: LastId,
    uuid7: LastId,
    ksuid: LastId,
    xid: LastCount,
    /// The five bytes of an XID between time and counter, generated with the first one.
    identity: Option<u64>,
    host: Host,
    sequences: Vec<Sequence>,
    assignments: Vec<Assignment>,
    /// The last tick of removed sequences: later ones start after it.
    sequences_from: i64,
}

impl<C: Clock, R: Randomness> Minter<C, R> {
    /// A minter without ids so far.
    pub const fn new(clock: C, random: R, host: Host) -> Self {
        Self {
            clock,
            random,
            highest_ms: i64::MIN,
            behind: false,
            monotonic_base: None,
            step_back: None,
            ulid: LastId::NONE,
            uuid7: LastId::NONE,
            ksuid: LastId::NONE,
            xid: LastCount::NONE,
            identity: None,
            host,
            sequences: Vec::new(),
            assignments: Vec::new(),
            sequences_from: i64::MIN,
        }
    }

    /// The clock, to set a frozen one.
    pub const fn clock_mut(&mut self) -> &mut C {
        &mut self.clock
    }

    /// The current time, without an effect on ids.
    pub fn now(&self) -> Reading {
        self.clock.wall()
    }

    /// Replaces the random numbers.
    pub fn take_randomness(&mut self, random: R) {
        self.random = random;
    }

    /// Makes the next ids differ from those of copies of this process: in the next tick, as another machine. Ids stay in
    /// order.
    ///
    /// To be followed by [`Minter::take_randomness`].
    pub fn diverge(&mut self) {
        for last in [&mut self.ulid, &mut self.uuid7, &mut self.ksuid] {
            last.low = u128::MAX;
        }
        self.xid.count = EXHAUSTED;
        self.identity = None;
        self.forget_nodes();
    }

    /// Forgets the nodes of snowflakes. Their ids stay in order.
    pub fn forget_nodes(&mut self) {
        let newest = self
            .sequences
            .iter()
            .map(|sequence| sequence.last.tick)
            .max();
        self.sequences_from = self.sequences_from.max(newest.unwrap_or(i64::MIN));
        self.sequences.clear();
        self.assignments.clear();
    }

    /// Forgets all ids and replaces the random numbers, in a forked child.
    pub fn restart(&mut self, random: R)
    where
        C: Copy,
    {
        *self = Self::new(self.clock, random, self.host);
    }

    /// Reads the clock, once for all values of one step.
    #[inline]
    pub fn read(&mut self) -> Reading {
        let reading = self.clock.wall();
        let ms = reading.ms();
        if ms >= self.highest_ms {
            self.highest_ms = ms;
            self.behind = false;
        } else if !self.behind {
            self.stepped_back(ms);
        }
        reading
    }

    #[cold]
    fn stepped_back(&mut self, to_ms: i64) {
        self.behind = true;
        if self.monotonic_base.is_none() {
            self.monotonic_base = Some(MonotonicBase {
                from_ms: self.highest_ms,
                since_monotonic_ms: self.clock.monotonic_ms(),
            });
        }
        if self.highest_ms - to_ms > NOTABLE_STEP_MS {
            self.step_back = Some(StepBack {
                from_ms: self.highest_ms,
                to_ms,
            });
            (self.host.stepped_back)();
        }
    }

    /// A step back that has not been reported yet.
    #[inline]
    pub fn take_step_back(&mut self) -> Option<StepBack> {
        self.step_back.take()
    }

    /// The reading for formats that count: after a step back, time continues from the highest one.
    #[inline]
    fn counting(&mut self, reading: Reading) -> Reading {
        if self.monotonic_base.is_none() {
            return reading;
        }
        self.continued(reading)
    }

    #[cold]
    fn continued(&mut self, reading: Reading) -> Reading {
        let Some(monotonic_base) = &self.monotonic_base else {
            return reading;
        };
        let passed_ms = self.clock.monotonic_ms() - monotonic_base.since_monotonic_ms;
        let continued = Reading::from_ms(monotonic_base.from_ms + passed_ms.max(0));
        if reading.ms() < continued.ms() {
            return continued;
        }
        self.monotonic_base = None;
        reading
    }

    #[cold]
    fn exhausted<T>(
        &self,
        format: &'static str,
        free_from_ms: i64,
        now_ms: i64,
    ) -> Result<T, Box<Refusal>> {
        let wait = u64::try_from(free_from_ms - now_ms).unwrap_or(0).max(1);
        Err(Box::new(Refusal::Exhausted {
            format,
            wait_ms: (!self.clock.stands_still()).then_some(wait),
        }))
    }

    /// 64 random bits.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.random.word()
    }

    /// Four random words.
    #[inline]
    pub fn words(&mut self) -> [u64; 4] {
        std::array::from_fn(|_| self.random.word())
    }

    /// 128 random bits.
    #[inline]
    pub fn bits(&mut self) -> u128 {
        u128::from(self.random.word()) << 64 | u128::from(self.random.word())
    }

    /// A version 4 UUID (RFC 9562, 5.4).
    #[inline]
    pub fn uuid4(&mut self) -> u128 {
        self.bits() & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    }

    /// A version 7 UUID (RFC 9562, 5.7).
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`], [`Refusal::Exhausted`].
    #[inline]
    pub fn uuid7(&mut self, reading: Reading) -> Result<u128, Box<Refusal>> {
        in_range("uuid7", self.highest_ms, 0, MAX_48)?;
        let highest_ms = self.highest_ms;
        let limit = || highest_ms + MAX_LEAD_MS;
        if let Err(exhausted) = self
            .uuid7
            .advance::<74, 50>(reading.ms(), limit, &mut self.random)
        {
            return self.exhausted("uuid7", exhausted.tick - MAX_LEAD_MS + 1, reading.ms());
        }
        let low = self.uuid7.low;
        Ok(tick_bits(self.uuid7.tick) << 80
            | 0x7 << 76
            | low >> 62 << 64
            | 0x2 << 62
            | low & ((1 << 62) - 1))
    }

    /// A ULID (the specification's 128 bits).
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`], [`Refusal::Exhausted`].
    #[inline]
    pub fn ulid(&mut self, reading: Reading) -> Result<u128, Box<Refusal>> {
        in_range("ulid", self.highest_ms, 0, MAX_48)?;
        let highest_ms = self.highest_ms;
        let limit = || highest_ms + MAX_LEAD_MS;
        if let Err(exhausted) = self
            .ulid
            .advance::<80, 56>(reading.ms(), limit, &mut self.random)
        {
            return self.exhausted("ulid", exhausted.tick - MAX_LEAD_MS + 1, reading.ms());
        }
        Ok(tick_bits(self.ulid.tick) << 80 | self.ulid.low)
    }

    /// A KSUID: its 32-bit time and its 128-bit payload.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`], [`Refusal::Exhausted`].
    #[inline]
    pub fn ksuid(&mut self, reading: Reading) -> Result<(u32, u128), Box<Refusal>> {
        let first = KSUID_EPOCH * 1000;
        in_range("ksuid", self.highest_ms, first, first + MAX_32 * 1000 + 999)?;
        let highest_ms = self.highest_ms;
        let limit = || (highest_ms + MAX_LEAD_MS).div_euclid(1000);
        if let Err(exhausted) =
            self.ksuid
                .advance::<128, 64>(reading.seconds(), limit, &mut self.random)
        {
            return self.exhausted("ksuid", exhausted.tick * 1000, reading.ms());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        let time = (self.ksuid.tick - KSUID_EPOCH) as u32;
        Ok((time, self.ksuid.low))
    }

    /// An XID: 32 bits of seconds, 24 of machine, 16 of process, 24 of counter.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`], [`Refusal::Exhausted`].
    #[inline]
    pub fn xid(&mut self, reading: Reading) -> Result<u128, Box<Refusal>> {
        let now = self.counting(reading);
        in_range("xid", now.ms(), 0, MAX_32 * 1000 + 999)?;
        let limit = || (now.ms() + MAX_LEAD_MS).div_euclid(1000);
        if let Err(exhausted) =
            self.xid
                .advance::<COUNTER_BITS>(now.seconds(), limit, &mut self.random)
        {
            return self.exhausted("xid", exhausted.tick * 1000, now.ms());
        }
        let identity = match self.identity {
            Some(identity) => identity,
            None => self.draw_identity(),
        };
        Ok(tick_bits(self.xid.tick) << 64
            | u128::from(identity) << COUNTER_BITS
            | u128::from(self.xid.count))
    }

    #[cold]
    fn draw_identity(&mut self) -> u64 {
        let drawn = self.random.word() >> 24;
        let identity = (self.host.process_bits)()
            .map_or(drawn, |process| drawn & !0xffff | u64::from(process));
        self.identity = Some(identity);
        identity
    }

    /// A snowflake: 41 bits of milliseconds since `epoch`, 10 of node, 12 of sequence.
    ///
    /// `node` returns the node of a choice the first time; it gets 64 random bits to choose with.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`], [`Refusal::Exhausted`], and the refusals of `node`.
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
        node: impl FnOnce(NodeChoice, u64) -> Result<u16, Box<Refusal>>,
    ) -> Result<i64, Box<Refusal>> {
        let now = self.counting(reading).ms();
        in_range("snowflake", now, epoch, epoch.saturating_add(MAX_41))?;
        let fits =
            |assignment: &&Assignment| assignment.choice == choice && assignment.epoch == epoch;
        let index = if let Some(assignment) = self.assignments.iter().find(fits) {
            assignment.sequence
        } else {
            let node = node(choice, self.random.word())?;
            self.assign_sequence(epoch, choice, node)
        };
        let limit = || now + MAX_LEAD_MS;
        let sequence = &mut self.sequences[index];
        let (tick, count) =
            match sequence
                .last
                .advance::<SEQUENCE_BITS>(now, limit, &mut self.random)
            {
                Ok(()) => (sequence.last.tick, sequence.last.count),
                Err(exhausted) => {
                    return self.exhausted("snowflake", exhausted.tick - MAX_LEAD_MS + 1, now);
                }
            };
        Ok((tick - epoch) << 22 | i64::from(sequence.node) << SEQUENCE_BITS | i64::from(count))
    }

    #[cold]
    fn assign_sequence(&mut self, epoch: i64, choice: NodeChoice, node: u16) -> usize {
        let same = |sequence: &Sequence| sequence.node == node && sequence.epoch == epoch;
        let sequence = self
            .sequences
            .iter()
            .position(same)
            .unwrap_or(self.sequences.len());
        if sequence == self.sequences.len() {
            self.sequences.push(Sequence {
                epoch,
                node,
                last: LastCount {
                    tick: self.sequences_from,
                    count: EXHAUSTED,
                },
            });
        }
        self.assignments.push(Assignment {
            epoch,
            choice,
            sequence,
        });
        sequence
    }
}

/// Checks that a format can represent this time, and the second that may be borrowed after it.
#[inline]
fn in_range(
    format: &'static str,
    at_ms: i64,
    first_ms: i64,
    last_ms: i64,
) -> Result<(), Box<Refusal>> {
    if at_ms < first_ms || at_ms > last_ms - MAX_LEAD_MS {
        return out_of_range(format, at_ms);
    }
    Ok(())
}

#[cold]
fn out_of_range(format: &'static str, at_ms: i64) -> Result<(), Box<Refusal>> {
    Err(Box::new(Refusal::OutOfRange { format, at_ms }))
}

#[inline]
fn tick_bits(tick: i64) -> u128 {
    u128::from(tick.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chacha::ChaCha;

    #[test]
    fn an_exhausted_tick_borrows_the_next_up_to_the_limit_and_no_further() {
        // 8 bits a tick and steps of up to 16: a tick holds some 16 ids.
        let mut random = ChaCha::new([1; 32]);
        let mut last = LastId::NONE;
        let mut newest = (i64::MIN, 0);
        let mut minted = 0;
        while last.advance::<8, 4>(100, || 110, &mut random).is_ok() {
            let next = (last.tick, last.low);
            assert!(next > newest && next.0 <= 110 && next.1 < 256);
            newest = next;
            minted += 1;
        }
        assert_eq!(newest.0, 110, "all ticks up to the limit are borrowed");
        assert!(minted > 11 * 128 / 16);
        while last.tick == 110 {
            assert!(last.advance::<8, 4>(110, || 120, &mut random).is_ok());
        }
        assert_eq!(
            last.tick, 111,
            "it continues from there when the limit rises"
        );
    }

    #[test]
    fn the_largest_space_overflows_into_the_next_tick_too() {
        let mut random = ChaCha::new([2; 32]);
        let mut last = LastId {
            tick: 100,
            low: u128::MAX,
        };
        assert!(last.advance::<128, 64>(100, || 101, &mut random).is_ok());
        assert_eq!(
            (last.tick, last.low >> 127),
            (101, 0),
            "a start leaves the highest bit clear"
        );
        last.low = u128::MAX;
        assert!(last.advance::<128, 64>(100, || 101, &mut random).is_err());
    }
}
