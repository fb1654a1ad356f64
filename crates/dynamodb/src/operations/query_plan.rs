//! The plan of a query or scan: which part of the question `DynamoDB` evaluates, and which part is evaluated here.

use mintkey_store::{
    Condition, Error, ErrorKind, Index, Item, KeyAttribute, Name, Path, Position, Query, QueryKey,
    Result, Scan, Table, Work,
};

use crate::config::Config;
use crate::wire::body::{self, Body};
use crate::wire::expression;
use crate::wire::json;
use crate::wire::key_condition::KeyCondition;

pub struct QueryPlan<'a> {
    /// `Query` or `Scan`.
    pub operation: &'static str,
    pub table: &'a Table,
    pub attributes: Option<&'a [Path]>,
    pub limit: Option<usize>,
    pub after: Option<&'a Position>,
    pub count: bool,
    index: Option<&'a Index>,
    key_condition: Option<KeyCondition>,
    /// The attribute that orders the result.
    order: Option<&'a KeyAttribute>,
    /// The filter that the server evaluates.
    sent_filter: Option<Condition>,
    /// The filters that are evaluated here.
    local_filters: Vec<&'a Condition>,
    descending: bool,
    consistent: bool,
    segment: Option<(u32, u32)>,
}

impl<'a> QueryPlan<'a> {
    /// The plan of a query; `None` if no item can match.
    pub fn of_query(query: &'a Query, now: i64) -> Result<Option<Self>> {
        let table = &*query.table;
        let QueryKey {
            index,
            partition,
            sort: order,
            ..
        } = query.check()?;
        if let Some(index) = index
            && query.consistent
            && !index.local
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "index {:?} cannot be read consistently: DynamoDB updates global indexes after each write; \
                     read by key, remove consistent=, or declare the index with local=True",
                    index.name
                ),
            )
            .of(table));
        }
        let mut plan = Self {
            operation: "Query",
            table,
            index,
            key_condition: None,
            order,
            sent_filter: None,
            local_filters: Vec::new(),
            attributes: query.attributes.as_deref(),
            limit: query.limit,
            after: query.after.as_ref(),
            count: query.count,
            descending: query.descending,
            consistent: query.consistent,
            segment: None,
        };
        let key_condition = plan.key_condition(query)?;
        // DynamoDB's index has the first partition attribute as its key: the others are filters.
        let others = partition.iter().zip(&query.partition).skip(1);
        let others = others
            .map(|(attribute, value)| Condition::equals(attribute.name.clone(), value.to_value()));
        let can_match = plan.split_filter(query.filter.as_ref(), others.collect(), now);
        if !can_match || key_condition.is_none() {
            return Ok(None);
        }
        plan.key_condition = key_condition;
        Ok(Some(plan))
    }

    /// The plan of a scan; `None` if no item can match.
    pub fn of_scan(scan: &'a Scan, now: i64) -> Result<Option<Self>> {
        scan.check()?;
        let mut plan = Self {
            operation: "Scan",
            table: &scan.table,
            index: None,
            key_condition: None,
            order: None,
            sent_filter: None,
            local_filters: Vec::new(),
            attributes: scan.attributes.as_deref(),
            limit: scan.limit,
            after: scan.after.as_ref(),
            count: scan.count,
            descending: false,
            consistent: scan.consistent,
            segment: scan.segment,
        };
        let can_match = plan.split_filter(scan.filter.as_ref(), Vec::new(), now);
        Ok(can_match.then_some(plan))
    }

    /// The key condition; `None` if no key can meet it.
    fn key_condition(&self, query: &Query) -> Result<Option<KeyCondition>> {
        let value = body::index_partition_value(&query.partition);
        let mut condition = Some(KeyCondition::new(self.partition_name(), value));
        if let (Some(order), Some(sort)) = (self.order, &query.sort) {
            condition = match condition {
                Some(condition) => condition.with_sort(order, sort)?,
                None => None,
            };
        }
        let mut values = query.partition.iter();
        Ok(condition.filter(|_| values.all(|value| value.check_partition().is_ok())))
    }

    /// Splits a filter into the part for the server and the part that is evaluated here; false: no item can match.
    fn split_filter(
        &mut self,
        filter: Option<&'a Condition>,
        others: Vec<Condition>,
        now: i64,
    ) -> bool {
        let mut sent = Vec::new();
        if let Some(filter) = filter {
            let parts = match filter {
                Condition::And(parts) => &parts[..],
                other => std::slice::from_ref(other),
            };
            // The server refuses a filter on the key of a query, and does not find attributes outside of the projection.
            let keys = match self.operation {
                "Query" => self.key_names(),
                _ => Vec::new(),
            };
            let projection = self.projection();
            let is_local = |name: &Name| {
                let outside = |projection: &Vec<&Name>| !projection.contains(&name);
                keys.contains(name) || projection.as_ref().is_some_and(outside)
            };
            for part in parts {
                match part.constant() {
                    Some(true) => {}
                    Some(false) => return false,
                    None if part.is_local()
                        || expression::attributes(part).iter().any(is_local) =>
                    {
                        self.local_filters.push(part);
                    }
                    None => sent.push(part.clone()),
                }
            }
            if expression::is_too_long(&sent) {
                sent.clear();
                self.local_filters = vec![filter];
            }
        }
        sent.extend(others);
        let expired = body::expired(self.table, now);
        sent.extend(expired.map(Condition::negated));
        self.sent_filter = Condition::all(sent);
        true
    }

    /// The name of the partition key of the table or index.
    fn partition_name(&self) -> Name {
        match self.index {
            Some(index) => body::index_partition(index),
            None => self.table.partition.name.clone(),
        }
    }

    /// The names of the key of the table or index.
    fn key_names(&self) -> Vec<Name> {
        let order = self.order.map(|order| order.name.clone());
        std::iter::once(self.partition_name())
            .chain(order)
            .collect()
    }

    /// The error of a call whose start, a position from the caller, `DynamoDB` refuses: for example because it is
    /// outside the range of the sort key.
    pub fn refused_start(&self, error: Error) -> Error {
        let is_refused = self.after.is_some()
            && error.kind == ErrorKind::InvalidValue
            && ["starting key", "Exclusive Start Key", "ExclusiveStartKey"]
                .iter()
                .any(|words| error.message.contains(words));
        if is_refused {
            Error::foreign_cursor(self.table).caused_by(error)
        } else {
            error
        }
    }

    /// Whether the result is filtered.
    pub const fn is_filtered(&self) -> bool {
        self.sent_filter.is_some() || !self.local_filters.is_empty()
    }

    /// Whether the server can count without returning items.
    pub fn counts_on_server(&self) -> bool {
        let is_exact = self
            .key_condition
            .as_ref()
            .is_none_or(KeyCondition::is_exact);
        self.count && self.limit.is_none() && self.local_filters.is_empty() && is_exact
    }

    /// The names in the projection of the index; `None`: all.
    pub fn projection(&self) -> Option<Vec<&'a Name>> {
        self.table.index_projection(self.index?)
    }

    fn requested(&self, projection: Option<&[&'a Name]>) -> Option<Vec<Path>> {
        let wanted: &[Path] = match self.attributes {
            Some(attributes) => attributes,
            None if self.count => &[],
            None => return None,
        };
        let parts = self.index.into_iter().flat_map(Index::attributes);
        let filtered = self.local_filters.iter();
        let filtered = filtered.flat_map(|part| expression::attributes(part));
        let names = parts.map(|part| part.name.clone()).chain(filtered);
        let mut paths = body::fetched(self.table, wanted, names);
        if let Some(projection) = projection {
            paths.retain(|path| path.root().is_some_and(|name| projection.contains(&name)));
        }
        Some(paths)
    }

    /// The body of a call that reads up to `limit` items after a position.
    pub fn body(
        &self,
        config: &Config,
        projection: Option<&[&'a Name]>,
        after: Option<&Position>,
        limit: Option<usize>,
    ) -> String {
        let mut body = Body::new(config, self.table);
        if let Some(index) = self.index {
            body.text("IndexName", &body::index_name(&index.name));
        }
        if let Some(condition) = &self.key_condition {
            body.expression("KeyConditionExpression", |placeholders, to| {
                condition.push(placeholders, to);
            });
        }
        if let Some(filter) = &self.sent_filter {
            body.expression("FilterExpression", |placeholders, to| {
                placeholders.condition(filter, to);
            });
        }
        if self.counts_on_server() {
            body.text("Select", "COUNT");
        } else if let Some(paths) = self.requested(projection) {
            body::project(&mut body, &paths);
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
        if let Some(limit) = limit {
            body.entry("Limit", |to| to.push_str(&limit.to_string()));
        }
        if let Some(after) = after {
            body.entry("ExclusiveStartKey", |to| self.push_start(after, to));
        }
        body.finish()
    }

    /// Appends a position as `DynamoDB` has it: the table's key and the index's.
    fn push_start(&self, after: &Position, to: &mut String) {
        let mut item = self.table.item_of(&after.key);
        if let Some(index) = self.index {
            if index.partition.is_empty() {
                let value = body::index_partition_value(&[]);
                item.insert(body::index_partition(index), value);
            }
            for (number, (part, value)) in index.attributes().zip(&after.index).enumerate() {
                if number == 0 || number >= index.partition.len() {
                    item.insert(part.name.clone(), value.to_value());
                }
            }
        }
        json::push_item(&item, to);
    }

    /// Whether an item is in the partition that a query asks for.
    pub fn is_asked_for(&self, item: &Item) -> bool {
        let of_whole_table = self.index.is_some_and(|index| index.partition.is_empty());
        let condition = self.key_condition.as_ref();
        of_whole_table || condition.is_none_or(|condition| condition.has_partition(item))
    }

    /// The position of an item, which has its keys.
    pub fn position(&self, item: &Item) -> Result<Position> {
        self.find_position(item).ok_or_else(|| {
            Error::configuration(format!(
                "an item of table {:?} lacks a key that {} declares: declare the table's key",
                self.table.name, self.table.model
            ))
            .of(self.table)
        })
    }

    fn find_position(&self, item: &Item) -> Option<Position> {
        Some(Position {
            key: self.table.key_of(item).ok()?,
            index: match self.index {
                Some(index) => index.values_of(item)?,
                None => Vec::new(),
            },
        })
    }

    /// Whether an item that was read meets what is evaluated here.
    pub fn accepts(&self, item: &Item, work: &mut Work<'_, Error>) -> Result<bool> {
        if let Some(condition) = &self.key_condition
            && !condition.accepts(item)
        {
            return Ok(false);
        }
        for part in &self.local_filters {
            if !part.evaluate(item, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
