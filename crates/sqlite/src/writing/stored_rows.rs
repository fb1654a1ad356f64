//! Stored rows and their unique values.

use mintkey_store::{Error, Key};

use crate::layout::{Held, Layout};
use crate::reading::rows;
use crate::storage::connection::{Attempt, Connection};

/// Runs a statement that changes the row of a key.
pub fn change(connection: &Connection, sql: &str, key: &Key) -> rusqlite::Result<()> {
    let mut statement = connection.raw.prepare_cached(sql)?;
    rows::bind_key(&mut statement, key)?;
    statement.raw_execute().map(drop)
}

/// Deletes the expired rows that hold what the row of this key claims. If one of them has not expired, that is the
/// error, and nothing is deleted.
pub fn delete_expired_holders(
    connection: &Connection,
    layout: &Layout,
    key: &Key,
    held: &[Held<'_>],
    now: i64,
) -> Attempt<()> {
    let table = &layout.table;
    let mut expired = Vec::new();
    for claim in held.iter().filter_map(Held::claim) {
        let Some(item) = rows::holder(connection, layout, claim)? else {
            continue;
        };
        let holder = table.key_of(&item)?;
        if holder == *key {
            continue;
        }
        if !table.is_expired(&item, now) {
            return Err(Error::unique_violation(table, key, claim, holder).into());
        }
        expired.push(holder);
    }
    for holder in expired {
        change(connection, &layout.delete, &holder)?;
    }
    Ok(())
}

/// What the row of a key claims, encoded, for each column of unique values.
pub fn claims(
    connection: &Connection,
    layout: &Layout,
    key: &Key,
) -> Attempt<Vec<Option<Vec<u8>>>> {
    let Some(sql) = &layout.get_claims else {
        return Ok(Vec::new());
    };
    let mut statement = connection.raw.prepare_cached(sql)?;
    rows::bind_key(&mut statement, key)?;
    let mut rows = statement.raw_query();
    let Some(row) = rows.next()? else {
        return Ok(Vec::new());
    };
    let columns = 0..layout.claims.len();
    Ok(columns
        .map(|column| row.get(column))
        .collect::<rusqlite::Result<_>>()?)
}
