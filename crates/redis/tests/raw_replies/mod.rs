//! Reads replies of a server, without the code under test.

use std::io::{BufRead, BufReader, Read};

/// All strings in one reply.
pub fn strings(stream: impl Read) -> Vec<String> {
    let (mut reader, mut strings, mut missing) = (BufReader::new(stream), Vec::new(), 1);
    while missing > 0 {
        missing -= 1;
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "*" => missing += rest.parse::<i64>().unwrap().max(0),
            "$" if rest != "-1" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                strings.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            "$" => strings.push("(nil)".to_owned()),
            _ => strings.push(rest.to_owned()),
        }
    }
    strings
}
