//! All engines, to be held to the same contract.

use std::{path::Path, sync::Arc};

use esker_engine::{Db, Environment, MemoryEngine, Options, Result};
use esker_log::signal::Signal;

/// An engine under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineKind {
    Bitcask,
    Memory,
}

pub(crate) const ENGINES: [EngineKind; 2] = [EngineKind::Bitcask, EngineKind::Memory];

impl EngineKind {
    pub(crate) fn open(self, environment: &Environment, dir: &Path, options: Options) -> Result<Db> {
        match self {
            Self::Bitcask => Db::open_in(environment, dir, options),
            Self::Memory => {
                let (engine, signal) = (
                    Arc::new(MemoryEngine::new(Arc::clone(&environment.clock))),
                    Arc::new(Signal::default()),
                );
                Db::open_engine(environment, dir, options, engine, signal)
            }
        }
    }
}
