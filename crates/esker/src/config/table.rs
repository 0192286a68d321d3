//! The one table of settings.

use super::kind::Kind;

/// A setting. Its name gives its key in a file (`data_dir`), its flag (`--data-dir`) and its variable
/// (`KV_DATA_DIR`).
#[derive(Debug)]
pub(crate) struct Setting {
    /// Words joined by underscores, the unit last.
    pub(crate) name: &'static str,
    /// What it may be.
    pub(crate) kind: Kind,
    /// Its default, as one would write it. A setting that only stands for another one has none.
    pub(crate) default: Standard,
    /// One or two sentences: what it does, and when to change it.
    pub(crate) help: &'static str,
}

/// What holds when a setting is given nowhere.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standard {
    /// This value.
    Value(&'static str),
    /// So many times the machine's cores, within bounds.
    Cores {
        /// How many times.
        times: u64,
        /// Not less.
        least: u64,
        /// Not more.
        most: u64,
    },
    /// Half of the memory that the machine or the process's control group has.
    HalfOfMemory,
    /// An eighth of it.
    EighthOfMemory,
    /// Nothing of its own: the setting is another name for the one named here.
    AliasOf(&'static str),
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: u64 = 3_600_000;

use Kind::{Bytes, Choice, Count, Flag, Millis, Optional, Path, Port, Ratio, Secret, Sync, Text};
use Standard::{AliasOf, Cores, EighthOfMemory, HalfOfMemory, Value};

const fn setting(name: &'static str, kind: Kind, default: Standard, help: &'static str) -> Setting {
    Setting { name, kind, default, help }
}

/// Every setting there is.
pub(crate) const TABLE: &[Setting] = &[
    setting(
        "data_dir",
        Path,
        Value("./esker-data"),
        "Where the data is kept; created if absent. One process per data directory.",
    ),
    setting(
        "backup_dir",
        Optional("the path of a directory"),
        Value(""),
        "Where the server keeps the backups that it is asked to make, each in a directory of its name; created if absent. On the file \
         system of `data_dir` they share what never changes with it. Without, it only sends backups.",
    ),
    setting(
        "host",
        Text,
        Value("127.0.0.1"),
        "The address or host name to listen on. Anything but a loopback address needs TLS, users or `insecure`.",
    ),
    setting("port", Count(0, 65_535), Value("8080"), "The port of the HTTP front; 0 takes a free one."),
    setting(
        "resp_port",
        Port,
        Value("6380"),
        "The port of the front for clients of Redis; 0 takes a free one, and so does the default where `port` is 0. Of the nodes of \
         `cluster_nodes` that have one host, the k-th has 6380 + k - 1. `off`: there is none.",
    ),
    setting(
        "binary_port",
        Port,
        Value("9090"),
        "The port of the front for the binary protocol; 0 takes a free one, and so does the default where `port` is 0. Of the nodes \
         of `cluster_nodes` that have one host, the k-th has 9090 + k - 1. `off`: there is none.",
    ),
    setting(
        "grpc_port",
        Port,
        Value("7070"),
        "The port of the gRPC front; 0 takes a free one, and so does the default where `port` is 0. In a cluster the default is 7170, \
         because 7070 is where the nodes speak with one another (`peer_port`), and of the nodes of `cluster_nodes` that have one host, the \
         k-th has 7170 + k - 1. `off`: there is none.",
    ),
    setting(
        "insecure",
        Flag,
        Value("false"),
        "Allows listening on an address that other machines reach, with neither TLS nor users.",
    ),
    setting(
        "users_file",
        Optional("the path of a TOML or YAML file"),
        Value(""),
        "Who may do what (docs/security.md). With it, whoever shows no password, token or certificate may do nothing. Read again on SIGHUP.",
    ),
    setting(
        "auth_token",
        Secret("at least 16 signs"),
        Value(""),
        "Whoever shows it may do everything. Give it as a variable or in a file that only the server reads: flags show in the list of \
         processes.",
    ),
    setting(
        "tls_certificate",
        Optional("the path of a PEM file"),
        Value(""),
        "The server's certificate, with those between it and its authority. With it and `tls_key` every front speaks TLS. Read again on \
         SIGHUP.",
    ),
    setting(
        "tls_key",
        Optional("the path of a PEM file"),
        Value(""),
        "The private key of `tls_certificate`.",
    ),
    setting(
        "tls_client_ca",
        Optional("the path of a PEM file"),
        Value(""),
        "The authority of the clients' certificates. With it, whoever has none is refused, and the user of a name in it needs no password.",
    ),
    setting(
        "wal_sync_policy",
        Sync,
        Value("always"),
        "When an acknowledged write is on the disk. `always`: before it is acknowledged; a power loss loses \
         nothing. `every:<ms>`: at most that long after. `never`: when the operating system likes. A killed \
         process loses nothing under any of them.",
    ),
    setting(
        "sync_on_put",
        Sync,
        AliasOf("wal_sync_policy"),
        "Another name for `wal_sync_policy`, where true means always and false means never. Giving both in one \
         place with different meanings is an error.",
    ),
    setting(
        "segment_max_bytes",
        Bytes(MIB, 2 * GIB),
        Value("256MiB"),
        "A file of the log is sealed before it grows beyond this.",
    ),
    setting(
        "checkpoint_ops",
        Count(1, u64::MAX),
        Value("500000"),
        "A checkpoint of the index is written after this many operations. It bounds what a restart replays.",
    ),
    setting(
        "checkpoint_interval_ms",
        Millis(100, 24 * HOUR),
        Value("60s"),
        "A checkpoint is written when there were writes and this long has passed.",
    ),
    setting(
        "merge_trigger_ratio",
        Ratio(5, 95),
        Value("0.3"),
        "Merging begins when so much of the store is dead. Higher: less is copied, and more space is taken. A store that is smaller than \
         a full segment counts as one.",
    ),
    setting(
        "merge_trigger_bytes",
        Bytes(0, 64 * 1024 * GIB),
        Value("0B"),
        "Merging begins, too, when so many bytes are dead, whatever part of the store they are; 0B: the part alone counts. It bounds what \
         is dead in a store of terabytes; more is copied.",
    ),
    setting(
        "merge_throttle_ms",
        Millis(0, 10_000),
        Value("16ms"),
        "A merge pauses for this long after each MiB that it copies, while there is little to gain: the more is dead, the \
         shorter, and not at all when a quarter more is dead than makes merging begin. 0: it never pauses.",
    ),
    setting(
        "compression_algorithm",
        Choice(&["none", "lz4", "zstd", "gzip"]),
        Value("none"),
        "How values are compressed that are written from now on; what is stored is read under any setting. Values under 64 bytes, \
         and those of which not an eighth would be saved, are stored as they are. `lz4` costs little and saves disk and page cache; \
         `zstd` saves more; `gzip` is slow and there for compatibility.",
    ),
    setting(
        "compression_level",
        Count(0, 22),
        Value("0"),
        "How hard to try: 1 (fast) to 22 (small) for zstd, 1 to 9 for gzip; 0 is the algorithm's own default (3 and 6). lz4 has \
         no levels.",
    ),
    setting(
        "cache_max_size",
        Bytes(0, 64 * 1024 * GIB),
        EighthOfMemory,
        "Values that are read are kept in memory, up to this; once it is full, those that are read again. 0B: none are. Beside the \
         operating system's page cache it saves the system call, the checksum and decompression.",
    ),
    setting(
        "cache_ttl_ms",
        Millis(0, 24 * HOUR),
        Value("0ms"),
        "A value in the cache is read anew from the disk after this. What is in the cache is never stale, so there is no need to; \
         0: never.",
    ),
    setting(
        "memory_budget",
        Bytes(MIB, 64 * 1024 * GIB),
        HalfOfMemory,
        "What index, cache and queue may take together. The cache gives way to the index; when the index alone is too large, writes \
         of new keys are answered 507 (`memory_full`), and overwrites, deletes and reads go on.",
    ),
    setting(
        "max_files",
        Count(8, 1_000_000),
        Value("1024"),
        "Files of segments that are open at a time; the others are opened when they are read. Together with `max_connections` \
         it should stay below the limit of open files.",
    ),
    setting(
        "queue_max_bytes",
        Bytes(MIB, 16 * GIB),
        Value("64MiB"),
        "Writes are answered 503 with Retry-After while this much waits to be committed.",
    ),
    setting(
        "queue_max_batches",
        Count(1, 16_777_216),
        Value("65536"),
        "The same bound for the number of waiting writes.",
    ),
    setting(
        "write_bytes_under_way",
        Bytes(MIB, 64 * GIB),
        Value("128MiB"),
        "Writes are answered 503 while more than this is taken in and not yet committed. Not below `max_batch_bytes`.",
    ),
    setting(
        "open_threads",
        Count(1, 256),
        Cores { times: 1, least: 1, most: 8 },
        "Threads that load the index at start.",
    ),
    setting(
        "max_value_bytes",
        Bytes(1, GIB),
        Value("16MiB"),
        "The largest value; a larger one is answered 413.",
    ),
    setting("max_batch_ops", Count(1, 10_000_000), Value("100000"), "The most operations in one batch."),
    setting(
        "max_batch_bytes",
        Bytes(KIB, GIB),
        Value("64MiB"),
        "The largest batch, keys and values together.",
    ),
    setting(
        "max_connections",
        Count(1, 1_000_000),
        Value("10000"),
        "Open connections of all fronts together; one more is told so (503 from HTTP) and closed. Fewer are let in where the limit of \
         open files, which is raised as far as it goes, does not leave the store `max_files` and 1,024 more, or half of all.",
    ),
    setting(
        "listen_backlog",
        Count(1, 65_535),
        Value("1024"),
        "Connections that wait to be accepted, per listener.",
    ),
    setting(
        "max_header_bytes",
        Bytes(KIB, MIB),
        Value("32KiB"),
        "The longest header of a request; more is answered 431.",
    ),
    setting(
        "body_bytes_under_way",
        Bytes(MIB, 64 * GIB),
        Value("256MiB"),
        "The bytes of all request bodies being received at once. A request that does not fit is answered 429.",
    ),
    setting(
        "answer_bytes_under_way",
        Bytes(MIB, 64 * GIB),
        Value("256MiB"),
        "The bytes of all answers that clients have not taken yet. A read that does not fit is answered 503.",
    ),
    setting(
        "list_answer_bytes",
        Bytes(KIB, GIB),
        Value("4MiB"),
        "The keys and values in one page of a list; the rest comes with the cursor.",
    ),
    setting(
        "cors_origins",
        Optional("`*`, or origins such as https://example.org:8443 with commas between"),
        Value("*"),
        "Whose pages browsers let use the envelope dialect (`/kv/`, `/status`, `/health`), writes included. `*` is every site: on a \
         machine where somebody browses the web, name the sites that are to have the store, or nothing, for none. The other APIs \
         let no page of another site write.",
    ),
    setting(
        "header_timeout_ms",
        Millis(1, HOUR),
        Value("10s"),
        "How long a request's header may take to arrive.",
    ),
    setting(
        "idle_timeout_ms",
        Millis(1, 24 * HOUR),
        Value("75s"),
        "How long a connection may wait for its next request, or, of a client of Redis, for its first.",
    ),
    setting(
        "resp_idle_timeout_ms",
        Millis(1000, 24 * 365 * HOUR),
        Value("3600s"),
        "How long a connection of a client of Redis may wait for its next command. Such clients keep connections for as long as \
         they run.",
    ),
    setting(
        "grpc_idle_timeout_ms",
        Millis(1000, 24 * 365 * HOUR),
        Value("600s"),
        "How long a connection of a gRPC client may be without a call. The client is told to go, and connects again when it needs to.",
    ),
    setting(
        "body_stall_timeout_ms",
        Millis(1, HOUR),
        Value("20s"),
        "How long a request's body may stand still.",
    ),
    setting(
        "write_stall_timeout_ms",
        Millis(1, HOUR),
        Value("30s"),
        "How long a client may take nothing of its answer; 2 s at most while the memory for answers is short and it holds \
         some of it.",
    ),
    setting(
        "drain_notice_ms",
        Millis(0, HOUR),
        Value("0ms"),
        "How long `/ready` answers 503 at shutdown while everything is still served. Set it to what a load balancer \
         takes to notice.",
    ),
    setting(
        "drain_timeout_ms",
        Millis(1, HOUR),
        Value("20s"),
        "How long requests may take to finish at shutdown.",
    ),
    setting("slow_request_ms", Millis(1, HOUR), Value("1s"), "A request that takes longer is logged."),
    setting(
        "runtime",
        Choice(&["homes", "per-core", "shared"]),
        Value("homes"),
        "`homes`: connections of RESP and the binary protocol each belong to one of `runtime_threads` threads, of which as many are open as \
         cores can be had for; while a long answer goes to them, and those of HTTP and gRPC always, they are shared by as many others. \
         `shared`: all threads share all connections. `per-core`: all connections belong to a thread each. \
         Such a thread syncs what its connections write itself, as long as syncs take half a millisecond: should one \
         take seconds, those connections wait for it, also to read, which with `shared` they do not.",
    ),
    setting(
        "runtime_threads",
        Count(1, 1024),
        Cores { times: 1, least: 1, most: 1024 },
        "Threads that serve requests; with `runtime: homes`, as many for HTTP and gRPC and as many for the others.",
    ),
    setting(
        "io_threads",
        Count(1, 1024),
        Cores { times: 2, least: 4, most: 1024 },
        "Threads that read what is not in memory.",
    ),
    setting(
        "log_level",
        Choice(&["error", "warn", "info", "debug", "trace"]),
        Value("info"),
        "How much is logged.",
    ),
    setting("log_format", Choice(&["text", "json"]), Value("text"), "How a line of the log looks."),
    setting(
        "otlp_endpoint",
        Optional("the address of a collector, http://host:4317 or https://host:4317"),
        Value(""),
        "Where spans of requests are sent, by OTLP over gRPC; nowhere without.",
    ),
    setting(
        "otlp_sample_ratio",
        Ratio(0, 100),
        Value("0.01"),
        "The part of the requests of which spans are sent. Where the client says in `traceparent` whether it records its \
         trace, that counts.",
    ),
    setting(
        "io_queue",
        Count(1, 1_048_576),
        Value("4096"),
        "Reads are answered 503 while more than this wait for the disk.",
    ),
    setting(
        "max_watchers",
        Count(1, 1_000_000),
        Value("10000"),
        "Who wants to watch changes is answered 503 while so many do already.",
    ),
    setting(
        "cluster_enabled",
        Flag,
        Value("false"),
        "Makes the node one of a cluster, which goes on serving while a majority of its nodes does. Implied by `cluster_nodes`, \
         `join`, `cluster_dns` and `gossip_seeds`, unless it is given as false. Without any of them the node forms a cluster of \
         its own, which others may join.",
    ),
    setting(
        "node_id",
        Count(0, u64::MAX),
        Value("0"),
        "The node's number in its cluster: its place in `cluster_nodes`, from 1. With 0 the place is found by the node's host \
         and port; a node that joins is given a number by the cluster.",
    ),
    setting(
        "cluster_nodes",
        Optional("host[:http_port[:peer_port]] of every node, with commas between"),
        Value(""),
        "The nodes that form a new cluster, the same list on each of them. Ports that are left out count up from the defaults: \
         the k-th node of the list has port 8080 + k - 1 and peer port 7070 + k - 1. Once the cluster is formed, its own \
         list of members counts.",
    ),
    setting(
        "join",
        Optional("host:peer_port of one or more members, with commas between"),
        Value(""),
        "Joins the cluster that these nodes are members of.",
    ),
    setting(
        "cluster_dns",
        Optional("a name"),
        Value(""),
        "Joins the cluster that nodes at this name's addresses are members of, each with this node's `peer_port`. The name is \
         looked up until one of them takes this node in. With `cluster_size`, nodes that find one another there form a cluster \
         if there is none.",
    ),
    setting(
        "gossip_seeds",
        Optional("host:peer_port of one or more nodes, with commas between"),
        Value(""),
        "Finds the other nodes by gossip, which begins with these: they tell of the others. It goes over the peers' port. Joins \
         the cluster that is found; with `cluster_size`, forms one if there is none. May name this node itself, so that the list can \
         be the same on all.",
    ),
    setting(
        "cluster_size",
        Count(0, 64),
        Value("0"),
        "Of how many nodes a cluster is formed by those that find one another with `gossip_seeds` or `cluster_dns`, if there is \
         none: the same number on all of them. More nodes join. Give more than half of the nodes that you start, so that two \
         groups that do not find one another cannot form a cluster each. With 0 the node only joins.",
    ),
    setting(
        "data_dir_moved",
        Flag,
        Value("false"),
        "Takes the data directory for this node's own though it is not where it was: a node of a cluster refuses a directory that \
         is a copy, because an old one could vote away what was acknowledged since. Only for a directory that was moved to \
         another file system while the node was stopped, and of which no other copy ever ran. Give it for one start.",
    ),
    setting(
        "cluster_name",
        Text,
        Value("esker"),
        "What the cluster is called. Nodes of another name are not spoken to.",
    ),
    setting(
        "learner",
        Flag,
        Value("false"),
        "Joins without a vote: the node follows and answers stale reads, and the cluster does not wait for it.",
    ),
    setting(
        "peer_port",
        Count(0, 65_535),
        Value("7070"),
        "The port on which the node listens for the other nodes of its cluster.",
    ),
    setting(
        "advertise_host",
        Optional("an address or host name"),
        Value(""),
        "The host that clients and other nodes are told. By default the one in `cluster_nodes`, else `host`.",
    ),
    setting(
        "raft_heartbeat_interval_ms",
        Millis(5, 10_000),
        Value("50ms"),
        "How often the leader tells the others that it is there.",
    ),
    setting(
        "raft_election_timeout_ms",
        Millis(15, 60_000),
        Value("150ms"),
        "How long a node hears of no leader before it stands for election: a random time between this and twice this. At \
         least three times `raft_heartbeat_interval_ms`; longer where the network or the disks are slow.",
    ),
    setting(
        "cluster_redirect",
        Flag,
        Value("false"),
        "A node that does not lead answers 307 with the leader's address, in place of handing the request on to it.",
    ),
    setting(
        "peer_tls_ca",
        Optional("the path of a PEM file"),
        Value(""),
        "The authority whose certificates the other nodes have. The connections between nodes are encrypted, and both sides \
         prove who they are, if this, `peer_tls_certificate` and `peer_tls_key` are given.",
    ),
    setting(
        "peer_tls_certificate",
        Optional("the path of a PEM file"),
        Value(""),
        "This node's certificate for the other nodes, with those between it and the authority.",
    ),
    setting(
        "peer_tls_key",
        Optional("the path of a PEM file"),
        Value(""),
        "The private key of `peer_tls_certificate`.",
    ),
];

/// Variables that other versions know and this one does not, from the family of stores Esker comes from.
pub(crate) const UNSUPPORTED: &[&str] =
    &["engine", "memtable_bytes", "replication_factor", "write_quorum", "read_quorum", "virtual_nodes"];

impl Setting {
    /// The setting of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("KV_{}", self.name.to_ascii_uppercase())
    }

    /// The flag, without its dashes.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The setting this one sets: itself, or the one it is another name for.
    pub(crate) fn target(&'static self) -> &'static Self {
        match self.default {
            AliasOf(name) => Self::find(name).expect("the table names only settings that it has"),
            Value(_) | Cores { .. } | HalfOfMemory | EighthOfMemory => self,
        }
    }

    /// The default in words, the same on every machine.
    pub(crate) fn default_text(&self) -> String {
        match self.default {
            Value("") => "none".to_owned(),
            Value(text) => text.to_owned(),
            Cores { times, least, most } => {
                let times = if times == 1 {
                    "the number of cores".to_owned()
                } else {
                    format!("{times} times the cores")
                };
                let least = if least > 1 { format!(", at least {least}") } else { String::new() };
                let most = if most < 1024 { format!(", at most {most}") } else { String::new() };
                times + &least + &most
            }
            HalfOfMemory => "half of the memory that the machine or its control group has".to_owned(),
            EighthOfMemory => "an eighth of the memory that the machine or its control group has".to_owned(),
            AliasOf(name) => format!("see `{name}`"),
        }
    }
}

/// The settings' name most like `name`, where one is like it at all: what a typing error meant.
pub(crate) fn similar(name: &str) -> Option<&'static str> {
    let close = |candidate: &&'static str| distance(name, candidate) <= 2;
    TABLE.iter().map(|setting| setting.name).filter(close).min_by_key(|candidate| distance(name, candidate))
}

/// How many letters have to be put in, left out or changed to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_aliases_resolve() {
        for setting in TABLE {
            if let Value(text) = setting.default {
                setting.kind.parse(text).unwrap();
            }
            assert!(!matches!(setting.target().default, AliasOf(_)), "{}", setting.name);
            assert!(!UNSUPPORTED.contains(&setting.name), "{}", setting.name);
        }
    }

    #[test]
    fn typing_errors_are_understood() {
        assert_eq!(similar("datadir"), Some("data_dir"));
        assert_eq!(similar("prot"), Some("port"));
        assert_eq!(similar("colour"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
