//! `esker status`.

use std::io::Write;

use esker_client::{
    Client,
    cluster::{StatusAnswer, StorageStatus},
};

use crate::{
    exit::{Failure, output as output_error},
    output,
};

pub(super) async fn run(client: &Client, json: bool) -> Result<(), Failure> {
    let status = client.status().await?;
    match json {
        true => output::json(&status)?,
        false => print(&client.endpoint(), &status).map_err(output_error)?,
    }
    healthy(status)
}

/// A server in trouble makes the command end with an error: that of damage, if it has met some, or of what is full.
pub(super) fn healthy(status: StatusAnswer) -> Result<(), Failure> {
    if status.healthy {
        return Ok(());
    }
    let trouble = status.trouble.unwrap_or_else(|| "the server says it is not healthy".into());
    let storage = status.storage;
    match (storage.damage, storage.disk_full || storage.memory_full) {
        (Some(_), _) => Err(Failure::Damage(trouble)),
        (None, true) => Err(Failure::Full(trouble)),
        (None, false) => Err(Failure::Error(trouble)),
    }
}

fn print(endpoint: &str, status: &StatusAnswer) -> std::io::Result<()> {
    let mut out = output::stdout();
    let storage = &status.storage;
    writeln!(
        out,
        "server    {endpoint}, Esker {}, up {}",
        status.server_version,
        duration(status.uptime_seconds)
    )?;
    writeln!(out, "node      {}, {} ({})", status.node_id, status.role, status.mode)?;
    writeln!(out, "health    {}", if status.healthy { "ok" } else { "in trouble" })?;
    if let Some(trouble) = &status.trouble {
        writeln!(out, "trouble   {trouble}")?;
    }
    writeln!(out, "version   {}", status.commit_index)?;
    writeln!(out, "keys      {}", storage.keys)?;
    print_storage(&mut out, storage)?;
    out.flush()
}

fn print_storage(out: &mut impl Write, storage: &StorageStatus) -> std::io::Result<()> {
    let segments = output::count(storage.segments, "segment");
    let (log, live, dead) = (size(storage.log_bytes), size(storage.live_bytes), size(storage.dead_bytes));
    let merged = storage.merged_segments;
    writeln!(out, "log       {log} in {segments} and {merged} merged, {live} live, {dead} dead")?;
    let (merges, copied) = (output::count(storage.merges, "merge"), size(storage.bytes_copied));
    let amplification = storage.write_amplification;
    writeln!(out, "merging   {merges}, {copied} copied, write amplification {amplification:.2}")?;
    if let Some(error) = &storage.merge_error {
        writeln!(out, "          the last one failed: {error}")?;
    }
    if let Some(error) = &storage.checkpoint_error {
        writeln!(out, "index     the last checkpoint failed, opening will take longer: {error}")?;
    }
    if storage.throttled_ms > 0 {
        writeln!(out, "          writers waited {} ms for it", storage.throttled_ms)?;
    }
    let full = if storage.memory_full { ", full: new keys are refused" } else { "" };
    writeln!(out, "index     {} of memory{full}", size(storage.index_bytes))?;
    let (cache, hits) = (size(storage.cache_bytes), 100.0 * storage.cache_hit_rate);
    writeln!(out, "cache     {cache} of values, {hits:.1}% of reads hit")?;
    writeln!(out, "values    stored in {:.1}% of their size", 100.0 * storage.compression_ratio)?;
    if storage.snapshots > 0 {
        let oldest = duration(storage.oldest_snapshot_ms / 1000);
        let (index, retired) = (size(storage.snapshot_index_bytes), size(storage.retired_bytes));
        let held = output::count(storage.snapshots, "snapshot");
        writeln!(out, "held      {held}, the oldest for {oldest}: {index} of memory, {retired} of segments")?;
    }
    writeln!(out, "waiting   {} of writes", size(storage.queued_bytes))
}

/// A size for people, rounded.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
