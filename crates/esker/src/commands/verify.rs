//! `esker verify`: through a server, or in a data directory that none is using.

use std::path::Path;

use esker_client::{
    Retry,
    admin::{DamageReport, VerifyAnswer},
};
use esker_engine::{verify_archive, verify_dir};
use esker_log::{
    clock::{Clock, SystemClock},
    disk::{RealDisk, is_locked},
    recovery::BACKUP_NAME,
};

use super::{
    block_on,
    care::{open_archive, show},
    client, patient, progress,
    status::size,
};
use crate::{
    cli::{Connection, VerifyArgs},
    exit::Failure,
    files, output,
};

pub(super) fn run(connection: &Connection, args: VerifyArgs) -> Result<(), Failure> {
    match &args.data_dir {
        Some(dir) => {
            let found = offline(dir, args.json)?;
            report(&found, is_backup(dir), args.json)
        }
        None => {
            let client = client(&patient(connection), Retry::never())?;
            let bar = progress::bar(Some(0), args.json);
            block_on(async {
                let found = client.verify(|done, total| progress::show(&bar, done, total)).await;
                bar.finish_and_clear();
                report(&found?, false, args.json)
            })
        }
    }
}

/// Changes nothing in `dir`, so that a backup or a read-only mount can be checked as well.
fn offline(dir: &Path, json: bool) -> Result<VerifyAnswer, Failure> {
    let is_archive = !files::is_dir(dir).map_err(Failure::doing(dir.display()))?;
    if !is_archive
        && is_locked(&dir.join("LOCK"))
            .map_err(|e| Failure::Error(format!("looking at {}: {e}", dir.display())))?
    {
        let hint = "a server has it open: leave --data-dir out to have the server check it (see --endpoint)";
        return Err(Failure::Error(format!("{} is locked: {hint}", dir.display())));
    }
    let clock = SystemClock::new();
    let bar = progress::bar(Some(0), json);
    let found = match is_archive {
        true => {
            let (mut archive, len) = open_archive(dir)?;
            let mut on_read = show(&bar);
            verify_archive(&mut archive, dir, &mut |done| on_read(done, len))
        }
        false => verify_dir(&RealDisk, dir, &mut show(&bar)),
    };
    bar.finish_and_clear();
    let found = found?;
    found.notices.iter().for_each(|notice| output::note(format_args!("noticed: {notice}")));
    let damage = found.damage.into_iter().map(|damage| DamageReport {
        file: damage.path.display().to_string(),
        offset: damage.offset,
        what: damage.what,
    });
    let damage: Vec<_> = damage.collect();
    let (files, bytes, records) = (found.files, found.bytes, found.records);
    let took_ms = clock.monotonic().as_millis() as u64;
    Ok(VerifyAnswer { intact: damage.is_empty(), files, bytes, records, damage, took_ms })
}

/// Of a backup it is checked whether its files are what they were when it was made; nobody looks into them.
fn is_backup(path: &Path) -> bool {
    !path.is_dir() || path.join(BACKUP_NAME).exists()
}

fn report(found: &VerifyAnswer, of_backup: bool, json: bool) -> Result<(), Failure> {
    match json {
        true => output::json(found)?,
        false => {
            found.damage.iter().try_for_each(|damage| {
                output::line(format_args!("{}:{}: {}", damage.file, damage.offset, damage.what))
            })?;
            let took = output::took(found.took_ms);
            let (files, bytes) = (output::count(found.files, "file"), size(found.bytes));
            let records = output::count(found.records, "record");
            match of_backup {
                true => output::line(format_args!(
                    "checked {files} by their checksums in the backup, {bytes}, in {took}; their records were not read"
                ))?,
                false => output::line(format_args!("checked {records} in {files}, {bytes}, in {took}"))?,
            }
        }
    }
    match found.intact {
        true => Ok(()),
        false => {
            let places = output::count(found.damage.len() as u64, "damaged place");
            Err(Failure::Damage(format!("{places}: restore what is named above from a backup")))
        }
    }
}
