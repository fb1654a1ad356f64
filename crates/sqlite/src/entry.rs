//! What the catalog says of a table: its description, and what of it is not built yet.

use std::sync::Arc;

use mintkey_store::{Item, Map, Number, Table, Unique, Value, description};

/// A table's entry in the catalog.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The table, with everything that is not built yet.
    pub table: Arc<Table>,
    /// The names of the indexes whose rows are marked in a column of their own: indexes that were added to a table which
    /// had all of their columns.
    pub marked: Vec<String>,
    /// What does not have all rows yet.
    pub unbuilt: Unbuilt,
    /// The names of unique values that the table had before. Their columns still have values of rows.
    pub withdrawn: Vec<String>,
}

/// What was added to a table with rows, and does not have all of them yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unbuilt {
    /// The names of indexes.
    pub indexes: Vec<String>,
    /// Whether the column with the time of expiry is one of them.
    pub expiry: bool,
    /// The names of unique values.
    pub unique: Vec<String>,
    /// The declarations that these unique values had before; none: they are new.
    pub before: Vec<Unique>,
    /// The id of the last row that was filled; 0: none.
    pub filled: i64,
    /// The id of the last row to be filled. Those after it are newer, and have everything.
    pub last: i64,
}

impl Unbuilt {
    /// Forgets the rows if nothing is left to be built.
    pub fn forget_rows_if_built(&mut self) {
        if self.indexes.is_empty() && !self.expiry && self.unique.is_empty() {
            (self.filled, self.last) = (0, 0);
        }
    }

    /// The declaration that a unique value had before.
    pub fn declared_before(&self, name: &str) -> Option<&Unique> {
        self.before.iter().find(|unique| unique.name == name)
    }
}

impl Entry {
    /// The entry of a table that has everything.
    pub fn new(table: Arc<Table>) -> Self {
        Self {
            table,
            marked: Vec::new(),
            unbuilt: Unbuilt::default(),
            withdrawn: Vec::new(),
        }
    }

    /// Takes new unique values back that cannot be built. Those whose declaration has changed get the old one.
    pub fn refuse(&mut self, names: &[String]) {
        for name in names {
            if let Some(before) = self.unbuilt.declared_before(name).cloned() {
                // Rows that the new declaration has filled are filled again.
                self.unbuilt.filled = 0;
                let table = Arc::make_mut(&mut self.table);
                let declared = table.unique.iter_mut().filter(|own| own.name == *name);
                declared.for_each(|own| *own = before.clone());
            } else {
                self.remove_unique(name);
            }
        }
    }

    /// Removes a unique value. Returns whether the table had it.
    pub fn remove_unique(&mut self, name: &str) -> bool {
        if self.table.unique(name).is_none() {
            return false;
        }
        let table = Arc::make_mut(&mut self.table);
        table.unique.retain(|own| own.name != *name);
        self.withdrawn.push(name.to_owned());
        self.unbuilt.unique.retain(|own| own != name);
        self.unbuilt.before.retain(|own| own.name != *name);
        self.unbuilt.forget_rows_if_built();
        true
    }

    /// Whether code that only knows the table's description can use the table.
    pub fn is_plain(&self) -> bool {
        self.marked.is_empty() && self.withdrawn.is_empty() && self.unbuilt == Unbuilt::default()
    }

    /// The entry as an item.
    pub fn describe(&self) -> Item {
        let mut item = description::describe(&self.table);
        if self.is_plain() {
            return item;
        }
        let unbuilt = &self.unbuilt;
        item.insert("marked".into(), texts(&self.marked));
        item.insert("withdrawn".into(), texts(&self.withdrawn));
        let mut pairs = vec![
            ("indexes".into(), texts(&unbuilt.indexes)),
            ("expiry".into(), Value::Bool(unbuilt.expiry)),
            ("unique".into(), texts(&unbuilt.unique)),
            ("filled".into(), Value::Number(Number::from(unbuilt.filled))),
            ("last".into(), Value::Number(Number::from(unbuilt.last))),
        ];
        if !unbuilt.before.is_empty() {
            let before = Table {
                unique: unbuilt.before.clone(),
                ..(*self.table).clone()
            };
            pairs.push(("before".into(), Value::Map(description::describe(&before))));
        }
        item.insert("unbuilt".into(), Value::Map(Map::from_pairs(pairs)));
        item
    }

    /// Reads what [`Self::describe`] gave, for a table of this name and class; `None` if it is damaged.
    pub fn parse(table: &Table, item: &Item) -> Option<Self> {
        let unbuilt = match item.get("unbuilt") {
            None => Unbuilt::default(),
            Some(Value::Map(own)) => Unbuilt {
                indexes: parse_texts(own, "indexes")?,
                expiry: own.get("expiry")? == &Value::Bool(true),
                unique: parse_texts(own, "unique")?,
                before: match own.get("before") {
                    None => Vec::new(),
                    Some(Value::Map(before)) => description::parse(table, before)?.unique,
                    Some(_) => return None,
                },
                filled: parse_row(own, "filled")?,
                last: parse_row(own, "last")?,
            },
            Some(_) => return None,
        };
        Some(Self {
            table: Arc::new(description::parse(table, item)?),
            marked: parse_texts(item, "marked")?,
            unbuilt,
            withdrawn: parse_texts(item, "withdrawn")?,
        })
    }
}

fn texts(names: &[String]) -> Value {
    Value::List(names.iter().cloned().map(Value::String).collect())
}

fn parse_row(item: &Item, name: &str) -> Option<i64> {
    match item.get(name)? {
        Value::Number(row) => row.to_i64(),
        _ => None,
    }
}

/// The texts of a list; none if it is absent.
fn parse_texts(item: &Item, name: &str) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    match item.get(name) {
        None => Some(Vec::new()),
        Some(Value::List(values)) => values.iter().map(text).collect(),
        Some(_) => None,
    }
}
