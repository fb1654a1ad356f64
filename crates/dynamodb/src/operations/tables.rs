//! Tables: what the service says of them, making them, changing them, dropping them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mintkey_store::{
    Error, ErrorKind, Index, KeyAttribute, KeyKind, Name, Outcome, Projection, Reply, Result, Table,
};

use crate::client::{Answer, Repeat, Session};
use crate::store::Inner;
use crate::transport::Link;
use crate::wire::body::{self, Body};
use crate::wire::errors::{self, About, Class, Failure, Progress};
use crate::wire::json::{self, Parser};

/// The first pause between two looks at a table in the making; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a table may take. An index over many rows may take longer: it goes on without us.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the service says of a table.
#[derive(Debug, Default)]
struct Described {
    status: String,
    keys: Vec<(String, String)>,
    kinds: Vec<(String, String)>,
    indexes: Vec<DescribedIndex>,
}

#[derive(Debug, Default)]
struct DescribedIndex {
    name: String,
    status: String,
    keys: Vec<(String, String)>,
    local: bool,
}

impl Described {
    /// Whether table and indexes can be read and written.
    fn is_active(&self) -> bool {
        let active = |status: &str| status == "ACTIVE";
        active(&self.status) && self.indexes.iter().all(|index| active(&index.status))
    }

    fn kind(&self, name: &str) -> &str {
        let found = self.kinds.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, kind)| kind)
    }

    /// Whether these are the keys, in order.
    fn has(&self, found: &[(String, String)], wanted: &[(&str, KeyKind)]) -> bool {
        found.len() == wanted.len()
            && found.iter().zip(wanted).all(|((name, _), (own, kind))| {
                name == own && self.kind(name) == kind.value_type().code()
            })
    }

    /// The keys as a message shows them.
    fn shown(&self, keys: &[(String, String)]) -> String {
        let shown = keys
            .iter()
            .map(|(name, _)| format!("{name} ({})", self.kind(name)));
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// Answers whether the table is there.
pub async fn exists<L: Link>(session: &Session<'_, L>, table: &Table) -> Result<Reply> {
    let found = describe(session, table).await?;
    Ok(Reply::Exists(
        found.is_some_and(|found| found.status != "DELETING"),
    ))
}

/// Makes a table, or adds what it lacks, and waits until it can be used.
pub async fn create<L: Link>(session: &Session<'_, L>, table: &Table) -> Result<Reply> {
    check_shape(table)?;
    let inner = session.inner;
    let mut wait = Wait::new(session);
    let mut made = false;
    loop {
        session.restart();
        match describe(session, table).await? {
            None if made => {}
            None => {
                let body = create_body(inner, table)?;
                made = send(session, table, "CreateTable", &body, &[Class::TableBusy]).await?;
                // Small tables of a local server are there at once.
                continue;
            }
            Some(found) if !found.is_active() => made = found.status != "DELETING",
            Some(found) => {
                check_keys(table, &found)?;
                match missing_index(table, &found)? {
                    None => break,
                    Some(index) => {
                        let body = index_body(inner, table, index);
                        send(session, table, "UpdateTable", &body, &[Class::TableBusy]).await?;
                    }
                }
            }
        }
        wait.pause(table).await?;
    }
    session.restart();
    expire(session, table).await?;
    Ok(Reply::Done)
}

/// Drops a table and waits until it is gone.
pub async fn delete<L: Link>(session: &Session<'_, L>, table: &Table) -> Result<Reply> {
    let mut wait = Wait::new(session);
    loop {
        session.restart();
        let body = Body::new(session.inner, table).finish();
        send(
            session,
            table,
            "DeleteTable",
            &body,
            &[Class::TableBusy, Class::TableMissing],
        )
        .await?;
        // It says so, and then takes its time.
        session.restart();
        if describe(session, table).await?.is_none() {
            return Ok(Reply::Done);
        }
        wait.pause(table).await?;
    }
}

/// Waits between looks, for a limited time.
struct Wait<'a, L> {
    session: &'a Session<'a, L>,
    until: Instant,
    next: Duration,
}

impl<'a, L: Link> Wait<'a, L> {
    fn new(session: &'a Session<'a, L>) -> Self {
        Self {
            session,
            until: Instant::now() + PATIENCE,
            next: FIRST_PAUSE,
        }
    }

