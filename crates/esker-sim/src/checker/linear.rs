//! Whether the operations on one register are linearizable.
//!
//! The search of Wing and Gong ("Testing and Verifying Concurrent Objects", JPDC 1993), in the breadth-first form with
//! *just-in-time linearization* and memoisation of Lowe ("Testing for Linearizability", CCPE 2017): go through calls and
//! returns in order, and keep every *configuration* that explains what happened so far, i.e. the register's value and
//! which of the operations under way have taken effect. An operation has to take effect only when it returns; then those
//! of the others that make it possible do so before it. No configuration left: no order explains the history.
//!
//! What keeps the configurations few:
//!
//! * A read takes effect as soon as the register holds what it read: that never hurts.
//! * Of two configurations that differ only in that one has more reads done, or has drawn on fewer writes of unknown
//!   outcome, the other is dropped.
//! * Where only one write puts a value, it must have taken effect before the first read of it returns. So a write of
//!   unknown outcome gets a return after all, if it was read, and never happened, if it was not.
//! * Other writes of unknown outcome (deletes and increments, above all) that do the same are interchangeable: they are counted.
//!
//! # Cost
//!
//! With n operations of which at most w writes overlap at once, at most n · w · 2^w steps and 2^w · (u + 1)
//! configurations, where u counts the deletes of unknown outcome; in practice a handful. Beyond
//! [`Bounds`] the search gives up, which is no proof of anything and counts as a failure.

use std::collections::{BTreeMap, BTreeSet};

use super::register::{ABSENT, RegisterOp, Step, ValueId};

/// How far the search goes before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most configurations of a key at any moment (about 100 bytes each). Default 200,000.
    pub configurations: usize,
    /// The most steps for a key. Default 50 million.
    pub steps: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { configurations: 200_000, steps: 50_000_000 }
    }
}

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Linearizable,
    /// No order explains the return of this operation (an index into what was searched).
    Impossible {
        at: usize,
    },
    GaveUp {
        at: usize,
    },
}

pub(super) fn search(ops: &[RegisterOp], bounds: Bounds) -> Finding {
    let prepared = Prepared::new(ops);
    let mut search = Search::new(&prepared, bounds);
    for event in &prepared.events {
        match search.step(event) {
            Ok(true) => {}
            Ok(false) => return Finding::Impossible { at: event.op },
            Err(GaveUp) => return Finding::GaveUp { at: event.op },
        }
    }
    Finding::Linearizable
}

struct GaveUp;

/// At one place in the order calls come first; a write whose return was inferred from a read comes after that read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Call,
    ReadReturns,
    WriteReturns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    order: u64,
    phase: Phase,
    /// An index into the operations.
    op: usize,
}

/// The calls and returns, with returns inferred where they can be.
struct Prepared<'a> {
    ops: &'a [RegisterOp],
    /// Which operations may take effect at any time or never, and what they do.
    open: BTreeMap<usize, Step>,
    events: Vec<Event>,
}

impl<'a> Prepared<'a> {
    fn new(ops: &'a [RegisterOp]) -> Self {
        let writers = count_writers(ops);
        let first_seen = first_seen(ops, &writers);
        let mut prepared = Self { ops, open: BTreeMap::new(), events: Vec::with_capacity(2 * ops.len()) };
        for (at, op) in ops.iter().enumerate() {
            match (op.step, op.step.puts()) {
                (Step::Read(_), _) => prepared.bounded(at, op.end),
                (_, Some(value)) if value != ABSENT && writers[&value] == 1 => {
                    // A read before the call is impossible, and found so at the read: it must not end the write.
                    let seen = first_seen.get(&value).copied().filter(|seen| *seen > op.call);
                    let end = op.end.into_iter().chain(seen).min();
                    prepared.bounded(at, end);
                }
                (step, _) if op.end.is_none() => {
                    prepared.open.insert(at, step);
                    prepared.events.push(Event { order: op.call, phase: Phase::Call, op: at });
                }
                _ => prepared.bounded(at, op.end),
            }
        }
        prepared.events.sort_unstable();
        prepared
    }

