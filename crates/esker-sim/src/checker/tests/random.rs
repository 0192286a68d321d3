//! Random executions: what a register did is found good, and on small histories the search agrees with the definition.

use proptest::prelude::*;

use super::brute_force;
use crate::{
    Rng,
    checker::{
        linear::{Bounds, Finding, search},
        minimize::minimize,
        register::{RegisterOp, Step, ValueId},
    },
};

/// What is in the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Values that are written once only.
    Unique,
    /// A few values, again and again.
    Few,
    /// A counter.
    Counter,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Unique), Just(Kind::Few), Just(Kind::Counter)]
}

/// What a simulated register did: each operation takes effect at a random place between its call and its end.
struct Execution {
    clients: u64,
    operations: u64,
    kind: Kind,
}

impl Execution {
    fn run(&self, rng: &Rng) -> Vec<RegisterOp> {
        let mut intervals = self.intervals(rng);
        // In the order in which they take effect.
        intervals.sort_by_key(|(effect, ..)| *effect);
        let (mut value, mut last) = (0, 0);
        let mut ops = Vec::new();
        for (number, (_, call, end)) in intervals.into_iter().enumerate() {
            let (step, lost) = self.step(rng, number as ValueId + 1, value);
            // Half of the writes of unknown outcome never happen.
            if !(lost && rng.chance(0.5)) {
                value = step.after(value).unwrap_or(value);
            }
            last = last.max(end);
            ops.push(RegisterOp { operation: number, step, call, end: (!lost).then_some(end) });
        }
        ops.sort_by_key(|op| op.call);
        ops
    }

    /// What is done where the register holds `value`, and whether nobody hears of it. `new` is a value of its own.
    fn step(&self, rng: &Rng, new: ValueId, value: ValueId) -> (Step, bool) {
        let lost = rng.chance(0.15);
        let put = if self.kind == Kind::Few { rng.below(4) as ValueId } else { new };
        // A compare-and-set that is not heard of may have wanted anything.
        let wanted = if lost { rng.below(4) as ValueId } else { value };
        match (self.kind, rng.below(6)) {
            (_, 4..) => (Step::Read(value), false),
            (Kind::Counter, _) if lost => (Step::Add(1), true),
            (Kind::Counter, _) => (Step::Swap { from: value, to: value + 1 }, false),
            (_, 0..=1) => (Step::Write(put), lost),
            (_, 2) => (Step::Write(0), lost),
            _ => (Step::Swap { from: wanted, to: put }, lost),
        }
    }

    /// (place of effect, call, end), all different.
    fn intervals(&self, rng: &Rng) -> Vec<(u64, u64, u64)> {
        let mut intervals = Vec::new();
        for client in 0..self.clients {
            let mut at = client;
            for _ in 0..self.operations / self.clients {
                // Multiples of the number of clients keep the times of two clients apart.
                let mut later = || {
                    at += self.clients * (1 + rng.below(4));
                    2 * at
                };
                intervals.push((later(), later(), later()));
            }
        }
        intervals.into_iter().map(|(call, effect, end)| (effect, call, end)).collect()
    }
}

/// Changes what a read found or when a write returned: to an odd time, as all calls are at even ones, and no call and return
/// of a history are at once.
fn mutate(ops: &mut [RegisterOp], rng: &Rng) {
    let at = rng.index(ops.len());
    match &mut ops[at].step {
        Step::Read(value) => *value = rng.below(6) as ValueId,
        _ => ops[at].end = ops[at].end.map(|end| (end / 2).max(ops[at].call) | 1),
    }
}

fn finds_good(ops: &[RegisterOp]) -> bool {
    match search(ops, Bounds::default()) {
        Finding::Linearizable => true,
        Finding::Impossible { .. } => false,
        Finding::GaveUp { .. } => panic!("gave up on {} operations", ops.len()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_register_did_is_good(seed: u64, clients in 1_u64..8, kind in kind()) {
        let ops = Execution { clients, operations: 200, kind }.run(&Rng::new(seed));
        prop_assert!(finds_good(&ops));
    }

    #[test]
    fn the_search_agrees_with_the_definition(seed: u64, clients in 1_u64..5, kind in kind(), mutations in 0..4) {
        let rng = Rng::new(seed);
        let mut ops = Execution { clients, operations: 8, kind }.run(&rng);
        for _ in 0..mutations {
            mutate(&mut ops, &rng);
        }
        prop_assert_eq!(finds_good(&ops), brute_force::is_linearizable(&ops), "{:?}", ops);
    }

    #[test]
    fn what_is_left_as_proof_is_impossible_by_the_definition(seed: u64, kind in kind()) {
        let rng = Rng::new(seed);
        let mut ops = Execution { clients: 4, operations: 40, kind }.run(&rng);
        mutate(&mut ops, &rng);
        if let Finding::Impossible { at } = search(&ops, Bounds::default()) {
            let proof = minimize(&ops, at, Bounds::default());
            prop_assert!(proof.len() <= ops.len());
            if proof.len() <= 10 {
                prop_assert!(!brute_force::is_linearizable(&proof), "{:?}", proof);
            }
        }
    }
}

/// So the tests above do see bad histories.
#[test]
fn most_wrong_reads_are_found() {
    let rng = Rng::new(5);
    let mut found = 0;
    for _ in 0..200 {
        let mut ops = Execution { clients: 3, operations: 60, kind: Kind::Unique }.run(&rng);
        let reads: Vec<usize> = (0..ops.len()).filter(|at| matches!(ops[*at].step, Step::Read(_))).collect();
        let at = *rng.choose(&reads);
        // What the first write put has long been written over by most reads.
        ops[at].step = Step::Read(1);
        found += u32::from(!finds_good(&ops));
    }
    assert!(found > 150, "{found}");
}
