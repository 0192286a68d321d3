//! Reads and synced writes at a fixed rate.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use esker_engine::Db;

use crate::data::{Random, Values, key};

pub const VALUE_BYTES: usize = 1024;

/// So many that a sync is rarely waited for by all of them, and few enough for a small machine.
const WRITERS: u64 = 4;
const READERS: u64 = 2;

/// Operations a second.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    pub reads: u64,
    pub writes: u64,
}

/// One operation: when it was due, from the beginning, and how long after that it was done.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub due: Duration,
    pub took: Duration,
}

/// All operations of a run.
pub struct Load {
    pub reads: Vec<Event>,
    pub writes: Vec<Event>,
}

/// Puts the load on `db` for a while.
pub fn drive(db: &Db, records: u64, rates: Rates, time: Duration) -> Result<Load> {
    let began = Instant::now();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let schedule = Schedule { began, time, rate: rates.reads, threads: READERS, number };
                scope.spawn(move || read(db, records, &schedule))
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let schedule = Schedule { began, time, rate: rates.writes, threads: WRITERS, number };
                scope.spawn(move || write(db, records, &schedule))
            })
            .collect();
        let mut load = Load { reads: Vec::new(), writes: Vec::new() };
        for reader in readers {
            load.reads.extend(reader.join().expect("no thread panics")?);
        }
        for writer in writers {
            load.writes.extend(writer.join().expect("no thread panics")?);
        }
        Ok(load)
    })
}

fn read(db: &Db, records: u64, schedule: &Schedule) -> Result<Vec<Event>> {
    let mut random = Random::new(0x4ead ^ schedule.number << 32);
    schedule.run(|_| {
        let entry = db.get(&key(random.below(records)))?;
        ensure!(entry.is_some_and(|entry| entry.value.len() == VALUE_BYTES), "a record is missing");
        Ok(())
    })
}

fn write(db: &Db, records: u64, schedule: &Schedule) -> Result<Vec<Event>> {
    let mut random = Random::new(0x3417e ^ schedule.number << 32);
    let mut values = Values::new(VALUE_BYTES);
    schedule.run(|n| {
        let i = random.below(records);
        db.put(&key(i), values.make(i, n))?;
        Ok(())
    })
}

/// When one of several threads has to do something.
struct Schedule {
    began: Instant,
    time: Duration,
    /// Of all threads.
    rate: u64,
    threads: u64,
    number: u64,
}

impl Schedule {
    /// Does it as soon as it is due; late is late, and nothing is left out.
    fn run(&self, mut operation: impl FnMut(u64) -> Result<()>) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for n in 0.. {
            let due = self.due(n);
            if due >= self.time {
                break;
            }
            // Sleeping overshoots by some 50 µs, in all runs alike.
            thread::sleep(due.saturating_sub(self.began.elapsed()));
            operation(n)?;
            events.push(Event { due, took: self.began.elapsed() - due });
        }
        Ok(events)
    }

    fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64((n * self.threads + self.number) as f64 / self.rate as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_charged_for_all_that_waited() {
        let time = Duration::from_millis(100);
        let schedule = Schedule { began: Instant::now(), time, rate: 1000, threads: 1, number: 0 };
        let pause = Duration::from_millis(50);
        let events = schedule
            .run(|n| {
                if n == 10 {
                    thread::sleep(pause);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(events.len(), 100);
        let late = events.iter().filter(|event| event.took > pause / 5).count();
        assert!(late >= 35, "only {late} waited");
    }
}
