//! `esker get`.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
};

use esker_client::{Client, Entry};
use esker_wire::kv::Item;

use crate::{
    cli::GetArgs,
    exit::{Failure, output as output_error},
    files::Whole,
    output,
};

pub(super) async fn run(client: &Client, args: GetArgs) -> Result<(), Failure> {
    match &args.keys[..] {
        [key] => one(client, key.as_encoded_bytes(), &args).await,
        _ => several(client, &args).await,
    }
}

pub(super) fn absent(keys: &[&[u8]]) -> Failure {
    let keys: Vec<_> = keys.iter().map(|key| output::printable(key)).collect();
    Failure::NotFound(format!("no such key: {}", keys.join(", ")))
}

async fn one(client: &Client, key: &[u8], args: &GetArgs) -> Result<(), Failure> {
    let Some(entry) = client.get_with(key, args.stale.consistency()).await?.entry else {
        return Err(absent(&[key]));
    };
    if args.json {
        return output::json(&item(key, &entry));
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

/// What is there is printed; what is not makes the command end with that code.
async fn several(client: &Client, args: &GetArgs) -> Result<(), Failure> {
    if args.output.is_some() {
        return Err(Failure::Usage("--output takes the value of one key: give one".into()));
    }
    let keys: Vec<&[u8]> = args.keys.iter().map(|key| key.as_encoded_bytes()).collect();
    let entries = client.mget_with(&keys, args.stale.consistency()).await?.entries;
    let mut missing = Vec::new();
    for (key, entry) in keys.into_iter().zip(&entries) {
        if entry.is_none() {
            missing.push(key);
        }
        match entry {
            entry if args.json => output::json(&entry.as_ref().map(|entry| item(key, entry)))?,
            None => {}
            Some(entry) => {
                let value = if args.hex { to_hex(&entry.value) } else { output::printable(&entry.value) };
                output::line(format_args!("{}\t{value}", output::printable(key)))?;
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(absent(&missing)) }
}

fn item<'a>(key: &'a [u8], entry: &'a Entry) -> Item<'a> {
    Item::new(key, Some(&entry.value), entry.version, false).expiring(entry.expires_at)
}

/// The value as it is; for people, with a line's end behind it.
fn print(value: &[u8], hex: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    let end: &[u8] = if hex || std::io::stdout().is_terminal() { b"\n" } else { b"" };
    out.write_all(value).and_then(|()| out.write_all(end)).and_then(|()| out.flush()).map_err(output_error)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    to_hex(bytes).into_bytes()
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}
