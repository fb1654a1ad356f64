//! Builds the markers of unique values that a table does not have yet, from its rows, while programs write them.
//!
//! Writers whose class declares the values put markers since there is a table for them, built or not. So the build only
//! has to put those of the rows that it reads. The catalog is written last.

use std::collections::BTreeMap;
use std::sync::Arc;

use mintkey_store::{Error, Item, Key, Name, Path, Reply, Result, Scan, Table, Violation};

use crate::client::{Client, Effect};
use crate::operations::markers::{self, UniqueValue};
use crate::operations::read;
use crate::operations::write::check_empty;
use crate::operations::{catalog, missing_markers, tables};
use crate::transport::Transport;
use crate::transport::join_all::join_all;
use crate::wire::body;
use crate::wire::errors::{ErrorClass, Failure};

/// Rows that have the same values, by marker.
type Duplicates = BTreeMap<Vec<u8>, Violation>;

/// Creates a table, or adds what it lacks, its unique values included.
///
/// # Errors
///
/// `UniqueViolation` with all duplicates.
pub async fn create<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
    now: i64,
) -> Result<Reply> {
    tables::create(client, table).await?;
    if !table.unique.is_empty() {
        tables::create(client, &markers::table(table)).await?;
        build(client, table, now).await?;
    }
    Ok(Reply::Done)
}

/// Builds what the catalog lacks of the unique values of a class, and records it there.
async fn build<T: Transport>(client: &Client<'_, T>, table: &Table, now: i64) -> Result<()> {
    loop {
        let Some(catalog) = catalog::read(client, table).await? else {
            return Err(client.errors(table, None).table_missing().of(table));
        };
        let merged = catalog.merge(table)?;
        if catalog.described.as_ref() == Some(&merged) {
            catalog::remember_built(client, &merged);
            return Ok(());
        }
        let build = Build {
            client,
            before: catalog.described.as_ref(),
            table: Arc::new(merged.clone()),
            markers: markers::table(table),
            now,
        };
        let duplicates = build.put_all().await?;
        if !duplicates.is_empty() {
            let duplicates = duplicates.into_values().collect();
            return Err(Error::duplicates(table, duplicates));
        }
        if catalog::write(client, table, &catalog, Some(&merged)).await? {
            catalog::remember_built(client, &merged);
            return Ok(());
        }
        // Another program has changed the catalog.
    }
}

struct Build<'a, T> {
    client: &'a Client<'a, T>,
    /// The table with the unique values that have their markers already.
    before: Option<&'a Table>,
    /// The table with all unique values.
    table: Arc<Table>,
    markers: Table,
    now: i64,
}

impl<T: Transport> Build<'_, T> {
    /// Puts the markers of all rows. Returns the rows with the same values.
    async fn put_all(&self) -> Result<Duplicates> {
        let unique_attributes = markers::unique_attributes(&self.table);
        let mut attributes: Vec<Name> = unique_attributes.cloned().collect();
        attributes.sort();
        attributes.dedup();
        let mut duplicates = Duplicates::new();
        let mut scan = scan_of(&self.table, attributes);
        loop {
            let Reply::Page(page) = read::scan(self.client, &scan, self.now).await? else {
                return Ok(duplicates);
            };
            let mut claims = Vec::new();
            for row in &page.items {
                let key = self.table.key_of(row)?;
                claims.extend(
                    self.missing(row, &key)?
                        .into_iter()
                        .map(|value| (key.clone(), value)),
                );
            }
            let puts = claims.iter().map(|(key, value)| self.put(key, value));
            let holders = join_all(puts).await?;
            for ((key, value), holder) in claims.into_iter().zip(holders) {
                if let Some(holder) = holder {
                    add(&mut duplicates, &self.table, value, holder, key);
                }
            }
            // The next page, or what follows the last one, has the full timeout again.
            self.client.restart_deadline();
            if page.next.is_none() {
                return Ok(duplicates);
            }
            scan.after = page.next;
        }
    }

    /// The unique values of a row that may not have their markers yet.
    fn missing(&self, row: &Item, key: &Key) -> Result<Vec<UniqueValue>> {
        let values = markers::unique_values(&self.table, row, None);
        let mut values = values.map_err(|error| error.at(key))?;
        if let Some(before) = self.before {
            let known = markers::stored_unique_values(before, row);
            values.retain(|own| !known.contains(own));
        }
        Ok(values)
    }

    /// Puts the marker of a row. Returns the key of the row that has the value already, if there is one.
    async fn put(&self, key: &Key, value: &UniqueValue) -> Result<Option<Key>> {
        let client = self.client.part();
        // If the row has lost the value since it was read, nobody minds this marker.
        let item = markers::item(&value.marker, key);
        let condition = markers::free_for([key]);
        let config = &client.shared.config;
        let body = body::put(config, &self.markers, &item, Some(&condition));
        match client.call("PutItem", &body, Effect::Idempotent).await {
            Ok(output) => check_empty(&output, &self.table, key).map(|()| None),
            Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::ConditionFailed => {
                missing_markers::put(&client, &self.table, key, value, self.now).await
            }
            Err(failure) => Err(client.errors(&self.table, Some(key)).failed(failure)),
        }
    }
}

/// A consistent scan.
fn scan_of(table: &Arc<Table>, attributes: Vec<Name>) -> Scan {
    Scan {
        table: Arc::clone(table),
        filter: None,
        limit: None,
        after: None,
        attributes: Some(attributes.into_iter().map(Path::attribute).collect()),
        count: false,
        segment: None,
        descending: false,
        consistent: true,
    }
}

/// Adds two rows with the same values.
fn add(duplicates: &mut Duplicates, table: &Table, value: UniqueValue, holder: Key, key: Key) {
    let unique = table.unique(&value.unique);
    let violation = duplicates.entry(value.marker).or_insert_with(|| Violation {
        attributes: unique.map_or_else(Vec::new, |unique| unique.attributes.clone()),
        values: value.values,
        holders: vec![holder],
    });
    violation.holders.push(key);
    violation.holders.sort();
}
