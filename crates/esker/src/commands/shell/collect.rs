//! Writes on their way into a batch.

use esker_client::{Batch, Condition};

use crate::{
    cli::{AckArgs, DelArgs, IncrArgs, PutArgs},
    commands::del,
    exit::Failure,
    files, output,
};

/// What a server takes unless it is set to take more: a batch is held in memory until it is committed.
const OPERATIONS_MAX: usize = 100_000;
const BYTES_MAX: usize = 64 << 20;

/// Refuses what would make the batch too large.
fn room(batch: &Batch, bytes: usize) -> Result<(), Failure> {
    if batch.len() >= OPERATIONS_MAX || batch.bytes() + bytes > BYTES_MAX {
        return Err(Failure::Usage(format!(
            "the batch is full ({OPERATIONS_MAX} writes, {BYTES_MAX} bytes): commit it"
        )));
    }
    Ok(())
}

/// A batch is acknowledged as a whole.
fn unset(ack: AckArgs) -> Result<(), Failure> {
    match ack.ack {
        Some(_) => Err(Failure::Usage("--ack is about a whole batch: use set ack".into())),
        None => Ok(()),
    }
}

pub(super) fn put(batch: &mut Batch, args: PutArgs) -> Result<(), Failure> {
    let options = args.options();
    unset(args.ack)?;
    let key = args.key.as_encoded_bytes();
    let value = match (args.value, &args.file) {
        (Some(value), _) => value.into_encoded_bytes(),
        (None, Some(path)) => {
            files::read(path).map_err(Failure::doing(format!("reading {}", path.display())))?
        }
        (None, None) => return Err(Failure::Usage("there is no value".into())),
    };
    room(batch, key.len() + value.len())?;
    match options.ttl {
        Some(ttl) => batch.put_expiring(key, &value, ttl)?,
        None => batch.put(key, &value),
    }
    if let Some(condition) = options.condition {
        batch.require(key, condition);
    }
    Ok(())
}

pub(super) fn del(batch: &mut Batch, args: &DelArgs) -> Result<(), Failure> {
    unset(args.ack)?;
    if let Some(range) = del::range(args)? {
        room(batch, 0)?;
        return Ok(batch.delete_range(&range)?);
    }
    for key in &args.keys {
        let key = key.as_encoded_bytes();
        room(batch, key.len())?;
        batch.delete(key);
        if let Some(version) = args.if_version {
            batch.require(key, Condition::Version(version));
        }
    }
    Ok(())
}

pub(super) fn incr(batch: &mut Batch, args: &IncrArgs) -> Result<(), Failure> {
    unset(args.ack)?;
    room(batch, args.key.len())?;
    batch.incr(args.key.as_encoded_bytes(), args.by);
    Ok(())
}

/// Says how many there are now.
pub(super) fn told(batch: &Batch) -> Result<(), Failure> {
    output::line(format_args!("collected {}", batch.len()))
}
