//! `esker scan`.

use std::io::Write;

use esker_client::{Client, Item};
use esker_wire::kv;

use crate::{
    cli::ScanArgs,
    exit::{Failure, output as output_error},
    output::{self, printable},
};

pub(super) async fn run(client: &Client, args: ScanArgs) -> Result<(), Failure> {
    let (json, expiry) = (args.json, args.expiry);
    let mut stream = client.scan(&args.query()).await?;
    let mut out = output::stdout();
    while let Some(item) = stream.next().await {
        // What came before an error is printed before it is told.
        let item = match item {
            Ok(item) => item,
            Err(e) => {
                out.flush().map_err(output_error)?;
                return Err(e.into());
            }
        };
        print(&mut out, &item, json, expiry).map_err(output_error)?;
    }
    out.flush().map_err(output_error)
}

fn print(out: &mut impl Write, item: &Item, json: bool, expiry: bool) -> std::io::Result<()> {
    if json {
        let line = kv::Item::new(&item.key, item.value.as_deref(), item.version, false);
        serde_json::to_writer(&mut *out, &line.expiring(item.expires_at))?;
        return out.write_all(b"\n");
    }
    write!(out, "{}", printable(&item.key))?;
    if let Some(value) = &item.value {
        write!(out, "\t{}", printable(value))?;
    }
    match (expiry, item.expires_at) {
        (false, _) => writeln!(out),
        (true, Some(at)) => writeln!(out, "\t{at}"),
        (true, None) => writeln!(out, "\t-"),
    }
}
