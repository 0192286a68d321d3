//! Appending in a given order: what a replicated log needs.
//!
//! [`GroupCommit`](crate::GroupCommit) shares a log among writers that race for the next index. Here the order is decided
//! before: entries of Raft groups, votes and marks are appended exactly as they were submitted, or not at all. One thread
//! ([`AppendQueue::run`]) takes all that is queued, writes it, syncs once if anybody asks for it, and answers: so many
//! entries, and many groups, share one fdatasync. What gathers meanwhile is the next turn.
//!
//! A full disk does not fail an append, because what comes behind it must not overtake it: the queue waits and tries
//! again until there is space ([`AppendQueue::is_stalled`]). Whoever proposes asks [`Log::is_disk_full`] first.
//! Any other failure has poisoned the log; everything queued is answered with that, for good.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    Error, Log, Result,
    writer::{Draft, Writer},
};

/// One turn takes at most this many bytes, unless the first batch alone has more.
const TURN_BYTES_MAX: usize = 8 << 20;
/// While the disk is full, it is tried again this often.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Called when a batch is written, and durable if that was asked for; or when it never will be.
pub type OnAppended = Box<dyn FnOnce(Result<()>) + Send>;

/// Is told of what was written, in order, before it is durable.
pub trait Written: Send + Sync + 'static {
    /// The drafts have their positions now, and their bytes can be read.
    fn written(&self, drafts: &[Draft]);
}

/// Frames to be appended together, in order.
pub struct Append {
    /// The frames.
    pub drafts: Vec<Draft>,
    /// Whether `done` waits until they are durable.
    pub sync: bool,
    /// Called by the thread that appends: it must not block.
    pub done: OnAppended,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Append>,
    bytes: usize,
    closed: bool,
}

/// What one turn writes: the drafts of many batches in one row, and whom to tell.
#[derive(Default)]
struct Turn {
    drafts: Vec<Draft>,
    replies: Vec<Pending>,
}

struct Pending {
    drafts: usize,
    sync: bool,
    done: OnAppended,
}

/// See the module.
pub struct AppendQueue<W: Written> {
    log: Arc<Log>,
    consumer: W,
    writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    /// Signalled when something is queued, and when the queue is closed.
    arrived: Condvar,
}

impl<W: Written> AppendQueue<W> {
    /// Takes charge of `writer`.
    pub fn new(writer: Writer, consumer: W) -> Self {
        Self {
            log: Arc::clone(writer.log()),
            consumer,
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// What is told of what was written.
    pub fn consumer(&self) -> &W {
        &self.consumer
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Whether something waits for space on the disk.
    pub fn is_stalled(&self) -> bool {
        self.log.is_disk_full() && self.queued_bytes() > 0
    }

    /// Queues a batch behind all before. Never waits. How much may be queued is up to the caller, who has
    /// budgets for what is under way.
    pub fn submit(&self, append: Append) {
        let refused = {
            let mut queue = self.queue.lock();
            if queue.closed {
                Some((append, Error::Closed))
            } else if let Err(error) = self.log.check_healthy() {
                Some((append, error))
            } else {
                queue.bytes += bytes_of(&append.drafts);
                queue.entries.push_back(append);
                self.arrived.notify_one();
                None
            }
        };
        if let Some((append, error)) = refused {
            (append.done)(Err(error));
        }
    }

    /// The life of the appending thread; returns when the queue is closed and empty, or closed and stalled.
    pub fn run(&self) {
        loop {
            let mut queue = self.queue.lock();
            while queue.entries.is_empty() {
                if queue.closed {
                    return;
                }
                self.arrived.wait(&mut queue);
            }
            drop(queue);
            if !self.pump() && !self.wait_for_space() {
                return;
            }
        }
    }

    /// After a full disk: waits a while. False if the queue was closed and its rest has been answered so.
    fn wait_for_space(&self) -> bool {
        let mut queue = self.queue.lock();
        if !queue.closed {
            self.arrived.wait_for(&mut queue, RETRY_INTERVAL);
            return true;
        }
        let rest = std::mem::take(&mut queue.entries);
        queue.bytes = 0;
        drop(queue);
        rest.into_iter().for_each(|append| (append.done)(Err(Error::DiskFull)));
        false
    }

    /// Does one turn with what is queued. False if the disk is full: what is left in the queue was not written.
    pub fn pump(&self) -> bool {
        let mut writer = self.writer.lock();
        let mut turn = self.take();
        let mut outcome = Ok(());
        // All that is queued goes out by one write, as far as it fits into the segment.
        while outcome.is_ok() && !turn.drafts.is_empty() {
            outcome = writer.append(&mut turn.drafts).and_then(|count| {
                self.tell_written(&turn.drafts[..count])?;
                turn.drafts.drain(..count);
                Ok(())
            });
        }
        drop(writer);
        let hindered = matches!(outcome, Err(Error::DiskFull | Error::OutOfFiles));
        if hindered {
            outcome = Ok(());
            self.put_back(&mut turn);
        }
        if outcome.is_ok() && turn.replies.iter().any(|reply| reply.sync) {
            outcome = self.log.sync();
        }
        for reply in turn.replies {
            // Its panic, of which the panic hook has told, must not cost the others their answers.
            drop(catch_unwind(AssertUnwindSafe(|| (reply.done)(outcome.clone()))));
        }
        !hindered
    }

    /// Were the appending thread to die of a panic, all who wait would wait for ever: the log is poisoned instead, which
    /// they are told.
    fn tell_written(&self, drafts: &[Draft]) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| self.consumer.written(drafts))).map_err(|_| {
            let why = io::Error::other("it panicked: report this defect");
            let error = Error::io("taking in what was appended", why);
            self.log.poison_with(&error);
            Error::Poisoned(error.to_string().into())
        })
    }

