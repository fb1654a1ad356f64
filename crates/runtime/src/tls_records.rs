//! Where the records of TLS begin and end.

/// The length of the header of a record. Its last two bytes are the length of the rest.
const HEADER: usize = 5;

/// Follows the bytes that are read from a TLS connection. It knows whether a part of a record was read: TLS keeps that
/// part, and does not show it.
#[derive(Debug, Default)]
pub struct TlsRecords {
    header: [u8; HEADER],
    /// The bytes of `header` that were read.
    header_bytes: usize,
    /// The bytes of the record that were not read, once its header was.
    missing: usize,
}

impl TlsRecords {
    /// Whether all records that were read are complete.
    #[must_use]
    pub const fn are_complete(&self) -> bool {
        self.header_bytes == 0 && self.missing == 0
    }

    /// Notes that these bytes were read.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let count = self.missing.min(bytes.len());
                self.missing -= count;
                bytes = &bytes[count..];
                continue;
            }
            self.header[self.header_bytes] = bytes[0];
            self.header_bytes += 1;
            bytes = &bytes[1..];
            if self.header_bytes == HEADER {
                let [.., high, low] = self.header;
                (self.header_bytes, self.missing) = (0, u16::from_be_bytes([high, low]).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_records_are_found() {
        let bytes = [23, 3, 3, 0, 2, b'a', b'b', 21, 3, 3, 1, 0];
        for step in 1..bytes.len() {
            let mut records = TlsRecords::default();
            for (index, part) in bytes.chunks(step).enumerate() {
                records.pass(part);
                let read = (index * step + part.len()).min(bytes.len());
                assert_eq!(records.are_complete(), read == 7, "{step}: {read}");
            }
            records.pass(&[0; 256]);
            assert!(records.are_complete());
        }
    }
}
