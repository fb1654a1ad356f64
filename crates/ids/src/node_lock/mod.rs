//! The lock of a snowflake node: a file in a directory that processes share, and on Linux a socket address.
//!
//! Other users may write to the directory, so nothing in it is trusted: links are not followed, and a name that is not
//! that of a regular file is skipped. A locked file can be removed. Then the address still holds the node among the
//! processes of one machine; other machines that share the directory need [`NodeLock::is_held`].

mod found;
#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use found::Found;
#[cfg(not(unix))]
use portable::{Address, Opened, is_at, open_directory, open_file};
#[cfg(unix)]
use unix::{Address, Opened, is_at, open_directory, open_file};

/// The directory of the locks without `$MINTKEY_NODE_DIR`.
#[cfg(unix)]
pub(crate) const DIRECTORY: &str = "/tmp/mintkey-nodes";
#[cfg(not(unix))]
pub(crate) const DIRECTORY: &str = r"C:\ProgramData\mintkey-nodes";

/// The lock of a node, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct NodeLock {
    file: File,
    path: PathBuf,
    _address: Address,
}

impl NodeLock {
    /// Whether other processes still find the lock.
    pub(crate) fn is_held(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

/// The result of an attempt to lock a node.
pub(crate) enum Attempt {
    Locked(NodeLock),
    /// Another process has the node.
    Held,
    /// Why no process can have the node.
    Unusable(String),
    /// The file or the directory was removed in the meantime: open the directory again.
    Removed,
}

/// A directory of locks.
pub(crate) struct Directory {
    path: PathBuf,
    opened: Opened,
}

impl Directory {
    /// Opens the directory; creates it for all users if it is missing.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        // With a separator at its end a link would be followed.
        let path: PathBuf = path.components().collect();
        match open_directory(&path) {
            Ok(opened) => Ok(Self { path, opened }),
            Err(why) => Err(refusal(&path, &why)),
        }
    }

    /// Tries to lock a node.
    ///
    /// # Errors
    /// Why no node can be locked.
    pub(crate) fn lock(&self, node: u16) -> Result<Attempt, String> {
        let name = format!("{node}.lock");
        let path = self.path.join(&name);
        let file = match open_file(&self.opened, &path, &name) {
            Ok(Found::File(file)) => file,
            Ok(Found::Unusable(what)) => {
                return Ok(Attempt::Unusable(format!("{}: {what}", path.display())));
            }
            Ok(Found::Removed) => return Ok(Attempt::Removed),
            Err(error) => return Err(refusal(&path, &error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Held),
            Err(TryLockError::Error(error)) => return Err(refusal(&path, &error)),
        }
        if !is_at(&file, &path) {
            return Ok(Attempt::Removed);
        }
        Ok(match Address::hold(&self.path, node) {
            Some(address) => Attempt::Locked(NodeLock {
                file,
                path,
                _address: address,
            }),
            None => Attempt::Held,
        })
    }
}

fn refusal(path: &Path, why: &dyn Display) -> String {
    format!(
        "cannot use {}, which keeps two processes from sharing a snowflake node: {why}; set \
         $MINTKEY_NODE_DIR to a directory that every process may write to",
        path.display()
    )
}