    /// An operation that must take effect; without a return, nobody saw it and it may as well never have been.
    fn bounded(&mut self, at: usize, end: Option<u64>) {
        let Some(end) = end else { return };
        let phase = match self.ops[at].step {
            Step::Read(_) => Phase::ReadReturns,
            _ => Phase::WriteReturns,
        };
        self.events.push(Event { order: self.ops[at].call, phase: Phase::Call, op: at });
        self.events.push(Event { order: end, phase, op: at });
    }
}

fn count_writers(ops: &[RegisterOp]) -> BTreeMap<ValueId, usize> {
    let mut writers = BTreeMap::new();
    for value in ops.iter().filter_map(|op| op.step.puts()) {
        *writers.entry(value).or_insert(0) += 1;
    }
    writers
}

/// By when each value was there at the latest: the first read or swap of it had returned. A swap of unknown outcome had, if
/// its own value was seen; so this goes on until nothing more follows.
fn first_seen(ops: &[RegisterOp], writers: &BTreeMap<ValueId, usize>) -> BTreeMap<ValueId, u64> {
    let mut first: BTreeMap<ValueId, u64> = BTreeMap::new();
    loop {
        let before = first.clone();
        for op in ops {
            let (value, end) = match op.step {
                Step::Read(value) => (value, op.end),
                Step::Swap { from, to } => {
                    let own = (to != ABSENT && writers[&to] == 1).then(|| first.get(&to).copied()).flatten();
                    (from, op.end.into_iter().chain(own).min())
                }
                Step::Write(_) | Step::Add(_) => continue,
            };
            if let Some(end) = end {
                let earliest = first.entry(value).or_insert(end);
                *earliest = end.min(*earliest);
            }
        }
        if first == before {
            return first;
        }
    }
}

/// A set of slots.
type Slots = u128;
/// So many operations that must take effect may be under way at once.
const SLOTS: usize = Slots::BITS as usize;

/// What distinguishes configurations; the rest is better or worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    value: ValueId,
    /// The writes under way that have taken effect.
    writes: Slots,
}

/// What makes a configuration of one form better or worse than another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    /// The reads under way that have taken effect: the more, the better.
    reads: Slots,
    /// How many writes of unknown outcome were drawn on, by class: the fewer, the better.
    drawn: Box<[u32]>,
}

impl Merit {
    fn at_least_as_good_as(&self, other: &Self) -> bool {
        self.reads & other.reads == other.reads
            && self.drawn.iter().zip(&other.drawn).all(|(mine, theirs)| mine <= theirs)
    }
}

/// Configurations, none of them worse than another.
#[derive(Debug, Default)]
struct Configurations {
    by_form: BTreeMap<Form, Vec<Merit>>,
    count: usize,
}

impl Configurations {
    /// Whether it was not there, nor a better one.
    fn insert(&mut self, form: Form, merit: Merit) -> bool {
        let there = self.by_form.entry(form).or_default();
        if there.iter().any(|other| other.at_least_as_good_as(&merit)) {
            return false;
        }
        let before = there.len();
        there.retain(|other| !merit.at_least_as_good_as(other));
        there.push(merit);
        self.count = self.count + there.len() - before;
        true
    }

    fn into_iter(self) -> impl Iterator<Item = (Form, Merit)> {
        self.by_form.into_iter().flat_map(|(form, merits)| merits.into_iter().map(move |merit| (form, merit)))
    }
}

/// Interchangeable writes of unknown outcome.
#[derive(Debug)]
struct Class {
    step: Step,
    /// How many were called so far.
    called: u32,
}

struct Search<'a> {
    prepared: &'a Prepared<'a>,
    bounds: Bounds,
    steps: u64,
    /// What is under way, by slot.
    under_way: Vec<Option<usize>>,
    classes: Vec<Class>,
    configurations: Configurations,
}

