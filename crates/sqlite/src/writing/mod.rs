//! Writes: `writer` (who writes, who waits), `queue` (what waits), `pending` (one waiting write), `group_commit` (one
//! transaction for several writes), `transaction` (what each write changes).

mod group_commit;
pub mod pending;
pub mod queue;
mod transaction;
pub mod writer;

#[cfg(test)]
pub mod tests;
