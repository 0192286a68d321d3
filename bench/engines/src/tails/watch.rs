//! When merges are going on.

use std::{
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use esker_engine::Db;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(10);

/// Does `work`, and gives the times, in seconds, at which merges were going on meanwhile: a file of a merged segment is there
/// that is no part of the store yet.
pub fn watched<T>(db: &Db, dir: &Path, work: impl FnOnce() -> T) -> (T, Vec<(f64, f64)>) {
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let began = Instant::now();
            let mut periods = Periods::default();
            while is_done.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                periods.look(began.elapsed().as_secs_f64(), is_merging(db, dir));
            }
            periods.end(began.elapsed().as_secs_f64())
        });
        let result = work();
        drop(done);
        (result, watcher.join().expect("the watcher does not panic"))
    })
}

fn is_merging(db: &Db, dir: &Path) -> bool {
    let is_merged = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|it| it == "merged");
    // First the files: what is installed in between is no merge then.
    let files = std::fs::read_dir(dir).map_or(0, |entries| entries.flatten().filter(is_merged).count());
    files as u64 > db.stats().merged_segments
}

#[derive(Default)]
struct Periods {
    over: Vec<(f64, f64)>,
    since: Option<f64>,
}

impl Periods {
    fn look(&mut self, now: f64, is_merging: bool) {
        match (self.since, is_merging) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.over.push((since, now));
                self.since = None;
            }
            _ => {}
        }
    }

    fn end(mut self, now: f64) -> Vec<(f64, f64)> {
        self.look(now, false);
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_go_from_look_to_look() {
        let mut periods = Periods::default();
        for (now, is_merging) in [(1.0, false), (2.0, true), (3.0, true), (4.0, false), (5.0, true)] {
            periods.look(now, is_merging);
        }
        assert_eq!(periods.end(6.0), [(2.0, 4.0), (5.0, 6.0)]);
    }
}
