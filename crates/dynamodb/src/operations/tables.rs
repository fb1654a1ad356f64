//! Tables: describe, create, add indexes, delete.

use std::time::{Duration, Instant};

use mintkey_runtime::Stop;
use mintkey_store::{
    Error, ErrorKind, Index, KeyAttribute, KeyKind, Name, Projection, Reply, Result, Table,
};
use serde_json::{Value, json};

use crate::client::{Client, Effect, Output};
use crate::config::Config;
use crate::operations::{catalog, markers};
use crate::transport::Transport;
use crate::transport::error::Cause;
use crate::wire::body::{self, Body};
use crate::wire::errors::{ErrorClass, Failure, Progress};
use crate::wire::response::{
    Changed, Described, ExpiryDescribed, IndexDescription, KeyElement, TableDescription, TimeToLive,
};

/// The longest name of a table with its prefix, in characters.
pub const LONGEST_NAME: usize = 255;

/// The first delay between two descriptions of a table that is being created; it doubles up to the longest.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How long the server may change a table. An index over many rows may take longer; the server completes it all the same.
const TIME_LIMIT: Duration = Duration::from_secs(600);

impl TableDescription {
    /// Brings the parts of each key into order: partition key, then sort key.
    fn sort_keys(&mut self) {
        let indexes = self.global_secondary_indexes.iter_mut();
        let indexes = indexes.chain(&mut self.local_secondary_indexes);
        let keys = indexes.map(|index| &mut index.key_schema);
        for key in keys.chain([&mut self.key_schema]) {
            key.sort_by_key(|part| part.key_type != "HASH");
        }
    }

    /// Whether table and indexes can be read and written.
    fn is_active(&self) -> bool {
        let active = |status: &str| status == "ACTIVE";
        active(&self.table_status)
            && self.global_secondary_indexes.iter().all(|index| {
                let status = index.index_status.as_deref();
                status.is_none_or(active)
            })
    }

    /// The index of this name, and whether it is local.
    fn index(&self, name: &str) -> Option<(&IndexDescription, bool)> {
        let global = self.global_secondary_indexes.iter().map(|own| (own, false));
        let local = self.local_secondary_indexes.iter().map(|own| (own, true));
        global.chain(local).find(|(own, _)| own.index_name == name)
    }

    /// The type of an attribute that is a part of a key; an empty text if there is none.
    pub fn attribute_type(&self, name: &str) -> &str {
        let mut types = self.attribute_definitions.iter();
        let found = types.find(|own| own.attribute_name == name);
        found.map_or("", |own| &own.attribute_type)
    }

    /// Whether a key of the table or an index is this one.
    fn is_key(&self, found: &[KeyElement], wanted: &[(Name, KeyKind)]) -> bool {
        found.len() == wanted.len()
            && found.iter().zip(wanted).all(|(part, (own, kind))| {
                let name = part.attribute_name.as_str();
                *name == **own && self.attribute_type(name) == kind.value_type().code()
            })
    }

