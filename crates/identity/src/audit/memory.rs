//! The audit log in memory, for tests and for trying things out.

use std::sync::{Mutex, PoisonError};

use crate::{AuditEntry, AuditEvent, AuditLog, AuditPage, Chain, Pending, Verdict};

/// An audit log that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryAudit(Mutex<Vec<AuditEntry>>);

impl MemoryAudit {
    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Vec<AuditEntry>) -> T) -> Pending<'_, T> {
        let outcome = act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(std::future::ready(Ok(outcome)))
    }
}

impl AuditLog for MemoryAudit {
    fn append(&self, event: AuditEvent) -> Pending<'_, u64> {
        self.with(|rows| {
            let mut chain =
                rows.last().map_or_else(Chain::default, |last| Chain::after(last.number, last.hash));
            let (number, hash) = chain.add(&event);
            rows.push(AuditEntry { number, event, hash });
            number
        })
    }

    fn page(&self, before: Option<u64>, limit: u32) -> Pending<'_, AuditPage> {
        self.with(|rows| {
            let older = rows.iter().rev().filter(|row| before.is_none_or(|before| row.number < before));
            let mut entries: Vec<AuditEntry> = older.take(limit as usize + 1).cloned().collect();
            let more = entries.len() > limit as usize;
            entries.truncate(limit as usize);
            let next = entries.last().filter(|_| more).map(|last| last.number);
            AuditPage { entries, next }
        })
    }

    fn verify(&self) -> Pending<'_, Verdict> {
        self.with(|rows| {
            let mut chain = Chain::default();
            let broken = rows.iter().find_map(|row| chain.check(row).err().map(|say| (row.number, say)));
            Verdict { rows: chain.rows(), head: chain.head(), broken }
        })
    }
}
