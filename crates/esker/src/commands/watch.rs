//! `esker watch`.

use std::io::Write;

use esker_client::{Error, RangeEnd, Retry, WatchEvent};
use esker_wire::kv;
use serde_json::{Value, json};

use super::{client, connect};
use crate::{
    cli::{Connection, WatchArgs},
    exit::{Failure, output as output_error},
    output::{self, printable},
};

pub(super) async fn run(connection: &Connection, args: WatchArgs) -> Result<(), Failure> {
    // That nobody is there is told at once. Who was there and goes is waited for.
    connect(connection)?.health().await.map_err(|e| match e {
        Error::NotSupported { .. } => Error::NotSupported { what: "a watch" },
        other => other,
    })?;
    let mut stream = client(connection, Retry::default())?.watch(args.options()).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0
        && let Some(event) = stream.next().await
    {
        let event = event.map_err(gone)?;
        let is_progress = matches!(event, WatchEvent::Progress { .. });
        if is_progress && !args.progress {
            continue;
        }
        print(&mut output::stdout(), &event, args.json).map_err(output_error)?;
        left -= u64::from(!is_progress);
    }
    Ok(())
}

/// Why a watch that was under way has ended. What is told last depends on how the servers went.
fn gone(error: Error) -> Failure {
    match error {
        Error::TimedOut { .. } | Error::Interrupted { .. } => {
            Failure::Unreachable(format!("nobody was there to go on with: {error}"))
        }
        error => error.into(),
    }
}

/// One event in a line, at once.
fn print(out: &mut impl Write, event: &WatchEvent, json: bool) -> std::io::Result<()> {
    match json {
        true => writeln!(out, "{}", in_json(event))?,
        false => writeln!(out, "{}", in_columns(event))?,
    }
    out.flush()
}

fn in_columns(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Put { key, value: Some(value), version, .. } => {
            format!("put\t{version}\t{}\t{}", printable(key), printable(value))
        }
        WatchEvent::Put { key, value: None, version, .. } => format!("put\t{version}\t{}", printable(key)),
        WatchEvent::Delete { key, version } => format!("delete\t{version}\t{}", printable(key)),
        WatchEvent::DeleteRange { start, end, version } => {
            let (end, key) = match end {
                RangeEnd::With(key) => ("end", printable(key)),
                RangeEnd::Before(key) => ("before", printable(key)),
                RangeEnd::None => ("end", String::new()),
            };
            format!("delete_range\t{version}\t{}\t{end}\t{key}", printable(start))
        }
        WatchEvent::Progress { version } => format!("progress\t{version}"),
    }
}

/// As the server's stream has it, with the kind of the event beside.
fn in_json(event: &WatchEvent) -> Value {
    let typed = |kind: &str, item: kv::Item<'_>| {
        let mut object = serde_json::to_value(item).expect("strings and numbers always serialise");
        object["type"] = kind.into();
        object
    };
    match event {
        WatchEvent::Put { key, value, version, expires_at } => {
            typed("put", kv::Item::new(key, value.as_deref(), *version, false).expiring(*expires_at))
        }
        WatchEvent::Delete { key, version } => typed("delete", kv::Item::new(key, None, *version, false)),
        WatchEvent::DeleteRange { start, end, version } => {
            let name = if matches!(end, RangeEnd::Before(_)) { "before" } else { "end" };
            let (start, key, encoding) = esker_wire::encode_pair(start, end.key(), false);
            let mut object = json!({ "type": "delete_range", "start": start, "version": version });
            if let Some(key) = key {
                object[name] = json!(key);
            }
            if let Some(encoding) = encoding {
                object["encoding"] = json!(encoding);
            }
            object
        }
        WatchEvent::Progress { version } => json!({ "type": "progress", "version": version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_line_each() {
        let told = |event: &WatchEvent| (in_columns(event), in_json(event).to_string());
        let put =
            WatchEvent::Put { key: b"k".into(), value: Some(b"\n".into()), version: 7, expires_at: Some(9) };
        let json = r#"{"expires_at":9,"key":"k","type":"put","value":"\n","version":7}"#;
        assert_eq!(told(&put), ("put\t7\tk\t\\n".into(), json.into()));
        let delete = WatchEvent::Delete { key: b"\xff".into(), version: 8 };
        let json = r#"{"encoding":"base64","key":"/w==","type":"delete","version":8}"#;
        assert_eq!(told(&delete), ("delete\t8\t\\xff".into(), json.into()));
        let range = |end| told(&WatchEvent::DeleteRange { start: b"a".into(), end, version: 9 });
        let json = r#"{"before":"b","start":"a","type":"delete_range","version":9}"#;
        assert_eq!(
            range(RangeEnd::Before(b"b".into())),
            ("delete_range\t9\ta\tbefore\tb".into(), json.into())
        );
        let json = r#"{"end":"b","start":"a","type":"delete_range","version":9}"#;
        assert_eq!(range(RangeEnd::With(b"b".into())), ("delete_range\t9\ta\tend\tb".into(), json.into()));
        let json = r#"{"start":"a","type":"delete_range","version":9}"#;
        assert_eq!(range(RangeEnd::None), ("delete_range\t9\ta\tend\t".into(), json.into()));
    }

    #[test]
    fn who_is_not_there_any_more_cannot_be_reached() {
        let after = std::time::Duration::from_secs(1);
        assert!(matches!(gone(Error::TimedOut { after }), Failure::Unreachable(_)));
        let history = Error::Resync { version: 7, message: String::new() };
        assert!(!matches!(gone(history), Failure::Unreachable(_)));
    }
}