    /// Takes the queue's front, as much as one turn may hold.
    fn take(&self) -> Turn {
        let mut queue = self.queue.lock();
        let mut turn = Turn::default();
        let mut bytes = 0;
        while let Some(next) = queue.entries.front() {
            let len = bytes_of(&next.drafts);
            if !turn.replies.is_empty() && bytes + len > TURN_BYTES_MAX {
                break;
            }
            bytes += len;
            let Some(mut next) = queue.entries.pop_front() else { break };
            turn.replies.push(Pending { drafts: next.drafts.len(), sync: next.sync, done: next.done });
            turn.drafts.append(&mut next.drafts);
        }
        queue.bytes -= bytes;
        turn
    }

    /// Puts what could not be written back in front. A batch of which a part was written comes back with the rest.
    fn put_back(&self, turn: &mut Turn) {
        let mut queue = self.queue.lock();
        while let Some(reply) = turn.replies.pop_if(|_| !turn.drafts.is_empty()) {
            let from = turn.drafts.len().saturating_sub(reply.drafts);
            let drafts = turn.drafts.split_off(from);
            queue.bytes += bytes_of(&drafts);
            queue.entries.push_front(Append { drafts, sync: reply.sync, done: reply.done });
        }
    }

    /// Takes no more; the thread returns when what was taken is written.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Where the last append found the disk full: sees whether there is space by now. Says whether it is still full.
    pub fn retry_full_disk(&self) -> bool {
        if self.log.is_disk_full()
            && let Some(mut writer) = self.writer.try_lock()
        {
            // Whatever else goes wrong has poisoned the log, which every caller is told.
            let _still_full = writer.probe_space().is_err();
        }
        self.log.is_disk_full()
    }
}

