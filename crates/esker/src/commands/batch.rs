//! `esker batch`: operations one a line, or the interface's own JSON.

use std::{io::Read, path::Path};

use esker_client::Client;
use esker_wire::batch::{BatchAnswer, JsonOperation};
use serde::{Deserialize, de::IgnoredAny};

use crate::{cli::BatchArgs, exit::Failure, files, output};

/// What tells the interface's form from a line with an operation.
#[derive(Deserialize)]
struct Whole {
    #[serde(rename = "operations")]
    _operations: IgnoredAny,
}

pub(super) async fn run(client: &Client, args: BatchArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let json = match serde_json::from_slice::<Whole>(&text) {
        Ok(_) => text,
        Err(_) => from_lines(&text)?,
    };
    let done = client.batch_json(json, args.ack.options()).await?;
    match args.json {
        true => {
            output::json(&BatchAnswer { version: done.version, operations: done.operations, sum: done.sum })
        }
        false => output::line(format_args!("{} operations, version {}", done.operations, done.version)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    match path == Path::new("-") {
        true => std::io::stdin().lock().read_to_end(&mut text).map(|_| text),
        false => files::read(path),
    }
    .map_err(Failure::doing(format!("reading {}", path.display())))
}

fn from_lines(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut json = br#"{"operations":["#.to_vec();
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    let mut operations = 0;
    for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
        serde_json::from_slice::<JsonOperation<'_>>(line)
            .map_err(|e| Failure::Error(format!("line {}{}: nothing was done", at + 1, wrong(&e))))?;
        if operations > 0 {
            json.push(b',');
        }
        json.extend_from_slice(line);
        operations += 1;
    }
    match operations {
        0 => Err(Failure::Error("there is no operation in the input".into())),
        _ => {
            json.extend_from_slice(b"]}");
            Ok(json)
        }
    }
}

/// What is wrong with a line, and where in it: serde takes it for a text of its own, of one line.
fn wrong(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match told.strip_suffix(&place) {
        Some(what) => format!(", column {}: {what}", error.column()),
        None => format!(": {told}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_batch() {
        let text =
            b"{\"type\":\"put\",\"key\":\"a\",\"value\":\"1\"}\n\n {\"type\":\"delete\",\"key\":\"b\"}\r\n";
        let json = from_lines(text).unwrap_or_else(|failure| panic!("{failure:?}"));
        let expected =
            br#"{"operations":[{"type":"put","key":"a","value":"1"},{"type":"delete","key":"b"}]}"#.to_vec();
        assert_eq!(json, expected);
        let why = |text: &[u8]| match from_lines(text) {
            Err(Failure::Error(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(b"{}\n{"), "line 1, column 2: missing field `type`: nothing was done");
        assert_eq!(
            why(b"{\"type\":\"delete\",\"key\":\"b\"}\n{"),
            "line 2, column 1: EOF while parsing an object: nothing was done"
        );
        assert!(from_lines(b"\n").is_err());
    }
}
