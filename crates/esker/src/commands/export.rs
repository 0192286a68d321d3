//! `esker export`.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use esker_client::{Client, Query, ScanStream};

use super::progress;
use crate::{
    cli::ExportArgs,
    exit::{Failure, output as output_error},
    files::Whole,
    output,
    records::{Format, Writer},
};

/// Large writes, because a store is large.
const BUFFER_BYTES: usize = 1 << 20;

pub(super) async fn run(client: &Client, args: ExportArgs) -> Result<(), Failure> {
    let to_stdout = args.file == Path::new("-");
    let by_name = if to_stdout { Some(Format::Jsonl) } else { Format::of(&args.file) };
    let format = args.format.or(by_name).ok_or_else(|| {
        Failure::Usage(format!("{}: say --format jsonl or --format csv", args.file.display()))
    })?;
    let query = Query { range: args.range.range(), ..Query::default() };
    let stream = client.scan(&query).await?;
    if to_stdout {
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        return copy(stream, format, out, &output_error).await.map(|_| ());
    }
    let failed = Failure::doing(format!("writing {}", args.file.display()));
    let file = BufWriter::with_capacity(BUFFER_BYTES, Whole::create(&args.file).map_err(&failed)?);
    let replaced = if args.file.exists() { ", in place of what was there" } else { "" };
    let (file, items) = copy(stream, format, file, &failed).await?;
    file.into_inner().map_err(|e| failed(e.into_error()))?.finish().map_err(&failed)?;
    let (items, file) = (output::count(items, "key"), args.file.display());
    output::note(format_args!("exported {items} to {file}{replaced}"));
    Ok(())
}

async fn copy<W: Write>(
    mut stream: ScanStream,
    format: Format,
    out: W,
    failed: &impl Fn(io::Error) -> Failure,
) -> Result<(W, u64), Failure> {
    let bar = progress::bar(None, false);
    let mut items = 0;
    let mut writer = Writer::new(format, out).map_err(failed)?;
    while let Some(item) = stream.next().await {
        let item = item?;
        writer.write(&item).map_err(failed)?;
        items += 1;
        bar.inc((item.key.len() + item.value.as_ref().map_or(0, Vec::len)) as u64);
    }
    bar.finish_and_clear();
    Ok((writer.finish().map_err(failed)?, items))
}
