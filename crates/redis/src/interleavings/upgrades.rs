//! One process adds an index while another, that knows nothing of it, writes. Both take many steps: tried
//! are all orders in which they are held up three times, or once if one of them stops for ever.

use std::sync::Arc;

use mintkey_store::{Guard, Index, KeyKind, Operation, Projection, Query, Table};

use super::requests::*;
use super::{
    Actor, World, exhaust, home, interleave, items, most_steps, row, row_key, run, stored_row,
    trace,
};
use crate::keyspace::layout::Layout;
use crate::protocol::resp::Call;

fn by_amount() -> Index {
    Index {
        name: "by_amount".into(),
        partition: Vec::new(),
        sort: Some(attribute("amount", KeyKind::Number)),
        projection: Projection::All,
        local: false,
    }
}

#[test]
fn an_index_is_added_while_one_writes() {
    let old = orders();
    let mut new = (*old).clone();
    new.indexes.push(by_amount());
    let new: Arc<Table> = Arc::new(new);
    let asked = Operation::Query(Query {
        index: Some("by_amount".into()),
        ..query_of(&new, &[])
    });
    let written = put_of(&old, row("new", 2), Guard::default());
    let mut world = World::new(3);
    let layout = Layout::new(
        &world.space,
        home(),
        Arc::clone(&new),
        String::new(),
        Vec::new(),
    );
    // The other buckets have the index already: they are nobody's concern here.
    run(&world.engines[0], asked.clone(), &mut world.server).unwrap();
    let runs = exhaust(2, |victim, choices| {
        let World {
            server,
            engines,
            space,
        } = &mut world;
        let keys = [
            space.master("orders"),
            layout.catalog.clone(),
            layout.order.clone(),
            layout.row(&row_key()),
            layout.index("by_status"),
            layout.index("by_amount"),
        ];
        server.ask(&[keys.iter().fold(Call::new("DEL"), Call::arg)]);
        for engine in &*engines {
            engine.layouts.forget();
        }
        let before = put_of(&old, row("new", 1), Guard::default());
        run(&engines[1], before, server).unwrap();
        let mut actors =
            [(0, &asked), (1, &written)].map(|(number, operation): (usize, &Operation)| {
                Actor::new(&engines[number], operation.clone(), server)
            });
        let switches = if victim.is_none() { 3 } else { 1 };
        interleave(&mut actors, server, victim, choices, switches, |_| {});
        let trace = trace(victim, choices);
        // Who asked meanwhile has seen the row as it was before or after.
        if let Some(reply) = actors[0].reply.take() {
            let seen = items(reply.unwrap());
            assert!(
                seen == [row("new", 1)] || seen == [row("new", 2)],
                "{seen:?}: {trace}"
            );
        }
        let now = stored_row(server, &layout).unwrap();
        let found = items(run(&engines[2], asked.clone(), server).unwrap());
        assert_eq!(found, std::slice::from_ref(&now), "{trace}");
        for index in ["by_status", "by_amount"] {
            let index = new.index(index).unwrap();
            let wanted = Layout::index_member(index, &now, &row_key()).unwrap();
            let members = world.members(&layout.index(&index.name));
            assert_eq!(members.into_iter().collect::<Vec<_>>(), [wanted], "{trace}");
        }
        most_steps(&actors)
    });
    assert!(runs > 100, "only {runs} runs");
}