    async fn pause(&mut self, table: &Table) -> Result<()> {
        if Instant::now() >= self.until {
            return Err(Error::new(
                ErrorKind::Timeout(Outcome::Unknown),
                format!(
                    "table {:?} is not ready after {} s, but the work on it goes on: call create_table() again to \
                     wait longer",
                    table.name,
                    PATIENCE.as_secs()
                ),
            )
            .of(table));
        }
        let outcome = self.session.progress.get().outcome();
        let paused = self.session.link.pause(self.next, self.until).await;
        paused.map_err(|fault| {
            errors::fault(&self.session.inner.config, &fault, outcome).of(table)
        })?;
        self.next = (self.next * 2).min(LAST_PAUSE);
        Ok(())
    }
}

/// Refuses indexes that the service has no shape for.
fn check_shape(table: &Table) -> Result<()> {
    for index in &table.indexes {
        let unsupported = |why: &str| {
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("index {:?} of {}: {why}", index.name, table.model),
            )
            .of(table))
        };
        if index.local && table.sort.is_none() {
            return unsupported(
                "DynamoDB has local indexes only where the table has a sort key: leave local=True out",
            );
        }
        if index.local && index.partition[..] != [table.partition.clone()] {
            return unsupported(
                "a local index has the partition key of its table: leave local=True out, or leave the partition key to \
                 the table",
            );
        }
        if index.local && index.sort.is_none() {
            return unsupported("a local index is there for another order: give it a sort key");
        }
    }
    Ok(())
}

/// The keys of an index as the service has them, partition then sort, with their kinds. Of several
/// partition attributes it has the first; queries filter by the others.
fn index_keys(index: &Index) -> Vec<(Name, KeyKind)> {
    let kind = index
        .partition
        .first()
        .map_or(KeyKind::String, |part| part.kind);
    let mut keys = vec![(body::index_partition(index), kind)];
    keys.extend(index.sort.iter().map(|sort| (sort.name.clone(), sort.kind)));
    keys
}

fn check_keys(table: &Table, found: &Described) -> Result<()> {
    let own = |part: &KeyAttribute| (part.name.clone(), part.kind);
    let wanted: Vec<(Name, KeyKind)> = std::iter::once(&table.partition)
        .chain(&table.sort)
        .map(own)
        .collect();
    let borrowed: Vec<(&str, KeyKind)> = wanted.iter().map(|(n, k)| (&**n, *k)).collect();
    if found.has(&found.keys, &borrowed) {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "table {:?} has the key {}, but {} declares {}: keys of a table cannot change; use another table",
        table.name,
        found.shown(&found.keys),
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
fn missing_index<'a>(table: &'a Table, found: &Described) -> Result<Option<&'a Index>> {
    for index in &table.indexes {
        let name = body::index_name(&index.name);
        let Some(there) = found.indexes.iter().find(|there| there.name == name) else {
            if index.local {
                return Err(Error::configuration(format!(
                    "table {:?} lacks the local index {name:?}, and DynamoDB makes those only with the table: leave \
                     local=True out, or use another table",
                    table.name
                ))
                .of(table));
            }
            return Ok(Some(index));
        };
        let keys = index_keys(index);
        let wanted: Vec<(&str, KeyKind)> = keys.iter().map(|(n, k)| (&**n, *k)).collect();
        if there.local != index.local || !found.has(&there.keys, &wanted) {
            return Err(Error::configuration(format!(
                "index {name:?} of table {:?} has the key {}, which {} declares otherwise: give the index another \
                 name, or delete it first",
                table.name,
                found.shown(&there.keys),
                table.model
            ))
            .of(table));
        }
    }
    Ok(None)
}

const fn about<'a, L>(session: &'a Session<'_, L>, table: &'a Table) -> About<'a> {
    About {
        config: &session.inner.config,
        table,
        key: None,
        progress: &session.progress,
    }
}

/// Sends a call that changes a table. False: it was refused with one of the meanings that are all right.
async fn send<L: Link>(
    session: &Session<'_, L>,
    table: &Table,
    operation: &str,
    body: &str,
    fine: &[Class],
) -> Result<bool> {
    match session.call(operation, body, Repeat::Write).await {
        Ok(answer) => {
            answer.read(|parser, _| parser.skip())?;
            // Until the table is ready, any failure leaves a table that is partly made.
            session.progress.set(Progress::Earlier);
            Ok(true)
        }
        Err(Failure::Refused(refusal)) if fine.contains(&refusal.class) => Ok(false),
        Err(failure) => Err(about(session, table).worded(failure)),
    }
}

async fn look<'s, L: Link>(
    session: &'s Session<'_, L>,
    table: &Table,
    operation: &str,
) -> Result<Option<Answer<'s>>> {
    let body = Body::new(session.inner, table).finish();
    match session.call(operation, &body, Repeat::Read).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Refused(refusal)) if refusal.class == Class::TableMissing => Ok(None),
        Err(failure) => Err(about(session, table).worded(failure)),
    }
}

