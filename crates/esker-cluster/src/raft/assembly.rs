//! How nodes that find one another, without a list that all of them were given, agree on one: the rules, without the calls.
//!
//! ```text
//! free ── has the lowest instance of all free nodes it sees, and sees enough ──▶ founder: plans with the lowest
//!  ▲ │                                                                            │   │
//!  │ └── is in the plan of a founder that it sees ──▶ bound to that founder       │   └── all have agreed: founds
//!  │                                                     │                        │
//!  └──────────── the founder has given the plan up ◀─────┴────────────────────────┘
//! ```
//!
//! What keeps two plans from both being carried out:
//!
//! 1. A node tells of a plan only once its agreement is on its disk, and agrees to one at a time. Started again, it tells of it
//!    with its first answer.
//! 2. Only the founder carries a plan out, and only when all of it have told that they agree.
//! 3. Only the founder gives it up; the others are free again when the founder has told them so, and not before. A founder that
//!    is silent binds them for ever, for it may have founded. Each plan has an id of its own, so that no old agreement counts.
//!
//! So of plans that share a node at most one is carried out. Plans are as large as the expected cluster: two that share no
//! node need twice as many nodes. Where two founders are in each other's way, the one with the higher instance gives up.

use super::{founders::Founders, types::Node};
use crate::peer::Id;

/// A node that has answered.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) node: Node,
    /// Where it has answered.
    pub(super) address: String,
    /// It belongs to a cluster.
    pub(super) in_cluster: bool,
    /// It forms a cluster of the same size, when it belongs to none.
    pub(super) may_found: bool,
    pub(super) agreed: Option<Founders>,
}

impl Seen {
    /// The plan that it has made itself.
    fn plan(&self) -> Option<&Founders> {
        self.agreed.as_ref().filter(|plan| *plan.founder() == self.node.instance)
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is a cluster, at this address: be taken in.
    Join(String),
    /// Agree with those, durably: to a plan of another, or one's own.
    Agree(Founders),
    /// The plan is none any more.
    GiveUp,
    /// All agree.
    Found,
    /// For this.
    Wait(String),
}

/// What a node knows of itself.
pub(super) struct Myself<'a> {
    pub(super) node: &'a Node,
    pub(super) size: usize,
    pub(super) agreed: Option<&'a Founders>,
    /// Its own plan has waited long enough for who is silent.
    pub(super) is_tired: bool,
    /// For a plan of its own.
    pub(super) fresh_id: Id,
}

/// The next step of a node that sees these others.
pub(super) fn decide(me: &Myself<'_>, seen: &[Seen]) -> Step {
    match me.agreed {
        Some(plan) if *plan.founder() == me.node.instance => carry_out(me, plan, seen),
        Some(plan) => follow(plan, seen),
        None => look_for_a_plan(me, seen),
    }
}

fn cluster(seen: &[Seen]) -> Option<Step> {
    seen.iter().find(|seen| seen.in_cluster).map(|seen| Step::Join(seen.address.clone()))
}

fn follow(plan: &Founders, seen: &[Seen]) -> Step {
    let address = plan.founder_address();
    match seen.iter().find(|seen| seen.node.instance == *plan.founder()) {
        Some(founder) if founder.in_cluster => Step::Join(founder.address.clone()),
        Some(founder) if founder.agreed.as_ref() == Some(plan) => {
            Step::Wait(format!("the node at {address} founds the cluster once all its nodes have agreed"))
        }
        Some(_) => Step::GiveUp,
        None => Step::Wait(format!(
            "this node has agreed to form a cluster with the one at {address}, which is silent: start that one; if it is lost, \
             start this one with an empty directory"
        )),
    }
}

