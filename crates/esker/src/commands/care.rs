//! `esker admin`: restore and repair of data directories that no server is using.

use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use esker_engine::{Error as EngineError, Options, RepairReport, repair, restore, restore_archive};
use esker_log::{
    disk::{Disk, RealDisk, is_locked},
    entropy::random_store_id,
};
use indicatif::ProgressBar;
use serde_json::json;

use super::{progress, status::size};
use crate::{cli::AdminCommand, exit::Failure, files, output};

/// So many lost writes are named one by one on the terminal; `--json` has all.
const SHOWN_KEYS_MAX: usize = 100;

pub(super) fn run(command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::Restore { from, data_dir, json } => restore_to(&from, &data_dir, json.json),
        AdminCommand::Repair { data_dir, output, json } => {
            let output = output.map_or_else(|| beside(&data_dir), Ok)?;
            repair_to(&data_dir, &output, json.json)
        }
        _ => unreachable!("the caller asks servers"),
    }
}

/// Errors: what is there is a file, or nothing.
pub(super) fn require_dir(path: &Path) -> Result<(), Failure> {
    match files::is_dir(path).map_err(Failure::doing(path.display()))? {
        true => Ok(()),
        false => Err(Failure::Error(format!("{} is no directory", path.display()))),
    }
}

/// The machine's.
pub(super) fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Shows how far it is.
pub(super) fn show(bar: &ProgressBar) -> impl FnMut(u64, u64) -> esker_engine::Result<()> {
    |done, total| {
        progress::show(bar, done, total);
        Ok(())
    }
}

/// Where a repaired store goes if nobody says: beside the damaged one.
fn beside(data_dir: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = data_dir.file_name() else {
        let why = format!("{} has no name to put -repaired behind: say --output", data_dir.display());
        return Err(Failure::Usage(why));
    };
    let mut name = name.to_owned();
    name.push("-repaired");
    Ok(data_dir.with_file_name(name))
}

fn restore_to(from: &Path, data_dir: &Path, json: bool) -> Result<(), Failure> {
    let is_archive = !files::is_dir(from).map_err(Failure::doing(from.display()))?;
    let bar = progress::bar(Some(0), json);
    let restored = if is_archive {
        let (mut archive, len) = open_archive(from)?;
        let mut on_read = show(&bar);
        restore_archive(&disk(), &mut archive, from, data_dir, &mut |done| on_read(done, len))
    } else {
        restore(&disk(), from, data_dir, &mut show(&bar))
    };
    bar.finish_and_clear();
    let report = restored.map_err(of_backup)?;
    if json {
        let (version, files, bytes) = (report.version, report.files, report.bytes);
        return output::json(&json!({ "version": version, "files": files, "bytes": bytes }));
    }
    let (files, bytes) = (output::count(report.files, "file"), size(report.bytes));
    output::line(format_args!("restored version {}: {bytes} in {files}", report.version))
}

/// An error of a backup, with what can be done about it.
fn of_backup(e: EngineError) -> Failure {
    match e {
        EngineError::Damage(_) => Failure::Damage(format!(
            "{e}\nThis backup cannot be restored: take another one, or a whole copy of it."
        )),
        e => e.into(),
    }
}

/// An archive, and how long it is.
pub(super) fn open_archive(path: &Path) -> Result<(impl Read + use<>, u64), Failure> {
    /// It is read in large pieces anyway, but for its headers.
    const BUFFER_BYTES: usize = 64 << 10;
    let failed = Failure::doing(format!("reading {}", path.display()));
    let file = files::open(path).map_err(&failed)?;
    let len = file.metadata().map_err(&failed)?.len();
    Ok((BufReader::with_capacity(BUFFER_BYTES, file), len))
}

fn repair_to(data_dir: &Path, new_dir: &Path, json: bool) -> Result<(), Failure> {
    require_dir(data_dir)?;
    if is_locked(&data_dir.join("LOCK"))
        .map_err(Failure::doing(format!("looking at {}", data_dir.display())))?
    {
        return Err(Failure::Error(format!("{} is locked: stop its server first", data_dir.display())));
    }
    let bar = progress::bar(Some(0), json);
    let report = repair(&disk(), data_dir, new_dir, &Options::default(), random_store_id, &mut show(&bar))?;
    bar.finish_and_clear();
    report_repair(&report, new_dir, json)?;
    match report.is_lossless() {
        true => Ok(()),
        false => {
            let (parts, keys) = (report.lost_parts.len() as u64, report.lost_keys.len() as u64);
            let (parts, keys) = (output::count(parts, "damaged part"), output::count(keys, "lost write"));
            Err(Failure::Damage(format!("{parts}, {keys} known by name: see above")))
        }
    }
}

fn report_repair(report: &RepairReport, new_dir: &Path, json: bool) -> Result<(), Failure> {
    if json {
        let lost_parts = report.lost_parts.iter().map(|part| {
            json!({ "file": part.path.display().to_string(), "from": part.from, "to": part.to, "what": part.what,
                "saved": part.saved })
        });
        let lost_keys = report.lost_keys.iter().map(|lost| {
            json!({ "key": lost.key.escape_ascii().to_string(), "version": lost.version, "older": lost.older })
        });
        return output::json(&json!({
            "keys": report.keys,
            "version": report.version,
            "lost_parts": lost_parts.collect::<Vec<_>>(),
            "lost_keys": lost_keys.collect::<Vec<_>>(),
            "judged_again": report.judged_again,
            "notices": report.notices,
            "output": new_dir.display().to_string(),
        }));
    }
    report.notices.iter().for_each(|notice| output::note(format_args!("noticed: {notice}")));
    for part in &report.lost_parts {
        let (path, saved) = (part.path.display(), output::count(part.saved, "record"));
        output::line(format_args!("{path}:{}-{}: {}; {saved} in it saved", part.from, part.to, part.what))?;
    }
    for lost in report.lost_keys.iter().take(SHOWN_KEYS_MAX) {
        let now = lost.older.map_or("absent now".into(), |older| format!("version {older} is what is left"));
        output::line(format_args!("lost: {} at version {}: {now}", lost.key.escape_ascii(), lost.version))?;
    }
    if let Some(more) = report.lost_keys.len().checked_sub(SHOWN_KEYS_MAX).filter(|more| *more > 0) {
        output::line(format_args!("and {more} more: see --json"))?;
    }
    let again = report.judged_again;
    if again > 0 {
        output::line(format_args!("{} judged again", output::count(again, "conditional or counting write")))?;
    }
    let (keys, version) = (output::count(report.keys, "key"), report.version);
    output::line(format_args!("saved {keys} at version {version} in {}", new_dir.display()))
}
