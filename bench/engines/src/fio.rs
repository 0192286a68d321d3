//! What the disk itself can do, by fio.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{cgroup::MemoryGroup, result::Figures, workload::Latency};

const FILE: &str = "fio.data";

/// Writes the file that is read: outside the group, so that none of its pages are there.
pub fn prepare(dir: &Path, bytes: u64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut fio = Command::new("fio");
    common(&mut fio, dir, bytes).args(["--rw=write", "--bs=1m", "--end_fsync=1"]);
    let status = fio.stdout(Stdio::null()).status().context("fio cannot be run")?;
    ensure!(status.success(), "fio failed");
    Ok(())
}

/// Random reads of 4 KiB by `depth` threads in `group`.
pub fn read(
    group: &MemoryGroup,
    dir: &Path,
    bytes: u64,
    depth: usize,
    seconds: f64,
    direct: bool,
) -> Result<Figures> {
    let mut fio = group.command(Path::new("fio"));
    common(&mut fio, dir, bytes)
        .args(["--rw=randread", "--bs=4k", "--thread", "--group_reporting", "--time_based", "--norandommap"])
        .args(["--randrepeat=0", "--output-format=json"])
        .arg(format!("--numjobs={depth}"))
        .arg(format!("--runtime={}ms", (seconds * 1e3) as u64))
        .arg(format!("--direct={}", u8::from(direct)));
    let output = fio.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "fio failed");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let read = &report["jobs"][0]["read"];
    let microseconds = |value: &Value| value.as_f64().unwrap_or_default() / 1e3;
    let at = |quantile: &str| microseconds(&read["clat_ns"]["percentile"][quantile]);
    Ok(Figures {
        operations: read["total_ios"].as_u64().context("fio counts its reads")?,
        seconds: read["runtime"].as_f64().context("fio says how long it ran")? / 1e3,
        latency: Latency {
            p50: at("50.000000"),
            p99: at("99.000000"),
            p999: at("99.900000"),
            max: microseconds(&read["clat_ns"]["max"]),
        },
        disk_bytes: bytes,
        live_bytes: bytes,
        ..Figures::default()
    })
}

fn common<'a>(fio: &'a mut Command, dir: &Path, bytes: u64) -> &'a mut Command {
    fio.args(["--name=bench", "--ioengine=psync"])
        .arg(format!("--filename={}", dir.join(FILE).display()))
        .arg(format!("--size={bytes}"))
}
