//! Group commit under threads: order, answers for everyone, and what a panic does.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use esker_log::{
    Callback, Consumer, Draft, Error, GroupCommit, LogOptions, QueueLimits, Submission, SyncPolicy, Writer,
    clock::ManualClock,
    disk::sim::{CrashMode, Fault, FaultPlan, Ops, SimDisk},
    record::Records,
    signal::Signal,
};
use parking_lot::Mutex;
use support::{draft, open, open_with};

/// Keeps the values in the order in which they are applied.
#[derive(Default)]
struct Recorder {
    applied: Mutex<Vec<Vec<u8>>>,
}

const PANIC: &[u8] = b"panic";

impl Consumer for Recorder {
    type Outcome = u64;

    fn consume(
        &self,
        _log: &esker_log::Log,
        drafts: &[Draft],
        outcomes: &mut Vec<u64>,
    ) -> esker_log::Result<()> {
        for draft in drafts {
            let (_, record) = Records::new(&draft.payload).next().unwrap().unwrap();
            assert_ne!(record.value, PANIC, "as the test asks for");
            self.applied.lock().push(record.value.to_vec());
            outcomes.push(draft.appended_index);
        }
        Ok(())
    }
}

fn group_commit(disk: &SimDisk, policy: SyncPolicy, batches: usize) -> Arc<GroupCommit<Recorder>> {
    group_commit_in(open(disk).unwrap().0.writer, policy, batches)
}

fn group_commit_in(writer: Writer, policy: SyncPolicy, batches: usize) -> Arc<GroupCommit<Recorder>> {
    let limits = QueueLimits { batches, bytes: 1 << 20 };
    let (clock, signal) = (Arc::new(ManualClock::default()), Arc::new(Signal::default()));
    Arc::new(GroupCommit::new(writer, Recorder::default(), clock, policy, limits, signal))
}

fn start_committers(commit: &Arc<GroupCommit<Recorder>>) -> Vec<std::thread::JoinHandle<()>> {
    (0..esker_log::COMMITTERS)
        .map(|_| {
            let commit = Arc::clone(commit);
            std::thread::spawn(move || commit.run_committer())
        })
        .collect()
}

