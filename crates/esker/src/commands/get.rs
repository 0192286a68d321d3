//! `esker get`.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
};

use esker_client::Client;
use esker_wire::kv::Item;

use crate::{
    cli::GetArgs,
    exit::{Failure, output as output_error},
    files::Whole,
    output,
};

pub(super) async fn run(client: &Client, args: GetArgs) -> Result<(), Failure> {
    let key = args.key.as_encoded_bytes();
    let Some(entry) = client.get_with(key, args.stale.consistency()).await?.entry else {
        return Err(Failure::NotFound(format!("no such key: {}", output::printable(key))));
    };
    if args.json {
        return output::json(&Item::new(key, Some(&entry.value), entry.version, false));
    }
    let value = if args.hex { hex(&entry.value) } else { entry.value.into() };
    match &args.output {
        Some(path) => {
            let failed = Failure::doing(format!("writing {}", path.display()));
            let mut file = Whole::create(path).map_err(&failed)?;
            file.write_all(&value).map_err(&failed)?;
            file.finish().map_err(&failed)
        }
        None => print(&value, args.hex),
    }
}

/// The value as it is; for people, with a line's end behind it.
fn print(value: &[u8], hex: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    let end: &[u8] = if hex || std::io::stdout().is_terminal() { b"\n" } else { b"" };
    out.write_all(value).and_then(|()| out.write_all(end)).and_then(|()| out.flush()).map_err(output_error)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text.into_bytes()
}
