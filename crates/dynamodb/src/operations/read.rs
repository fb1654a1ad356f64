//! Queries and scans: pages, in the order asked for, with what `DynamoDB` cannot say judged here.

use std::ops::Bound;

use mintkey_store::{
    Condition, Error, ErrorKind, Index, Item, Key, KeyAttribute, KeyValue, Name, Page, Position,
    Query, Reply, Result, Scan, SortCondition, Table, Value,
};

use crate::client::{Repeat, Session};
use crate::operations::write::keep;
use crate::transport::Link;
use crate::wire::body::{self, Body};
use crate::wire::errors::About;
use crate::wire::expression;
use crate::wire::filters::{is_too_long, others, roots};
use crate::wire::json;
use crate::wire::key_condition::{Sort, range};

/// What is looked at in the first call of a limited page with a filter.
const FIRST_LOOK: usize = 32;
/// What is looked at in any call: the service wants a 32-bit number.
const MOST_LOOKED_AT: usize = 1 << 30;
/// The calls that one limited page with a filter may take.
const LOOKS: u32 = 8;

/// The condition on keys that a call can carry, and what is left of it to be judged here.
struct Keys {
    partition: (Name, Value),
    sort: Option<(Name, Sort)>,
    /// The bounds, where the call's are wider.
    bounds: Option<(Bound<KeyValue>, Bound<KeyValue>)>,
}

/// A page to be read.
struct Plan<'a> {
    /// `Query` or `Scan`.
    operation: &'static str,
    table: &'a Table,
    index: Option<&'a Index>,
    keys: Option<Keys>,
    /// The attribute that orders what is read.
    order: Option<&'a KeyAttribute>,
    /// The values of the partition attributes that are no key of the index there.
    others: Vec<Condition>,
    /// What the server filters by.
    pushed: Option<Condition>,
    /// What is filtered by here.
    judged: Vec<&'a Condition>,
    attributes: Option<&'a [Name]>,
    limit: Option<usize>,
    after: Option<&'a Position>,
    count: bool,
    descending: bool,
    consistent: bool,
    segment: Option<(u32, u32)>,
}

/// What one call gave.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    count: u64,
    scanned: u64,
    last: Option<Item>,
}

/// Answers a query.
pub async fn query<L: Link>(session: &Session<'_, L>, query: &Query, now: i64) -> Result<Reply> {
    let table = &*query.table;
    let index = match &query.index {
        None => None,
        Some(name) => Some(table.index(name).ok_or_else(|| {
            Error::configuration(format!("{} has no index {name:?}", table.model)).of(table)
        })?),
    };
    if let Some(index) = index
        && query.consistent
        && !index.local
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "index {:?} of {} cannot be read consistently: DynamoDB brings global indexes up to date after \
                 each write; read by key, leave consistent= out, or declare the index with local=True",
                index.name, table.model
            ),
        )
        .of(table));
    }
    let own = [table.partition.clone()];
    let (partition, order): (&[KeyAttribute], _) = match index {
        Some(index) => (&index.partition, index.sort.as_ref()),
        None => (&own, table.sort.as_ref()),
    };
    if partition.len() != query.partition.len() {
        return Err(Error::invalid(format!(
            "a query of {} by {} needs {} partition values, not {}",
            table.model,
            index.map_or("its key", |index| &index.name),
            partition.len(),
            query.partition.len()
        ))
        .of(table));
    }
    for (attribute, value) in partition.iter().zip(&query.partition) {
        table.check_kind(attribute, value)?;
    }
    let mut plan = Plan {
        operation: "Query",
        table,
        index,
        keys: None,
        order,
        others: others(partition, &query.partition),
        pushed: None,
        judged: Vec::new(),
        attributes: query.attributes.as_deref(),
        limit: query.limit,
        after: query.after.as_ref(),
        count: query.count,
        descending: query.descending,
        consistent: query.consistent,
        segment: None,
    };
    let keys = plan.keys(query)?;
    plan.check_after(Some(query))?;
    let filter = plan.filter(query.filter.as_ref(), now)?;
    match keys {
        Some(keys) if filter => {
            plan.keys = Some(keys);
            plan.page(session).await
        }
        // Nothing can be meant by it, so nothing is asked.
        _ => Ok(Reply::Page(Page::default())),
    }
}

/// Answers a scan.
pub async fn scan<L: Link>(session: &Session<'_, L>, scan: &Scan, now: i64) -> Result<Reply> {
    if let Some((segment, segments)) = scan.segment
        && segment >= segments
    {
        return Err(Error::invalid(format!(
            "segment {segment} of {segments}: segments count from 0"
        )));
    }
    let mut plan = Plan {
        operation: "Scan",
        table: &scan.table,
        index: None,
        keys: None,
        order: None,
        others: Vec::new(),
        pushed: None,
        judged: Vec::new(),
        attributes: scan.attributes.as_deref(),
        limit: scan.limit,
        after: scan.after.as_ref(),
        count: scan.count,
        descending: false,
        consistent: scan.consistent,
        segment: scan.segment,
    };
    plan.check_after(None)?;
    if plan.filter(scan.filter.as_ref(), now)? {
        plan.page(session).await
    } else {
        Ok(Reply::Page(Page::default()))
    }
}

