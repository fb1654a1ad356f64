//! No cursor makes its reader panic, and a position that was read is written and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_store::Position;

fuzz_target!(|bytes: &[u8]| {
    let Ok(position) = Position::from_bytes(bytes) else {
        return;
    };
    let written = position.to_bytes();
    assert_eq!(Position::from_bytes(&written).as_ref(), Ok(&position));
    // Cursors of one position are equal: nothing else can be hidden in one.
    assert_eq!(written, bytes);
});
