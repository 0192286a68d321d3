//! How many homes are open, and whether one has too much beside another.
//!
//! Threads that wait for cores, though fewer could do their work, pay a switch for each turn; a thread that is full while cores idle wastes
//! them. What a home does is known (its thread's time on cores, or waiting for something in a turn), and so is what it would like to do
//! (its time in line for cores): so no guess at the load is needed. Arachne (Qin et al., OSDI 2018) and Caladan (Fried et al., OSDI 2020) give programs cores by
//! such measures, at finer grain; Valkey opens and closes its I/O threads by the events that each would have.
//!
//! One home is open at first. Whether another one is of use shows only when it is there: two may get into each other's way, or have others
//! commit what one would have by itself. So opening is a trial, which ends where no more is done than before and each thing costs
//! more. So is closing: beside neighbours that take what they get, fewer homes get less.
//! A change that undoes one doubles the time until the next, up to [`HOLD_MAX`] looks: work that fits neither does not wander.

use super::load::Load;

/// Homes whose work takes this much of one core less than they have cores are too many,
const FITS: f64 = 0.95;
/// if they wait for cores for this part of the time in which they want one,
const CONTENDED: f64 = 0.1;
/// and do not want one all the time: then they have more to do than they get to.
const STARVED: f64 = 0.95;
/// After one was closed, the others do this part of what was done before, or it was a mistake.
const KEPT: f64 = 0.7;
/// A home is full that is busy for this part of the time: runs, or waits within a turn for a core or the disk,
const FULL: f64 = 0.9;
/// and another one is also of use if this one stands in line for this part of the time in which it wants a core: two get more from neighbours.
const CROWDED: f64 = 0.25;
/// and another one is of use if so much of a core idles, besides what idles while homes wait for the disk. Where it does, none is
/// closed.
const IDLE: f64 = 0.4;
/// Where after an opening less than so much more is done,
const GAINED: f64 = 1.1;
/// and each thing takes so much more time of cores, it was a mistake.
const DEARER: f64 = 1.1;
/// A home that is busy for less has time for connections of one that is full.
const SLACK: f64 = 0.5;
/// So many looks in a row have to say the same.
const LOOKS: u32 = 2;
/// After a change, the least and the most looks until the next.
const HOLD_MIN: u32 = 2;
const HOLD_MAX: u32 = 128;
/// So many holds without a change halve the next.
const QUIET: u32 = 4;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// So many homes are to be open.
    Open(usize),
    /// Connections of one home are to go to another.
    Even { from: usize, to: usize },
}

/// The kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    Even,
}

/// See the module.
pub(super) struct Packing {
    open: usize,
    most: usize,
    /// What the looks before said, and how often in a row.
    said: (Option<Kind>, u32),
    /// The last change that was made.
    made: Option<Kind>,
    trial: Option<Trial>,
    /// Looks between changes, how many of them are left, and how many there were since.
    hold: u32,
    held: u32,
    quiet: u32,
}

/// Homes were opened or closed, and it shows in so many looks whether that was a mistake.
struct Trial {
    looks: u32,
    /// How many were open before.
    open: usize,
    /// What the homes ran, and how much they did.
    ran: f64,
    served: f64,
}

impl Packing {
    /// One of so many is open.
    pub(super) fn new(most: usize) -> Self {
        let (said, made, trial) = ((None, 0), None, None);
        Self { open: 1, most, said, made, trial, hold: HOLD_MIN, held: 0, quiet: 0 }
    }

    /// Takes a look at what the homes did, and says what is to be done.
    pub(super) fn decide(&mut self, load: &Load) -> Option<Change> {
        let says = self.kind(load);
        self.said = if says == self.said.0 { (says, self.said.1 + 1) } else { (says, 1) };
        if let Some(open) = self.failed(load) {
            let kind = if open > self.open { Kind::Open } else { Kind::Close };
            self.note(kind);
            self.open = open;
            return Some(Change::Open(open));
        }
        if self.held > 0 {
            self.held -= 1;
            return None;
        }
        match says {
            Some(kind) if self.said.1 >= LOOKS => self.make(kind, load),
            _ => {
                self.rest();
                None
            }
        }
    }

    /// How many homes were open before the last change, if that turns out to have been a mistake.
    fn failed(&mut self, load: &Load) -> Option<usize> {
        let trial = self.trial.as_mut()?;
        trial.looks -= 1;
        if trial.looks > 0 {
            return None;
        }
        let before = self.trial.take()?;
        let gets_less = ran(load) < KEPT * before.ran;
        let is_over = load.served < before.served / 2.0 && busy(load) < FULL * self.open as f64;
        let gains_nothing = !is_over
            && load.served < GAINED * before.served
            && ran(load) * before.served > DEARER * before.ran * load.served;
        let has_failed = if before.open > self.open { gets_less } else { gains_nothing };
        has_failed.then_some(before.open)
    }

