//! Which fault comes when: drawn from a seed, printable, and ended by healing everything.

mod draw;

use std::{fmt, time::Duration};

use esker_log::disk::sim::CrashMode;

use crate::{Rng, network::Down};

/// Something that goes wrong, or right again. Nodes go by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A node goes down.
    Crash {
        /// Which.
        node: u64,
        /// What its disk keeps.
        mode: CrashMode,
        /// What callers meet.
        down: Down,
    },
    /// The power of a node fails while its disk is written.
    PowerFailure {
        /// Which.
        node: u64,
        /// What its disk keeps of what was not synced.
        mode: CrashMode,
        /// At which write (odd) or sync (even) from now on.
        operation: u64,
        /// How many bytes of the write come through.
        torn: usize,
    },
    /// A node stands still and then goes on, as a process that was stopped or a virtual machine that was moved.
    Pause {
        /// Which.
        node: u64,
        /// For how long.
        by: Duration,
    },
    /// A node that is down starts again.
    Restart {
        /// Which.
        node: u64,
    },
    /// Nodes of different groups do not hear one another.
    Partition {
        /// The groups.
        groups: Vec<Vec<u64>>,
    },
    /// Nothing comes through, one way.
    BlockOneWay {
        /// From this node.
        from: u64,
        /// To that.
        to: u64,
    },
    /// Two nodes do not hear one another; both hear the others.
    BlockPair {
        /// One.
        one: u64,
        /// The other.
        other: u64,
    },
    /// Messages take longer, one way.
    Clog {
        /// From this node.
        from: u64,
        /// To that.
        to: u64,
        /// At most by this.
        by: Duration,
    },
    /// Streams break.
    Reset {
        /// From this node.
        from: u64,
        /// To that.
        to: u64,
    },
    /// All links lose, repeat and delay.
    RoughNetwork,
    /// The network is well again.
    HealNetwork,
    /// Every operation of a disk takes so long.
    SlowDisk {
        /// Whose.
        node: u64,
        /// How long.
        each: Duration,
    },
    /// A disk does nothing for a while.
    StallDisk {
        /// Whose.
        node: u64,
        /// For how long.
        by: Duration,
    },
    /// A disk takes no more.
    FullDisk {
        /// Whose.
        node: u64,
    },
    /// A disk is neither slow nor full any more.
    HealDisk {
        /// Whose.
        node: u64,
    },
    /// A bit of a synced file flips. At most one node of a plan has such a disk, or is wiped: more would be more than a
    /// majority can heal.
    FlipBit {
        /// Whose.
        node: u64,
        /// Chooses file, byte and bit.
        seed: u64,
    },
    /// A clock jumps (the wall clock only) and runs at another speed from now on, which the time-outs of the consensus follow.
    SkewClock {
        /// Whose.
        node: u64,
        /// By how many milliseconds the wall clock jumps.
        jump_ms: i64,
        /// How many thousandths of a second a second takes; 1000 is right.
        speed: u32,
    },
    /// A node goes down, loses its disk and starts with an empty one.
    Wipe {
        /// Which.
        node: u64,
    },
    /// Every node goes down at once, and starts again: a power cut.
    PowerCut {
        /// Chooses what each disk keeps.
        seed: u64,
    },
    /// A node ceases to be a member.
    RemoveMember {
        /// Which.
        node: u64,
    },
    /// A node that was removed starts with an empty disk and joins as a new member.
    AddMember {
        /// Which.
        node: u64,
    },
    /// The leadership is handed on.
    Transfer {
        /// To this node, or to whichever is furthest.
        to: Option<u64>,
    },
    /// A node takes a snapshot and drops the log before it.
    Snapshot {
        /// Which.
        node: u64,
    },
    /// Everything is well: all nodes run, network, disks and clocks are in order. The last event of every plan.
    HealAll,
}

/// A fault and when it comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Since the beginning.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// What plans are drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    /// The nodes are numbered from 1 to this.
    pub nodes: u64,
    /// How long faults go on.
    pub faulty_for: Duration,
    /// How long the cluster then has to recover (CHECKS 28).
    pub recovery: Duration,
    /// The longest time between two events.
    pub gap_max: Duration,
    /// How often each kind is drawn.
    pub weights: Weights,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            faulty_for: Duration::from_secs(60),
            recovery: Duration::from_secs(10),
            gap_max: Duration::from_secs(3),
            weights: Weights::default(),
        }
    }
}

