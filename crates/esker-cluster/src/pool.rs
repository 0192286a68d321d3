//! The I/O pool: the threads that may wait for the disk, so that no runtime thread does.
//!
//! What is new is bounded: beyond that callers are told to come back. A job that continues one already
//! admitted (the next chunk of a scan) is always taken, since there is at most one for each scan under way. Short reads and
//! scans wait in queues of their own, which take turns: many long scans neither keep a short read waiting nor have it refused.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{Error, Result};

/// When a caller that found the queue full may come back: a full queue empties in a few disk reads.
const RETRY_AFTER: Duration = Duration::from_millis(50);

type Job = Box<dyn FnOnce() + Send>;

/// Whether a job opens a piece of work or continues one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A short piece of work.
    New,
    /// The beginning of a long one.
    Long,
    /// What continues a long one.
    Continued,
}

pub(crate) struct IoPool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when there is a job or the pool closes.
    wake: Condvar,
    queue_max: usize,
}

#[derive(Default)]
struct Queue {
    new: VecDeque<Job>,
    long: VecDeque<Job>,
    /// Whose turn it is, if both have some.
    is_turn_of_long: bool,
    closed: bool,
}

impl Queue {
    fn pop(&mut self) -> Option<Job> {
        let (first, second) = match self.is_turn_of_long {
            true => (&mut self.long, &mut self.new),
            false => (&mut self.new, &mut self.long),
        };
        self.is_turn_of_long = !self.is_turn_of_long;
        first.pop_front().or_else(|| second.pop_front())
    }
}

impl IoPool {
    pub(crate) fn new(threads: NonZeroUsize, queue_max: usize) -> Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new(), queue_max });
        let pool = Self { shared, threads: Mutex::default() };
        for number in 0..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let spawned =
                std::thread::Builder::new().name(format!("esker-io-{number}")).spawn(move || shared.work());
            let spawned = spawned.map_err(|e| esker_engine::Error::io("starting an I/O thread", e))?;
            pool.threads.lock().push(spawned);
        }
        Ok(pool)
    }

    /// Queues a job. Errors: `Busy` when the queue is full, `Closed`.
    pub(crate) fn run(&self, admission: Admission, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(Error::Engine(esker_engine::Error::Closed));
        }
        let jobs = match admission {
            Admission::New => &mut queue.new,
            Admission::Long | Admission::Continued => &mut queue.long,
        };
        if admission != Admission::Continued && jobs.len() >= self.shared.queue_max {
            return Err(Error::Engine(esker_engine::Error::Busy { retry_after: RETRY_AFTER }));
        }
        jobs.push_back(Box::new(job));
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Finishes the queued jobs and ends the threads. Must not be called by one of them.
    pub(crate) fn close(&self) {
        self.shared.close();
        for thread in self.threads.lock().drain(..) {
            thread.join().expect("workers catch the panics of their jobs");
        }
    }
}

impl Drop for IoPool {
    /// Lets the threads go without waiting: the last handle may be dropped by one of them.
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_all();
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            // Whoever waits for the job sees its answer channel dropped and reports `WorkerDied`; the panic
            // itself has been printed by the hook. The pool must outlive it.
            let _panicked = catch_unwind(AssertUnwindSafe(job)).is_err();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            self.wake.wait(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn one_thread(queue_max: usize) -> IoPool {
        IoPool::new(NonZeroUsize::MIN, queue_max).unwrap()
    }

    #[test]
    fn a_full_queue_refuses_new_work_and_takes_continued_work() {
        let pool = one_thread(1);
        let (release, gate) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        pool.run(Admission::New, move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
        })
        .unwrap();
        start.recv().unwrap();
        pool.run(Admission::New, || ()).unwrap();
        let refused = pool.run(Admission::New, || ()).unwrap_err();
        assert!(matches!(refused, Error::Engine(esker_engine::Error::Busy { .. })));
        // Long work is bounded apart from short work.
        pool.run(Admission::Long, || ()).unwrap();
        assert!(pool.run(Admission::Long, || ()).is_err());
        pool.run(Admission::Continued, || ()).unwrap();
        release.send(()).unwrap();
        pool.close();
        assert!(matches!(pool.run(Admission::New, || ()), Err(Error::Engine(esker_engine::Error::Closed))));
    }

    /// A crowd of long scans costs whoever comes later no more than their own next job.
    #[test]
    fn new_work_and_continued_work_take_turns() {
        let pool = one_thread(8);
        let (release, gate) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        pool.run(Admission::New, move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
        })
        .unwrap();
        start.recv().unwrap();
        let (done, order) = mpsc::channel();
        let kinds = [(Admission::Continued, 'c'), (Admission::New, 'n')];
        for (admission, name) in kinds.into_iter().flat_map(|kind| std::iter::repeat_n(kind, 3)) {
            let done = done.clone();
            pool.run(admission, move || done.send(name).unwrap()).unwrap();
        }
        drop(done);
        release.send(()).unwrap();
        let order: String = order.iter().collect();
        assert!(["cncncn", "ncncnc"].contains(&order.as_str()), "{order}");
    }

    #[test]
    fn a_panicking_job_does_not_take_the_thread_with_it() {
        let pool = one_thread(8);
        pool.run(Admission::New, || panic!("a defect")).unwrap();
        let (sender, receiver) = mpsc::channel();
        pool.run(Admission::New, move || sender.send(7).unwrap()).unwrap();
        assert_eq!(receiver.recv(), Ok(7));
    }
}
