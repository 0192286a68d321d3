//! `esker admin`: maintenance of one node, now instead of when it is due; [`backup`]s; and [`care`] of data directories.

use esker_client::{
    Client, Retry,
    admin::{CheckpointAnswer, CompactAnswer},
};

use super::{backup, block_on, care, client, patient, progress, status::size, verify};
use crate::{
    cli::{AdminCommand, Connection},
    exit::Failure,
    output,
};

pub(super) fn run(connection: &Connection, command: AdminCommand) -> Result<(), Failure> {
    let args = match &command {
        AdminCommand::Verify(args) => return verify::run(connection, args.clone()),
        AdminCommand::MergeNow(args) | AdminCommand::Checkpoint(args) | AdminCommand::Compact(args) => args,
        AdminCommand::Backup(args) => return backup::run(connection, args),
        AdminCommand::Restore { .. } | AdminCommand::Repair { .. } => return care::run(command),
    };
    // Who asks twice would have it done twice.
    let client = client(&patient(connection), Retry::never())?;
    block_on(ask(&client, &command, args.json))
}

async fn ask(client: &Client, command: &AdminCommand, json: bool) -> Result<(), Failure> {
    let waiting = progress::Waiting::new(json);
    match command {
        AdminCommand::Checkpoint(_) => {
            let done = client.checkpoint().await?;
            drop(waiting);
            if json { output::json(&done) } else { tell_checkpoint(done) }
        }
        _ => {
            let all = matches!(command, AdminCommand::Compact(_));
            let done = if all { client.compact().await? } else { client.merge_now().await? };
            drop(waiting);
            if json { output::json(&done) } else { tell_merge(done) }
        }
    }
}

fn tell_checkpoint(done: CheckpointAnswer) -> Result<(), Failure> {
    let took = output::took(done.took_ms);
    output::line(format_args!("checkpoint up to version {} in {took}", done.version))
}

fn tell_merge(done: CompactAnswer) -> Result<(), Failure> {
    let took = output::took(done.took_ms);
    if done.segments_merged == 0 {
        return output::line(format_args!("nothing to merge"));
    }
    let merged = output::count(done.segments_merged, "segment");
    let (copied, before, after) = (size(done.bytes_copied), size(done.bytes_before), size(done.bytes_after));
    let made = done.segments_made;
    output::line(format_args!(
        "merged {merged} into {made}, copied {copied}, log {before} -> {after}, in {took}"
    ))
}
