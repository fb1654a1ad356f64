//! What every store must do, on `DynamoDB`; but for catalogs, which are the tables' own descriptions here.

#[path = "../../store/tests/suite/batches.rs"]
mod batches;
mod common;
#[path = "../../store/tests/suite/items.rs"]
mod items;
#[path = "../../store/tests/suite/queries.rs"]
mod queries;
#[path = "../../store/tests/suite/ranges.rs"]
mod ranges;
#[path = "../../store/tests/suite/requests.rs"]
mod requests;

use common::Fixture;