    /// A key in a message.
    fn describe_key(&self, key: &[KeyElement]) -> String {
        let shown = key.iter().map(|KeyElement { attribute_name, .. }| {
            format!("{attribute_name} ({})", self.attribute_type(attribute_name))
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

pub async fn exists<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<Reply> {
    let found = describe(client, table).await?;
    Ok(Reply::Exists(
        found.is_some_and(|found| found.table_status != "DELETING"),
    ))
}

/// The indexes that an existing table lacks. DynamoDB refuses every write that leaves a value which an index cannot hold.
pub async fn refusing_indexes<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
) -> Result<Reply> {
    let Some(found) = describe(client, table).await? else {
        return Ok(Reply::Names(Vec::new()));
    };
    let lacking = table
        .indexes
        .iter()
        .filter(|index| found.index(&body::index_name(&index.name)).is_none());
    Ok(Reply::Names(
        lacking.map(|index| index.name.clone()).collect(),
    ))
}

/// Creates a table, or adds what it lacks, and waits until it can be used.
pub async fn create<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<()> {
    check_indexes(table)?;
    create_or_extend(client, table).await?;
    enable_expiry(client, table).await
}

/// Creates a table, or adds the indexes that it lacks, and waits until it can be used.
async fn create_or_extend<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<()> {
    let config = &client.shared.config;
    let mut wait = Wait::new(client);
    let mut is_created = false;
    loop {
        let mut is_changing = false;
        match describe(client, table).await? {
            None if is_created => {}
            None => {
                let body = create_body(config, table)?;
                is_created = send(
                    client,
                    table,
                    "CreateTable",
                    &body,
                    &[ErrorClass::TableBusy],
                )
                .await?;
                if is_created {
                    // A local server creates tables at once.
                    continue;
                }
            }
            Some(found) if !found.is_active() => {
                is_changing = true;
                is_created = found.table_status != "DELETING";
            }
            Some(found) => {
                check_keys(table, &found)?;
                match missing_index(table, &found)? {
                    None => return Ok(()),
                    Some(index) => {
                        let body = index_body(config, table, index);
                        send(
                            client,
                            table,
                            "UpdateTable",
                            &body,
                            &[ErrorClass::TableBusy],
                        )
                        .await?;
                    }
                }
            }
        }
        wait.pause(table, is_changing).await?;
    }
}

/// Deletes a table with its markers, and waits until it does not exist.
pub async fn delete<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<Reply> {
    catalog::forget(client, table);
    if !table.unique.is_empty() {
        // After a failure between the two, the markers of the rows are built again.
        delete_one(client, &markers::table(table)).await?;
    }
    delete_one(client, table).await?;
    Ok(Reply::Done)
}

async fn delete_one<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<()> {
    let mut wait = Wait::new(client);
    loop {
        let body = Body::new(&client.shared.config, table).finish();
        send(
            client,
            table,
            "DeleteTable",
            &body,
            &[ErrorClass::TableBusy, ErrorClass::TableMissing],
        )
        .await?;
        // The server deletes it after the response.
        let Some(found) = describe(client, table).await? else {
            return Ok(());
        };
        wait.pause(table, !found.is_active()).await?;
    }
}

/// Waits until a table is ready. While the server says that it is changing the table, the timeout of the request does not
/// run.
struct Wait<'a, T> {
    client: &'a Client<'a, T>,
    until: Instant,
    next: Duration,
}

impl<'a, T: Transport> Wait<'a, T> {
    fn new(client: &'a Client<'a, T>) -> Self {
        Self {
            client,
            until: Instant::now() + TIME_LIMIT,
            next: FIRST_DELAY,
        }
    }

    async fn pause(&mut self, table: &Table, is_changing: bool) -> Result<()> {
        let client = self.client;
        let until = if is_changing {
            self.until
        } else {
            client.deadline.get()
        };
        let paused = client.transport.pause(self.next, until).await;
        paused.map_err(|error| match error.cause {
            Cause::Stopped(Stop::Timeout(_)) => self.not_ready(table, is_changing),
            _ => client.transport_error(&error).of(table),
        })?;
        if is_changing {
            client.restart_deadline();
        }
        self.next = (self.next * 2).min(LONGEST_DELAY);
        Ok(())
    }

    fn not_ready(&self, table: &Table, is_changing: bool) -> Error {
        let config = &self.client.shared.config;
        let limit = if is_changing {
            TIME_LIMIT
        } else {
            config.timeout
        };
        Error::new(
            ErrorKind::Timeout(self.client.progress.get().outcome()),
            format!(
                "{}: the server did not complete the change of table {:?} within {} s",
                config.address,
                table.name,
                limit.as_secs_f64()
            ),
        )
        .advice("the server may continue: try again later")
        .of(table)
    }
}

/// Refuses indexes that DynamoDB does not support.
fn check_indexes(table: &Table) -> Result<()> {
    for index in &table.indexes {
        let unsupported = |reason: &str| {
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("index {:?}: {reason}", index.name),
            )
            .of(table))
        };
        if index.local && table.sort.is_none() {
            return unsupported(
                "DynamoDB has local indexes only in tables with a sort key: remove local=True",
            );
        }
        if index.local && index.partition[..] != [table.partition.clone()] {
            return unsupported(
                "a local index has the partition key of its table: remove local=True, or the partition key of the index",
            );
        }
        if index.local && index.sort.is_none() {
            return unsupported("a local index needs a sort key: add one");
        }
    }
    Ok(())
}

