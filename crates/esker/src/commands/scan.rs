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
    let json = args.json;
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
        print(&mut out, &item, json).map_err(output_error)?;
    }
    out.flush().map_err(output_error)
}

fn print(out: &mut impl Write, item: &Item, json: bool) -> std::io::Result<()> {
    match (json, &item.value) {
        (true, value) => {
            serde_json::to_writer(
                &mut *out,
                &kv::Item::new(&item.key, value.as_deref(), item.version, false),
            )?;
            out.write_all(b"\n")
        }
        (false, Some(value)) => writeln!(out, "{}\t{}", printable(&item.key), printable(value)),
        (false, None) => writeln!(out, "{}", printable(&item.key)),
    }
}