/// How often each kind of fault is drawn, in relation to the others; 0 is never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Crashes, also in the middle of a write; as often, restarts.
    pub crash: u32,
    /// Nodes that stand still.
    pub pause: u32,
    /// Partitions: whole, partial, one-way, and healing.
    pub partition: u32,
    /// Clogged, rough and resetting links.
    pub link: u32,
    /// Slow, stalling and full disks, and their healing.
    pub disk: u32,
    /// Flipped bits.
    pub bit_flip: u32,
    /// Wiped nodes.
    pub wipe: u32,
    /// Cuts of the power of all nodes.
    pub power_cut: u32,
    /// Clocks.
    pub clock: u32,
    /// Removed and added members.
    pub membership: u32,
    /// Leadership transfers.
    pub transfer: u32,
    /// Snapshots.
    pub snapshot: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            crash: 6,
            pause: 2,
            partition: 5,
            link: 4,
            disk: 2,
            bit_flip: 1,
            wipe: 1,
            power_cut: 1,
            clock: 2,
            membership: 1,
            transfer: 2,
            snapshot: 2,
        }
    }
}

impl Weights {
    /// Some kinds of faults at random, none of the others: bugs that need much of one thing hide where there is a little of
    /// everything ("swarm testing", Groce and others, ISSTA 2012). Of what may cost a replica its data there is one kind at
    /// most, because together they would cost a majority.
    pub fn swarm(rng: &Rng) -> Self {
        let some = |weight: u32| if rng.chance(0.65) { weight } else { 0 };
        let usual = Self::default();
        let mut weights = Self {
            crash: some(usual.crash),
            pause: some(usual.pause),
            partition: some(usual.partition),
            link: some(usual.link),
            disk: some(usual.disk),
            clock: some(usual.clock),
            power_cut: some(usual.power_cut),
            transfer: some(usual.transfer),
            snapshot: some(usual.snapshot),
            bit_flip: 0,
            wipe: 0,
            membership: 0,
        };
        match rng.below(5) {
            0 => weights.bit_flip = usual.bit_flip,
            1 => weights.wipe = usual.wipe,
            2..=3 => weights.membership = 2 * usual.membership,
            _ => {}
        }
        weights
    }

    /// Of what was drawn, whether there is anything.
    fn all(&self) -> u32 {
        let Self { crash, pause, partition, link, disk, bit_flip, wipe, .. } = self;
        let Self { power_cut, clock, membership, transfer, snapshot, .. } = self;
        crash
            + pause
            + partition
            + link
            + disk
            + bit_flip
            + wipe
            + power_cut
            + clock
            + membership
            + transfer
            + snapshot
    }
}