/// The key of an index in DynamoDB: partition key, then sort key. Of several partition attributes it has the first;
/// queries filter by the others.
fn index_keys(index: &Index) -> Vec<(Name, KeyKind)> {
    let kind = index
        .partition
        .first()
        .map_or(KeyKind::String, |part| part.kind);
    let mut keys = vec![(body::index_partition(index), kind)];
    keys.extend(index.sort.iter().map(|sort| (sort.name.clone(), sort.kind)));
    keys
}

fn table_keys(table: &Table) -> Vec<(Name, KeyKind)> {
    let own = |part: &KeyAttribute| (part.name.clone(), part.kind);
    table.key_attributes().map(own).collect()
}

fn check_keys(table: &Table, found: &TableDescription) -> Result<()> {
    let wanted = table_keys(table);
    if found.is_key(&found.key_schema, &wanted) {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "table {:?} has the key {}, but {} declares {}: the key of a table cannot be changed; use another table",
        table.name,
        found.describe_key(&found.key_schema),
        table.model,
        wanted
            .iter()
            .map(|(name, kind)| format!("{name} ({})", kind.value_type().code()))
            .collect::<Vec<_>>()
            .join(", ")
    ))
    .of(table))
}

/// The first index that the table lacks.
fn missing_index<'a>(table: &'a Table, found: &TableDescription) -> Result<Option<&'a Index>> {
    for index in &table.indexes {
        let name = body::index_name(&index.name);
        let Some((existing, is_local)) = found.index(&name) else {
            if index.local {
                return Err(Error::configuration(format!(
                    "table {:?} lacks the local index {name:?}, and DynamoDB creates those only with the table: remove \
                     local=True, or use another table",
                    table.name
                ))
                .of(table));
            }
            return Ok(Some(index));
        };
        if is_local != index.local || !found.is_key(&existing.key_schema, &index_keys(index)) {
            return Err(Error::configuration(format!(
                "index {name:?} of table {:?} has the key {}, but {} declares another one: give the index another name, or \
                 delete it first",
                table.name,
                found.describe_key(&existing.key_schema),
                table.model
            ))
            .of(table));
        }
    }
    Ok(None)
}

/// Sends a call that changes a table. False: it was refused for one of the `accepted` reasons.
async fn send<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
    operation: &str,
    body: &str,
    accepted: &[ErrorClass],
) -> Result<bool> {
    match client.call(operation, body, Effect::Idempotent).await {
        Ok(output) => {
            output.parse::<Changed>()?;
            // A later failure leaves a table that is changed, but not ready.
            client.progress.set(Progress::Earlier);
            Ok(true)
        }
        Err(Failure::Refused(refusal)) if accepted.contains(&refusal.class) => Ok(false),
        Err(failure) => Err(client.errors(table, None).failed(failure)),
    }
}

/// Sends a call that describes a table; `None` if the table does not exist.
pub async fn describe_with<'c, T: Transport>(
    client: &'c Client<'_, T>,
    table: &Table,
    operation: &str,
) -> Result<Option<Output<'c, T>>> {
    let body = Body::new(&client.shared.config, table).finish();
    match client.call(operation, &body, Effect::None).await {
        Ok(output) => Ok(Some(output)),
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::TableMissing => Ok(None),
        Err(failure) => Err(client.errors(table, None).failed(failure)),
    }
}

pub async fn describe<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
) -> Result<Option<TableDescription>> {
    let Some(output) = describe_with(client, table, "DescribeTable").await? else {
        return Ok(None);
    };
    let mut described: Described = output.parse()?;
    described.table.sort_keys();
    Ok(Some(described.table))
}

/// Makes the server delete expired rows.
async fn enable_expiry<T: Transport>(client: &Client<'_, T>, table: &Table) -> Result<()> {
    let Some(ttl) = &table.ttl else {
        return Ok(());
    };
    let Some(output) = describe_with(client, table, "DescribeTimeToLive").await? else {
        return Err(client.errors(table, None).table_missing().of(table));
    };
    let described: ExpiryDescribed = output.parse()?;
    let TimeToLive {
        time_to_live_status: status,
        attribute_name: attribute,
    } = described.time_to_live_description;
    if matches!(status.as_str(), "ENABLED" | "ENABLING") {
        if attribute == **ttl {
            return Ok(());
        }
        return Err(Error::configuration(format!(
            "rows of table {:?} expire by {attribute:?}, but {} declares {ttl:?}: declare {attribute:?}, or disable the \
             table's time to live first",
            table.name, table.model
        ))
        .of(table));
    }
    let mut body = Body::new(&client.shared.config, table);
    let expiry = json!({"Enabled": true, "AttributeName": &**ttl});
    push(&mut body, "TimeToLiveSpecification", &expiry);
    send(client, table, "UpdateTimeToLive", &body.finish(), &[]).await?;
    Ok(())
}

