//! Panics of tasks: tokio hands them to whoever waits for the task, which nobody does for most of a node's.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Gathers the panics of this thread until it is asked for them.
pub(super) struct Panics(());

impl Panics {
    pub(super) fn gather() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let note = |seen: &mut Option<Vec<String>>| match seen {
                    Some(seen) => {
                        seen.push(info.to_string());
                        true
                    }
                    None => false,
                };
                if !SEEN.with_borrow_mut(note) {
                    usual(info);
                }
            }));
        });
        SEEN.set(Some(Vec::new()));
        Self(())
    }

    /// Those so far.
    pub(super) fn take(&self) -> Vec<String> {
        SEEN.with_borrow_mut(|seen| seen.as_mut().map(std::mem::take)).unwrap_or_default()
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        SEEN.set(None);
    }
}
