//! The `pthread_atfork` handlers, for ids and stores.
//!
//! They run for `os.fork()`, `multiprocessing` and libc's `fork()`. A bare system call runs no handlers; on Linux the
//! engine of ids detects it by a word that the system sets to zero in the child.

use std::ptr::null_mut;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Once, Weak};

use parking_lot::Mutex;

use crate::store::shared::Shared;
use crate::store::signals;

static STORES: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
/// The stores that were open before the fork, kept until after it.
static OPEN_STORES: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

#[allow(unsafe_code, reason = "libc's interface")]
/// Registers the handlers, once in a process.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(word) = wiped_in_children() {
            mintkey_ids::watch_forks(word);
        }
        // SAFETY: the three functions live as long as the process, have no arguments and no result. The module is
        // never unloaded: Python keeps extension modules for the life of the process.
        unsafe {
            libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
        }
    });
}

/// A word of its own page, which the system sets to zero in each child.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(unsafe_code, reason = "libc's interface")]
fn wiped_in_children() -> Option<&'static AtomicU32> {
    let size = size_of::<AtomicU32>();
    // SAFETY: a new private mapping of at least one page is zero, aligned, not shared and never unmapped once it is
    // returned. The system writes to it only by giving a child another page of zeros before the child runs.
    unsafe {
        let page = libc::mmap(
            null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, size, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, size);
            return None;
        }
        Some(&*page.cast::<AtomicU32>())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn wiped_in_children() -> Option<&'static AtomicU32> {
    None
}

/// Adds a store to the handlers.
pub fn watch(store: &Arc<Shared>) {
    let mut stores = STORES.lock();
    stores.retain(|known| known.strong_count() > 0);
    stores.push(Arc::downgrade(store));
}

extern "C" fn before() {
    let stores = STORES.lock();
    let mut open_stores = OPEN_STORES.lock();
    *open_stores = stores.iter().filter_map(Weak::upgrade).collect();
    for store in &*open_stores {
        store.before_fork();
    }
    mintkey_ids::before_fork();
    // Both locks stay held across the fork, so that no other thread's hold on them is copied into the child.
    std::mem::forget((stores, open_stores));
}

extern "C" fn in_parent() {
    mintkey_ids::in_parent();
    release(Shared::in_parent);
}

extern "C" fn in_child() {
    signals::in_child();
    mintkey_ids::in_child();
    release(Shared::in_child);
}

#[allow(unsafe_code, reason = "the locks are held across the fork")]
fn release(after: impl Fn(&Shared)) {
    // SAFETY: `before` ran on this thread, locked both and forgot the guards, so this thread (in the child: its copy)
    // owns both locks and no other thread can access what they guard.
    let open_stores = unsafe {
        let open_stores = std::mem::take(&mut *OPEN_STORES.data_ptr());
        OPEN_STORES.force_unlock();
        STORES.force_unlock();
        open_stores
    };
    for store in &open_stores {
        after(store);
    }
}
