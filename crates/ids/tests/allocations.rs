//! Minting and writing an id allocates nothing.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use mintkey_ids::{Kind, NodeChoice, Strategy, engine};

struct Counting;

thread_local! {
    /// Of this thread: the test runner's own allocate, too.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_hundred_thousand_ids_allocate_nothing() {
    let nodes = std::env::temp_dir().join(format!("mintkey-allocations-{}", std::process::id()));
    // Under a clock that stands still no lock has to be looked at again.
    let block = engine::freeze(1_704_067_200_000_000, None);
    engine::seed().unwrap();
    engine::choose_node(NodeChoice::ANY, Some(&nodes));
    engine::claim_node(NodeChoice::Default, 0).unwrap();
    for kind in Kind::ALL {
        let strategy = Strategy::plain(kind);
        let mut body = [0; 64];
        let mut mint = || {
            let draft = engine::with(|session| {
                let reading = session.minter.read();
                session.mint(&strategy, reading, None)
            })
            .unwrap();
            if strategy.int(&draft).is_none() {
                strategy.write_body(&draft, &mut body[..strategy.body_len()]);
            }
        };
        mint();
        let before = ALLOCATIONS.get();
        for _ in 0..100_000 {
            mint();
        }
        assert_eq!(ALLOCATIONS.get(), before, "{kind}");
    }
    assert!(engine::thaw(block));
    std::fs::remove_dir_all(nodes).unwrap();
}
