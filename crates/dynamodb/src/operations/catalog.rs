//! Which unique values a table has: an item of its table of markers.

use std::sync::Arc;

use mintkey_runtime::locked;
use mintkey_store::{
    Condition, Error, ErrorKind, Get, Item, Path, Remedy, Result, Table, Value, description,
};

use crate::client::{Client, Effect};
use crate::operations::markers;
use crate::operations::write::check_empty;
use crate::shared::KnownUnique;
use crate::transport::Transport;
use crate::wire::body;
use crate::wire::errors::{ErrorClass, Failure};
use crate::wire::response::Row;

/// The key of the item. No marker has it, because values are never empty.
const ITEM: &[u8] = &[0];
const DESCRIPTION: &str = "table";
/// The number of changes of the item.
const EDITION: &str = "edition";

/// What the catalog says of a table.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The table with its unique values; `None` before they are built.
    pub described: Option<Table>,
    pub edition: i64,
}

impl Catalog {
    /// What the catalog and a class describe together.
    ///
    /// # Errors
    ///
    /// `Configuration` if unique values of the catalog differ from those of the class.
    pub fn merge(&self, class: &Table) -> Result<Table> {
        // Only key and unique values: the server describes the rest.
        let class = Table {
            indexes: Vec::new(),
            colocate: None,
            ..class.clone()
        };
        match &self.described {
            Some(described) => description::merge(described, &class),
            None => Ok(class),
        }
    }
}

/// A table with all unique values that its writes keep up: those of its class, built or not, and those that the catalog has.
/// `None` if there is no table of markers: `create_table()` has not been called for a class with unique values. A table
/// whose class has none is returned as it is, without a look at the catalog.
///
/// # Errors
///
/// `Configuration` if unique values of the catalog differ from those of the class.
pub async fn for_writes<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
) -> Result<Option<Arc<Table>>> {
    if table.unique.is_empty() {
        return Ok(Some(Arc::clone(table)));
    }
    let known = locked(&client.shared.unique).get(&table.name).cloned();
    if let Some(known) = &known
        && let Some(complete) = complete(table, &known.written)?
    {
        return Ok(Some(complete));
    }
    let Some(catalog) = read(client, table).await? else {
        forget(client, table);
        return Ok(None);
    };
    let mut written = catalog.merge(table)?;
    if let Some(known) = &known {
        written = description::merge(&written, &known.written)?;
    }
    let complete = complete(table, &written)?;
    remember(client, catalog.described.as_ref(), written);
    Ok(complete)
}

/// A table with all unique values that the catalog has for it, those of its class included.
///
/// # Errors
///
/// `TableMissing` if unique values of the class are not built; `Configuration` if they differ.
pub async fn for_reads<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
) -> Result<Arc<Table>> {
    let known = locked(&client.shared.unique).get(&table.name).cloned();
    if let Some(built) = known.as_ref().and_then(|known| known.built.as_ref())
        && let Some(complete) = complete(table, built)?
    {
        return Ok(complete);
    }
    let lacks = |message: String| {
        Error::new(ErrorKind::TableMissing, message)
            .remedy(Remedy::CreateTable)
            .of(table)
    };
    let Some(catalog) = read(client, table).await? else {
        let shown = format!("{}{}", client.shared.config.prefix, table.name);
        return Err(lacks(format!(
            "table {shown:?} does not exist in {}, or has no table \"{shown}{}\" for its unique values",
            client.shared.config.address,
            markers::SUFFIX
        )));
    };
    if let Some(described) = &catalog.described
        && let Some(complete) = complete(table, described)?
    {
        let written = match known {
            Some(known) => description::merge(described, &known.written)?,
            None => described.clone(),
        };
        remember(client, Some(described), written);
        return Ok(complete);
    }
    let names: Vec<&str> = table.unique.iter().map(|own| own.name.as_str()).collect();
    Err(lacks(format!(
        "unique values of {} in table {:?} are not built yet ({}), or not for all of its subclasses",
        table.model,
        table.name,
        names.join("; ")
    )))
}

/// The table with the unique values of a description; `None` if that lacks some of the class.
fn complete(table: &Arc<Table>, described: &Table) -> Result<Option<Arc<Table>>> {
    if described.unique == table.unique {
        return Ok(Some(Arc::clone(table)));
    }
    let merged = description::merge(described, table)?;
    if merged.unique != described.unique {
        return Ok(None);
    }
    Ok(Some(Arc::new(Table {
        unique: merged.unique,
        ..(**table).clone()
    })))
}