async fn describe<L: Link>(session: &Session<'_, L>, table: &Table) -> Result<Option<Described>> {
    let Some(answer) = look(session, table, "DescribeTable").await? else {
        return Ok(None);
    };
    let mut found = Described::default();
    answer.read(|parser, name| {
        if name != "Table" {
            return parser.skip();
        }
        parser.object(|parser, name| {
            match &*name {
                "TableStatus" => found.status = parser.string()?.into_owned(),
                "KeySchema" => found.keys = read_keys(parser)?,
                "AttributeDefinitions" => {
                    found.kinds = read_pairs(parser, "AttributeName", "AttributeType")?;
                }
                "GlobalSecondaryIndexes" => read_indexes(parser, false, &mut found.indexes)?,
                "LocalSecondaryIndexes" => read_indexes(parser, true, &mut found.indexes)?,
                _ => parser.skip()?,
            }
            Some(())
        })
    })?;
    Ok(Some(found))
}

/// Reads a list of objects with two texts each.
fn read_pairs(parser: &mut Parser<'_>, first: &str, second: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    parser.list(|parser| {
        let mut pair = (String::new(), String::new());
        parser.object(|parser, name| {
            if name == first {
                pair.0 = parser.string()?.into_owned();
            } else if name == second {
                pair.1 = parser.string()?.into_owned();
            } else {
                parser.skip()?;
            }
            Some(())
        })?;
        pairs.push(pair);
        Some(())
    })?;
    Some(pairs)
}

/// Reads a key, the partition first.
fn read_keys(parser: &mut Parser<'_>) -> Option<Vec<(String, String)>> {
    let mut keys = read_pairs(parser, "AttributeName", "KeyType")?;
    keys.sort_by_key(|(_, role)| role != "HASH");
    Some(keys)
}

fn read_indexes(
    parser: &mut Parser<'_>,
    local: bool,
    indexes: &mut Vec<DescribedIndex>,
) -> Option<()> {
    parser.list(|parser| {
        let mut index = DescribedIndex {
            local,
            // Local ones are a part of the table, and say nothing.
            status: "ACTIVE".to_owned(),
            ..DescribedIndex::default()
        };
        parser.object(|parser, name| {
            match &*name {
                "IndexName" => index.name = parser.string()?.into_owned(),
                "IndexStatus" => index.status = parser.string()?.into_owned(),
                "KeySchema" => index.keys = read_keys(parser)?,
                _ => parser.skip()?,
            }
            Some(())
        })?;
        indexes.push(index);
        Some(())
    })
}

/// Has rows removed when they have expired.
async fn expire<L: Link>(session: &Session<'_, L>, table: &Table) -> Result<()> {
    let Some(ttl) = &table.ttl else {
        return Ok(());
    };
    let Some(answer) = look(session, table, "DescribeTimeToLive").await? else {
        return Err(about(session, table).missing().of(table));
    };
    let (mut status, mut attribute) = (String::new(), String::new());
    answer.read(|parser, name| {
        if name != "TimeToLiveDescription" {
            return parser.skip();
        }
        parser.object(|parser, name| {
            match &*name {
                "TimeToLiveStatus" => status = parser.string()?.into_owned(),
                "AttributeName" => attribute = parser.string()?.into_owned(),
                _ => parser.skip()?,
            }
            Some(())
        })
    })?;
    if matches!(status.as_str(), "ENABLED" | "ENABLING") {
        if attribute == **ttl {
            return Ok(());
        }
        return Err(Error::configuration(format!(
            "rows of table {:?} expire by {attribute:?}, but {} declares {ttl:?}: declare that one, or switch the \
             table's time to live off first",
            table.name, table.model
        ))
        .of(table));
    }
    let mut body = Body::new(session.inner, table);
    body.entry("TimeToLiveSpecification", |to| {
        to.push_str("{\"Enabled\":true,\"AttributeName\":");
        json::push_text(ttl, to);
        to.push('}');
    });
    send(session, table, "UpdateTimeToLive", &body.finish(), &[]).await?;
    Ok(())
}

fn push_keys(keys: &[(Name, KeyKind)], to: &mut String) {
    to.push_str("\"KeySchema\":[");
    for (place, (name, _)) in keys.iter().enumerate() {
        to.push_str(if place > 0 { ",{" } else { "{" });
        to.push_str("\"AttributeName\":");
        json::push_text(name, to);
        let role = if place > 0 { "RANGE" } else { "HASH" };
        let _ = write!(to, ",\"KeyType\":\"{role}\"}}");
    }
    to.push(']');
}

