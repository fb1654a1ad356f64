//! One file under several paths: links, folders with `..`, renamed files.
#![cfg(unix)]

mod common;
use mintkey_store_testkit::requests;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mintkey_store::store::Never;
use mintkey_store::{ErrorKind, Outcome, Store};
use requests::*;

/// A folder with `real`, which contains the database, and links to it.
struct Paths {
    folder: tempfile::TempDir,
}

impl Paths {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("folder")).unwrap();
        symlink("real/test.db", folder.path().join("link.db")).unwrap();
        symlink(
            folder.path().join("link.db"),
            folder.path().join("real/again.db"),
        )
        .unwrap();
        Self { folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn open(&self, path: &str) -> Arc<dyn Store> {
        mintkey_sqlite::open(&url(&self.at(path))).unwrap()
    }
}

fn url(path: &Path) -> String {
    format!("sqlite:///{}?timeout=60", path.display())
}

/// All lead to the same file.
const SPELLINGS: [&str; 6] = [
    "real/test.db",
    "real/../real/test.db",
    "folder/test.db",
    "link.db",
    "folder/again.db",
    "real/./test.db",
];

fn save(store: &dyn Store, sort: &str) {
    put(store, &orders(), order("a", sort, &[])).unwrap();
}

fn count(store: &dyn Store) -> usize {
    scan(store, scan_of(&orders())).len()
}

#[test]
fn stores_of_every_spelling_share_a_file() {
    for first in SPELLINGS {
        let paths = Paths::new();
        // Opening a link to a file that does not exist creates its target.
        let opened = paths.open(first);
        save(&*opened, first);
        assert!(paths.at("real/test.db-wal").exists(), "{first}");
        let stores = SPELLINGS.map(|path| paths.open(path));
        for (store, path) in stores.iter().zip(SPELLINGS) {
            save(&**store, path);
        }
        for (number, store) in stores.iter().enumerate() {
            assert_eq!(count(&**store), SPELLINGS.len(), "{}", SPELLINGS[number]);
            store.close(&Never);
            save(&*opened, first);
        }
        opened.close(&Never);
        let left = fs::read_dir(paths.at("real")).unwrap().count();
        assert_eq!(left, 2, "the database and a link: {first}");
    }
}

#[test]
fn a_new_file_belongs_to_its_owner_alone() {
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (parameter, expected) in [("", 0o600), ("&mode=666", 0o666), ("&mode=640", 0o640)] {
        let paths = Paths::new();
        let file = paths.at("real/test.db");
        let store = mintkey_sqlite::open(&(url(&file) + parameter)).unwrap();
        save(&*store, "1");
        for name in ["real/test.db", "real/test.db-wal", "real/test.db-shm"] {
            assert_eq!(mode(paths.at(name)), expected, "{name}");
        }
        store.close(&Never);
        // An existing file keeps its permissions.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        save(&*paths.open("link.db"), "2");
        assert_eq!(mode(file), 0o644);
    }
}

#[test]
fn two_names_of_one_file_are_refused_while_one_is_open() {
    let paths = Paths::new();
    let store = paths.open("real/test.db");
    save(&*store, "1");
    fs::hard_link(paths.at("real/test.db"), paths.at("real/hard.db")).unwrap();
    let other = paths.open("folder/hard.db");
    let error = put(&*other, &orders(), order("a", "2", &[])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    for name in ["real/test.db", "real/hard.db"] {
        assert!(message(&error).contains(name), "{error}");
    }
    let read = run(&*other, get_of(&orders(), key("a", "1")));
    assert_eq!(kind(read), ErrorKind::Configuration);
    save(&*store, "2");
    store.close(&Never);
    assert_eq!(count(&*other), 2);
    // Now the first name is refused.
    let error = put(&*paths.open("link.db"), &orders(), order("a", "3", &[]));
    assert_eq!(kind(error), ErrorKind::Configuration);
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let paths = Paths::new();
    let pipe = paths.at("real/test.db");
    nix_mkfifo(&pipe);
    symlink("loop.db", paths.at("loop.db")).unwrap();
    symlink("missing/test.db", paths.at("lost.db")).unwrap();
    let unavailable = ErrorKind::Unavailable(Outcome::NotApplied);
    for (path, kind, part) in [
        ("link.db", ErrorKind::Configuration, "no regular file"),
        ("lost.db", unavailable, "missing does not exist"),
        ("real", ErrorKind::Configuration, "is a folder"),
        ("folder", ErrorKind::Configuration, "is a folder"),
    ] {
        let error = put(&*paths.open(path), &orders(), order("a", "1", &[])).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(message(&error).contains(part), "{error}");
    }
    let error = put(&*paths.open("loop.db"), &orders(), order("a", "1", &[])).unwrap_err();
    assert!(message(&error).contains("loop.db"), "{error}");
}

fn nix_mkfifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_link_that_leads_elsewhere_is_followed() {
    let paths = Paths::new();
    fs::create_dir(paths.at("new")).unwrap();
    let (old, new) = (paths.open("real/test.db"), paths.open("new/test.db"));
    save(&*new, "1");
    let store = paths.open("link.db");
    for sort in ["1", "2", "3"] {
        save(&*store, sort);
    }
    fs::remove_file(paths.at("link.db")).unwrap();
    symlink("new/test.db", paths.at("link.db")).unwrap();
    // A read may return rows of a moment ago, but not for long.
    while count(&*store) == 3 {}
    save(&*store, "2");
    assert_eq!((count(&*store), count(&*new), count(&*old)), (2, 2, 3));
}

#[test]
fn a_file_that_moves_behind_a_link_stays_one_file() {
    let paths = Paths::new();
    let store = paths.open("real/test.db");
    save(&*store, "1");
    store.close(&Never);
    let store = paths.open("real/test.db");
    save(&*store, "2");
    // The folder is renamed, with all files in it, and a link takes its name.
    fs::rename(paths.at("real"), paths.at("moved")).unwrap();
    symlink("moved", paths.at("real")).unwrap();
    let other = paths.open("moved/test.db");
    save(&*other, "3");
    save(&*store, "4");
    assert_eq!((count(&*store), count(&*other)), (4, 4));
}

/// Two stores with different paths, and their files are lost: both must close their connections before either opens the
/// new files.
#[test]
fn lost_files_are_lost_to_all_spellings() {
    let paths = Paths::new();
    let stores = SPELLINGS.map(|path| paths.open(path));
    for round in 0..3 {
        for store in &stores {
            save(&**store, &round.to_string());
            assert_eq!(count(&**store), 1);
        }
        for name in ["real/test.db", "real/test.db-wal", "real/test.db-shm"] {
            fs::remove_file(paths.at(name)).unwrap();
        }
    }
    for (store, path) in stores.iter().zip(SPELLINGS) {
        save(&**store, path);
    }
    for store in &stores {
        assert_eq!(count(&**store), SPELLINGS.len());
        store.close(&Never);
    }
    let inside = rusqlite::Connection::open(paths.at("real/test.db")).unwrap();
    let check: String = inside
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}