/// Writers and submitters of all policies, a narrow queue, and a background thread that syncs: what is applied is
/// what the log holds, in its order, and each outcome is the frame's index.
#[test]
fn everything_is_applied_once_in_log_order() {
    let disk = SimDisk::new();
    let commit = group_commit(&disk, SyncPolicy::Never, 4);
    let committers = start_committers(&commit);
    let done = AtomicBool::new(false);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                commit.maintain_sync().unwrap();
                commit.log().sync().unwrap();
            }
        });
        let writers: Vec<_> = (0..8_u32)
            .map(|writer| {
                let (commit, outcomes) = (&commit, &outcomes);
                scope.spawn(move || {
                    let mut last = 0;
                    for n in 0..300_u32 {
                        let value = [writer.to_le_bytes(), n.to_le_bytes()].concat();
                        let sync = match n % 3 {
                            0 => Some(SyncPolicy::Always),
                            1 => Some(SyncPolicy::Every(Duration::from_millis(1))),
                            _ => None,
                        };
                        let index = match writer {
                            0..4 => commit.write(draft(&value), sync).unwrap(),
                            4 => wait(|done| commit.submit(draft(&value), sync, done)),
                            5 => loop {
                                match submit_all(commit, [(draft(&value), sync)])[0].recv().unwrap() {
                                    Ok(index) => break index,
                                    Err(Error::Busy { .. }) => std::thread::yield_now(),
                                    Err(other) => panic!("{other}"),
                                }
                            },
                            _ => wait(|done| commit.commit_or_submit(draft(&value), sync, done)),
                        };
                        assert!(index > last, "a writer's own writes are in its order");
                        last = index;
                        outcomes.lock().push((index, value));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
    });
    commit.close();
    committers.into_iter().for_each(|thread| thread.join().unwrap());
    let mut outcomes = outcomes.into_inner();
    outcomes.sort_unstable();
    let expected: Vec<_> = outcomes.into_iter().map(|(_, value)| value).collect();
    assert_eq!(expected.len(), 2400);
    assert_eq!(*commit.consumer().applied.lock(), expected);
    assert_eq!(open(&disk.crash(CrashMode::ProcessKill)).unwrap().1, expected);
}

fn submit_and_wait(commit: &GroupCommit<Recorder>, value: &[u8], sync: Option<SyncPolicy>) -> u64 {
    wait(|done| commit.submit(draft(value), sync, done))
}

/// Submits until it is taken, and waits for the outcome.
fn wait(submit: impl Fn(Callback<u64>) -> esker_log::Result<()>) -> u64 {
    loop {
        let (sender, receiver) = mpsc::channel();
        match submit(Box::new(move |outcome| drop(sender.send(outcome)))) {
            Ok(()) => return receiver.recv().unwrap().unwrap(),
            Err(Error::Busy { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

fn submit_all(
    commit: &GroupCommit<Recorder>,
    drafts: impl IntoIterator<Item = (Draft, Option<SyncPolicy>)>,
) -> Vec<mpsc::Receiver<esker_log::Result<u64>>> {
    submit_all_who(commit, true, drafts)
}

/// The same of one who `may_sync`, or may not.
fn submit_all_who(
    commit: &GroupCommit<Recorder>,
    may_sync: bool,
    drafts: impl IntoIterator<Item = (Draft, Option<SyncPolicy>)>,
) -> Vec<mpsc::Receiver<esker_log::Result<u64>>> {
    let mut receivers = Vec::new();
    let submissions = drafts.into_iter().map(|(draft, sync)| {
        let (sender, receiver) = mpsc::channel();
        receivers.push(receiver);
        Submission { draft, sync, is_quick: true, done: Box::new(move |outcome| drop(sender.send(outcome))) }
    });
    commit.submit_all(submissions.collect::<Vec<_>>(), may_sync);
    receivers
}

/// What is submitted together is one group with one sync, in its order; what finds no room is told so, and nobody else.
#[test]
fn what_is_submitted_together_is_one_group() {
    let groups = |commit: &GroupCommit<Recorder>| commit.counters().groups.load(Ordering::Relaxed);
    let disk = SimDisk::new();
    let commit = group_commit(&disk, SyncPolicy::Never, 100);
    // By the call itself, where nothing has to be waited for.
    let answered = submit_all(&commit, (0..4_u8).map(|n| (draft(&[n]), None)));
    let indexes: Vec<_> = answered.iter().map(|receiver| receiver.try_recv().unwrap().unwrap()).collect();
    assert_eq!(indexes, (1..=4).collect::<Vec<_>>());
    assert_eq!(groups(&commit), 1);
    // Nobody knows how long a sync takes. By a committer, of which there is none yet: so the queue is full after a hundred.
    assert!(!commit.syncs_quickly());
    let synced = submit_all(&commit, (4..109_u8).map(|n| (draft(&[n]), Some(SyncPolicy::Always))));
    let outcomes: Vec<_> = synced.iter().map(mpsc::Receiver::try_recv).collect();
    assert!(outcomes[..100].iter().all(Result::is_err), "they wait");
    assert!(outcomes[100..].iter().all(|told| matches!(told, Ok(Err(Error::Busy { .. })))), "{outcomes:?}");
    assert!(submit_all(&commit, []).is_empty());
    let committers = start_committers(&commit);
    let indexes: Vec<_> = synced[..100].iter().map(|receiver| receiver.recv().unwrap().unwrap()).collect();
    assert_eq!(indexes, (5..=104).collect::<Vec<_>>());
    assert_eq!(groups(&commit), 2);
    commit.close();
    let late = submit_all(&commit, [(draft(b"late"), None)]);
    assert!(matches!(late[0].recv(), Ok(Err(Error::Closed))));
    committers.into_iter().for_each(|thread| thread.join().unwrap());
    let values: Vec<_> = (0..104_u8).map(|n| vec![n]).collect();
    assert_eq!(open(&disk.crash(CrashMode::ProcessKill)).unwrap().1, values);
}

/// A turn of many connections is committed by the call, up to what would keep its thread for long, and what it may wait for.
#[test]
fn what_is_submitted_together_may_be_more_than_one_batch() {
    let turn = |batches: usize, len: usize| (0..batches).map(move |_| (draft(&vec![7; len]), None));
    let synced = || [(draft(b"synced"), Some(SyncPolicy::Always))];
    for (what, by_the_call, may_sync, drafts) in [
        ("much", true, false, turn(200, 1000).collect::<Vec<_>>()),
        ("many", true, true, turn(1024, 100).collect()),
        ("a quick sync", true, true, turn(10, 100).chain(synced()).collect()),
        ("too much", false, true, turn(280, 1000).collect()),
        ("too many", false, true, turn(1025, 1).collect()),
        ("a sync it may not wait for", false, false, turn(10, 100).chain(synced()).collect()),
    ] {
        let options =
            LogOptions { segment_max_bytes: 1 << 20, allocate_bytes: 1 << 20, ..support::options() };
        let log = open_with(&SimDisk::new(), options).unwrap().0;
        let commit = group_commit_in(log.writer, SyncPolicy::Never, 4096);
        while !commit.syncs_quickly() {
            commit.write(draft(b"before"), Some(SyncPolicy::Always)).unwrap();
        }
        let told = submit_all_who(&commit, may_sync, drafts);
        assert!(told.iter().all(|receiver| receiver.try_recv().is_ok() == by_the_call), "{what}");
        let committers = start_committers(&commit);
        commit.close();
        committers.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(by_the_call || told.iter().all(|receiver| receiver.recv().unwrap().is_ok()), "{what}");
    }
}

/// CHECKS 4: whoever syncs what it submits is told no earlier than that it is on the disk, and all of a group if it is not.
#[test]
fn what_is_submitted_together_is_synced_by_the_call_where_that_is_quick() {
    let disk = SimDisk::new();
    let options = LogOptions { segment_max_bytes: 1 << 20, allocate_bytes: 1 << 20, ..support::options() };
    let commit = group_commit_in(open_with(&disk, options).unwrap().0.writer, SyncPolicy::Always, 100);
    while !commit.syncs_quickly() {
        commit.write(draft(b"before"), None).unwrap();
    }
    for turn in 0..20_u8 {
        let answered = submit_all(&commit, (0..3).map(|n| (draft(&[turn, n]), None)));
        assert!(answered.iter().all(|receiver| receiver.try_recv().unwrap().is_ok()));
        let found = open(&disk.after_crash(CrashMode::DropUnsynced)).unwrap().1;
        assert_eq!(found, *commit.consumer().applied.lock());
    }
    let applied = commit.consumer().applied.lock().len();
    disk.inject(FaultPlan::nth(Ops::Syncs, 1, Fault::Io));
    let refused = submit_all(&commit, (0..3).map(|n| (draft(&[20, n]), None)));
    assert!(refused.iter().all(|told| matches!(told.try_recv(), Ok(Err(Error::Poisoned(_))))));
    let late = submit_all(&commit, [(draft(b"late"), None)]);
    assert!(matches!(late[0].try_recv(), Ok(Err(Error::Poisoned(_)))));
    assert_eq!(commit.consumer().applied.lock().len(), applied);
    commit.close();
}

/// What has nothing to wait for is answered by the call that submits it, without a committer; everything else waits for one.
#[test]
fn what_waits_for_nothing_is_committed_at_once() {
    let commit = group_commit(&SimDisk::new(), SyncPolicy::Never, 64);
    let (sender, receiver) = mpsc::channel();
    let submit = |value: &[u8], sync| {
        let sender = sender.clone();
        let done = Box::new(move |outcome: esker_log::Result<u64>| sender.send(outcome.unwrap()).unwrap());
        commit.commit_or_submit(draft(value), sync, done).unwrap();
        receiver.try_recv().ok()
    };
    assert_eq!(submit(b"first", None), Some(1));
    assert_eq!(submit(b"second", Some(SyncPolicy::Every(Duration::from_secs(1)))), Some(2));
    assert_eq!(submit(&[7; 40 << 10], None), None, "so much is for a committer");
    assert_eq!(submit(b"behind", None), None, "what waits comes first");
    let committers = start_committers(&commit);
    assert_eq!([receiver.recv().unwrap(), receiver.recv().unwrap()], [3, 4]);
    commit.brake().set(Duration::from_secs(3600));
    assert_eq!(submit(b"slowed", None), None, "a committer waits for the brake");
    commit.brake().set(Duration::ZERO);
    assert_eq!(receiver.recv().unwrap(), 5);
    let synced = submit(b"synced", Some(SyncPolicy::Always));
    assert_eq!(synced.unwrap_or_else(|| receiver.recv().unwrap()), 6);
    commit.close();
    committers.into_iter().for_each(|thread| thread.join().unwrap());
    let applied = commit.consumer().applied.lock();
    let last: Vec<_> = applied.iter().skip(3).map(Vec::as_slice).collect();
    assert_eq!(last, [&b"behind"[..], b"slowed", b"synced"]);
}

/// A callback submits what could be committed at once, while groups before it wait to be applied: nobody waits for ever.
#[test]
fn callbacks_may_submit() {
    let commit = group_commit(&SimDisk::new(), SyncPolicy::Never, 1024);
    let committers = start_committers(&commit);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (commit, sender) = (&commit, sender.clone());
            scope.spawn(move || {
                for n in 0..200 {
                    let (again, answer) = (Arc::clone(commit), sender.clone());
                    let done = move |outcome: esker_log::Result<u64>| {
                        outcome.unwrap();
                        let done = Box::new(move |outcome| answer.send(outcome).unwrap());
                        again.commit_or_submit(draft(b"again"), None, done).unwrap();
                    };
                    let sync = (n % 4 > 0).then_some(SyncPolicy::Always);
                    commit.commit_or_submit(draft(b"first"), sync, Box::new(done)).unwrap();
                }
            });
        }
        for _ in 0..800 {
            receiver.recv_timeout(Duration::from_secs(60)).expect("an answer").unwrap();
        }
    });
    commit.close();
    committers.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(commit.consumer().applied.lock().len(), 1600);
}

/// Who is slowed down however much is let go when the store closes, and its batch is committed.
#[test]
fn closing_waits_for_no_brake() {
    let commit = group_commit(&SimDisk::new(), SyncPolicy::Never, 64);
    commit.brake().set(Duration::from_secs(3600));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| commit.write(draft(b"slowed"), None));
        while commit.brake().waited().is_zero() {
            std::thread::yield_now();
        }
        commit.close();
        assert_eq!(writer.join().unwrap().unwrap(), 1);
    });
    assert_eq!(*commit.consumer().applied.lock(), [b"slowed"]);
}

/// CHECKS 4: everyone in a group whose sync fails is told so, and nothing of it is applied.
#[test]
fn a_failed_sync_is_everybodys_answer() {
    let disk = SimDisk::new();
    let commit = group_commit(&disk, SyncPolicy::Always, 64);
    commit.write(draft(b"before"), None).unwrap();
    disk.inject(FaultPlan::nth(Ops::Syncs, 3, Fault::Io));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut refused = false;
                for _ in 0..10 {
                    let outcome = commit.write(draft(b"while it fails"), None);
                    assert!(!(refused && outcome.is_ok()), "a poisoned log takes no writes");
                    refused |= outcome.is_err();
                }
                assert!(refused);
            });
        }
    });
    commit.close();
    let applied = commit.consumer().applied.lock().len();
    let found = open(&disk.crash(CrashMode::DropUnsynced)).unwrap().1.len();
    assert!(found >= applied, "{applied} were acknowledged, {found} are there");
}

