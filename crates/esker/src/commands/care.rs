//! `esker admin`: backup, restore and repair of data directories that no server is using.

use std::{path::Path, sync::Arc};

use esker_engine::{Db, Options, RepairReport, repair, restore};
use esker_log::{
    disk::{Disk, RealDisk, is_locked},
    entropy::random_store_id,
};
use indicatif::ProgressBar;
use serde_json::json;

use super::{progress, status::size};
use crate::{cli::AdminCommand, exit::Failure, output};

/// So many lost writes are named one by one on the terminal; `--json` has all.
const SHOWN_KEYS_MAX: usize = 100;

pub(super) fn run(command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::Backup { to, data_dir, json } => back_up(&to, &data_dir, json.json),
        AdminCommand::Restore { from, data_dir, json } => restore_to(&from, &data_dir, json.json),
        AdminCommand::Repair { data_dir, output, json } => repair_to(&data_dir, &output, json.json),
        _ => unreachable!("the caller asks servers"),
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Shows how far it is.
fn show(bar: &ProgressBar) -> impl FnMut(u64, u64) -> esker_engine::Result<()> {
    |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        Ok(())
    }
}

fn back_up(to: &Path, data_dir: &Path, json: bool) -> Result<(), Failure> {
    if !data_dir.is_dir() {
        return Err(Failure::Error(format!("{} is no directory", data_dir.display())));
    }
    let bar = progress::bar(Some(0), json);
    let db = Db::open(data_dir, Options::default())?;
    let report = db.backup(to, &mut show(&bar))?;
    db.close()?;
    bar.finish_and_clear();
    if json {
        return output::json(&json!({
            "version": report.version,
            "files": report.files,
            "bytes": report.bytes,
            "files_kept": report.files_kept,
            "files_linked": report.files_linked,
            "bytes_copied": report.bytes_copied,
        }));
    }
    let (files, copied) = (output::count(report.files, "file"), size(report.bytes_copied));
    let (version, bytes) = (report.version, size(report.bytes));
    output::line(format_args!(
        "backed up version {version}: {bytes} in {files}, of which {copied} were copied"
    ))
}

fn restore_to(from: &Path, data_dir: &Path, json: bool) -> Result<(), Failure> {
    let bar = progress::bar(Some(0), json);
    let report = restore(&disk(), from, data_dir, &mut show(&bar))?;
    bar.finish_and_clear();
    if json {
        let (version, files, bytes) = (report.version, report.files, report.bytes);
        return output::json(&json!({ "version": version, "files": files, "bytes": bytes }));
    }
    let (files, bytes) = (output::count(report.files, "file"), size(report.bytes));
    output::line(format_args!("restored version {}: {bytes} in {files}", report.version))
}

fn repair_to(data_dir: &Path, new_dir: &Path, json: bool) -> Result<(), Failure> {
    if !data_dir.is_dir() {
        return Err(Failure::Error(format!("{} is no directory", data_dir.display())));
    }
    if is_locked(&data_dir.join("LOCK"))
        .map_err(Failure::doing(format!("looking at {}", data_dir.display())))?
    {
        return Err(Failure::Error(format!("{} is locked: stop its server first", data_dir.display())));
    }
    let bar = progress::bar(Some(0), json);
    let report = repair(&disk(), data_dir, new_dir, &Options::default(), random_store_id, &mut show(&bar))?;
    bar.finish_and_clear();
    report_repair(&report, json)?;
    match report.is_lossless() {
        true => Ok(()),
        false => {
            let (parts, keys) = (report.lost_parts.len() as u64, report.lost_keys.len() as u64);
            let (parts, keys) = (output::count(parts, "damaged stretch"), output::count(keys, "lost write"));
            Err(Failure::Damage(format!("{parts}, {keys} known by name: see above")))
        }
    }
}

fn report_repair(report: &RepairReport, json: bool) -> Result<(), Failure> {
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
        }));
    }
    report.notices.iter().for_each(|notice| eprintln!("noticed: {notice}"));
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
    output::line(format_args!("saved {} at version {}", output::count(report.keys, "key"), report.version))
}
