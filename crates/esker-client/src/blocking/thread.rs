//! The runtime behind a blocking client.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::{Error, Result};

/// A handle to a runtime with one thread, which drives the connections. What is waited for runs on the caller's thread.
#[derive(Debug, Clone)]
pub(super) struct Thread(Arc<Owned>);

/// `Some` until it is dropped.
#[derive(Debug)]
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Not waiting for its thread is what makes this allowed within another runtime.
            runtime.shutdown_background();
        }
    }
}

impl Thread {
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("esker-client")
            .enable_all()
            .build()
            .map_err(|e| Error::invalid(format!("the client's thread cannot be started: {e}")))?;
        Ok(Self(Arc::new(Owned(Some(runtime)))))
    }

    /// Waits for something. Refused within a runtime, where it would panic.
    pub(super) fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if Handle::try_current().is_ok() {
            return Err(Error::invalid(
                "esker_client::blocking must not be used within an async runtime: use esker_client::Client there",
            ));
        }
        let runtime = self.0.0.as_ref().expect("it is there until the last handle is dropped");
        runtime.block_on(work)
    }
}
