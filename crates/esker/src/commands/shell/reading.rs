//! Reads, shown so that a terminal takes no harm from any byte, and nobody from a large value.

use std::io::Write;

use esker_client::{Client, Item};

use super::{
    render::{self, PAGE_ROWS, Row},
    session::Preferences,
    words::ShellGet,
};
use crate::{
    cli::ScanArgs,
    commands::{get as cli_get, scan as cli_scan},
    exit::{Failure, output as output_error},
    output,
};

pub(super) async fn get(client: &Client, args: ShellGet, preferences: &Preferences) -> Result<(), Failure> {
    let several = args.get.keys.len() > 1;
    if args.raw || args.get.json || args.get.hex || args.get.output.is_some() {
        return cli_get::run(client, args.get).await;
    }
    let keys: Vec<&[u8]> = args.get.keys.iter().map(|key| key.as_encoded_bytes()).collect();
    let consistency = args.get.stale.consistency();
    let entries = match several {
        true => client.mget_with(&keys, consistency).await?.entries,
        false => vec![client.get_with(keys[0], consistency).await?.entry],
    };
    let found = keys.iter().zip(&entries).filter_map(|(key, entry)| Some((*key, entry.as_ref()?)));
    let cut = shown(preferences);
    match (several, preferences.is_terminal) {
        (true, true) => {
            let row = |(key, entry): (&[u8], &esker_client::Entry)| Row {
                key: key.into(),
                value: render::value(&entry.value, cut),
                version: entry.version.to_string(),
            };
            let rows: Vec<_> = found.map(row).collect();
            print(&render::table(&rows, true))?;
        }
        (true, false) => {
            for (key, entry) in found {
                output::line(format_args!(
                    "{}\t{}",
                    output::printable(key),
                    render::value(&entry.value, cut)
                ))?;
            }
        }
        (false, _) => {
            for (_, entry) in found {
                output::line(render::value(&entry.value, cut))?;
                if entry.value.len() > cut {
                    output::note("get --raw KEY prints all of it, get -o FILE KEY writes it to a file");
                }
            }
        }
    }
    let absent: Vec<_> =
        keys.iter().zip(&entries).filter(|(_, entry)| entry.is_none()).map(|(key, _)| *key).collect();
    if absent.is_empty() { Ok(()) } else { Err(cli_get::absent(&absent)) }
}

/// So much of a value is shown. What is no terminal gets all of it.
fn shown(preferences: &Preferences) -> usize {
    if preferences.is_terminal { preferences.cut } else { usize::MAX }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = output::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(output_error)
}

pub(super) async fn scan(client: &Client, args: ScanArgs, preferences: &Preferences) -> Result<(), Failure> {
    if args.json || !preferences.is_terminal {
        return cli_scan::run(client, args).await;
    }
    let expiry = args.expiry;
    let mut stream = client.scan(&args.query()).await?;
    let mut page = Page { rows: Vec::new(), printed: 0 };
    while let Some(item) = stream.next().await {
        match item {
            Ok(item) => page.add(&item, expiry, preferences.cut)?,
            // What came before an error is printed before it is told.
            Err(e) => {
                page.print()?;
                return Err(e.into());
            }
        }
    }
    page.print()?;
    output::line(output::count(page.printed, "key"))
}

/// Rows that wait to be laid out.
struct Page {
    rows: Vec<Row>,
    printed: u64,
}

impl Page {
    fn add(&mut self, item: &Item, expiry: bool, cut: usize) -> Result<(), Failure> {
        let mut value = item.value.as_deref().map(|value| render::value(value, cut)).unwrap_or_default();
        if expiry {
            let at = item.expires_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
            value += &format!("  {at}");
        }
        self.rows.push(Row { key: item.key.clone(), value, version: item.version.to_string() });
        if self.rows.len() == PAGE_ROWS { self.print() } else { Ok(()) }
    }

    fn print(&mut self) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        print(&render::table(&self.rows, self.printed == 0))?;
        self.printed += self.rows.len() as u64;
        self.rows.clear();
        Ok(())
    }
}
