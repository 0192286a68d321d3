//! `esker del`.

use esker_client::Client;
use esker_wire::kv::DeleteAnswer;

use crate::{cli::DelArgs, exit::Failure, output};

/// Deletes every key, also behind one that is absent; an absent one makes the command end with that code.
pub(super) async fn run(client: &Client, args: DelArgs) -> Result<(), Failure> {
    let mut absent = Vec::new();
    for key in &args.keys {
        let key = key.as_encoded_bytes();
        let deleted = client.delete_with(key, args.ack.options()).await?;
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
