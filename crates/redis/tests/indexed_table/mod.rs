//! A table on a Cluster with an index over all rows, and the check that index and rows agree.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use mintkey_store::{Index, Item, KeyKind, Projection, Query, Store, Table};

use crate::cluster_servers::{ClusterServers, Fixture};
use crate::requests::*;

/// A store on these servers.
pub fn on(servers: &ClusterServers, parameters: &str) -> Fixture {
    Fixture::at(&ClusterServers::url(&servers.ports), parameters)
}

/// A table with an index over all rows.
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

/// Checks that the index and the rows agree with what was written.
pub fn check_rows(store: &dyn Store, mut kept: Vec<Item>) {
    let id = |row: &Item| format!("{:?}", row.get("id"));
    let mut indexed = query(store, by_rank(&ranked()));
    let mut rows = scan(store, scan_of(&ranked()));
    for items in [&mut indexed, &mut rows, &mut kept] {
        items.sort_by_key(id);
    }
    assert_eq!(rows, kept);
    assert_eq!(indexed, kept);
}
