//! Clusters of real processes on this machine: started, killed, paused, cut off, under load, with the history checked.
//!
//! On loopback, or each node in a network namespace of its own, where nft parts them. Time is real here: whoever waits,
//! waits for a condition.

mod cluster;
mod load;
mod namespaces;
mod node;
mod ports;
pub mod scenarios;
mod target;
pub mod torment;

use std::{io, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

pub use cluster::{Cluster, ClusterOptions, Layout};
pub use load::{Report, under_load};
pub use ports::Ports;
pub use target::ClientTarget;

/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something; an error after `within`.
pub(crate) async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let deadline = Instant::now() + within;
    let mut looks = interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let message = format!("{what}: not within {within:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
}
