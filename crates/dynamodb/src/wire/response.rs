//! The bodies of responses, as far as they are read.
//!
//! Source: "Amazon DynamoDB API reference".

use std::collections::HashMap;
use std::fmt;
use std::result;

use serde::Deserialize;
use serde::de::{
    Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
};

use crate::wire::json::{StoredItem, StoredItems};

/// The body of `GetItem`, `PutItem`, `UpdateItem` and `DeleteItem`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Row {
    /// The row that was read.
    pub item: Option<StoredItem>,
    /// The row after a write.
    pub attributes: Option<StoredItem>,
    /// An entry of a response to another call: such a body can be empty, so without this any object would be valid.
    #[serde(
        rename = "Count",
        alias = "Items",
        alias = "LastEvaluatedKey",
        alias = "LastEvaluatedTableName",
        alias = "Responses",
        alias = "ScannedCount",
        alias = "Table",
        alias = "TableDescription",
        alias = "TableNames",
        alias = "TimeToLiveDescription",
        alias = "TimeToLiveSpecification",
        alias = "UnprocessedItems",
        alias = "UnprocessedKeys"
    )]
    pub other: Option<IgnoredAny>,
}

/// The body of `Query` and `Scan`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Page {
    /// `None` if the server only counts.
    pub items: Option<StoredItems>,
    pub count: u64,
    pub scanned_count: u64,
    pub last_evaluated_key: Option<StoredItem>,
}

/// The body of `BatchGetItem`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rows {
    pub responses: HashMap<String, StoredItems>,
    /// By table.
    #[serde(default)]
    pub unprocessed_keys: HashMap<String, UnprocessedKeys>,
}

/// The body of `TransactGetItems`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Snapshot {
    /// One for each key.
    pub responses: Vec<SnapshotRow>,
}

/// A row that a transaction has read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotRow {
    pub item: Option<StoredItem>,
}

/// Keys that were not read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnprocessedKeys {
    pub keys: StoredItems,
}

/// The body of `BatchWriteItem`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Written {
    /// By table.
    pub unprocessed_items: HashMap<String, Vec<UnprocessedWrite>>,
}

/// A write that was not carried out.
#[derive(Debug, Deserialize)]
pub enum UnprocessedWrite {
    PutRequest {
        #[serde(rename = "Item")]
        item: StoredItem,
    },
    DeleteRequest {
        #[serde(rename = "Key")]
        key: StoredItem,
    },
}

/// The body of calls that change a table.
#[derive(Debug, Deserialize)]
pub struct Changed {
    #[serde(rename = "TableDescription", alias = "TimeToLiveSpecification")]
    _description: IgnoredAny,
}

/// The body of calls that describe a table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Described {
    pub table: TableDescription,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TableDescription {
    pub table_status: String,
    pub key_schema: Vec<KeyElement>,
    pub attribute_definitions: Vec<AttributeDefinition>,
    pub global_secondary_indexes: Vec<IndexDescription>,
    pub local_secondary_indexes: Vec<IndexDescription>,
    /// Both are updated about every six hours.
    pub item_count: Option<u64>,
    pub table_size_bytes: Option<u64>,
    pub table_id: Option<String>,
    pub table_arn: Option<String>,
    pub creation_date_time: Option<serde_json::Number>,
}

/// A part of a key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyElement {
    pub attribute_name: String,
    /// `HASH` or `RANGE`.
    pub key_type: String,
}

/// The type of an attribute that is a part of a key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttributeDefinition {
    pub attribute_name: String,
    pub attribute_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexDescription {
    pub index_name: String,
    /// `None` for a local index.
    pub index_status: Option<String>,
    pub key_schema: Vec<KeyElement>,
    pub projection: IndexProjection,
}

/// What an index has of an item besides the keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexProjection {
    pub projection_type: String,
    pub non_key_attributes: Vec<String>,
}

/// The body of `ListTables`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    pub table_names: Vec<String>,
    pub last_evaluated_table_name: Option<String>,
}

/// The body of `DescribeTimeToLive`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExpiryDescribed {
    pub time_to_live_description: TimeToLive,
}

/// By which attribute rows expire.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TimeToLive {
    pub time_to_live_status: String,
    pub attribute_name: String,
}

/// The capacity that a call has consumed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metered {
    pub consumed_capacity: CapacityUnits,
}

/// Capacity units, of all tables of a call.
#[derive(Debug, Default)]
pub struct CapacityUnits(pub f64);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TableCapacity {
    capacity_units: f64,
}

impl<'de> Deserialize<'de> for CapacityUnits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> result::Result<Self, D::Error> {
        /// An object, or a list of objects if the call is a batch.
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = f64;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("consumed capacity")
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> result::Result<f64, A::Error> {
                let one = TableCapacity::deserialize(MapAccessDeserializer::new(entries))?;
                Ok(one.capacity_units)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> result::Result<f64, A::Error> {
                let mut units = 0.0;
                while let Some(one) = all.next_element::<TableCapacity>()? {
                    units += one.capacity_units;
                }
                Ok(units)
            }
        }
        from.deserialize_any(OneOrMany).map(Self)
    }
}

/// The body of an error response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// The exception, behind a namespace and a `#`.
    #[serde(rename = "__type")]
    pub exception: Option<String>,
    pub message: Option<String>,
    /// Some exceptions have their message here.
    #[serde(rename = "Message")]
    pub other_message: Option<String>,
    /// The row that a condition did not hold for.
    #[serde(rename = "Item")]
    pub item: Option<StoredItem>,
    /// Of a cancelled transaction, one for each item.
    #[serde(rename = "CancellationReasons")]
    pub reasons: Option<Vec<CancellationReason>>,
}

/// Why an item did not allow a transaction.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CancellationReason {
    /// `None` in letters if it did.
    pub code: Option<String>,
    pub message: Option<String>,
    /// The row that its condition did not hold for.
    pub item: Option<StoredItem>,
}

impl CancellationReason {
    /// The code; `None` in letters if the item is not the reason.
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or("None")
    }

    /// Whether the same transaction may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code(),
            "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
        )
    }

    /// Whether the server has refused a value of the item.
    pub fn is_invalid(&self) -> bool {
        self.code() == "ValidationError"
    }

    /// Whether the item is why the transaction was cancelled, and will be again.
    pub fn is_final(&self) -> bool {
        self.code() != "None" && !self.is_transient()
    }
}