impl<'a> Search<'a> {
    fn new(prepared: &'a Prepared<'a>, bounds: Bounds) -> Self {
        let steps: BTreeSet<Step> = prepared.open.values().copied().collect();
        let classes: Vec<Class> = steps.into_iter().map(|step| Class { step, called: 0 }).collect();
        let mut configurations = Configurations::default();
        let nothing = Merit { reads: 0, drawn: vec![0; classes.len()].into() };
        configurations.insert(Form { value: ABSENT, writes: 0 }, nothing);
        Self { prepared, bounds, steps: 0, under_way: Vec::new(), classes, configurations }
    }

    /// Whether anything explains the history up to this event.
    fn step(&mut self, event: &Event) -> Result<bool, GaveUp> {
        match event.phase {
            Phase::Call => self.call(event.op)?,
            _ => self.returned(event.op)?,
        }
        Ok(self.configurations.count > 0)
    }

    fn call(&mut self, op: usize) -> Result<(), GaveUp> {
        if let Some(step) = self.prepared.open.get(&op) {
            let class = self.classes.iter_mut().find(|class| class.step == *step);
            class.expect("a class was made for each open step").called += 1;
            return Ok(());
        }
        let slot = match self.under_way.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.under_way.len() < SLOTS => {
                self.under_way.push(None);
                self.under_way.len() - 1
            }
            None => return Err(GaveUp),
        };
        self.under_way[slot] = Some(op);
        if let Step::Read(_) = self.prepared.ops[op].step {
            let all = std::mem::take(&mut self.configurations);
            for (form, merit) in all.into_iter() {
                let merit = self.with_reads(form, merit);
                self.configurations.insert(form, merit);
            }
        }
        Ok(())
    }

    /// Lets `op` take effect wherever it has not, by way of any of the others; then forgets it.
    fn returned(&mut self, op: usize) -> Result<(), GaveUp> {
        let slot = self.under_way.iter().position(|under_way| *under_way == Some(op));
        let slot = slot.expect("what returns was called");
        let mut settled = Configurations::default();
        let mut seen = Configurations::default();
        let mut todo: Vec<(Form, Merit)> = std::mem::take(&mut self.configurations).into_iter().collect();
        while let Some((form, merit)) = todo.pop() {
            self.steps += 1;
            if (form.writes | merit.reads) & bit(slot) != 0 {
                settled.insert(form, merit);
            } else if seen.insert(form, merit.clone()) {
                todo.extend(self.successors(form, &merit));
            }
            if seen.count + settled.count > self.bounds.configurations || self.steps > self.bounds.steps {
                return Err(GaveUp);
            }
        }
        self.under_way[slot] = None;
        for (mut form, mut merit) in settled.into_iter() {
            form.writes &= !bit(slot);
            merit.reads &= !bit(slot);
            self.configurations.insert(form, merit);
        }
        Ok(())
    }

    /// One more write takes effect.
    fn successors(&self, form: Form, merit: &Merit) -> Vec<(Form, Merit)> {
        let mut next = Vec::new();
        for (slot, op) in self.under_way.iter().enumerate() {
            if let Some(op) = op
                && !matches!(self.prepared.ops[*op].step, Step::Read(_))
                && form.writes & bit(slot) == 0
                && let Some(value) = self.prepared.ops[*op].step.after(form.value)
            {
                let form = Form { value, writes: form.writes | bit(slot) };
                next.push((form, self.with_reads(form, merit.clone())));
            }
        }
        for (at, class) in self.classes.iter().enumerate() {
            let value = class.step.after(form.value).filter(|value| *value != form.value);
            if let Some(value) = value.filter(|_| merit.drawn[at] < class.called) {
                let form = Form { value, ..form };
                let mut merit = merit.clone();
                merit.drawn[at] += 1;
                next.push((form, self.with_reads(form, merit)));
            }
        }
        next
    }

    /// The reads under way that read this very value take effect.
    fn with_reads(&self, form: Form, mut merit: Merit) -> Merit {
        for (slot, op) in self.under_way.iter().enumerate() {
            if op.is_some_and(|op| self.prepared.ops[op].step == Step::Read(form.value)) {
                merit.reads |= bit(slot);
            }
        }
        merit
    }
}

fn bit(slot: usize) -> Slots {
    1 << slot
}
