//! `esker status`.

use std::io::Write;

use esker_client::{Client, cluster::StatusAnswer};

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

/// A server in trouble makes the command end with an error.
pub(super) fn healthy(status: StatusAnswer) -> Result<(), Failure> {
    match status.healthy {
        true => Ok(()),
        false => {
            Err(Failure::Error(status.trouble.unwrap_or_else(|| "the server says it is not healthy".into())))
        }
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
    writeln!(
        out,
        "log       {} in {}, {} of it live records",
        size(storage.log_bytes),
        output::count(storage.segments, "segment"),
        size(storage.live_bytes)
    )?;
    writeln!(out, "index     {} of memory", size(storage.index_bytes))?;
    writeln!(out, "waiting   {} of writes", size(storage.queued_bytes))?;
    out.flush()
}

/// A size for people, rounded.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
