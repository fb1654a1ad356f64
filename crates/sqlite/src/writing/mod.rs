//! Writes: `writer` (who writes, who waits), `queue` (what waits), `pending` (one waiting write), `group_commit` (one
//! transaction for several writes), `transaction` (what each write changes), `all_or_none` (transactions of the contract),
//! `stored_rows` (single rows and their unique values), `build` (rows for new indexes and unique values).

mod all_or_none;
mod build;
mod group_commit;
pub mod pending;
pub mod queue;
mod stored_rows;
mod transaction;
pub mod writer;

#[cfg(test)]
mod build_tests;
#[cfg(test)]
pub mod tests;
