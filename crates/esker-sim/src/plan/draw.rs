//! Drawing a plan.

use std::{collections::BTreeSet, time::Duration};

use esker_log::disk::sim::CrashMode;

use super::{Event, Fault, PlanOptions};
use crate::{Rng, network::Down};

/// Events do not come closer than this.
const GAP_MIN: Duration = Duration::from_millis(20);
/// How often a crash is allowed that leaves no majority.
const CRASH_OF_MAJORITY: f64 = 0.15;

pub(super) fn events(seed: u64, options: &PlanOptions) -> Vec<Event> {
    let mut drawing = Drawing {
        rng: Rng::new(seed).fork("plan"),
        options,
        down: BTreeSet::new(),
        removed: BTreeSet::new(),
        damaged: None,
    };
    let mut events = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += drawing.rng.duration(GAP_MIN..options.gap_max);
        if at >= options.faulty_for {
            break;
        }
        events.extend(drawing.fault().map(|fault| Event { at, fault }));
    }
    events.push(Event { at: options.faulty_for, fault: Fault::HealAll });
    events
}

/// Draws a fault of one kind; `None` if none fits now.
type Draw<D> = fn(&mut D) -> Option<Fault>;

/// What is known of the cluster as far as the plan has been drawn.
struct Drawing<'a> {
    rng: Rng,
    options: &'a PlanOptions,
    down: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    /// The one node whose disk may have flipped bits.
    damaged: Option<u64>,
}

