//! Resolves the path of a database file, with an error message for each reason why it cannot be used.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::config::Config;

/// The most links that are followed one after the other, as on Linux.
const LINKS: usize = 40;

/// The endings of the files that `SQLite` keeps next to a database: the log and its index.
pub const LOG_SUFFIX: &str = "-wal";
pub const INDEX_SUFFIX: &str = "-shm";

/// The path of a file without symbolic links. The file may not exist yet. `SQLite` names the log after this path.
pub fn canonical(config: &Config, path: &Path) -> Result<PathBuf> {
    let path = resolve(config, path)?;
    let name = path.as_os_str().as_encoded_bytes();
    // Closing any handle of the index releases the locks that a connection to its database holds. And SQLite removes
    // both files with the last connection.
    for suffix in [LOG_SUFFIX, INDEX_SUFFIX] {
        if name.ends_with(suffix.as_bytes()) {
            return Err(Error::configuration(format!(
                "{}: {} cannot be a database, because SQLite gives names that end with {suffix} to its own files next \
                 to a database: give the path of another file",
                config.address,
                path.display()
            )));
        }
    }
    Ok(path)
}

fn resolve(config: &Config, path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::canonicalize(&path) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(no_folder(config, &path, error)),
        }
        let folder = path.parent().unwrap_or(&path);
        let folder = fs::canonicalize(folder).map_err(|error| no_folder(config, &path, error))?;
        let file = folder.join(path.file_name().unwrap_or_default());
        match fs::read_link(&file) {
            // A link to a file that does not exist yet.
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(file),
        }
    }
    Err(Error::configuration(format!(
        "{}: {} is a symbolic link that leads to no file: name the file itself",
        config.address,
        path.display()
    )))
}

/// Refuses anything but a regular file.
pub fn check_regular<'a>(
    config: &Config,
    path: &Path,
    found: &'a Metadata,
) -> Result<&'a Metadata> {
    if found.is_file() {
        return Ok(found);
    }
    let (what, advice) = if found.is_dir() {
        ("a folder", "name a file in it")
    } else {
        ("no regular file", "name another one")
    };
    Err(Error::configuration(format!(
        "{}: {} is {what}: {advice}",
        config.address,
        path.display()
    )))
}

/// Whether an error means that the name has just changed: of opening a file that existed, or of creating a file.
pub fn was_moved(error: &io::Error, path: &Path, existed: bool) -> bool {
    match error.kind() {
        io::ErrorKind::AlreadyExists => true,
        // Some file systems refuse to create a file with this error.
        io::ErrorKind::NotFound => existed || path.parent().is_some_and(|folder| !folder.is_dir()),
        _ => fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()),
    }
}

/// The error for a file that cannot be opened or created.
pub fn failure(config: &Config, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "{} cannot be opened ({error}): check that this user may read and write it and its folder",
            config.address
        ),
    )
    .caused_by(error)
}

/// The error for a file whose folder cannot be used.
fn no_folder(config: &Config, path: &Path, error: io::Error) -> Error {
    let folder = path.parent().unwrap_or(path).display();
    let address = &config.address;
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{address}: this user has no permission to enter the folder {folder}, or one above it: grant it, or \
                 use another folder"
            ),
        ),
        // A volume may be mounted later.
        io::ErrorKind::NotFound => Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!("{address}: the folder {folder} does not exist: create it, or mount its volume"),
        ),
        io::ErrorKind::NotADirectory => Error::configuration(format!(
            "{address}: {folder} is not a folder: name a file in one"
        )),
        _ => return failure(config, error),
    }
    .caused_by(error)
}
