//! `esker incr`.

use esker_client::Client;
use esker_wire::kv::IncrAnswer;

use crate::{cli::IncrArgs, exit::Failure, output};

pub(super) async fn run(client: &Client, args: IncrArgs) -> Result<(), Failure> {
    let key = args.key.as_encoded_bytes();
    let done = client.incr_with(key, args.by, args.ack.options()).await?;
    match args.json {
        true => output::json(&IncrAnswer::new(key, done.value, done.version)),
        false => output::line(done.value),
    }
}
