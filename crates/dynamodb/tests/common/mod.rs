//! What the tests of the store share: a server, and stores on it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mintkey_store::store::Never;
use mintkey_store::{
    Capabilities, Done, Error, ErrorKind, Interrupt, Operation, Reply, Request, Result, Store,
    Table, Ticket,
};

/// A store on the server that `MINTKEY_TEST_DYNAMODB` names, with tables of its own that go away with it.
pub struct Fixture {
    pub store: Arc<Making>,
    url: String,
}

/// A store that makes each table when it is first missed.
pub struct Making {
    store: Arc<dyn Store>,
    made: Mutex<Vec<Arc<Table>>>,
}

/// The address of the server to test with.
pub fn server() -> String {
    std::env::var("MINTKEY_TEST_DYNAMODB").expect(
        "no DynamoDB to test with: run this through tests/servers/dynamodb.py, or set MINTKEY_TEST_DYNAMODB to the \
         address of one, such as http://localhost:8000",
    )
}

impl Fixture {
    pub fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("t{}-{number}-", std::process::id());
        let url = format!(
            "dynamodb://us-east-1?endpoint={}&table_prefix={prefix}&timeout=30",
            server()
        );
        let store = Arc::new(Making {
            store: mintkey_dynamodb::open(&url).unwrap(),
            made: Mutex::default(),
        });
        Self { store, url }
    }

    pub fn reopen(&self) -> Arc<dyn Store> {
        mintkey_dynamodb::open(&self.url).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // A test may have closed its own.
        let store = self.reopen();
        for table in self.store.made.lock().unwrap().drain(..) {
            // A failed test has something better to say.
            let _ = carry_out(&*store, Operation::DeleteTable(table));
        }
    }
}

fn carry_out(store: &dyn Store, operation: Operation) -> Result<Reply> {
    store.execute(&Request::new(0, operation), &Never)
}

impl Store for Making {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        if let Operation::CreateTable(table) = &request.operation {
            self.made.lock().unwrap().push(Arc::clone(table));
        }
        let is_missing = |error: &Error| error.kind == ErrorKind::TableMissing;
        let result = self.store.execute(request, interrupt);
        let misses_table = match &result {
            Err(error) => is_missing(error),
            Ok(Reply::Written(outcomes)) => outcomes
                .iter()
                .any(|outcome| outcome.as_ref().is_err_and(is_missing)),
            Ok(_) => false,
        };
        if !misses_table {
            return result;
        }
        for table in request.operation.tables() {
            carry_out(&*self.store, Operation::CreateTable(Arc::clone(table)))?;
            self.made.lock().unwrap().push(Arc::clone(table));
        }
        self.store.execute(request, interrupt)
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let execute = |request: &Arc<Request>| self.execute(request, interrupt);
        requests.iter().map(execute).collect()
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        self.store.submit(request, done)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        self.store.close(interrupt);
    }

    fn before_fork(&self) {
        self.store.before_fork();
    }

    fn in_parent(&self) {
        self.store.in_parent();
    }

    fn in_child(&self) {
        self.store.in_child();
    }
}