impl<'a> Plan<'a> {
    /// The condition on keys; nothing if no key can meet it.
    fn keys(&self, query: &'a Query) -> Result<Option<Keys>> {
        let partition = match self.index {
            Some(index) => body::index_partition(index),
            None => self.table.partition.name.clone(),
        };
        let value = body::index_partition_value(&query.partition);
        let mut keys = Keys {
            partition: (partition, value),
            sort: None,
            bounds: None,
        };
        let possible = query
            .partition
            .iter()
            .all(|value| value.check_partition().is_ok());
        let Some(condition) = &query.sort else {
            return Ok(possible.then_some(keys));
        };
        let Some(order) = self.order else {
            let name = self.index.map_or(&*self.table.model, |index| &index.name);
            return Err(Error::invalid(format!(
                "{name} has no sort key to compare with: filter instead"
            ))
            .of(self.table));
        };
        for value in condition.values() {
            self.table.check_kind(order, value)?;
        }
        let (low, high) = condition.bounds(&order.name)?;
        let sort = if let SortCondition::BeginsWith(prefix) = condition
            && prefix.check_sort().is_ok()
        {
            Some(Sort::BeginsWith(prefix.clone()))
        } else {
            let Some(range) = range(&low, &high) else {
                return Ok(None);
            };
            if !range.exact {
                keys.bounds = Some((low, high));
            }
            range.sort
        };
        keys.sort = sort.map(|sort| (order.name.clone(), sort));
        Ok(possible.then_some(keys))
    }

    /// Shares a filter between the server and this side; false: no item can pass.
    fn filter(&mut self, filter: Option<&'a Condition>, now: i64) -> Result<bool> {
        if self.limit == Some(0) {
            return Err(Error::invalid(
                "a page of 0 items leads nowhere: the limit is at least 1",
            ));
        }
        let mut pushed = Vec::new();
        if let Some(filter) = filter {
            filter.check()?;
            let parts = match filter {
                Condition::And(parts) => &parts[..],
                other => std::slice::from_ref(other),
            };
            // A query's filter must not touch the keys it goes by, nor what its index does not show.
            let keys = match self.operation {
                "Query" => self.key_names(),
                _ => Vec::new(),
            };
            let shown = self.shown();
            let unknown = |root: &Name| {
                keys.contains(root) || shown.as_ref().is_some_and(|shown| !shown.contains(&root))
            };
            for part in parts {
                match expression::constant(part) {
                    Some(true) => {}
                    Some(false) => return Ok(false),
                    None if roots(part).iter().any(unknown) => {
                        self.judged.push(part);
                    }
                    None => pushed.push(part.clone()),
                }
            }
            if is_too_long(&pushed) {
                pushed.clear();
                self.judged = vec![filter];
            }
        }
        pushed.extend(self.others.iter().cloned());
        let expired = body::expired(self.table, now);
        pushed.extend(expired.map(|expired| Condition::Not(Box::new(expired))));
        self.pushed = match pushed.len() {
            0 => None,
            1 => pushed.pop(),
            _ => Some(Condition::And(pushed)),
        };
        Ok(true)
    }

    /// The names of the keys that are read by.
    fn key_names(&self) -> Vec<Name> {
        let partition = match self.index {
            Some(index) => body::index_partition(index),
            None => self.table.partition.name.clone(),
        };
        let order = self.order.map(|order| order.name.clone());
        std::iter::once(partition).chain(order).collect()
    }

