//! How many homes are open, and whether one has too much beside another.
//!
//! Threads that wait for cores, though fewer could do their work, pay a switch for each turn; a thread that is full while cores idle wastes
//! them. What a home does is known (its thread's time on cores), and so is what it would like to do (its time in line for them): so
//! no guess at the load is needed. Arachne (Qin et al., OSDI 2018) and Caladan (Fried et al., OSDI 2020) give programs cores by the same
//! two measures, at finer grain; Valkey opens and closes its I/O threads by the events that each would have.
//!
//! Beside neighbours that take what they get, fewer homes get less: so closing one is a trial, which ends when they do less than before.
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
/// A home is full that runs for this part of the time,
const FULL: f64 = 0.9;
/// and another one is of use if so much of a core idles. Where it does, none is closed.
const IDLE: f64 = 0.3;
/// A home that runs for less has time for connections of one that is full.
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
    /// What all did before a home was closed, and in how many looks it shows what the others make of it.
    trial: Option<(f64, u32)>,
    /// Looks between changes, how many of them are left, and how many there were since.
    hold: u32,
    held: u32,
    quiet: u32,
}

impl Packing {
    /// All of so many are open.
    pub(super) fn new(most: usize) -> Self {
        let (said, made, trial) = ((None, 0), None, None);
        Self { open: most, most, said, made, trial, hold: HOLD_MIN, held: 0, quiet: 0 }
    }

    /// Takes a look at what the homes did, and says what is to be done.
    pub(super) fn decide(&mut self, load: &Load) -> Option<Change> {
        let says = self.kind(load);
        self.said = if says == self.said.0 { (says, self.said.1 + 1) } else { (says, 1) };
        if self.has_failed(load) {
            return self.make(Kind::Open, load);
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

    /// Whether closing a home turns out to have been a mistake.
    fn has_failed(&mut self, load: &Load) -> bool {
        let Some((before, looks)) = self.trial else { return false };
        self.trial = (looks > 1).then_some((before, looks - 1));
        self.trial.is_none() && ran(load) < KEPT * before
    }

    fn kind(&self, load: &Load) -> Option<Kind> {
        let (open, ran) = (self.open as f64, ran(load));
        let wanted = ran + load.waited;
        let fits_fewer = self.open > 1 && ran <= open - 1.0 - (1.0 - FITS);
        let is_contended = load.waited > CONTENDED * wanted && wanted < STARVED * open && load.idle < IDLE;
        let (busiest, idlest) = self.extremes(load);
        if fits_fewer && is_contended {
            Some(Kind::Close)
        } else if self.open < self.most && ran >= FULL * open && load.idle >= IDLE {
            Some(Kind::Open)
        } else if load.ran[busiest] >= FULL && load.ran[idlest] < SLACK && load.idle >= IDLE {
            Some(Kind::Even)
        } else {
            None
        }
    }

    /// Of the open homes.
    fn extremes(&self, load: &Load) -> (usize, usize) {
        let by_load = |a: &usize, b: &usize| load.ran[*a].total_cmp(&load.ran[*b]);
        ((0..self.open).max_by(by_load).unwrap_or(0), (0..self.open).min_by(by_load).unwrap_or(0))
    }

    fn make(&mut self, kind: Kind, load: &Load) -> Option<Change> {
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
        (self.made, self.said) = (Some(kind), (None, 0));
        match kind {
            // As many as there are cores for.
            Kind::Open => self.open = (self.open + (load.idle as usize).max(1)).min(self.most),
            Kind::Close => {
                self.open -= 1;
                self.trial = Some((ran(load), LOOKS));
            }
            Kind::Even => {
                let (from, to) = self.extremes(load);
                return Some(Change::Even { from, to });
            }
        }
        Some(Change::Open(self.open))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of homes that run for the same part of the time.
    fn load(homes: usize, ran: f64, waited: f64, idle: f64) -> Load {
        Load { ran: vec![ran / homes as f64; homes], waited, idle }
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
        let mut packing = Packing::new(2);
        let contended = load(2, 0.8, 0.4, 0.1);
        assert_eq!(packing.decide(&contended), None, "one look may be anything");
        assert_eq!(packing.decide(&contended), Some(Change::Open(1)));
        assert_eq!(look(&mut packing, 1000, &contended), 1, "one is always open");
        let stays = |most, at| assert_eq!(look(&mut Packing::new(most), 1000, &at), most, "{at:?}");
        // As many as there are is what it takes.
        stays(2, load(2, 1.2, 0.5, 0.0));
        // Nobody is in the way.
        stays(2, load(2, 0.8, 0.02, 0.2));
        // A quiet machine, whose cores take a moment to wake.
        stays(8, load(8, 0.4, 0.2, 7.0));
        // They are kept from what they have to do.
        stays(2, load(2, 0.8, 1.2, 0.0));
        assert_eq!(look(&mut Packing::new(8), 1000, &load(8, 3.5, 0.4, 0.0)), 4);
    }

    #[test]
    fn homes_are_opened_if_they_are_full_and_cores_idle() {
        let mut packing = Packing::new(2);
        assert_eq!(look(&mut packing, 10, &load(2, 0.5, 0.4, 0.1)), 1);
        assert_eq!(look(&mut packing, 1000, &load(2, 0.97, 0.0, 0.05)), 1, "no core is free");
        assert_eq!(look(&mut packing, 1000, &load(2, 0.5, 0.0, 1.0)), 1, "it is not full");
        assert_eq!(look(&mut packing, 10, &load(2, 0.97, 0.0, 0.6)), 2);
        // All at once where there is room for them.
        let mut packing = Packing::new(64);
        assert_eq!(look(&mut packing, 1000, &load(64, 0.5, 0.4, 0.1)), 1);
        assert_eq!(look(&mut packing, 8, &load(64, 1.0, 0.0, 63.0)), 64);
    }

    /// Neighbours that never rest give one home half of what they gave two.
    #[test]
    fn a_home_that_is_missed_is_opened_again() {
        let mut packing = Packing::new(2);
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
        let mut packing = Packing::new(3);
        let uneven = Load { ran: vec![0.3, 0.98, 0.05], waited: 0.0, idle: 1.5 };
        assert_eq!(packing.decide(&uneven), None);
        assert_eq!(packing.decide(&uneven), Some(Change::Even { from: 1, to: 2 }));
        // One connection that does it all is of no use to another either.
        let changes = (0..3000).filter(|_| packing.decide(&uneven).is_some()).count();
        assert!((5..40).contains(&changes), "{changes} in ten minutes");
    }

    #[test]
    fn what_fits_neither_does_not_wander() {
        for most in [2, 8] {
            let mut packing = Packing::new(most);
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
