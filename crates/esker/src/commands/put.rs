//! `esker put`.

use std::{io::Read, path::Path};

use esker_client::Client;
use esker_wire::kv::PutAnswer;

use crate::{cli::PutArgs, exit::Failure, files, output};

pub(super) async fn run(client: &Client, args: PutArgs) -> Result<(), Failure> {
    let options = args.options();
    let value = match (args.value, &args.file) {
        (Some(value), _) => value.into_encoded_bytes(),
        (None, Some(path)) if path != Path::new("-") => {
            files::read(path).map_err(Failure::doing(format!("reading {}", path.display())))?
        }
        (None, _) => standard_input()?,
    };
    let key = args.key.as_encoded_bytes();
    let written = client.put_with(key, value, options).await?;
    match args.json {
        true => output::json(&PutAnswer::new(key, written.version)),
        false => output::line(format_args!("version {}", written.version)),
    }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).map_err(Failure::doing("reading standard input"))?;
    Ok(value)
}
