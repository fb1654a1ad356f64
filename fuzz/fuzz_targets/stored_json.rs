//! No stored text makes the reader panic, and an item that was read is written and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_store::json::{self, Decoder};

fuzz_target!(|text: &str| {
    if let Ok(item) = json::decode(text) {
        let written = json::encode(&item);
        assert_eq!(json::decode(&written).as_ref(), Ok(&item), "{written}");
        assert_eq!(json::encode(&json::decode(&written).unwrap()), written);
    }
    let mut decoder = Decoder::default();
    if let Ok(value) = decoder.decode_value(text) {
        let mut written = String::new();
        json::encode_value(&value, &mut written);
        assert_eq!(
            decoder.decode_value(&written).as_ref(),
            Ok(&value),
            "{written}"
        );
    }
});
