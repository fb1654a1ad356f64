//! What all calls of a store share.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use mintkey_store::Table;

use crate::aws::credentials::cache::CredentialsCache;
use crate::aws::retry::TokenBucket;
use crate::config::Config;
use crate::transport::blocking::Blocking;
use crate::transport::pool::Pool;
use crate::transport::reactor::Reactor;

/// Idle connections that blocking calls keep.
const IDLE_CONNECTIONS: usize = 16;

/// What a process knows of the unique values of a table.
#[derive(Clone)]
pub struct KnownUnique {
    /// The table with the unique values that are built; `None` if none are.
    pub built: Option<Arc<Table>>,
    /// The table with all unique values that writes keep up: those of the catalog, and those of the classes of this
    /// process.
    pub written: Arc<Table>,
}

/// The shared state of one store in one process.
pub struct Shared {
    pub config: Arc<Config>,
    pub credentials: CredentialsCache,
    /// Pays for retries.
    pub retry_tokens: TokenBucket,
    /// The seconds by which the server's clock is ahead of this machine's.
    pub clock_skew: AtomicI64,
    /// The idle connections of blocking calls.
    pub pool: Arc<Pool<<Blocking as Reactor>::Tcp>>,
    /// By their names, what is known of the unique values of tables.
    pub unique: Mutex<HashMap<String, KnownUnique>>,
}

impl Shared {
    /// The state of a store that has sent nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            credentials: CredentialsCache::default(),
            retry_tokens: TokenBucket::default(),
            clock_skew: AtomicI64::new(0),
            pool: Arc::new(Pool::new(IDLE_CONNECTIONS)),
            unique: Mutex::default(),
        }
    }
}
