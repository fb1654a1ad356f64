//! A table on a Cluster that is indexed as a whole, and what its index and its rows must say.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use mintkey_store::{Index, Item, KeyKind, Projection, Query, Store, Table};

use crate::cluster_servers::{Fixture, Members};
use crate::requests::*;

/// A store on these members.
pub fn on(members: &Members, parameters: &str) -> Fixture {
    Fixture::at(&Members::url(&members.ports), parameters)
}

/// A table with an index over all of it.
pub fn ranked() -> Arc<Table> {
    Arc::new(Table {
        name: "ranked".into(),
        model: "Ranked".into(),
        indexes: vec![Index {
            name: "by_rank".into(),
            partition: Vec::new(),
            sort: Some(attribute("rank", KeyKind::Number)),
            projection: Projection::All,
            local: false,
        }],
        ..(*plain("ranked", KeyKind::String)).clone()
    })
}

pub fn rank(id: &str, rank: i64) -> Item {
    item(&[("id", id.into()), ("rank", rank.into())])
}

pub fn by_rank(table: &Arc<Table>) -> Query {
    Query {
        index: Some("by_rank".into()),
        ..query_of(table, &[])
    }
}

/// What the index says, and what the rows say, is the same as what was written.
pub fn agrees(store: &dyn Store, mut kept: Vec<Item>) {
    let place = |row: &Item| format!("{:?}", row.get("id"));
    let mut indexed = query(store, by_rank(&ranked()));
    let mut rows = scan(store, scan_of(&ranked()));
    for items in [&mut indexed, &mut rows, &mut kept] {
        items.sort_by_key(place);
    }
    assert_eq!(rows, kept);
    assert_eq!(indexed, kept);
}
