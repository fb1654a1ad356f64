//! A store in a temporary file, for the tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use mintkey_store::Store;

/// A store in a temporary folder.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub store: Arc<dyn Store>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(parameters: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, parameters);
        Self { folder, store }
    }

    pub fn reopen(&self) -> Arc<dyn Store> {
        open(&self.folder, "")
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("test.db")
    }

    /// Makes each write of the partition "slow" of orders run without end. The table must exist.
    pub fn slow_down(&self) {
        let trigger = "CREATE TRIGGER slow BEFORE INSERT ON orders WHEN NEW.pk = 'slow' BEGIN \
            SELECT max(x) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c); END";
        self.inside().execute_batch(trigger).unwrap();
    }

    /// A connection to the file without the code under test.
    pub fn inside(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }
}

fn open(folder: &tempfile::TempDir, parameters: &str) -> Arc<dyn Store> {
    let path = folder.path().join("test.db");
    mintkey_sqlite::open(&format!("sqlite:///{}{parameters}", path.display())).unwrap()
}
