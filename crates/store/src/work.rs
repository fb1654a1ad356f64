//! Bounded evaluations: they ask from time to time whether to continue.

/// The units of work between two questions: a few milliseconds at most.
const UNITS: usize = 1 << 20;

/// The work of one step, such as comparing a value or looking up a name, apart from the bytes that it compares.
pub(crate) const STEP: usize = 32;

/// The work of several evaluations, for example of those for one page.
///
/// The caller decides with `ask` when they end: when the time of the request is over, or when it is interrupted. How
/// often they ask depends on the size of the values and of the conditions, not on the number of rows.
pub struct Work<'a, E> {
    left: usize,
    ask: &'a mut dyn FnMut() -> Result<(), E>,
}

impl<'a, E> Work<'a, E> {
    /// Work that starts now. An error that `ask` returns ends it.
    pub fn new(ask: &'a mut dyn FnMut() -> Result<(), E>) -> Self {
        Self { left: UNITS, ask }
    }

    /// Counts work that is done next. One unit is about the work to compare a byte.
    ///
    /// # Errors
    ///
    /// The error that ends the work.
    pub fn count(&mut self, units: usize) -> Result<(), E> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.ask_now(),
        }
    }

    #[cold]
    fn ask_now(&mut self) -> Result<(), E> {
        self.left = UNITS;
        (self.ask)()
    }
}
