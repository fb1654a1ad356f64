//! One process adds an index while another one, without that index, writes. Both take many steps. The tests run all orders
//! with up to three switches between them, or one if a process stops and does not continue.

use std::sync::Arc;

use mintkey_redis::internals::{Call, Layout};
use mintkey_store::{Guard, Index, KeyKind, Operation, Projection, Query, Table};

use super::requests::*;
use super::{
    Process, World, home, interleave, items, most_steps, row, row_key, run, run_all, stored_row,
    trace,
};

fn by_amount() -> Index {
    Index {
        name: "by_amount".into(),
        partition: Vec::new(),
        sort: Some(attribute("amount", KeyKind::Number)),
        projection: Projection::All,
        local: false,
    }
}

pub fn an_index_is_added_during_a_write() {
    let old = orders();
    let mut new = (*old).clone();
    new.indexes.push(by_amount());
    let new: Arc<Table> = Arc::new(new);
    let query = Operation::Query(Query {
        index: Some("by_amount".into()),
        ..query_of(&new, &[])
    });
    let write = put_of(&old, row("new", 2), Guard::default());
    let mut world = World::new(3);
    let layout = Layout::new(
        &world.keyspace,
        home(),
        Arc::clone(&new),
        String::new(),
        Vec::new(),
    );
    // The other slot groups have the index already: they have no part in this test.
    run(&world.stores[0], query.clone(), &mut world.server).unwrap();
    let runs = run_all(2, |victim, choices| {
        let World {
            server,
            stores,
            keyspace,
        } = &mut world;
        let keys = [
            keyspace.table_key("orders"),
            layout.catalog_key.clone(),
            layout.row_set.clone(),
            layout.row_key(&row_key()),
            layout.index_set("by_status"),
            layout.index_set("by_amount"),
        ];
        server.send(&[keys.iter().fold(Call::new("DEL"), Call::arg)]);
        for store in &*stores {
            store.layouts.clear();
        }
        let before = put_of(&old, row("new", 1), Guard::default());
        run(&stores[1], before, server).unwrap();
        let mut processes =
            [(0, &query), (1, &write)].map(|(number, operation): (usize, &Operation)| {
                Process::new(&stores[number], operation.clone(), server)
            });
        let switches = if victim.is_none() { 3 } else { 1 };
        interleave(&mut processes, server, victim, choices, switches, |_| {});
        let trace = trace(victim, choices);
        // The query has seen the row before or after the write.
        if let Some(reply) = processes[0].reply.take() {
            let seen = items(reply.unwrap());
            assert!(
                seen == [row("new", 1)] || seen == [row("new", 2)],
                "{seen:?}: {trace}"
            );
        }
        let now = stored_row(server, &layout).unwrap();
        let found = items(run(&stores[2], query.clone(), server).unwrap());
        assert_eq!(found, std::slice::from_ref(&now), "{trace}");
        for index in ["by_status", "by_amount"] {
            let index = new.index(index).unwrap();
            let wanted = Layout::index_member(index, &now, &row_key()).unwrap();
            let members = world.members(&layout.index_set(&index.name));
            assert_eq!(members.into_iter().collect::<Vec<_>>(), [wanted], "{trace}");
        }
        most_steps(&processes)
    });
    assert!(runs > 100, "only {runs} runs");
}