fn bytes_of(drafts: &[Draft]) -> usize {
    drafts.iter().map(|draft| draft.payload.len() + crate::format::FRAME_HEADER_LEN).sum()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        path::Path,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        LogOptions, Opening,
        disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk},
        format::FrameKind,
        record::{RecordKind, encode_record},
        writer::GroupEnd,
    };

    #[derive(Default)]
    struct Seen(Mutex<Vec<u64>>);

    impl Written for Seen {
        fn written(&self, drafts: &[Draft]) {
            self.0.lock().extend(drafts.iter().map(|draft| draft.appended_index));
        }
    }

    fn open(disk: &SimDisk) -> AppendQueue<Seen> {
        let options = LogOptions::default();
        let opening =
            Opening::begin(Arc::new(disk.clone()), Path::new("/d"), options, || Ok([1; 16])).unwrap();
        let recovered = opening.recover(Default::default(), HashMap::new(), &mut |_| Ok(())).unwrap();
        AppendQueue::new(recovered.writer, Seen::default())
    }

    fn entry(index: u64) -> Draft {
        let mut payload = Vec::new();
        encode_record(&mut payload, RecordKind::Put, b"key", b"value").unwrap();
        Draft::new(FrameKind::Records, 0, GroupEnd { index, term: 1 }, payload, 1)
    }

    fn submit(queue: &AppendQueue<Seen>, indexes: &[u64], done: &Arc<AtomicUsize>) {
        let done = Arc::clone(done);
        let done = Box::new(move |outcome: Result<()>| {
            outcome.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        });
        let drafts = indexes.iter().map(|&index| entry(index)).collect();
        queue.submit(Append { drafts, sync: true, done });
    }

    #[test]
    fn what_is_queued_shares_one_sync_and_keeps_its_order() {
        let disk = SimDisk::new();
        let queue = open(&disk);
        let done = Arc::default();
        let before = queue.log().counters().syncs.load(Ordering::Relaxed);
        submit(&queue, &[1, 2], &done);
        submit(&queue, &[3], &done);
        assert!(queue.pump());
        assert_eq!(*queue.consumer().0.lock(), [1, 2, 3]);
        assert_eq!(queue.log().counters().syncs.load(Ordering::Relaxed), before + 1);
        assert_eq!(done.load(Ordering::Relaxed), 2);
    }

    /// CHECKS 14: nothing overtakes what a full disk holds up, and nothing of it is lost.
    #[test]
    fn a_full_disk_holds_up_and_loses_nothing() {
        let disk = SimDisk::new();
        let queue = open(&disk);
        let done = Arc::default();
        submit(&queue, &[1], &done);
        assert!(queue.pump());
        disk.set_capacity(Some(0));
        // More than what is reserved, so that space is needed.
        let big = |index| {
            let mut payload = Vec::new();
            encode_record(&mut payload, RecordKind::Put, b"key", &vec![0; 8 << 20]).unwrap();
            Draft::new(FrameKind::Records, 0, GroupEnd { index, term: 1 }, payload, 1)
        };
        let (answered, counter) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&done));
        let told = Arc::clone(&answered);
        queue.submit(Append {
            drafts: vec![big(2)],
            sync: true,
            done: Box::new(move |outcome| {
                outcome.unwrap();
                told.fetch_add(1, Ordering::Relaxed);
            }),
        });
        submit(&queue, &[3], &counter);
        assert!(!queue.pump());
        assert!(queue.is_stalled());
        assert_eq!((answered.load(Ordering::Relaxed), done.load(Ordering::Relaxed)), (0, 1));
        disk.set_capacity(None);
        while queue.queued_bytes() > 0 {
            queue.pump();
        }
        assert_eq!(*queue.consumer().0.lock(), [1, 2, 3]);
        assert_eq!((answered.load(Ordering::Relaxed), done.load(Ordering::Relaxed)), (1, 2));
    }

    /// CHECKS 14: what is written again after the disk was full is bound to its place once.
    #[test]
    fn what_is_written_at_the_second_attempt_can_be_read() {
        let disk = SimDisk::new();
        let queue = open(&disk);
        let done = Arc::default();
        disk.inject(FaultPlan::nth(Ops::Only(OpKind::Write), 1, Fault::NoSpace));
        submit(&queue, &[1, 2], &done);
        assert!(!queue.pump());
        assert!(queue.pump());
        assert_eq!(done.load(Ordering::Relaxed), 1);
        drop(queue);
        let opening = Opening::begin(
            Arc::new(disk.crash(CrashMode::DropUnsynced)),
            Path::new("/d"),
            LogOptions::default(),
            || Ok([1; 16]),
        );
        let recovered = opening.unwrap().recover(Default::default(), HashMap::new(), &mut |_| Ok(()));
        assert_eq!(recovered.unwrap().replayed, 2);
    }

    #[test]
    fn a_failed_sync_is_told_and_for_good() {
        let disk = SimDisk::new();
        let queue = open(&disk);
        disk.inject(FaultPlan::from_nth(Ops::Syncs, 0, Fault::Io));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let submit = |index| {
            let outcomes = Arc::clone(&outcomes);
            let done = Box::new(move |outcome: Result<()>| outcomes.lock().push(outcome.is_err()));
            queue.submit(Append { drafts: vec![entry(index)], sync: true, done });
        };
        submit(1);
        queue.pump();
        submit(2);
        assert_eq!(*outcomes.lock(), [true, true]);
    }
}
