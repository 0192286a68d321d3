//! `esker del`.

use std::ffi::OsString;

use esker_client::{Client, Condition, KeyOptions, Range, RangeDeleted};
use esker_wire::kv::DeleteAnswer;
use serde_json::json;

use crate::{cli::DelArgs, exit::Failure, output};

pub(super) async fn run(client: &Client, args: DelArgs) -> Result<(), Failure> {
    match range(&args)? {
        None => keys(client, args).await,
        Some(range) => {
            let deleted = client.delete_range(&range, args.ack.options()).await?;
            tell(deleted, args.json)
        }
    }
}

/// The range to be deleted, if it is one.
pub(super) fn range(args: &DelArgs) -> Result<Option<Range>, Failure> {
    let bytes = |text: &OsString| text.as_encoded_bytes().to_vec();
    match (&args.prefix, &args.start, &args.end) {
        (Some(prefix), ..) if prefix.is_empty() && !args.yes => Err(Failure::Usage(
            "an empty prefix is every key there is: add --yes if they are all to be deleted".into(),
        )),
        (Some(prefix), ..) => Ok(Some(Range::Prefix(bytes(prefix)))),
        (None, Some(start), Some(end)) if start.is_empty() || end.is_empty() => {
            Err(Failure::Usage("--start and --end are keys, which are not empty".into()))
        }
        (None, Some(start), Some(end)) => Ok(Some(Range::Between(Some(bytes(start)), Some(bytes(end))))),
        _ => Ok(None),
    }
}

fn tell(done: RangeDeleted, json: bool) -> Result<(), Failure> {
    match (json, done.deleted) {
        (true, deleted) => output::json(&json!({ "version": done.version, "deleted": deleted })),
        (false, Some(deleted)) => output::line(format_args!("deleted {deleted}")),
        (false, None) => output::line("deleted all keys of the range"),
    }
}

/// Deletes every key, also behind one that is absent; an absent one makes the command end with that code.
async fn keys(client: &Client, args: DelArgs) -> Result<(), Failure> {
    if args.if_version.is_some() && args.keys.len() > 1 {
        return Err(Failure::Usage("--if-version is about one key: give one".into()));
    }
    let condition = args.if_version.map(Condition::Version);
    let options = KeyOptions { write: args.ack.options(), condition };
    let mut absent = Vec::new();
    for key in &args.keys {
        let key = key.as_encoded_bytes();
        let deleted = client.delete_with(key, options).await?;
        if args.json {
            output::json(&DeleteAnswer::new(key, deleted.version, deleted.existed))?;
        }
        if !deleted.existed {
            absent.push(output::printable(key));
        }
    }
    match absent.is_empty() {
        true if args.json => Ok(()),
        true => output::line(format_args!("deleted {}", args.keys.len())),
        false => Err(Failure::NotFound(format!("no such key: {}", absent.join(", ")))),
    }
}