    /// Refuses the cursor of another query.
    fn check_after(&self, query: Option<&Query>) -> Result<()> {
        let Some(after) = self.after else {
            return Ok(());
        };
        let partition = query.map(|query| &query.partition[..]);
        let fits = self.table.check_key(&after.key).is_ok()
            && match (self.index, partition) {
                (Some(index), Some(partition)) => {
                    let kinds = index.attributes().map(|part| part.kind);
                    after.index.iter().map(KeyValue::kind).eq(kinds)
                        && after.index.starts_with(partition)
                }
                (None, Some(partition)) => {
                    after.index.is_empty() && partition.first() == Some(&after.key.partition)
                }
                (_, None) => after.index.is_empty(),
            };
        if fits {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "this cursor belongs to another query than the one on {}: start that query anew",
            self.table.model
        ))
        .of(self.table))
    }

    /// Whether the server can count alone.
    fn counts_there(&self) -> bool {
        let bounded = self.keys.as_ref().is_some_and(|keys| keys.bounds.is_some());
        self.count && self.limit.is_none() && self.judged.is_empty() && !bounded
    }

    /// The names that a query by this index shows; nothing: all.
    fn shown(&self) -> Option<Vec<&'a Name>> {
        let index = self.index?;
        let others: &[Name] = match &index.projection {
            mintkey_store::Projection::All => return None,
            mintkey_store::Projection::Keys => &[],
            mintkey_store::Projection::Attributes(names) => names,
        };
        let keys = std::iter::once(&self.table.partition).chain(&self.table.sort);
        let parts = keys.chain(index.attributes()).map(|part| &part.name);
        Some(parts.chain(others).collect())
    }

    /// The names to ask for; nothing: all.
    fn fetched(&self, shown: Option<&[&'a Name]>) -> Option<Vec<Name>> {
        let wanted: &[Name] = match self.attributes {
            Some(attributes) => attributes,
            None if self.count => &[],
            None => return None,
        };
        let parts = self.index.into_iter().flat_map(Index::attributes);
        let judged = self.judged.iter().flat_map(|part| roots(part));
        let mut names: Vec<Name> = Vec::new();
        for name in body::fetched(self.table, wanted)
            .into_iter()
            .cloned()
            .chain(parts.map(|part| part.name.clone()))
            .chain(judged)
        {
            let there = shown.is_none_or(|shown| shown.contains(&&name));
            if there && !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names)
    }

    fn body<L: Link>(
        &self,
        session: &Session<'_, L>,
        shown: Option<&[&'a Name]>,
        after: Option<&Position>,
        ask: Option<usize>,
    ) -> String {
        let mut body = Body::new(session.inner, self.table);
        if let Some(index) = self.index {
            body.text("IndexName", &body::index_name(&index.name));
        }
        if let Some(keys) = &self.keys {
            body.expression("KeyConditionExpression", |placeholders, to| {
                placeholders.name(&keys.partition.0, to);
                to.push_str(" = ");
                placeholders.value(&keys.partition.1, to);
                let Some((name, sort)) = &keys.sort else {
                    return;
                };
                to.push_str(" AND ");
                match sort {
                    Sort::Compare(sign, value) => {
                        placeholders.name(name, to);
                        to.push_str(sign);
                        placeholders.value(&value.to_value(), to);
                    }
                    Sort::Between(low, high) => {
                        placeholders.name(name, to);
                        to.push_str(" BETWEEN ");
                        placeholders.value(&low.to_value(), to);
                        to.push_str(" AND ");
                        placeholders.value(&high.to_value(), to);
                    }
                    Sort::BeginsWith(prefix) => {
                        to.push_str("begins_with(");
                        placeholders.name(name, to);
                        to.push(',');
                        placeholders.value(&prefix.to_value(), to);
                        to.push(')');
                    }
                }
            });
        }
        if let Some(filter) = &self.pushed {
            body.expression("FilterExpression", |placeholders, to| {
                placeholders.condition(filter, to);
            });
        }
        if self.counts_there() {
            body.text("Select", "COUNT");
        } else if let Some(names) = self.fetched(shown) {
            let names: Vec<&Name> = names.iter().collect();
            body::project(&mut body, &names);
        }
        if self.descending {
            body.entry("ScanIndexForward", |to| to.push_str("false"));
        }
        if self.consistent {
            body.entry("ConsistentRead", |to| to.push_str("true"));
        }
        if let Some((segment, segments)) = self.segment {
            body.entry("Segment", |to| to.push_str(&segment.to_string()));
            body.entry("TotalSegments", |to| to.push_str(&segments.to_string()));
        }
        if let Some(ask) = ask {
            body.entry("Limit", |to| to.push_str(&ask.to_string()));
        }
        if let Some(after) = after {
            body.entry("ExclusiveStartKey", |to| self.push_start(after, to));
        }
        body.finish()
    }

    /// Appends a position as the service wants it: the table's key and the index's.
    fn push_start(&self, after: &Position, to: &mut String) {
        let mut item = Item::with_capacity(4);
        item.insert(
            self.table.partition.name.clone(),
            after.key.partition.to_value(),
        );
        if let (Some(sort), Some(value)) = (&self.table.sort, &after.key.sort) {
            item.insert(sort.name.clone(), value.to_value());
        }
        if let Some(index) = self.index {
            if index.partition.is_empty() {
                let value = body::index_partition_value(&[]);
                item.insert(body::index_partition(index), value);
            }
            for (place, (part, value)) in index.attributes().zip(&after.index).enumerate() {
                if place == 0 || place >= index.partition.len() {
                    item.insert(part.name.clone(), value.to_value());
                }
            }
        }
        json::push_item(&item, to);
    }

    /// The position of an item, which has its keys.
    fn position(&self, item: &Item) -> Result<Position> {
        self.find_position(item).ok_or_else(|| {
            Error::configuration(format!(
                "an item of table {:?} lacks a key that {} declares: give the class the table's keys",
                self.table.name, self.table.model
            ))
            .of(self.table)
        })
    }

    fn find_position(&self, item: &Item) -> Option<Position> {
        let part = |attribute: &KeyAttribute| {
            KeyValue::from_value(item.get(&attribute.name)?, attribute.kind)
        };
        let sort = match &self.table.sort {
            Some(sort) => Some(part(sort)?),
            None => None,
        };
        let index = self.index.into_iter().flat_map(Index::attributes);
        Some(Position {
            key: Key {
                partition: part(&self.table.partition)?,
                sort,
            },
            index: index.map(part).collect::<Option<_>>()?,
        })
    }

    /// Whether an item passes what is judged here.
    fn passes(&self, item: &Item) -> bool {
        let bounds = self.keys.as_ref().and_then(|keys| keys.bounds.as_ref());
        if let (Some((low, high)), Some(order)) = (bounds, self.order) {
            let value = item.get(&order.name);
            let value = value.and_then(|value| KeyValue::from_value(value, order.kind));
            let inside = value.is_some_and(|value| {
                (match low {
                    Bound::Included(low) => value >= *low,
                    Bound::Excluded(low) => value > *low,
                    Bound::Unbounded => true,
                }) && match high {
                    Bound::Included(high) => value <= *high,
                    Bound::Excluded(high) => value < *high,
                    Bound::Unbounded => true,
                }
            });
            if !inside {
                return false;
            }
        }
        self.judged.iter().all(|part| part.evaluate(item))
    }

    async fn page<L: Link>(&self, session: &Session<'_, L>) -> Result<Reply> {
        let shown = self.shown();
        let shown = shown.as_deref();
        let filtered = self.pushed.is_some() || !self.judged.is_empty();
        // One more than wanted tells whether there is something behind.
        let mut ask = self.limit.map(|limit| {
            let wanted = limit.saturating_add(1);
            if filtered {
                wanted.max(FIRST_LOOK)
            } else {
                wanted
            }
        });
        let mut page = Page::default();
        let mut after = self.after.cloned();
        // Where the page ends, once it is full.
        let mut end = None;
        let mut looks = 0;
        loop {
            let body = self.body(session, shown, after.as_ref(), ask);
            let batch = self.call(session, &body).await?;
            let last = match &batch.last {
                Some(last) => Some(self.position(last)?),
                None => None,
            };
            if self.counts_there() {
                page.count = batch.count;
                page.next = last;
                return Ok(Reply::Page(page));
            }
            for mut item in batch.items {
                if let Some(shown) = shown {
                    item.retain(|name, _| shown.contains(&name));
                }
                if !self.passes(&item) {
                    continue;
                }
                if end.is_some() {
                    page.next = end;
                    return Ok(Reply::Page(page));
                }
                page.count += 1;
                if self.limit.is_some_and(|limit| page.count >= limit as u64) {
                    end = Some(self.position(&item)?);
                }
                if !self.count {
                    page.items.push(self.dressed(item));
                }
            }
            looks += 1;
            let cut = ask.is_none_or(|ask| batch.scanned < ask as u64);
            if last.is_none() || cut || looks == LOOKS {
                page.next = if last.is_some() { end.or(last) } else { None };
                return Ok(Reply::Page(page));
            }
            after = last;
            ask = ask.map(|ask| ask.saturating_mul(2).min(MOST_LOOKED_AT));
        }
    }

    /// An item as it is handed out.
    fn dressed(&self, item: Item) -> Item {
        let mut item = body::unmark(self.table, item);
        if let Some(attributes) = self.attributes {
            keep(&mut item, self.table, attributes);
        }
        item
    }

    async fn call<L: Link>(&self, session: &Session<'_, L>, body: &str) -> Result<Batch> {
        let about = About {
            config: &session.inner.config,
            table: self.table,
            key: None,
            progress: &session.progress,
        };
        let answer = session.call(self.operation, body, Repeat::Read).await;
        let answer = answer.map_err(|failure| about.worded(failure))?;
        let mut batch = Batch::default();
        answer.read(|parser, name| {
            match &*name {
                "Items" => parser.list(|parser| {
                    batch.items.push(parser.item()?);
                    Some(())
                })?,
                "Count" => batch.count = parser.count()?,
                "ScannedCount" => batch.scanned = parser.count()?,
                "LastEvaluatedKey" => batch.last = Some(parser.item()?),
                _ => parser.skip()?,
            }
            Some(())
        })?;
        Ok(batch)
    }
}