/// Waits for `threads` as long as a hang takes to be sure of.
fn join_or_report_hang(threads: Vec<std::thread::JoinHandle<()>>) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let joined: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
        // Nobody listens any more once a hang was reported.
        let _ = sender.send(joined.into_iter().all(|joined| joined.is_ok()));
    });
    assert!(receiver.recv_timeout(Duration::from_secs(20)).expect("threads hang"), "a thread panicked");
}

/// A panic while applying poisons the log; nobody is left waiting, and nothing is applied behind the gap.
#[test]
fn a_panic_while_applying_poisons_and_leaves_nobody_waiting() {
    for policy in [SyncPolicy::Always, SyncPolicy::Never] {
        let disk = SimDisk::new();
        let commit = group_commit(&disk, policy, 64);
        let mut threads = start_committers(&commit);
        for writer in 0..6 {
            let commit = Arc::clone(&commit);
            threads.push(std::thread::spawn(move || {
                let mut refused = false;
                for n in 0..200 {
                    let value: &[u8] = if writer == 3 && n == 50 { PANIC } else { b"value" };
                    match commit.write(draft(value), None) {
                        Ok(_) => assert!(!refused, "a poisoned log takes no writes"),
                        Err(Error::Poisoned(why)) => {
                            refused = true;
                            assert!(why.contains("panic"), "{why}");
                        }
                        // Another writer has closed it.
                        Err(Error::Closed) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                if writer == 3 {
                    assert!(refused);
                    commit.close();
                }
            }));
        }
        join_or_report_hang(threads);
    }
}

/// A panic in the answer to one batch is nobody else's.
#[test]
fn a_panic_in_a_callback_leaves_nobody_waiting() {
    let disk = SimDisk::new();
    let commit = group_commit(&disk, SyncPolicy::Never, 64);
    let mut threads = start_committers(&commit);
    commit.submit(draft(b"first"), None, Box::new(|_| panic!("as the test asks for"))).unwrap();
    let user = Arc::clone(&commit);
    threads.push(std::thread::spawn(move || {
        for _ in 0..10 {
            submit_and_wait(&user, b"next", None);
            user.write(draft(b"next"), None).unwrap();
        }
        user.close();
    }));
    join_or_report_hang(threads);
    assert_eq!(commit.consumer().applied.lock().len(), 21);
}
