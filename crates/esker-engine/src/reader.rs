//! Reading from an engine and the log below it.

use std::sync::Arc;

use esker_log::{Log, Result};

use crate::{Engine, Entry, KeyRange, Lookup, Meta, Progress, Scan, VerifyReport, View, verify};

/// The reading side of an open store: the same for one that commits for itself ([`Db`](crate::Db)) and for a replica
/// ([`Replica`](crate::Replica)). Cloning gives another handle.
#[derive(Clone)]
pub struct Reader {
    log: Arc<Log>,
    engine: Arc<dyn Engine>,
}

impl Reader {
    pub(crate) fn new(log: Arc<Log>, engine: Arc<dyn Engine>) -> Self {
        Self { log, engine }
    }

    /// Reads a key, waiting for the disk if need be.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.engine.get(&self.log, key)
    }

    /// Some of these keys are read next; see [`Engine::prefetch`].
    pub fn prefetch(&self, keys: &[&[u8]]) {
        self.engine.prefetch(keys);
    }

    /// Reads a key without ever waiting for the disk.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn try_get(&self, key: &[u8]) -> Result<Lookup> {
        self.engine.lookup(&self.log, key)
    }

    /// A key's version and value length, from memory.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.engine.meta(key)
    }

    /// Iterates over a range at one instant, from both ends, in constant memory. Reading a value may wait for the
    /// disk; with `keys_only` nothing is read from disk.
    pub fn scan(&self, range: &KeyRange, keys_only: bool) -> Scan {
        self.engine.scan(&self.log, range, keys_only)
    }

    /// The state at this instant, for reads that all see it.
    pub fn view(&self) -> View {
        self.engine.view(&self.log)
    }

    /// Reads and checks every byte of the store; `progress` gets (bytes done, bytes in all).
    ///
    /// Errors: `Io`, and what `progress` says. Damage is in the report.
    pub fn verify(&self, progress: Progress<'_>) -> Result<VerifyReport> {
        verify::verify_open(&self.log, self.engine.as_ref(), progress)
    }
}
