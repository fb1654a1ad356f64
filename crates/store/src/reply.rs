//! What a store answers.

use crate::description::StoredTable;
use crate::error::Error;
use crate::position::Position;
use crate::value::Item;

/// The answer to a request.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// Done: to a put, a delete, an update that returns nothing, the making or dropping of a table.
    Done,
    /// Whether the table exists.
    Exists(bool),
    /// The names of all tables, in order.
    Tables(Vec<String>),
    /// The table of this name, if there is one.
    Described(Option<Box<StoredTable>>),
    /// Names of indexes.
    Names(Vec<String>),
    /// The item, if there is one: to a get, or to an update or a delete that returns one.
    Item(Option<Item>),
    /// Items: to a query or a scan.
    Page(Page),
    /// An item or none for each key, in order: to a batch or transaction of reads. To a transaction of writes: the item
    /// that an update returns, if the store returns it.
    Items(Vec<Option<Item>>),
    /// The outcome of each write, in order: to a batch of writes.
    Written(Vec<Result<(), Error>>),
    /// The servers that have answered, in the order of their addresses: to a ping.
    Servers(Vec<Server>),
}

/// A server that has answered.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Server {
    /// Its address, without a password.
    pub address: String,
    /// Its version, if it is known.
    pub version: Option<String>,
}

/// A page of a query or scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The items in order; none when only their number was asked for.
    pub items: Vec<Item>,
    /// How many items the page has.
    pub count: u64,
    /// Where to continue; absent at the end.
    pub next: Option<Position>,
}