fn push_definitions(keys: &[(Name, KeyKind)], to: &mut String) {
    to.push('[');
    for (place, (name, kind)) in keys.iter().enumerate() {
        to.push_str(if place > 0 { ",{" } else { "{" });
        to.push_str("\"AttributeName\":");
        json::push_text(name, to);
        let _ = write!(to, ",\"AttributeType\":\"{}\"}}", kind.value_type().code());
    }
    to.push(']');
}

fn push_capacity(inner: &Inner, to: &mut String) -> bool {
    let Some((read, write)) = inner.config.capacity else {
        return false;
    };
    let _ = write!(
        to,
        "{{\"ReadCapacityUnits\":{read},\"WriteCapacityUnits\":{write}}}"
    );
    true
}

/// Appends an index. What it shows includes what reads judge by: the time of expiry, and the
/// partition attributes that are no key there.
fn push_index(inner: &Inner, table: &Table, index: &Index, to: &mut String) {
    to.push_str("{\"IndexName\":");
    json::push_text(&body::index_name(&index.name), to);
    to.push(',');
    push_keys(&index_keys(index), to);
    let mut shown: Vec<&Name> = match &index.projection {
        Projection::Attributes(names) => names.iter().collect(),
        Projection::All | Projection::Keys => Vec::new(),
    };
    let is_key = |name: &Name| {
        let mut keys = std::iter::once(&table.partition).chain(&table.sort);
        keys.any(|key| key.name == *name) || index_keys(index).iter().any(|(key, _)| key == name)
    };
    shown.extend(index.partition.iter().map(|part| &part.name));
    shown.extend(&table.ttl);
    shown.retain(|name| !is_key(name));
    shown.sort();
    shown.dedup();
    to.push_str(",\"Projection\":{\"ProjectionType\":");
    if index.projection == Projection::All {
        to.push_str("\"ALL\"}");
    } else if shown.is_empty() {
        to.push_str("\"KEYS_ONLY\"}");
    } else {
        to.push_str("\"INCLUDE\",\"NonKeyAttributes\":[");
        for (place, name) in shown.into_iter().enumerate() {
            if place > 0 {
                to.push(',');
            }
            json::push_text(name, to);
        }
        to.push_str("]}");
    }
    if !index.local {
        let mut capacity = String::new();
        if push_capacity(inner, &mut capacity) {
            let _ = write!(to, ",\"ProvisionedThroughput\":{capacity}");
        }
    }
    to.push('}');
}

fn create_body(inner: &Inner, table: &Table) -> Result<String> {
    let keys: Vec<(Name, KeyKind)> = std::iter::once(&table.partition)
        .chain(&table.sort)
        .map(|part| (part.name.clone(), part.kind))
        .collect();
    let mut all = keys.clone();
    for (name, kind) in table.indexes.iter().flat_map(index_keys) {
        match all.iter().find(|(own, _)| *own == name) {
            None => all.push((name, kind)),
            Some((_, own)) if *own == kind => {}
            Some(_) => {
                return Err(Error::configuration(format!(
                    "{name} of {} is of two types in its indexes",
                    table.model
                ))
                .of(table)
                .on(&name));
            }
        }
    }
    let mut body = Body::new(inner, table);
    body.entry("AttributeDefinitions", |to| push_definitions(&all, to));
    let mut schema = String::new();
    push_keys(&keys, &mut schema);
    // The list without its name.
    let list = schema.split_once(':').map_or("[]", |(_, list)| list);
    body.entry("KeySchema", |to| to.push_str(list));
    for (name, local) in [
        ("GlobalSecondaryIndexes", false),
        ("LocalSecondaryIndexes", true),
    ] {
        let mut text = String::new();
        for index in table.indexes.iter().filter(|index| index.local == local) {
            text.push_str(if text.is_empty() { "[" } else { "," });
            push_index(inner, table, index, &mut text);
        }
        if !text.is_empty() {
            text.push(']');
            body.entry(name, |to| to.push_str(&text));
        }
    }
    let mut capacity = String::new();
    if push_capacity(inner, &mut capacity) {
        body.text("BillingMode", "PROVISIONED");
        body.entry("ProvisionedThroughput", |to| to.push_str(&capacity));
    } else {
        body.text("BillingMode", "PAY_PER_REQUEST");
    }
    Ok(body.finish())
}

/// The body of the call that adds an index.
fn index_body(inner: &Inner, table: &Table, index: &Index) -> String {
    let mut body = Body::new(inner, table);
    body.entry("AttributeDefinitions", |to| {
        push_definitions(&index_keys(index), to);
    });
    body.entry("GlobalSecondaryIndexUpdates", |to| {
        to.push_str("[{\"Create\":");
        push_index(inner, table, index, to);
        to.push_str("}]");
    });
    body.finish()
}
