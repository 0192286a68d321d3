//! A watch that ends when its caller's right does: it may go on for days, and the list of users change meanwhile.

use esker_cluster::{Admit, Result, Room, Watch, WatchEvent};
use esker_engine::KeyRange;
use tokio::sync::watch::Receiver;

use super::Door;

/// See the module.
pub(crate) struct GuardedWatch {
    door: Door,
    range: KeyRange,
    watch: Watch,
    /// Whether the list of users was replaced; `None`: nobody is asked.
    replaced: Option<Receiver<()>>,
    has_ended: bool,
}

impl GuardedWatch {
    pub(super) fn new(door: Door, range: KeyRange, watch: Watch) -> Self {
        let replaced = door.access.replacements();
        Self { door, range, watch, replaced, has_ended: false }
    }

    /// See [`Watch::admitting`].
    pub(crate) fn admitting(self, admit: Admit) -> Self {
        Self { watch: self.watch.admitting(admit), ..self }
    }

    /// See [`Watch::next`]. Once the caller's right is gone, nothing more is told than that; who has nothing to be told is told as
    /// soon as the list of users was replaced.
    pub(crate) async fn next(&mut self) -> Option<Result<WatchEvent>> {
        while !self.has_ended {
            let event = tokio::select! {
                event = self.watch.next() => Some(event?),
                () = next_list(&mut self.replaced) => None,
            };
            self.door.refresh();
            if let Err(denied) = self.door.may_watch(&self.range) {
                self.has_ended = true;
                return Some(Err(denied));
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// See [`Watch::take_room`].
    pub(crate) fn take_room(&mut self) -> Option<Room> {
        self.watch.take_room()
    }
}

/// Waits until the list of users was replaced.
async fn next_list(replaced: &mut Option<Receiver<()>>) {
    let is_replaced = match replaced {
        Some(replaced) => replaced.changed().await.is_ok(),
        None => false,
    };
    if !is_replaced {
        std::future::pending::<()>().await;
    }
}
