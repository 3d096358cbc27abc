//! Readiness: a closed list of named conditions, each with the reason why it does not hold.
//!
//! Liveness has no conditions: a process that answers is alive, and one that cannot do its work says so through
//! readiness instead of being killed in a loop.

use std::sync::{Arc, Mutex, PoisonError};

/// The readiness conditions of one process.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    name: &'static str,
    missing: Option<String>,
}

/// One condition; whoever holds it says whether it holds.
#[derive(Clone)]
pub struct Condition {
    health: Health,
    index: usize,
}

impl Health {
    /// Adds a condition that does not hold yet.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry {
            name,
            missing: Some("not yet".to_owned()),
        });
        Condition {
            health: self.clone(),
            index: entries.len() - 1,
        }
    }

    /// Whether every condition holds, and the list for a person.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for entry in entries.iter() {
            match &entry.missing {
                None => text += &format!("[+] {}\n", entry.name),
                Some(why) => text += &format!("[-] {}: {why}\n", entry.name),
            }
        }
        (entries.iter().all(|entry| entry.missing.is_none()), text)
    }

    fn set(&self, index: usize, missing: Option<String>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(index) {
            entry.missing = missing;
        }
    }
}

impl Condition {
    /// The condition holds.
    pub fn met(&self) {
        self.health.set(self.index, None);
    }

    /// The condition does not hold (any more).
    pub fn missing(&self, why: impl Into<String>) {
        self.health.set(self.index, Some(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_condition_is_met() {
        let health = Health::default();
        let (policy, tpm) = (health.condition("policy"), health.condition("tpm"));
        assert!(!health.report().0);
        policy.met();
        tpm.missing("no device");
        assert_eq!(
            health.report(),
            (false, "[+] policy\n[-] tpm: no device\n".to_owned())
        );
        tpm.met();
        assert_eq!(health.report(), (true, "[+] policy\n[+] tpm\n".to_owned()));
        policy.missing("the ConfigMap does not parse");
        assert!(!health.report().0);
    }
}
