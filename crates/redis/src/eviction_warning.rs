//! Whether a full server drops rows by itself: said once for each store.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was heard of it when signing in.
///
/// Nothing here waits for a lock: another thread may have held it in a process that forked.
#[derive(Debug, Default)]
pub struct Eviction {
    heard: AtomicBool,
    untold: AtomicBool,
    warning: Mutex<Option<String>>,
}

impl Eviction {
    /// Takes note of what a server says about itself.
    pub fn hear(&self, address: &str, info: &str) {
        let said = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let Some(policy) = said("maxmemory_policy").filter(|policy| *policy != "noeviction") else {
            return;
        };
        if self.heard.swap(true, Ordering::SeqCst) {
            return;
        }
        let victims = if policy.starts_with("volatile") {
            "rows that have an expiry, before their time"
        } else {
            "rows, and with them whole orders and indexes"
        };
        let room = match said("maxmemory") {
            Some("0") | None => "no maxmemory is set now".to_owned(),
            Some(bytes) => format!("maxmemory is {bytes} bytes"),
        };
        if let Ok(mut warning) = self.warning.try_lock() {
            *warning = Some(format!(
                "{address} has maxmemory-policy {policy}: when it is full it drops {victims}, without a word \
                 ({room}). Set maxmemory-policy noeviction; then it refuses writes instead"
            ));
            self.untold.store(true, Ordering::SeqCst);
        }
    }

    /// The warning, the first time that it is asked for.
    pub fn tell(&self) -> Option<String> {
        if !self.untold.load(Ordering::Relaxed) {
            return None;
        }
        let warning = self.warning.try_lock().ok()?.take();
        self.untold.store(false, Ordering::SeqCst);
        warning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(info: &str) -> Option<String> {
        let eviction = Eviction::default();
        eviction.hear("redis://here", info);
        eviction.tell()
    }

    #[test]
    fn only_a_policy_that_drops_rows_is_worth_a_word() {
        assert_eq!(told("redis_version:7.0.0\r\n"), None);
        assert_eq!(
            told("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n"),
            None
        );
        let warning = told("maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n").unwrap();
        assert!(warning.contains("redis://here"), "{warning}");
        assert!(warning.contains("allkeys-lru"), "{warning}");
        assert!(warning.contains("100 bytes"), "{warning}");
        let warning = told("maxmemory_policy:volatile-ttl\r\n").unwrap();
        assert!(warning.contains("before their time"), "{warning}");
    }

    #[test]
    fn it_is_said_once() {
        let eviction = Eviction::default();
        for address in ["redis://one", "redis://two"] {
            eviction.hear(address, "maxmemory_policy:allkeys-random\r\n");
        }
        assert!(eviction.tell().unwrap().contains("one"));
        assert_eq!(eviction.tell(), None);
        eviction.hear("redis://one", "maxmemory_policy:allkeys-random\r\n");
        assert_eq!(eviction.tell(), None);
    }
}