impl Drawing<'_> {
    /// A fault; `None` if what was drawn does not fit now.
    fn fault(&mut self) -> Option<Fault> {
        let weights = &self.options.weights;
        let kinds: [(u32, Draw<Self>); 12] = [
            (weights.crash, Self::crash_or_restart),
            (weights.pause, Self::pause),
            (weights.partition, Self::partition),
            (weights.link, Self::link),
            (weights.disk, Self::disk),
            (weights.bit_flip, Self::bit_flip),
            (weights.wipe, Self::wipe),
            (weights.power_cut, Self::power_cut),
            (weights.clock, Self::clock),
            (weights.membership, Self::membership),
            (weights.transfer, Self::transfer),
            (weights.snapshot, Self::snapshot),
        ];
        let mut drawn = self.rng.below(u64::from(weights.all()));
        for (weight, draw) in kinds {
            if drawn < u64::from(weight) {
                return draw(self);
            }
            drawn -= u64::from(weight);
        }
        None
    }

    fn nodes(&self) -> Vec<u64> {
        (1..=self.options.nodes).collect()
    }

    fn any_node(&self) -> u64 {
        1 + self.rng.below(self.options.nodes)
    }

    fn two_nodes(&self) -> Option<(u64, u64)> {
        let mut nodes = self.nodes();
        self.rng.shuffle(&mut nodes);
        Some((*nodes.first()?, *nodes.get(1)?))
    }

    fn crash_or_restart(&mut self) -> Option<Fault> {
        let down: Vec<u64> = self.down.iter().copied().collect();
        if !down.is_empty() && self.rng.chance(0.5) {
            let node = *self.rng.choose(&down);
            self.down.remove(&node);
            return Some(Fault::Restart { node });
        }
        let up: Vec<u64> = self.nodes().into_iter().filter(|node| !self.down.contains(node)).collect();
        let majority_stays = 2 * (up.len() as u64).saturating_sub(1) > self.options.nodes;
        if up.is_empty() || !(majority_stays || self.rng.chance(CRASH_OF_MAJORITY)) {
            return None;
        }
        let node = *self.rng.choose(&up);
        self.down.insert(node);
        let seed = self.rng.next();
        if self.rng.chance(0.35) {
            return Some(self.power_failure(node, seed));
        }
        let mode = if self.rng.chance(0.4) { CrashMode::ProcessKill } else { CrashMode::power_loss(seed) };
        let down = if self.rng.chance(0.5) { Down::Refuses } else { Down::Silent };
        Some(Fault::Crash { node, mode, down })
    }

    /// In the middle of what a busy node writes.
    fn power_failure(&self, node: u64, seed: u64) -> Fault {
        let operation = 1 + self.rng.below(8);
        // Frames are small here: most are torn at their head.
        let torn = self.rng.index(200);
        Fault::PowerFailure { node, mode: CrashMode::power_loss(seed), operation, torn }
    }

    /// Mostly for longer than an election takes.
    fn pause(&mut self) -> Option<Fault> {
        let by = self.rng.duration(Duration::from_millis(100)..Duration::from_secs(3));
        Some(Fault::Pause { node: self.any_node(), by })
    }

    fn partition(&mut self) -> Option<Fault> {
        let (one, other) = self.two_nodes()?;
        Some(match self.rng.below(6) {
            0..=1 => Fault::HealNetwork,
            2 => Fault::BlockOneWay { from: one, to: other },
            3 => Fault::BlockPair { one, other },
            _ => {
                let mut nodes = self.nodes();
                self.rng.shuffle(&mut nodes);
                let rest = nodes.split_off(1 + self.rng.index(nodes.len() - 1));
                Fault::Partition { groups: vec![nodes, rest] }
            }
        })
    }

    fn link(&mut self) -> Option<Fault> {
        let (from, to) = self.two_nodes()?;
        Some(match self.rng.below(3) {
            0 => Fault::RoughNetwork,
            1 => Fault::Reset { from, to },
            _ => {
                let by = self.rng.duration(Duration::from_millis(100)..Duration::from_secs(5));
                Fault::Clog { from, to, by }
            }
        })
    }

    fn disk(&mut self) -> Option<Fault> {
        let node = self.any_node();
        Some(match self.rng.below(4) {
            0 => Fault::HealDisk { node },
            1 => Fault::FullDisk { node },
            2 => {
                let by = self.rng.duration(Duration::from_millis(50)..Duration::from_secs(4));
                Fault::StallDisk { node, by }
            }
            _ => {
                let each = self.rng.duration(Duration::from_millis(1)..Duration::from_millis(200));
                Fault::SlowDisk { node, each }
            }
        })
    }

    /// The node whose disk this plan may damage or wipe.
    fn victim(&mut self) -> u64 {
        let node = self.damaged.unwrap_or_else(|| self.any_node());
        self.damaged = Some(node);
        node
    }

    fn bit_flip(&mut self) -> Option<Fault> {
        Some(Fault::FlipBit { node: self.victim(), seed: self.rng.next() })
    }

    fn wipe(&mut self) -> Option<Fault> {
        let node = self.victim();
        self.down.remove(&node);
        Some(Fault::Wipe { node })
    }

    fn power_cut(&mut self) -> Option<Fault> {
        self.down.clear();
        Some(Fault::PowerCut { seed: self.rng.next() })
    }

    fn clock(&mut self) -> Option<Fault> {
        /// A day there or back: nothing may depend on the wall clock.
        const JUMP_MS_MAX: i64 = 24 * 3600 * 1000;
        let jump_ms = self.rng.below(2 * JUMP_MS_MAX as u64) as i64 - JUMP_MS_MAX;
        // Up to a tenth off: far more than real clocks, less than what time-outs must forgive.
        let speed = 900 + self.rng.below(201) as u32;
        Some(Fault::SkewClock { node: self.any_node(), jump_ms, speed })
    }

    /// One node at most is out at any time.
    fn membership(&mut self) -> Option<Fault> {
        if let Some(node) = self.removed.pop_first() {
            self.down.remove(&node);
            return Some(Fault::AddMember { node });
        }
        let node = self.any_node();
        self.removed.insert(node);
        Some(Fault::RemoveMember { node })
    }

    fn transfer(&mut self) -> Option<Fault> {
        let to = self.rng.chance(0.7).then(|| self.any_node());
        Some(Fault::Transfer { to })
    }

    fn snapshot(&mut self) -> Option<Fault> {
        Some(Fault::Snapshot { node: self.any_node() })
    }
}
