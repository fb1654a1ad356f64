//! Reports for the log of the program, kept until the binding asks for them.

use std::path::Path;

use mintkey_runtime::Notices;
use mintkey_store::{Notice, Severity};

use crate::storage::fork_gate;
use crate::storage::guarded_file::LossOutcome;

/// The reports of all stores of the process, because the store that detects a loss may serve no further request. Locked
/// only inside the fork gate.
static NOTICES: Notices = Notices::new();

/// Takes out the oldest report.
pub fn take() -> Option<Notice> {
    if NOTICES.is_empty() {
        return None;
    }
    let _pass = fork_gate::enter();
    NOTICES.take()
}

/// Reports that a connection was opened, or could not be opened.
pub fn debug(text: String) {
    NOTICES.debug(text);
}

/// Reports that the files of a database were not in their place, and what was lost.
pub fn report_loss(path: &Path, outcome: LossOutcome) {
    let path = path.display();
    let (what, rows) = match outcome {
        LossOutcome::Removed => (
            format!("{path} was removed or replaced"),
            "its rows are lost",
        ),
        LossOutcome::Log { saved } => (
            format!("{path}-wal or {path}-shm was removed or replaced"),
            if saved {
                "no row is lost, all that were saved are in the database file"
            } else {
                "rows that were saved since the last checkpoint may be lost"
            },
        ),
        LossOutcome::Renamed { saved } => (
            format!("{path} was renamed"),
            if saved {
                "all rows that were saved are in the renamed file"
            } else {
                "rows that were saved since the last checkpoint may be missing in the renamed file"
            },
        ),
    };
    let text = format!(
        "{what} while a store had the database open: {rows}. No program may remove, rename or replace the database file \
         and the files next to it that end in -wal and -shm while the database is open"
    );
    NOTICES.add(Severity::Error, text);
}