fn carry_out(me: &Myself<'_>, plan: &Founders, seen: &[Seen]) -> Step {
    if let Some(join) = cluster(seen) {
        return join;
    }
    let mine = me.node.instance;
    let lower = |other: &Founders| *other.founder() < mine;
    if seen.iter().any(|seen| seen.plan().is_some_and(lower)) {
        return Step::GiveUp;
    }
    let mut waits_for = Vec::new();
    for node in plan.nodes().filter(|node| node.instance != mine) {
        let found = seen.iter().find(|seen| seen.node.instance == node.instance);
        let is_replaced = seen.iter().any(|seen| seen.node.peer_address == node.peer_address);
        match found {
            Some(found) if found.agreed.as_ref() == Some(plan) => {}
            Some(found) if found.agreed.as_ref().is_some_and(lower) => return Step::GiveUp,
            // It was wiped: the instance that was planned with is no more.
            None if is_replaced => return Step::GiveUp,
            _ => waits_for.push(node.peer_address.as_str()),
        }
    }
    match waits_for[..] {
        [] => Step::Found,
        _ if me.is_tired => Step::GiveUp,
        _ => Step::Wait(format!("the cluster forms once these nodes agree: {}", waits_for.join(", "))),
    }
}

fn look_for_a_plan(me: &Myself<'_>, seen: &[Seen]) -> Step {
    if let Some(join) = cluster(seen) {
        return join;
    }
    let mine = me.node.instance;
    let plans = seen.iter().filter_map(Seen::plan);
    let with_me = plans.clone().filter(|plan| plan.number_of(&mine).is_some());
    if let Some(plan) = with_me.min_by_key(|plan| *plan.founder()) {
        return Step::Agree(plan.clone());
    }
    let mut free: Vec<&Node> = seen
        .iter()
        .filter(|seen| seen.may_found && seen.agreed.is_none())
        .map(|seen| &seen.node)
        .chain([me.node])
        .collect();
    free.sort_unstable_by_key(|node| node.instance);
    if free.len() < me.size {
        let (found, size) = (free.len(), me.size);
        return Step::Wait(format!("the cluster forms once {size} nodes are found; now there are {found}"));
    }
    let before = plans.map(Founders::founder).chain([&free[0].instance]).min();
    if before.is_some_and(|founder| *founder < mine) {
        return Step::Wait("another node plans the cluster".into());
    }
    Step::Agree(Founders::new(me.fresh_id, free.into_iter().take(me.size).cloned().collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn node(n: u8) -> Node {
        Node {
            instance: [n; 16],
            peer_address: format!("h{n}:1"),
            http_address: String::new(),
            voter: true,
            numbers_given: 0,
        }
    }

    /// A node of a model in which calls are answered at once, but acted upon later.
    struct Modelled {
        node: Node,
        /// On its disk.
        agreed: Option<Founders>,
        /// The founding instance of its cluster.
        cluster: Option<Id>,
        /// What it has seen, and not acted upon yet.
        seen: Vec<Seen>,
        waits: u32,
    }

    struct Model {
        size: usize,
        nodes: Vec<Modelled>,
        founded: Vec<Founders>,
        plans: u128,
        /// Which numbers of instances have been given.
        instances: Vec<u8>,
    }

    impl Model {
        fn new(rng: &mut StdRng, count: u8, size: usize) -> Self {
            let mut instances: Vec<u8> = (1..=200).collect();
            for at in 0..instances.len() {
                instances.swap(at, rng.random_range(0..=at));
            }
            let modelled =
                |n| Modelled { node: node(n), agreed: None, cluster: None, seen: Vec::new(), waits: 0 };
            let nodes = (0..count).filter_map(|_| instances.pop()).map(modelled).collect();
            Self { size, nodes, founded: Vec::new(), plans: 0, instances }
        }

        fn look(&mut self, at: usize, others: &BTreeSet<usize>) {
            let seen = others.iter().filter(|other| **other != at).map(|other| {
                let other = &self.nodes[*other];
                Seen {
                    node: other.node.clone(),
                    address: other.node.peer_address.clone(),
                    in_cluster: other.cluster.is_some(),
                    may_found: true,
                    agreed: other.agreed.clone().filter(|_| other.cluster.is_none()),
                }
            });
            self.nodes[at].seen = seen.collect();
        }

        fn act(&mut self, at: usize) {
            let node = &self.nodes[at];
            if node.cluster.is_some() {
                return;
            }
            self.plans += 1;
            let me = Myself {
                node: &node.node,
                size: self.size,
                agreed: node.agreed.as_ref(),
                is_tired: node.waits > 20,
                fresh_id: self.plans.to_le_bytes(),
            };
            let step = decide(&me, &std::mem::take(&mut self.nodes[at].seen.clone()));
            let node = &mut self.nodes[at];
            node.waits = if matches!(step, Step::Wait(_)) { node.waits + 1 } else { 0 };
            match step {
                Step::Agree(plan) => node.agreed = Some(plan),
                Step::GiveUp => node.agreed = None,
                Step::Found => {
                    node.cluster = Some(node.node.instance);
                    self.founded.extend(node.agreed.clone());
                }
                Step::Join(address) => {
                    let cluster = self.nodes.iter().find(|n| n.node.peer_address == address).unwrap().cluster;
                    self.nodes[at].cluster = cluster;
                }
                Step::Wait(_) => {}
            }
        }
    }

    fn some(rng: &mut StdRng, count: usize) -> BTreeSet<usize> {
        (0..count).filter(|_| rng.random_bool(0.6)).collect()
    }

    #[test]
    fn whatever_is_seen_and_lost_at_most_one_cluster_forms_and_one_does_in_the_end() {
        for seed in 0..3000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let size = rng.random_range(1..=4_usize).max(2);
            // Two plans without a node in common cannot be.
            let count = rng.random_range(size..2 * size);
            let mut model = Model::new(&mut rng, count as u8, size);
            for _ in 0..200 {
                let at = rng.random_range(0..count);
                match rng.random_range(0..20) {
                    0..9 => {
                        let others = some(&mut rng, count);
                        model.look(at, &others);
                    }
                    9..19 => model.act(at),
                    // It is started again: it has forgotten what it saw, and nothing else.
                    _ => model.nodes[at].seen.clear(),
                }
            }
            // One that has agreed to nothing, and whom nobody takes for a founder, may be wiped.
            let founders: Vec<Id> =
                model.nodes.iter().filter_map(|n| Some(*n.agreed.as_ref()?.founder())).collect();
            let is_free = |n: &Modelled| {
                n.agreed.is_none() && n.cluster.is_none() && !founders.contains(&n.node.instance)
            };
            if let Some(free) = model.nodes.iter().position(is_free) {
                let instance = model.instances.pop().unwrap();
                let address = model.nodes[free].node.peer_address.clone();
                model.nodes[free].node = Node { peer_address: address, ..node(instance) };
            }
            let everybody: BTreeSet<_> = (0..count).collect();
            for _ in 0..200 {
                for at in 0..count {
                    model.look(at, &everybody);
                    model.act(at);
                }
            }
            assert_eq!(model.founded.len(), 1, "seed {seed}: {:?}", model.founded);
            let outside = model.nodes.iter().find(|node| node.cluster.is_none());
            let outside = outside.map(|node| (&node.node, &node.agreed));
            assert_eq!(outside, None, "seed {seed}");
        }
    }

    #[test]
    fn who_has_agreed_waits_for_a_founder_that_is_silent() {
        let plan = Founders::new([1; 16], vec![node(1), node(2)]);
        let others = [3, 4].map(|n| Seen {
            node: node(n),
            address: String::new(),
            in_cluster: n == 4,
            may_found: true,
            agreed: None,
        });
        let me = Myself { node: &node(2), size: 2, agreed: Some(&plan), is_tired: true, fresh_id: [7; 16] };
        // Not even with a cluster that is there: the founder may have founded another with this node in it.
        assert!(matches!(decide(&me, &others), Step::Wait(why) if why.contains("h1:1")));
    }

    #[test]
    fn a_node_of_another_size_is_not_planned_with() {
        let other =
            Seen { node: node(2), address: String::new(), in_cluster: false, may_found: false, agreed: None };
        let me = Myself { node: &node(1), size: 2, agreed: None, is_tired: false, fresh_id: [7; 16] };
        assert!(matches!(decide(&me, &[other]), Step::Wait(why) if why.contains("now there are 1")));
    }
}