    fn kind(&self, load: &Load) -> Option<Kind> {
        let (open, ran, busy, spare) = (self.open as f64, ran(load), busy(load), spare(load));
        let wanted = ran + load.waited;
        let fits_fewer = self.open > 1 && ran <= open - 1.0 - (1.0 - FITS);
        let is_contended = load.waited > CONTENDED * wanted && wanted < STARVED * open && load.idle < IDLE;
        let (busiest, idlest) = self.extremes(load);
        if fits_fewer && is_contended {
            Some(Kind::Close)
        } else if self.open < self.most
            && busy >= FULL * open
            && (spare >= IDLE || load.waited >= CROWDED * wanted)
        {
            Some(Kind::Open)
        } else if load.busy[busiest] >= FULL && load.busy[idlest] < SLACK && spare >= IDLE {
            Some(Kind::Even)
        } else {
            None
        }
    }

    /// Of the open homes.
    fn extremes(&self, load: &Load) -> (usize, usize) {
        let by_load = |a: &usize, b: &usize| load.busy[*a].total_cmp(&load.busy[*b]);
        ((0..self.open).max_by(by_load).unwrap_or(0), (0..self.open).min_by(by_load).unwrap_or(0))
    }

    fn make(&mut self, kind: Kind, load: &Load) -> Option<Change> {
        self.note(kind);
        let before = self.open;
        match kind {
            // As many as there are cores for, at most twice as many as before: it is the next trial that shows whether more are of use.
            Kind::Open => {
                let more = (spare(load).max(0.0) as usize).clamp(1, self.open);
                self.open = (self.open + more).min(self.most);
            }
            Kind::Close => self.open -= 1,
            Kind::Even => {
                let (from, to) = self.extremes(load);
                return Some(Change::Even { from, to });
            }
        }
        self.trial = Some(Trial { looks: LOOKS, open: before, ran: ran(load), served: load.served });
        Some(Change::Open(self.open))
    }

    /// A change is made.
    fn note(&mut self, kind: Kind) {
        let undoes = matches!(
            (self.made, kind),
            (Some(Kind::Open), Kind::Close)
                | (Some(Kind::Close), Kind::Open)
                | (Some(Kind::Even), Kind::Even)
        );
        if undoes {
            self.hold = (self.hold * 2).min(HOLD_MAX);
        }
        (self.held, self.quiet) = (self.hold, 0);
        (self.made, self.said, self.trial) = (Some(kind), (None, 0), None);
    }

    /// A while without changes makes the next one quicker again.
    fn rest(&mut self) {
        self.quiet += 1;
        if self.quiet >= QUIET * self.hold {
            (self.hold, self.quiet) = ((self.hold / 2).max(HOLD_MIN), 0);
        }
    }
}

fn ran(load: &Load) -> f64 {
    load.ran.iter().sum()
}

fn busy(load: &Load) -> f64 {
    load.busy.iter().sum()
}

