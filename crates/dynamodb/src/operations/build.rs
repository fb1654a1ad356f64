//! Builds the markers of unique values that a table does not have yet, from its rows.
//!
//! The catalog is written last. A build that finds duplicates removes what it has put. It announces that with a new edition
//! of the catalog: a build that began before begins again, and one that begins later marks the markers as its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use mintkey_runtime::random_token;
use mintkey_store::{
    Comparison, Condition, Error, Item, Key, Name, Page, Path, Reply, Result, Scan, Table,
    Violation, description,
};

use crate::client::{Client, Effect};
use crate::operations::catalog::{self, Catalog};
use crate::operations::markers::{self, Held};
use crate::operations::read::{self, stored};
use crate::operations::write::check_empty;
use crate::transport::Transport;
use crate::transport::join_all::join_all;
use crate::wire::body;
use crate::wire::errors::{Class, Failure};

/// The attribute of a marker that says which build has put it.
const BUILD: &str = "build";

/// Rows that have the same values, by marker.
type Duplicates = BTreeMap<Vec<u8>, Violation>;

/// Builds what the catalog lacks of the unique values of a class, and records it there.
///
/// # Errors
///
/// `UniqueViolation` with all duplicates; then the table has the markers that it had before.
pub async fn build<T: Transport>(client: &Client<'_, T>, table: &Table, now: i64) -> Result<()> {
    loop {
        client.restart_deadline();
        let Some(catalog) = catalog::read(client, table).await? else {
            return Err(client.errors(table, None).table_missing().of(table));
        };
        // Only key and unique values: the server describes the rest.
        let class = Table {
            indexes: Vec::new(),
            ..table.clone()
        };
        let merged = match &catalog.described {
            Some(described) => description::merge(described, &class)?,
            None => class,
        };
        if catalog.described.as_ref() == Some(&merged) {
            catalog::remember(client, &merged);
            return Ok(());
        }
        let build = Build {
            client,
            before: catalog.described.as_ref(),
            table: Arc::new(merged.clone()),
            markers: Arc::new(markers::table(table)),
            token: random_token()?,
            now,
        };
        let refused = match build.put_all().await {
            Ok(duplicates) if duplicates.is_empty() => None,
            Ok(duplicates) => {
                let duplicates = duplicates.into_values().collect();
                Some(Error::duplicates(table, duplicates))
            }
            // The server is not available, or the caller does not wait.
            Err(error) if error.kind.outcome().is_some() => return Err(error),
            Err(error) => Some(error),
        };
        if let Some(error) = refused {
            build.remove_all(&catalog).await?;
            return Err(error);
        }
        client.restart_deadline();
        if catalog::write(client, table, &catalog, Some(&merged)).await? {
            catalog::remember(client, &merged);
            return Ok(());
        }
        // Another program has changed the catalog, or removes markers.
    }
}

/// One build.
struct Build<'a, T> {
    client: &'a Client<'a, T>,
    /// The table with the unique values that have their markers already.
    before: Option<&'a Table>,
    /// The table with all unique values.
    table: Arc<Table>,
    markers: Arc<Table>,
    /// Tells the markers of this build.
    token: String,
    now: i64,
}

