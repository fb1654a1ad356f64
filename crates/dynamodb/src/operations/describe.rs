//! What the server says of the tables, without their models.

use mintkey_store::description::StoredTable;
use mintkey_store::{Index, KeyAttribute, KeyKind, Name, Projection, Reply, Result, Table};

use crate::client::{Client, Effect};
use crate::operations::{catalog, markers, tables};
use crate::transport::Transport;
use crate::wire::body;
use crate::wire::errors::without_table;
use crate::wire::response::{
    ExpiryDescribed, IndexDescription, KeyElement, Listed, TableDescription,
};

/// The names of the tables that begin with the prefix, in order, without the tables of markers.
pub async fn list<T: Transport>(client: &Client<'_, T>) -> Result<Reply> {
    let config = &client.shared.config;
    let prefix = &config.prefix;
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let body = body::list_tables(after.as_deref());
        let output = client.call("ListTables", &body, Effect::None).await;
        let output = output.map_err(|failure| without_table(config, failure))?;
        let listed: Listed = output.parse()?;
        let own = listed.table_names.iter();
        names.extend(own.filter_map(|name| name.strip_prefix(&**prefix).map(str::to_owned)));
        after = listed.last_evaluated_table_name;
        if after.is_none() {
            break;
        }
    }
    names.sort_unstable();
    let rows_of = |name: &String| {
        let rows = name.strip_suffix(markers::SUFFIX);
        rows.is_some_and(|rows| {
            names
                .binary_search_by(|other| other.as_str().cmp(rows))
                .is_ok()
        })
    };
    let kept = names
        .iter()
        .filter(|name| !name.is_empty() && !rows_of(name));
    Ok(Reply::Tables(kept.cloned().collect()))
}

/// The description of a table, with the number of its rows and their size.
pub async fn describe<T: Transport>(client: &Client<'_, T>, name: &str) -> Result<Reply> {
    let unknown = Table::unknown(name);
    if !is_name(name, client.shared.config.prefix.len()) {
        // The server would refuse the request.
        return Ok(Reply::Described(None));
    }
    let Some(found) = tables::describe(client, &unknown).await? else {
        return Ok(Reply::Described(None));
    };
    let Some(mut table) = table_of(&found, unknown).filter(|_| found.table_status != "DELETING")
    else {
        return Ok(Reply::Described(None));
    };
    if let Some(output) = tables::describe_with(client, &table, "DescribeTimeToLive").await? {
        let expiry: ExpiryDescribed = output.parse().map_err(|error| error.of(&table))?;
        let expiry = expiry.time_to_live_description;
        if matches!(expiry.time_to_live_status.as_str(), "ENABLED" | "ENABLING") {
            table.ttl = Some(Name::from(&*expiry.attribute_name));
        }
    }
    if is_name(
        name,
        client.shared.config.prefix.len() + markers::SUFFIX.len(),
    ) {
        let catalog = catalog::read(client, &table).await?;
        if let Some(described) = catalog.and_then(|catalog| catalog.described) {
            table.unique = described.unique;
        }
    }
    Ok(Reply::Described(Some(Box::new(StoredTable {
        table,
        rows: found.item_count,
        is_exact: false,
        bytes: found.table_size_bytes,
        // DynamoDB Local has no ids.
        id: found.table_id.or_else(|| {
            let created = found.creation_date_time?;
            Some(format!("{} {created}", found.table_arn?))
        }),
    }))))
}

/// Whether a table can have this name, with so many further characters.
fn is_name(name: &str, others: usize) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && name.len() + others <= tables::LONGEST_NAME && name.bytes().all(is_letter)
}

/// The table that the server describes; `None` if the description lacks a key.
fn table_of(found: &TableDescription, unknown: Table) -> Option<Table> {
    let (partition, sort) = key(found, &found.key_schema)?;
    let global = found
        .global_secondary_indexes
        .iter()
        .map(|index| (index, false));
    let local = found
        .local_secondary_indexes
        .iter()
        .map(|index| (index, true));
    let indexes = global
        .chain(local)
        .map(|(index, local)| index_of(found, index, local));
    Some(Table {
        indexes: indexes.collect::<Option<_>>()?,
        partition,
        sort,
        ..unknown
    })
}

fn index_of(found: &TableDescription, index: &IndexDescription, local: bool) -> Option<Index> {
    let (partition, sort) = key(found, &index.key_schema)?;
    let names = index.projection.non_key_attributes.iter();
    Some(Index {
        name: body::index_name_of(&index.index_name),
        partition: if body::is_whole_table(&partition.name) {
            Vec::new()
        } else {
            vec![partition]
        },
        sort,
        projection: match index.projection.projection_type.as_str() {
            "ALL" => Projection::All,
            "KEYS_ONLY" => Projection::Keys,
            _ => Projection::Attributes(names.map(|name| Name::from(&**name)).collect()),
        },
        local,
    })
}

fn key(
    found: &TableDescription,
    key: &[KeyElement],
) -> Option<(KeyAttribute, Option<KeyAttribute>)> {
    let attribute = |part: &KeyElement| {
        let name = &part.attribute_name;
        Some(KeyAttribute {
            name: Name::from(&**name),
            kind: KeyKind::from_code(found.attribute_type(name))?,
        })
    };
    let sort = match key.get(1) {
        Some(part) => Some(attribute(part)?),
        None => None,
    };
    Some((attribute(key.first()?)?, sort))
}