/// What idles besides the cores of homes that wait for the disk.
fn spare(load: &Load) -> f64 {
    load.idle - (busy(load) - ran(load) - load.waited).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of homes that run for the same part of the time, and do as much as they run.
    fn load(homes: usize, ran: f64, waited: f64, idle: f64) -> Load {
        let each = vec![ran / homes as f64; homes];
        Load { ran: each.clone(), busy: each, served: ran * 1e5, waited, idle }
    }

    /// All of so many are open, and have been for long.
    fn all_open(most: usize) -> Packing {
        Packing { open: most, ..Packing::new(most) }
    }

    /// So many looks at the same; how many are open.
    fn look(packing: &mut Packing, looks: u32, at: &Load) -> usize {
        for _ in 0..looks {
            packing.decide(at);
        }
        packing.open
    }

    #[test]
    fn homes_that_wait_for_cores_are_closed_if_fewer_do() {
        let mut packing = all_open(2);
        let contended = load(2, 0.8, 0.4, 0.1);
        assert_eq!(packing.decide(&contended), None, "one look may be anything");
        assert_eq!(packing.decide(&contended), Some(Change::Open(1)));
        assert_eq!(look(&mut packing, 1000, &contended), 1, "one is always open");
        let stays = |most, at| assert_eq!(look(&mut all_open(most), 1000, &at), most, "{at:?}");
        // As many as there are is what it takes.
        stays(2, load(2, 1.2, 0.5, 0.0));
        // Nobody is in the way.
        stays(2, load(2, 0.8, 0.02, 0.2));
        // A quiet machine, whose cores take a moment to wake.
        stays(8, load(8, 0.4, 0.2, 7.0));
        // They are kept from what they have to do.
        stays(2, load(2, 0.8, 1.2, 0.0));
        assert_eq!(look(&mut all_open(8), 1000, &load(8, 3.5, 0.4, 0.0)), 4);
    }

    #[test]
    fn homes_are_opened_if_they_are_full_and_cores_idle() {
        let mut packing = Packing::new(2);
        assert_eq!(look(&mut packing, 1000, &load(2, 0.97, 0.02, 0.05)), 1, "no core is free");
        assert_eq!(look(&mut packing, 1000, &load(2, 0.5, 0.0, 1.0)), 1, "it is not full");
        assert_eq!(look(&mut packing, 10, &load(2, 0.97, 0.0, 0.6)), 2);
        // Each time twice as many where there is room for them.
        let full = |open: usize| load(64, open as f64, 0.0, 64.0 - open as f64);
        let mut packing = Packing::new(64);
        let opened: Vec<_> = (0..40)
            .map(|_| {
                let at = full(packing.open);
                look(&mut packing, 1, &at)
            })
            .collect();
        assert!([1, 2, 4, 8, 16, 32, 64].iter().all(|open| opened.contains(open)), "{opened:?}");
        // Neighbours take the cores, and more to whoever has more threads.
        let crowded = Load { busy: vec![0.95, 0.0], ..load(2, 0.5, 0.45, 0.0) };
        assert_eq!(look(&mut Packing::new(2), 3, &crowded), 2);
        // Who waits for the disk is as busy as who runs, and leaves its core idle for as long.
        let syncing = |idle| Load { busy: vec![0.95, 0.0], ..load(2, 0.5, 0.0, idle) };
        assert_eq!(look(&mut Packing::new(2), 1000, &syncing(0.6)), 1);
        assert_eq!(look(&mut Packing::new(2), 10, &syncing(1.0)), 2);
    }

    /// Two that get into each other's way, or do the same by turns.
    #[test]
    fn a_home_that_is_of_no_use_is_closed_again() {
        let alone = load(2, 0.92, 0.0, 0.5);
        for (served, ran, stays) in
            [(0.8, 1.0, false), (1.05, 1.2, false), (1.05, 0.92, true), (1.5, 1.9, true), (0.5, 0.4, true)]
        {
            let together = Load { served: served * alone.served, ..load(2, ran, 0.0, 0.3) };
            let mut packing = Packing::new(2);
            let both = (0..3000)
                .filter(|_| {
                    packing.decide(if packing.open == 2 { &together } else { &alone });
                    packing.open == 2
                })
                .count();
            match stays {
                true => assert!(both > 2900, "{served} {ran}: {both} looks of 3000"),
                false => assert!((1..200).contains(&both), "{served} {ran}: {both} looks of 3000"),
            }
        }
    }

    /// Neighbours that never rest give one home half of what they gave two.
    #[test]
    fn a_home_that_is_missed_is_opened_again() {
        let mut packing = all_open(2);
        let closed = (0..3000)
            .filter(|_| {
                let beside = if packing.open == 2 { load(2, 0.9, 0.8, 0.0) } else { load(1, 0.5, 0.45, 0.0) };
                packing.decide(&beside);
                packing.open == 1
            })
            .count();
        assert!((1..200).contains(&closed), "closed for {closed} looks of 3000");
    }

    #[test]
    fn a_home_with_too_much_gives_to_one_that_has_time() {
        let mut packing = all_open(3);
        let uneven = Load { busy: vec![0.3, 0.98, 0.05], ..load(3, 1.3, 0.0, 1.5) };
        assert_eq!(packing.decide(&uneven), None);
        assert_eq!(packing.decide(&uneven), Some(Change::Even { from: 1, to: 2 }));
        // One connection that does it all is of no use to another either.
        let changes = (0..3000).filter(|_| packing.decide(&uneven).is_some()).count();
        assert!((5..40).contains(&changes), "{changes} in ten minutes");
    }

    #[test]
    fn what_fits_neither_does_not_wander() {
        for most in [2, 8] {
            let mut packing = all_open(most);
            let changes = (0..3000).filter(|_| {
                let open = packing.open;
                let at = if open == most {
                    load(most, open as f64 - 1.5, 0.8, 0.0)
                } else {
                    load(open, open as f64 * 0.95, 0.0, 0.4)
                };
                packing.decide(&at).is_some()
            });
            let changes = changes.count();
            assert!((5..60).contains(&changes), "{changes} in ten minutes");
        }
    }
}