fn push(body: &mut Body, name: &str, value: &Value) {
    body.entry(name, |to| to.push_str(&value.to_string()));
}

fn key_schema(keys: &[(Name, KeyKind)]) -> Value {
    let roles = ["HASH", "RANGE"];
    let parts = keys.iter().zip(roles);
    parts
        .map(|((name, _), role)| json!({"AttributeName": &**name, "KeyType": role}))
        .collect()
}

fn definitions(keys: &[(Name, KeyKind)]) -> Value {
    let parts = keys.iter();
    parts
        .map(|(name, kind)| json!({"AttributeName": &**name, "AttributeType": kind.value_type().code()}))
        .collect()
}

/// The capacity of a new table or index; `None`: on demand.
fn provisioned(config: &Config) -> Option<Value> {
    let (read, write) = config.capacity?;
    Some(json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write}))
}

/// A new index. Its projection includes what reads need to filter: the time of expiry, and the partition attributes that
/// are not its key.
fn new_index(config: &Config, table: &Table, index: &Index) -> Value {
    let keys = index_keys(index);
    let mut projected: Vec<&Name> = match &index.projection {
        Projection::Attributes(names) => names.iter().collect(),
        Projection::All | Projection::Keys => Vec::new(),
    };
    let is_key = |name: &Name| table.is_key(name) || keys.iter().any(|(key, _)| key == name);
    projected.extend(index.partition.iter().map(|part| &part.name));
    projected.extend(&table.ttl);
    projected.retain(|name| !is_key(name));
    projected.sort();
    projected.dedup();
    let projection = if index.projection == Projection::All {
        json!({"ProjectionType": "ALL"})
    } else if projected.is_empty() {
        json!({"ProjectionType": "KEYS_ONLY"})
    } else {
        let names: Value = projected.iter().map(|name| &***name).collect();
        json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": names})
    };
    let mut new = json!({
        "IndexName": body::index_name(&index.name),
        "KeySchema": key_schema(&keys),
        "Projection": projection,
    });
    if let Some(capacity) = provisioned(config).filter(|_| !index.local) {
        new["ProvisionedThroughput"] = capacity;
    }
    new
}

fn create_body(config: &Config, table: &Table) -> Result<String> {
    let keys = table_keys(table);
    let mut all = keys.clone();
    for (name, kind) in table.indexes.iter().flat_map(index_keys) {
        match all.iter().find(|(own, _)| *own == name) {
            None => all.push((name, kind)),
            Some((_, own)) if *own == kind => {}
            Some(_) => {
                let label = table.label(&name);
                return Err(Error::configuration(format!(
                    "{label} has two types in its indexes: declare one"
                ))
                .of(table)
                .on(&name));
            }
        }
    }
    let mut body = Body::new(config, table);
    push(&mut body, "AttributeDefinitions", &definitions(&all));
    push(&mut body, "KeySchema", &key_schema(&keys));
    for (name, local) in [
        ("GlobalSecondaryIndexes", false),
        ("LocalSecondaryIndexes", true),
    ] {
        let indexes = table.indexes.iter().filter(|index| index.local == local);
        let new: Vec<Value> = indexes
            .map(|index| new_index(config, table, index))
            .collect();
        if !new.is_empty() {
            push(&mut body, name, &new.into());
        }
    }
    if let Some(capacity) = provisioned(config) {
        body.text("BillingMode", "PROVISIONED");
        push(&mut body, "ProvisionedThroughput", &capacity);
    } else {
        body.text("BillingMode", "PAY_PER_REQUEST");
    }
    Ok(body.finish())
}

/// The body of a call that adds an index.
fn index_body(config: &Config, table: &Table, index: &Index) -> String {
    let mut body = Body::new(config, table);
    let added = definitions(&index_keys(index));
    push(&mut body, "AttributeDefinitions", &added);
    let update = json!([{"Create": new_index(config, table, index)}]);
    push(&mut body, "GlobalSecondaryIndexUpdates", &update);
    body.finish()
}
