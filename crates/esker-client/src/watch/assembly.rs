//! Puts the events of each version together, so that a version is handed over whole or not at all.
//!
//! A stream may break between two events of one batch, and the next one begins with the batch's first. So events wait until
//! the last one of their version has come, and those of a version that was cut off are forgotten. The wait is bounded in
//! bytes. Pure: what comes and breaks is told to it.

use std::collections::VecDeque;

use esker_wire::ErrorCode;

use super::event::{Signal, WatchEvent};

/// Why a stream cannot be followed any further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The events of one version are more than may be held.
    TooLarge,
    /// Its events are not in the order that was promised; in words.
    Disorder(String),
    /// Look anew: what happened behind this version cannot be told.
    Resync { version: u64, message: String },
    /// The server cannot go on now.
    Failed { code: ErrorCode, message: String },
}

/// Events on their way to the caller.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Whole versions were received up to this one; `None` before anything is known.
    received: Option<u64>,
    /// Whole versions were handed over up to this one.
    handed: Option<u64>,
    /// The events of a version that is not whole yet.
    pending: Vec<WatchEvent>,
    pending_bytes: usize,
    bytes_max: usize,
    /// Events of whole versions, not handed over yet.
    ready: VecDeque<WatchEvent>,
}

impl Assembly {
    /// Begins behind a version. The events of one version may take so many bytes.
    pub(super) fn behind(version: Option<u64>, bytes_max: usize) -> Self {
        Self {
            received: version,
            handed: version,
            pending: Vec::new(),
            pending_bytes: 0,
            bytes_max,
            ready: VecDeque::new(),
        }
    }

    /// Behind which version the stream is to go on when it breaks now.
    pub(super) fn received(&self) -> Option<u64> {
        self.received
    }

    /// Up to which version everything was handed over.
    pub(super) fn handed(&self) -> Option<u64> {
        self.handed
    }

    /// The next event of a whole version.
    pub(super) fn pop(&mut self) -> Option<WatchEvent> {
        let event = self.ready.pop_front()?;
        if self.ready.is_empty() {
            self.handed = self.received;
        }
        Some(event)
    }

    /// The stream broke.
    pub(super) fn forget_pending(&mut self) {
        self.pending = Vec::new();
        self.pending_bytes = 0;
    }

    /// Takes what came; says whether it made something whole, which is to be [popped](Assembly::pop) before more is taken.
    pub(super) fn take(&mut self, signal: Signal) -> Result<bool, Refused> {
        match signal {
            Signal::Resync { version, message } => Err(Refused::Resync { version, message }),
            Signal::Failed { code, message } => Err(Refused::Failed { code, message }),
            Signal::Progress(version) => self.progress(version),
            Signal::Change { event, last } => self.change(event, last),
        }
    }

    fn progress(&mut self, version: u64) -> Result<bool, Refused> {
        if !self.pending.is_empty() {
            return Err(Refused::Disorder(format!("progress to {version} within a version")));
        }
        if self.received.is_some_and(|received| version < received) {
            // Another node that is behind ours: it says nothing new.
            return Ok(false);
        }
        self.whole(version);
        self.ready.push_back(WatchEvent::Progress { version });
        Ok(true)
    }

    fn change(&mut self, event: WatchEvent, last: bool) -> Result<bool, Refused> {
        let version = event.version();
        if let Some(begun) = self.pending.first().map(WatchEvent::version)
            && begun != version
        {
            return Err(Refused::Disorder(format!("version {version} within version {begun}")));
        }
        if self.received.is_some_and(|received| version <= received) {
            // Had before: never handed over twice.
            return Ok(false);
        }
        self.pending_bytes += event.size();
        if self.pending_bytes > self.bytes_max {
            return Err(Refused::TooLarge);
        }
        self.pending.push(event);
        if last {
            self.whole(version);
        }
        Ok(last)
    }

    fn whole(&mut self, version: u64) {
        self.received = Some(version);
        self.pending_bytes = 0;
        self.ready.extend(std::mem::take(&mut self.pending));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(version: u64, at: usize) -> WatchEvent {
        WatchEvent::Delete { key: format!("{version}/{at}").into(), version }
    }

    fn change(version: u64, at: usize, last: bool) -> Signal {
        Signal::Change { event: event(version, at), last }
    }

    fn drain(assembly: &mut Assembly) -> Vec<WatchEvent> {
        std::iter::from_fn(|| assembly.pop()).collect()
    }

    #[test]
    fn nothing_of_a_version_is_handed_over_before_all_of_it_came() {
        let mut assembly = Assembly::behind(Some(3), 1 << 20);
        assert_eq!(assembly.take(change(5, 0, false)), Ok(false));
        assert_eq!(assembly.pop(), None);
        assert_eq!(assembly.take(change(5, 1, true)), Ok(true));
        assert_eq!((assembly.received(), assembly.handed()), (Some(5), Some(3)));
        assert_eq!(assembly.pop(), Some(event(5, 0)));
        assert_eq!(assembly.handed(), Some(3), "half of it");
        assert_eq!(assembly.pop(), Some(event(5, 1)));
        assert_eq!(assembly.handed(), Some(5));
    }

    #[test]
    fn what_was_had_or_says_nothing_new_is_passed_over() {
        let mut assembly = Assembly::behind(Some(5), 1 << 20);
        assert_eq!(assembly.take(change(5, 0, true)), Ok(false));
        assert_eq!(assembly.take(Signal::Progress(4)), Ok(false));
        assert_eq!(assembly.take(Signal::Progress(6)), Ok(true));
        assert_eq!(drain(&mut assembly), [WatchEvent::Progress { version: 6 }]);
    }

    #[test]
    fn disorder_and_hoarding_are_refused() {
        let mut assembly = Assembly::behind(None, 1 << 20);
        assert_eq!(assembly.take(change(5, 0, false)), Ok(false));
        assert!(matches!(assembly.take(change(6, 0, true)), Err(Refused::Disorder(_))));
        assert!(matches!(assembly.take(Signal::Progress(6)), Err(Refused::Disorder(_))));
        let mut small = Assembly::behind(None, 300);
        let taken = (0..10).map(|at| small.take(change(1, at, false))).find(Result::is_err);
        assert_eq!(taken, Some(Err(Refused::TooLarge)));
    }

    proptest! {
        /// However often and wherever the stream is cut, every event is handed over once, in order.
        #[test]
        fn cuts_neither_repeat_nor_lose(
            sizes in proptest::collection::vec(1_usize..4, 1..12),
            cuts in proptest::collection::vec(0_usize..10, 0..12),
        ) {
            let history: Vec<(WatchEvent, bool)> = sizes
                .iter()
                .zip(1..)
                .flat_map(|(&size, version)| (0..size).map(move |at| (event(version, at), at + 1 == size)))
                .collect();
            let (mut assembly, mut got) = (Assembly::behind(Some(0), 1 << 20), Vec::new());
            for taken in cuts.into_iter().chain([history.len()]) {
                let behind = assembly.received().unwrap();
                let rest = history.iter().filter(|(event, _)| event.version() > behind);
                for (event, last) in rest.take(taken) {
                    if assembly.take(Signal::Change { event: event.clone(), last: *last }).unwrap() {
                        got.extend(drain(&mut assembly));
                    }
                }
                assembly.forget_pending();
            }
            let all: Vec<_> = history.into_iter().map(|(event, _)| event).collect();
            prop_assert_eq!(got, all);
        }
    }
}
