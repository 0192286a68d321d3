//! The effective values as the parts of the server take them.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use esker_cluster::{Limits, StoreConfig};
use esker_engine::{Compression, Options};
use esker_log::SyncPolicy;
use esker_server::{Origins, Runtime, ServerConfig, ServerLimits, Timeouts};
use tracing::Level;

use crate::otlp::OtlpSettings;

use super::{
    cluster::ClusterSettings,
    effective::Effective,
    kind::{Hidden, Value},
    security::Security,
};

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The server's settings.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) engine: Options,
    pub(crate) store: StoreConfig,
    /// Without users and TLS, which are read at start.
    pub(crate) server: ServerConfig,
    pub(crate) security: Security,
    /// `None` in mode `single`.
    pub(crate) cluster: Option<ClusterSettings>,
    pub(crate) log_level: Level,
    pub(crate) log_format: LogFormat,
    /// `None`: nobody wants spans.
    pub(crate) otlp: Option<OtlpSettings>,
}

impl Settings {
    /// The settings of what was given; an error says which of them do not go together.
    pub(crate) fn new(effective: &Effective) -> Result<Self, String> {
        let store = store(effective);
        if store.write_bytes_under_way < store.limits.batch_bytes {
            return Err(together(effective, "write_bytes_under_way", "max_batch_bytes", "must not be below"));
        }
        if store.limits.batch_bytes < store.limits.value_bytes {
            return Err(together(effective, "max_batch_bytes", "max_value_bytes", "must not be below"));
        }
        let data_dir = PathBuf::from(effective.text("data_dir"));
        if data_dir.is_file() {
            let source = &effective.outcome("data_dir").source;
            return Err(format!("{source}: `data_dir`: {} is a file: give a directory", data_dir.display()));
        }
        let security = Security::new(effective)?;
        let cluster = ClusterSettings::new(effective)?;
        Ok(Self {
            data_dir,
            engine: engine(effective)?,
            store,
            server: server(effective, &security, cluster.as_ref())?,
            security,
            cluster,
            log_level: effective.text("log_level").parse().expect("the table's words are tracing's levels"),
            log_format: if effective.text("log_format") == "json" {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            otlp: otlp(effective)?,
        })
    }
}

fn together(effective: &Effective, a: &str, b: &str, rule: &str) -> String {
    let said = |name| {
        let outcome = effective.outcome(name);
        format!("`{name}` ({}, {})", outcome.value, outcome.source)
    };
    format!("{} {rule} {}", said(a), said(b))
}

fn engine(effective: &Effective) -> Result<Options, String> {
    let mut options = Options::default();
    options.sync = effective.sync("wal_sync_policy");
    options.segment_max_bytes = effective.bytes("segment_max_bytes") as u64;
    options.checkpoint_ops = effective.count("checkpoint_ops");
    options.checkpoint_interval = effective.time("checkpoint_interval_ms");
    options.merge_trigger_ratio = effective.ratio("merge_trigger_ratio");
    options.merge_trigger_bytes =
        Some(effective.bytes("merge_trigger_bytes") as u64).filter(|bytes| *bytes > 0);
    options.merge_throttle = effective.time("merge_throttle_ms");
    options.compression = compression(effective)?;
    options.cache_max_bytes = effective.bytes("cache_max_size") as u64;
    options.cache_ttl = Some(effective.time("cache_ttl_ms")).filter(|ttl| !ttl.is_zero());
    options.memory_budget = effective.bytes("memory_budget") as u64;
    options.max_files = effective.size("max_files");
    options.queue_max_bytes = effective.bytes("queue_max_bytes");
    options.queue_max_batches = effective.size("queue_max_batches");
    options.open_threads = effective.size("open_threads");
    Ok(options)
}

fn compression(effective: &Effective) -> Result<Compression, String> {
    let level = i32::try_from(effective.count("compression_level")).expect("the table bounds it");
    let or = |own: i32| if level == 0 { own } else { level };
    match effective.text("compression_algorithm") {
        "zstd" => Ok(Compression::Zstd(or(3))),
        "gzip" if level <= 9 => Ok(Compression::Gzip(or(6).unsigned_abs())),
        "gzip" => {
            Err(together(effective, "compression_level", "compression_algorithm", "must be at most 9 with"))
        }
        "lz4" if level == 0 => Ok(Compression::Lz4),
        "lz4" => {
            Err(together(effective, "compression_level", "compression_algorithm", "has no meaning with"))
        }
        _ => Ok(Compression::None),
    }
}

fn store(effective: &Effective) -> StoreConfig {
    StoreConfig {
        // A number that the cluster gives is known only once it has been asked.
        node_id: Some(effective.count("node_id")).filter(|id| *id > 0).unwrap_or(1),
        limits: Limits {
            value_bytes: effective.bytes("max_value_bytes"),
            batch_ops: effective.size("max_batch_ops"),
            batch_bytes: effective.bytes("max_batch_bytes"),
            ..Limits::default()
        },
        write_bytes_under_way: effective.bytes("write_bytes_under_way"),
        io_threads: effective.threads("io_threads"),
        io_queue: effective.size("io_queue"),
        max_watchers: effective.size("max_watchers"),
        backup_dir: Some(effective.text("backup_dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
    }
}

fn otlp(effective: &Effective) -> Result<Option<OtlpSettings>, String> {
    let endpoint = effective.text("otlp_endpoint");
    if endpoint.is_empty() {
        return Ok(None);
    }
    let parsed: Option<hyper::Uri> = endpoint.parse().ok();
    let is_one =
        parsed.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if !is_one {
        let source = &effective.outcome("otlp_endpoint").source;
        return Err(format!(
            "{source}: `otlp_endpoint`: `{endpoint}` is no address such as http://host:4317"
        ));
    }
    let sample_ratio = effective.ratio("otlp_sample_ratio");
    Ok(Some(OtlpSettings { endpoint: endpoint.to_owned(), sample_ratio }))
}

fn server(
    effective: &Effective,
    security: &Security,
    cluster: Option<&ClusterSettings>,
) -> Result<ServerConfig, String> {
    let standard = Timeouts::default();
    let threads = effective.threads("runtime_threads");
    ports_differ(effective)?;
    let protected = security.has_tls() || security.has_users();
    Ok(ServerConfig {
        http_address: address(effective, effective.port("port"), protected.then_some(()).ok_or(OPEN_FRONTS))?,
        resp_address: effective
            .optional_port("resp_port")
            .map(|port| address(effective, port, protected.then_some(()).ok_or(OPEN_FRONTS)))
            .transpose()?,
        binary_address: effective
            .optional_port("binary_port")
            .map(|port| address(effective, port, protected.then_some(()).ok_or(OPEN_FRONTS)))
            .transpose()?,
        grpc_address: effective
            .optional_port("grpc_port")
            .map(|port| address(effective, port, protected.then_some(()).ok_or(OPEN_FRONTS)))
            .transpose()?,
        runtime: match effective.text("runtime") {
            "shared" => Runtime::Shared(threads),
            "homes" => Runtime::Homes(threads),
            _ => Runtime::PerCore(threads),
        },
        backlog: u32::try_from(effective.count("listen_backlog")).expect("the table bounds it"),
        limits: ServerLimits {
            connections: effective.size("max_connections"),
            header_bytes: effective.bytes("max_header_bytes"),
            body_bytes_under_way: effective.bytes("body_bytes_under_way"),
            answer_bytes_under_way: effective.bytes("answer_bytes_under_way"),
            list_answer_bytes: effective.bytes("list_answer_bytes"),
            ..ServerLimits::default()
        },
        cors_origins: origins(effective)?,
        timeouts: Timeouts {
            header: effective.time("header_timeout_ms"),
            idle: effective.time("idle_timeout_ms"),
            resp_idle: effective.time("resp_idle_timeout_ms"),
            grpc_idle: effective.time("grpc_idle_timeout_ms"),
            body_stall: effective.time("body_stall_timeout_ms"),
            write_stall: effective.time("write_stall_timeout_ms"),
            drain_notice: effective.time("drain_notice_ms"),
            drain: effective.time("drain_timeout_ms"),
            slow_request: effective.time("slow_request_ms"),
            // Whoever heard nothing for longer than any election takes is away, and not just late.
            member_silence: cluster.map_or(standard.member_silence, |cluster| {
                standard.member_silence.max(2 * cluster.election_timeout)
            }),
            ..standard
        },
        ..ServerConfig::default()
    })
}

/// Each front needs a port of its own; 0 stands for any that is free.
fn ports_differ(effective: &Effective) -> Result<(), String> {
    let ports = [
        ("port", Some(effective.port("port"))),
        ("resp_port", effective.optional_port("resp_port")),
        ("binary_port", effective.optional_port("binary_port")),
        ("grpc_port", effective.optional_port("grpc_port")),
    ];
    for (at, (name, port)) in ports.iter().enumerate() {
        let Some(port) = port.filter(|port| *port != 0) else { continue };
        if let Some((other, _)) = ports[..at].iter().find(|(_, other)| *other == Some(port)) {
            let source = &effective.outcome(name).source;
            return Err(format!(
                "{source}: `{name}`: {port} is `{other}` already: each front needs a port of its own"
            ));
        }
    }
    Ok(())
}

fn origins(effective: &Effective) -> Result<Origins, String> {
    let source = &effective.outcome("cors_origins").source;
    let given = effective.text("cors_origins").parse();
    given.map_err(|e| format!("{source}: `cors_origins`: {e}"))
}

/// Why fronts that everybody may use listen on this machine alone.
const OPEN_FRONTS: &str =
    "there is neither TLS (`tls_certificate`, `tls_key`) nor a user (`users_file`, `auth_token`)";

/// Where to listen, with the port that is set so. What is not protected is for who is on this machine, unless somebody insists.
pub(super) fn address(
    effective: &Effective,
    port: u16,
    protected: Result<(), &'static str>,
) -> Result<SocketAddr, String> {
    let (host, source) = (effective.text("host"), &effective.outcome("host").source);
    let resolved = (host.trim_matches(['[', ']']), port).to_socket_addrs();
    let address =
        resolved.map_err(|e| format!("{source}: `host`: `{host}` is no address or known name: {e}"))?.next();
    let address = address.ok_or_else(|| format!("{source}: `host`: `{host}` has no address"))?;
    match protected {
        Err(why) if !address.ip().is_loopback() && !effective.flag("insecure") => Err(format!(
            "{source}: `host`: {host} can be reached from other machines, and {why}. Listen on 127.0.0.1, set one of them up, \
             or say --insecure if every machine that reaches it may read and write"
        )),
        _ => Ok(address),
    }
}

/// The values by kind. Which kind a name has is the table's word, which a test holds against what is asked here.
impl Effective {
    pub(super) fn text(&self, name: &str) -> &str {
        match &self.outcome(name).value {
            Value::Text(text) => text,
            other => unreachable!("`{name}` is {other:?}"),
        }
    }

    pub(super) fn secret(&self, name: &str) -> &str {
        match &self.outcome(name).value {
            Value::Secret(Hidden(secret)) => secret,
            other => unreachable!("`{name}` is {other:?}"),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.outcome(name).value, Value::Flag(true))
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        match self.outcome(name).value {
            Value::Count(count) => count,
            ref other => unreachable!("`{name}` is {other:?}"),
        }
    }

    /// Of a port that there is in any case.
    pub(super) fn port(&self, name: &str) -> u16 {
        u16::try_from(self.count(name)).expect("the table bounds it")
    }

    /// Of a port that may be off.
    fn optional_port(&self, name: &str) -> Option<u16> {
        match self.outcome(name).value {
            Value::Port(port) => port,
            ref other => unreachable!("`{name}` is {other:?}"),
        }
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.count(name)).unwrap_or(usize::MAX)
    }

    fn threads(&self, name: &str) -> NonZeroUsize {
        NonZeroUsize::new(self.size(name)).expect("the table starts threads at 1")
    }

    fn bytes(&self, name: &str) -> usize {
        match self.outcome(name).value {
            Value::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            ref other => unreachable!("`{name}` is {other:?}"),
        }
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        match self.outcome(name).value {
            Value::Millis(millis) => Duration::from_millis(millis),
            ref other => unreachable!("`{name}` is {other:?}"),
        }
    }

    fn ratio(&self, name: &str) -> f64 {
        match self.outcome(name).value {
            Value::Ratio(hundredths) => hundredths as f64 / 100.0,
            ref other => unreachable!("`{name}` is {other:?}"),
        }
    }

    fn sync(&self, name: &str) -> SyncPolicy {
        match self.outcome(name).value {
            Value::Sync(policy) => policy,
            ref other => unreachable!("`{name}` is {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        effective::{Given, Source},
        layers,
        table::Setting,
    };

    fn settings(given: &[(&str, &str)]) -> Result<Settings, String> {
        let given = given.iter().map(|(name, text)| Given {
            setting: Setting::find(name).unwrap(),
            text: (*text).to_owned(),
            source: Source::Flag((*name).to_owned()),
        });
        Settings::new(&layers::merge(vec![given.collect()], Vec::new())?)
    }

    #[test]
    fn the_tables_defaults_are_the_parts_defaults() {
        let settings = settings(&[]).unwrap();
        let debug = |value: &dyn std::fmt::Debug| format!("{value:?}");
        assert_eq!(debug(&settings.engine), debug(&Options::default()));
        assert_eq!(debug(&settings.store), debug(&StoreConfig::default()));
        assert_eq!(debug(&settings.server), debug(&ServerConfig::default()));
    }

    #[test]
    fn other_machines_are_let_in_only_on_demand() {
        for host in ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"] {
            assert!(settings(&[("host", host)]).unwrap().server.http_address.ip().is_loopback());
        }
        for host in ["0.0.0.0", "::", "192.0.2.1"] {
            let refusal = settings(&[("host", host)]).unwrap_err();
            assert!(refusal.contains("--insecure") && refusal.contains(host), "{refusal}");
            settings(&[("host", host), ("insecure", "true")]).unwrap();
        }
        assert!(settings(&[("host", "no such host")]).unwrap_err().contains("no such host"));
    }

    #[test]
    fn compression_has_the_levels_of_its_algorithm() {
        let compression = |algorithm: &str, level: &str| {
            settings(&[("compression_algorithm", algorithm), ("compression_level", level)])
                .map(|settings| settings.engine.compression)
        };
        assert_eq!(compression("zstd", "0").unwrap(), Compression::Zstd(3));
        assert_eq!(compression("zstd", "19").unwrap(), Compression::Zstd(19));
        assert_eq!(compression("gzip", "9").unwrap(), Compression::Gzip(9));
        assert_eq!(compression("lz4", "0").unwrap(), Compression::Lz4);
        for (algorithm, level) in [("gzip", "10"), ("lz4", "1"), ("zstd", "23"), ("brotli", "0")] {
            assert!(
                compression(algorithm, level).unwrap_err().contains("compression_"),
                "{algorithm} {level}"
            );
        }
    }

    #[test]
    fn whoever_takes_any_port_takes_any_for_every_front() {
        let resp = |given: &[(&str, &str)]| settings(given).unwrap().server.resp_address.map(|it| it.port());
        assert_eq!(resp(&[]), Some(6380));
        assert_eq!(resp(&[("port", "8081")]), Some(6380));
        assert_eq!(resp(&[("port", "0")]), Some(0));
        assert_eq!(resp(&[("port", "0"), ("resp_port", "6380")]), Some(6380));
        assert_eq!(resp(&[("resp_port", "off")]), None);
        let binary =
            |given: &[(&str, &str)]| settings(given).unwrap().server.binary_address.map(|it| it.port());
        assert_eq!((binary(&[]), binary(&[("port", "0")])), (Some(9090), Some(0)));
        assert_eq!(binary(&[("binary_port", "off")]), None);
        let grpc = |given: &[(&str, &str)]| settings(given).unwrap().server.grpc_address.map(|it| it.port());
        assert_eq!((grpc(&[]), grpc(&[("port", "0")])), (Some(7070), Some(0)));
        assert_eq!(
            (grpc(&[("join", "h:1")]), grpc(&[("join", "h:1"), ("port", "0")])),
            (Some(7170), Some(0))
        );
        assert_eq!(grpc(&[("grpc_port", "off")]), None);
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let refusal = settings(&[("max_batch_bytes", "8MiB")]).unwrap_err();
        assert!(
            refusal.contains("max_value_bytes") && refusal.contains("flag --max_batch_bytes"),
            "{refusal}"
        );
        assert!(settings(&[("max_batch_bytes", "512MiB")]).unwrap_err().contains("write_bytes_under_way"));
    }
}
