//! A defect in what applies the groups leaves nobody waiting: every writer is answered and the log is poisoned.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use esker_log::{
    COMMITTERS, Consumer, Draft, Error, GroupCommit, LogOptions, Opening, Position, QueueLimits, SyncPolicy,
    clock::ManualClock,
    disk::sim::SimDisk,
    format::SEGMENT_HEADER_LEN,
    record::{RecordKind, encode_record},
};

/// Applies so many groups, then panics once.
struct Brittle(AtomicU64);

impl Consumer for Brittle {
    type Outcome = u64;

    fn consume(
        &self,
        _log: &esker_log::Log,
        drafts: &[Draft],
        outcomes: &mut Vec<u64>,
    ) -> esker_log::Result<()> {
        outcomes.extend(drafts.iter().map(|draft| draft.appended_index));
        assert!(self.0.fetch_sub(1, Ordering::Relaxed) != 1, "a defect");
        Ok(())
    }
}

fn commit(policy: SyncPolicy) -> GroupCommit<Brittle> {
    let options = LogOptions::default();
    let opening =
        Opening::begin(Arc::new(SimDisk::new()), Path::new("/d"), options, || Ok(*b"defects-defects!"))
            .unwrap();
    let from = Position { segment: 1, offset: SEGMENT_HEADER_LEN as u32 };
    let writer = opening.recover(from, HashMap::new(), &mut |_| Ok(())).unwrap().writer;
    let limits = QueueLimits { batches: 100, bytes: 1 << 20 };
    let clock = Arc::new(ManualClock::default());
    GroupCommit::new(writer, Brittle(AtomicU64::new(3)), clock, policy, limits, Arc::default())
}

fn draft() -> Draft {
    let mut payload = Vec::new();
    encode_record(&mut payload, RecordKind::Put, b"key", b"value").unwrap();
    Draft::next(0, payload, 1)
}

fn check(policy: SyncPolicy) {
    let commit = commit(policy);
    let (sender, receiver) = mpsc::channel();
    let (mut committed, mut poisoned) = (0, 0);
    std::thread::scope(|scope| {
        for _ in 0..COMMITTERS {
            scope.spawn(|| commit.run_committer());
        }
        for _ in 0..4 {
            let (commit, sender) = (&commit, sender.clone());
            scope.spawn(move || {
                for _ in 0..10 {
                    sender.send(commit.write(draft(), None)).unwrap();
                    let answer = sender.clone();
                    let done = move |outcome| answer.send(outcome).unwrap();
                    if let Err(refused) = commit.submit(draft(), None, Box::new(done)) {
                        sender.send(Err(refused)).unwrap();
                    }
                }
            });
        }
        for outcome in receiver.iter().take(80) {
            match outcome {
                Ok(_) => committed += 1,
                Err(Error::Poisoned(why)) if why.contains("applying a batch: it panicked") => poisoned += 1,
                Err(other) => panic!("{other}"),
            }
        }
        commit.close();
    });
    assert!(committed > 0 && poisoned > 0, "{committed} {poisoned}");
    assert!(commit.log().poison().is_some());
}

#[test]
fn a_consumer_that_panics_leaves_nobody_waiting() {
    check(SyncPolicy::Always);
    check(SyncPolicy::Never);
}
