//! Signal handlers that run in the middle of work in a runtime, on the same thread.

use std::cell::Cell;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Asks something that may run signal handlers.
pub fn ask<R>(question: impl FnOnce() -> R) -> R {
    let before = IS_INSIDE.replace(true);
    let answer = question();
    IS_INSIDE.set(before);
    answer
}

/// Whether this call comes from such a handler: the work of its thread continues only when it returns.
pub fn is_inside() -> bool {
    IS_INSIDE.get()
}
