//! `esker cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::JsonArgs;

/// The command words behind `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show what the node is in its cluster, and who leads
    Status(JsonArgs),
    /// List the members: addresses, roles, and as far as the leader tells, how they keep up
    Nodes(JsonArgs),
    /// Make the node that listens for peers at HOST:PORT a member; it votes once it has caught up
    ///
    /// A node that is started with --join does this by itself.
    Add {
        /// Where it listens for the other nodes
        #[arg(value_name = "HOST:PORT")]
        peer_address: String,
        /// Without a vote: it follows, and the cluster does not wait for it
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Give a learner a vote
    Promote {
        /// Its number
        #[arg(value_name = "ID")]
        node: u64,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Take a member out of the cluster
    Remove {
        /// Its number
        #[arg(value_name = "ID")]
        node: u64,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Hand the leadership on, as before the leader is stopped
    Transfer {
        /// The voter that is to lead; by default the one that is furthest
        #[arg(value_name = "ID")]
        node: Option<u64>,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Run three nodes on this machine, kill the leader, and show what that costs
    ///
    /// Clients write all the time while the leader is killed, comes back, and the next one is stopped in order.
    /// Everything acknowledged is read back after each. Ends with 0 if nothing was lost; the processes end with it.
    Demo(DemoArgs),
}

/// A demonstration of a cluster.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How often a leader is killed, and the next one stopped
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Keep the nodes' data and logs in this directory, which must be empty, and leave them there; by default they are in
    /// a temporary one and removed
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Leave the temporary directory there
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) keep: bool,
    /// Print JSON: a line for each step
    #[arg(long)]
    pub(crate) json: bool,
}