impl<T: Transport> Build<'_, T> {
    /// Puts the markers of all rows. Returns the rows with the same values.
    async fn put_all(&self) -> Result<Duplicates> {
        let deciding = markers::deciding(&self.table);
        let mut attributes: Vec<Name> = deciding.cloned().collect();
        attributes.sort();
        attributes.dedup();
        let mut duplicates = Duplicates::new();
        let mut scan = scan_of(&self.table, Some(attributes), None);
        loop {
            let page = self.page(&scan).await?;
            let mut claims = Vec::new();
            for row in &page.items {
                let key = self.table.key_of(row)?;
                claims.extend(
                    self.missing(row, &key)?
                        .into_iter()
                        .map(|held| (key.clone(), held)),
                );
            }
            let puts = claims.iter().map(|(key, held)| self.put(key, held));
            let holders = join_all(puts).await;
            for ((key, held), holder) in claims.into_iter().zip(holders) {
                if let Some(holder) = holder? {
                    add(&mut duplicates, &self.table, held, holder, key);
                }
            }
            if page.next.is_none() {
                return Ok(duplicates);
            }
            scan.after = page.next;
        }
    }

    async fn page(&self, scan: &Scan) -> Result<Page> {
        self.client.restart_deadline();
        match read::scan(self.client, scan, self.now).await? {
            Reply::Page(page) => Ok(page),
            _ => Ok(Page::default()),
        }
    }

    /// The unique values of a row that may not have their markers yet.
    fn missing(&self, row: &Item, key: &Key) -> Result<Vec<Held>> {
        let held = markers::held(&self.table, row, None);
        let mut held = held.map_err(|error| error.at(key))?;
        if let Some(before) = self.before {
            let known = markers::held_by(before, row);
            held.retain(|own| !known.contains(own));
        }
        Ok(held)
    }

    /// Puts the marker of a row. Returns the key of the row that has the value already, if there is one.
    async fn put(&self, key: &Key, held: &Held) -> Result<Option<Key>> {
        let client = self.client.part();
        let mut item = markers::item(&held.marker, key);
        item.insert(BUILD.into(), self.token.as_str().into());
        let mut holders = vec![key.clone()];
        loop {
            let condition = markers::free_for(&holders);
            let config = &client.shared.config;
            let body = body::put(config, &self.markers, &item, Some(&condition));
            let refusal = match client.call("PutItem", &body, Effect::Idempotent).await {
                Ok(output) => {
                    check_empty(&output, &self.table, key)?;
                    return Ok(None);
                }
                Err(Failure::Refused(refusal)) if refusal.class == Class::ConditionFailed => {
                    refusal
                }
                Err(failure) => return Err(client.errors(&self.table, Some(key)).failed(failure)),
            };
            let Some(marker) = refusal.item else {
                // It was deleted since.
                continue;
            };
            let holder = markers::holder(&self.table, &marker)?;
            let row = stored(&client, &self.table, &holder).await?;
            let live = row.filter(|row| !self.table.is_expired(row, self.now));
            if live.is_some_and(|row| held.is_of(&self.table, &row)) {
                return Ok(Some(holder));
            }
            holders.push(holder);
        }
    }

    /// Removes the markers that this build has put.
    async fn remove_all(&self, catalog: &Catalog) -> Result<()> {
        let mut last = catalog.clone();
        loop {
            self.client.restart_deadline();
            let described = last.described.as_ref();
            if catalog::write(self.client, &self.table, &last, described).await? {
                break;
            }
            match catalog::read(self.client, &self.table).await? {
                Some(changed) => last = changed,
                None => return Ok(()),
            }
        }
        let own = Condition::Compare {
            path: Path::attribute(BUILD),
            op: Comparison::Eq,
            value: self.token.as_str().into(),
        };
        let mut scan = scan_of(&self.markers, Some(Vec::new()), Some(own.clone()));
        loop {
            let page = self.page(&scan).await?;
            let deletes = page.items.iter().map(|marker| self.remove(marker, &own));
            for removed in join_all(deletes).await {
                removed?;
            }
            if page.next.is_none() {
                return Ok(());
            }
            scan.after = page.next;
        }
    }

    async fn remove(&self, marker: &Item, own: &Condition) -> Result<()> {
        let client = self.client.part();
        let key = self.markers.key_of(marker)?;
        let body = body::delete(&client.shared.config, &self.markers, &key, Some(own));
        match client.call("DeleteItem", &body, Effect::Idempotent).await {
            Ok(output) => check_empty(&output, &self.markers, &key),
            Err(Failure::Refused(refusal)) if refusal.class == Class::ConditionFailed => Ok(()),
            Err(failure) => Err(client.errors(&self.table, None).failed(failure)),
        }
    }
}

/// A consistent scan.
fn scan_of(table: &Arc<Table>, attributes: Option<Vec<Name>>, filter: Option<Condition>) -> Scan {
    Scan {
        table: Arc::clone(table),
        filter,
        limit: None,
        after: None,
        attributes,
        count: false,
        segment: None,
        descending: false,
        consistent: true,
    }
}

/// Adds two rows with the same values.
fn add(duplicates: &mut Duplicates, table: &Table, held: Held, holder: Key, key: Key) {
    let unique = table.unique(&held.unique);
    let violation = duplicates.entry(held.marker).or_insert_with(|| Violation {
        attributes: unique.map_or_else(Vec::new, |unique| unique.attributes.clone()),
        values: held.values,
        holders: vec![holder],
    });
    violation.holders.push(key);
    violation.holders.sort();
}
