//! The server as a whole: INFO, CONFIG, TIME, MODULE.

use std::fmt::Write as _;

use esker_cluster::{ClusterView, Status};
use esker_engine::KeyRange;

use super::is;
use crate::{
    access::Right,
    http::Front,
    process,
    resp::{
        Args, Reply,
        glob::matches,
        refusal::{Done, lower},
        session::Session,
    },
};

/// The Redis whose commands these are: clients decide by it what they may use.
pub(crate) const REDIS_VERSION: &str = "7.4.0";

pub(crate) fn time(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let now = session.door.clock().wall();
    reply.array(2);
    reply.bulk(now.as_secs().to_string().as_bytes());
    reply.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(())
}

pub(crate) fn module_list(_session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.array(0);
    Ok(())
}

/// What CONFIG GET tells: what clients ask for, in Redis's names, as far as there is such a thing here.
fn configuration(door: &Front) -> Vec<(&'static str, String)> {
    let limits = &door.config.limits;
    vec![
        ("appendonly", "yes".into()),
        ("databases", "1".into()),
        ("maxclients", limits.connections.to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", door.resp.address.map_or(0, |address| address.port()).to_string()),
        ("proto-max-bulk-len", door.limits().value_bytes.to_string()),
        ("save", String::new()),
        ("tcp-backlog", door.config.backlog.to_string()),
        ("timeout", door.config.timeouts.resp_idle.as_secs().to_string()),
    ]
}

pub(crate) fn config_get(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let patterns: Vec<String> = args.from(2).map(lower).collect();
    let fits = |name: &str| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()));
    let all = configuration(&session.door);
    let found: Vec<_> = all.into_iter().filter(|(name, _)| fits(name)).collect();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// Writes a section of INFO.
type Section = fn(&Seen<'_>, &mut String) -> std::fmt::Result;

/// What INFO tells of.
struct Seen<'a> {
    front: &'a Front,
    status: Status,
    cluster: Option<ClusterView>,
    /// Whether the caller may know of all keys.
    tells_keys: bool,
}

const SECTIONS: [(&str, Section); 8] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Keyspace", keyspace),
];

/// INFO [section ...].
pub(crate) fn info(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let wanted = |name: &str| {
        let every = ["all", "everything", "default"];
        args.len() == 1
            || args.from(1).any(|word| is(word, name) || every.iter().any(|every| is(word, every)))
    };
    let door = &session.door;
    let seen = Seen {
        front: door,
        status: door.status()?,
        cluster: door.cluster()?,
        tells_keys: door.covers(Right::Read, &KeyRange::all()),
    };
    let mut text = String::new();
    for (name, write) in SECTIONS.into_iter().filter(|(name, _)| wanted(name)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        write!(text, "# {name}\r\n")
            .and_then(|()| write(&seen, &mut text))
            .expect("writing to a string cannot fail");
    }
    reply.text(&text);
    Ok(())
}

fn server(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    let status = &seen.status;
    let mode = if seen.cluster.is_some() { "raft" } else { "single" };
    let uptime = status.uptime.as_secs();
    write!(text, "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\n")?;
    write!(text, "esker_version:{}\r\nesker_mode:{mode}\r\n", env!("CARGO_PKG_VERSION"))?;
    write!(text, "os:{}\r\narch_bits:{}\r\n", std::env::consts::OS, usize::BITS)?;
    write!(text, "process_id:{}\r\n", std::process::id())?;
    let port = seen.front.resp.address.map_or(0, |address| address.port());
    write!(text, "tcp_port:{port}\r\nhttp_port:{}\r\n", seen.front.address.port())?;
    write!(text, "uptime_in_seconds:{uptime}\r\nuptime_in_days:{}\r\n", uptime / 86_400)
}

fn clients(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    write!(text, "connected_clients:{}\r\n", seen.front.resp.clients.count())?;
    // No command waits for another client.
    write!(text, "maxclients:{}\r\nblocked_clients:0\r\n", seen.front.config.limits.connections)
}

fn memory(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    let stats = &seen.status.stats;
    let resident = process::figures().map_or(0, |figures| figures.resident_bytes);
    write!(text, "used_memory:{resident}\r\nused_memory_rss:{resident}\r\n")?;
    write!(text, "esker_index_bytes:{}\r\nesker_cache_bytes:{}\r\n", stats.index_bytes, stats.cache.bytes)?;
    write!(text, "maxmemory:0\r\nmaxmemory_policy:noeviction\r\n")
}

fn persistence(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    let status = &seen.status;
    let refused = u8::from(status.trouble.is_some());
    write!(text, "loading:0\r\naof_enabled:1\r\nesker_writes_refused:{refused}\r\n")?;
    write!(text, "esker_version_committed:{}\r\n", status.commit_index)?;
    write!(
        text,
        "esker_log_bytes:{}\r\nesker_live_bytes:{}\r\n",
        status.stats.log_bytes, status.stats.live_bytes
    )
}

fn stats(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    let metrics = &seen.front.resp.metrics;
    write!(text, "total_connections_received:{}\r\n", metrics.connections_accepted.get())?;
    write!(text, "total_commands_processed:{}\r\n", metrics.commands_total.get())?;
    write!(text, "total_error_replies:{}\r\n", metrics.errors.get())
}

fn replication(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    // Every node takes reads and writes, whichever leads; so clients are told that each is a master.
    write!(text, "role:master\r\nconnected_slaves:0\r\n")?;
    match &seen.cluster {
        None => Ok(()),
        Some(view) => {
            let leader = view.leader.map_or_else(|| "none".into(), |leader| leader.to_string());
            write!(text, "esker_node:{}\r\nesker_leader:{leader}\r\n", view.node_id)?;
            write!(text, "esker_term:{}\r\nesker_members:{}\r\n", view.term, view.members.len())
        }
    }
}

fn cpu(_seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    match process::figures() {
        Some(figures) => write!(text, "esker_cpu_seconds:{:.2}\r\n", figures.cpu_seconds),
        None => Ok(()),
    }
}

fn keyspace(seen: &Seen<'_>, text: &mut String) -> std::fmt::Result {
    match seen.status.stats.keys {
        0 => Ok(()),
        _ if !seen.tells_keys => Ok(()),
        keys => write!(text, "db0:keys={keys},avg_ttl=0\r\n"),
    }
}