/// Keeps what is known of a table, for later requests.
fn remember<T>(client: &Client<'_, T>, built: Option<&Table>, written: Table) {
    let known = KnownUnique {
        built: built.cloned().map(Arc::new),
        written: Arc::new(written),
    };
    let mut all = locked(&client.shared.unique);
    all.insert(known.written.name.clone(), known);
}

/// Keeps what the catalog says after a build.
pub fn remember_built<T>(client: &Client<'_, T>, built: &Table) {
    remember(client, Some(built), built.clone());
}

/// Forgets what is known of a table, because it may have changed.
pub fn forget<T>(client: &Client<'_, T>, table: &Table) {
    locked(&client.shared.unique).remove(&table.name);
}

/// Reads the catalog; `None` if there is no table of markers.
pub async fn read<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<Option<Catalog>> {
    let markers = Arc::new(markers::table(table));
    let key = markers::key_of(ITEM);
    let get = Get {
        table: Arc::clone(&markers),
        key: key.clone(),
        consistent: true,
        attributes: None,
    };
    let body = body::get(&client.shared.config, &get);
    let output = match client.call("GetItem", &body, Effect::None).await {
        Ok(output) => output,
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::TableMissing => {
            return Ok(None);
        }
        Err(failure) => return Err(client.errors(table, None).failed(failure)),
    };
    let row: Row = output.parse().map_err(|error| error.of(table))?;
    let item = match row.item {
        Some(item) if markers.has_key(&item.0, &key) => item.0,
        Some(_) => return Err(output.other_row(table)),
        None if row.attributes.is_none() && row.other.is_none() => {
            return Ok(Some(Catalog::default()));
        }
        None => return Err(output.unreadable().of(table)),
    };
    parse(table, &item).map(Some).ok_or_else(|| {
        Error::configuration(format!(
            "the catalog in table {:?} is damaged, or a newer version of mintkey wrote it: use that version, or delete \
             this table",
            markers.name
        ))
        .remedy(Remedy::CreateTable)
        .of(table)
    })
}

fn parse(table: &Table, item: &Item) -> Option<Catalog> {
    let described = match item.get(DESCRIPTION) {
        None => None,
        Some(Value::Map(map)) => Some(description::parse(table, map)?),
        Some(_) => return None,
    };
    let edition = match item.get(EDITION) {
        Some(Value::Number(edition)) => edition.to_i64()?,
        _ => return None,
    };
    Some(Catalog { described, edition })
}

/// Removes unique values from the catalog. A build that runs begins again. Their markers stay: nobody reads them.
pub async fn withdraw<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
    names: &[String],
) -> Result<()> {
    while let Some(catalog) = read(client, table).await? {
        let mut described = catalog.described.clone();
        if let Some(described) = &mut described {
            described.unique.retain(|own| !names.contains(&own.name));
        }
        if write(client, table, &catalog, described.as_ref()).await? {
            forget(client, table);
            break;
        }
    }
    Ok(())
}

/// Writes the next edition of the catalog. False: there is another one than `read`.
pub async fn write<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
    read: &Catalog,
    described: Option<&Table>,
) -> Result<bool> {
    let markers = markers::table(table);
    let mut item = Item::with_capacity(3);
    item.insert(markers.partition.name.clone(), Value::Binary(ITEM.to_vec()));
    item.insert(EDITION.into(), (read.edition + 1).into());
    if let Some(described) = described {
        item.insert(
            DESCRIPTION.into(),
            Value::Map(description::describe(described)),
        );
    }
    let condition = match read.edition {
        0 => Condition::Missing(Path::attribute(EDITION)),
        read => Condition::equals(EDITION, read),
    };
    let body = body::put(&client.shared.config, &markers, &item, Some(&condition));
    match client.call("PutItem", &body, Effect::Idempotent).await {
        Ok(output) => {
            check_empty(&output, &markers, &markers::key_of(ITEM))?;
            Ok(true)
        }
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::ConditionFailed => Ok(false),
        Err(failure) => Err(client.errors(table, None).failed(failure)),
    }
}