/// A schedule of faults. The same seed and options give the same plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// In order of time; the last is [`Fault::HealAll`].
    pub events: Vec<Event>,
    /// How long after the last event the run ends.
    pub recovery: Duration,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64, options: &PlanOptions) -> Self {
        Self { seed, events: draw::events(seed, options), recovery: options.recovery }
    }

    /// When everything is healed.
    pub fn healed_at(&self) -> Duration {
        self.events.last().map_or(Duration::ZERO, |event| event.at)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))?;
        writeln!(f, "{:>9.3} end", (self.healed_at() + self.recovery).as_secs_f64())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} {}", self.at.as_secs_f64(), self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { node, mode, down } => write!(f, "crash n{node}: {mode:?}, {down:?}"),
            Self::PowerFailure { node, mode, operation, torn } => {
                write!(f, "power of n{node} fails at write or sync {operation} (torn at {torn}): {mode:?}")
            }
            Self::Pause { node, by } => write!(f, "n{node} stands still for {by:?}"),
            Self::Restart { node } => write!(f, "restart n{node}"),
            Self::Partition { groups } => write!(f, "partition {groups:?}"),
            Self::BlockOneWay { from, to } => write!(f, "block n{from} > n{to}"),
            Self::BlockPair { one, other } => write!(f, "block n{one} <> n{other}"),
            Self::Clog { from, to, by } => write!(f, "clog n{from} > n{to} by up to {by:?}"),
            Self::Reset { from, to } => write!(f, "reset n{from} > n{to}"),
            Self::RoughNetwork => f.write_str("rough network"),
            Self::HealNetwork => f.write_str("heal the network"),
            Self::SlowDisk { node, each } => write!(f, "slow disk n{node}: {each:?} each"),
            Self::StallDisk { node, by } => write!(f, "disk of n{node} stalls for {by:?}"),
            Self::FullDisk { node } => write!(f, "full disk n{node}"),
            Self::HealDisk { node } => write!(f, "heal the disk of n{node}"),
            Self::FlipBit { node, seed } => write!(f, "flip a bit on n{node} (seed {seed})"),
            Self::Wipe { node } => write!(f, "wipe n{node}"),
            Self::PowerCut { seed } => write!(f, "power cut (seed {seed})"),
            Self::SkewClock { node, jump_ms, speed } => {
                write!(f, "clock of n{node} jumps by {jump_ms} ms, runs at {speed}/1000")
            }
            Self::RemoveMember { node } => write!(f, "remove n{node}"),
            Self::AddMember { node } => write!(f, "add n{node}"),
            Self::Transfer { to: Some(to) } => write!(f, "transfer the leadership to n{to}"),
            Self::Transfer { to: None } => f.write_str("transfer the leadership"),
            Self::Snapshot { node } => write!(f, "snapshot and purge on n{node}"),
            Self::HealAll => f.write_str("heal everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(fault: &Fault) -> String {
        let text = format!("{fault:?}");
        text.split([' ', '{']).next().unwrap().to_owned()
    }

    #[test]
    fn a_seed_gives_the_same_plan_and_another_seed_another() {
        let options = PlanOptions::default();
        assert_eq!(Plan::draw(5, &options).to_string(), Plan::draw(5, &options).to_string());
        assert_ne!(Plan::draw(5, &options).events, Plan::draw(6, &options).events);
    }

    #[test]
    fn plans_are_in_order_end_healed_and_have_a_line_for_each_event() {
        let options = PlanOptions::default();
        for seed in 0..200 {
            let plan = Plan::draw(seed, &options);
            assert!(plan.events.is_sorted_by_key(|event| event.at));
            assert_eq!(plan.events.last().unwrap().fault, Fault::HealAll);
            assert_eq!(plan.healed_at(), options.faulty_for);
            assert_eq!(plan.to_string().lines().count(), plan.events.len() + 2);
        }
    }

    #[test]
    fn every_kind_is_drawn_and_one_disk_at_most_has_bits_flipped() {
        let mut kinds = BTreeSet::new();
        for seed in 0..300 {
            let plan = Plan::draw(seed, &PlanOptions { nodes: 5, ..PlanOptions::default() });
            kinds.extend(plan.events.iter().map(|event| name(&event.fault)));
            let flipped: BTreeSet<u64> = plan
                .events
                .iter()
                .filter_map(|event| match event.fault {
                    Fault::FlipBit { node, .. } | Fault::Wipe { node } => Some(node),
                    _ => None,
                })
                .collect();
            assert!(flipped.len() <= 1, "{plan}");
        }
        assert_eq!(kinds.len(), 24, "{kinds:?}");
    }

    #[test]
    fn only_who_is_up_crashes_and_only_who_is_down_restarts() {
        for seed in 0..200 {
            let mut down = BTreeSet::new();
            for event in Plan::draw(seed, &PlanOptions::default()).events {
                match event.fault {
                    Fault::Crash { node, .. } | Fault::PowerFailure { node, .. } => {
                        assert!(down.insert(node), "seed {seed}")
                    }
                    Fault::Restart { node } => assert!(down.remove(&node), "seed {seed}"),
                    Fault::Wipe { node } | Fault::AddMember { node } => drop(down.remove(&node)),
                    Fault::PowerCut { .. } => down.clear(),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn what_has_no_weight_is_not_drawn() {
        let weights = Weights {
            crash: 1,
            pause: 0,
            partition: 0,
            link: 0,
            disk: 0,
            bit_flip: 0,
            wipe: 0,
            power_cut: 0,
            clock: 0,
            membership: 0,
            transfer: 0,
            snapshot: 0,
        };
        let plan = Plan::draw(1, &PlanOptions { weights, ..PlanOptions::default() });
        let kinds: BTreeSet<String> = plan.events.iter().map(|event| name(&event.fault)).collect();
        assert_eq!(kinds, ["Crash", "HealAll", "PowerFailure", "Restart"].map(str::to_owned).into());
    }
}
