//! A watcher: server-sent events over a connection of its own.

use std::net::SocketAddr;

use serde_json::Value;

use super::Client;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
    pub(crate) id: Option<u64>,
}

impl Event {
    pub(crate) fn version(&self) -> u64 {
        self.data["version"].as_u64().unwrap()
    }

    pub(crate) fn key(&self) -> &str {
        self.data["key"].as_str().unwrap()
    }
}

pub(crate) struct Watcher {
    pub(crate) client: Client,
    text: String,
}

impl Watcher {
    /// Begins to watch; panics if that is refused.
    #[track_caller]
    pub(crate) fn begin(address: SocketAddr, query: &str) -> Self {
        Self::with(address, query, &[])
    }

    /// The same, going on behind the last event.
    #[track_caller]
    pub(crate) fn resume(address: SocketAddr, query: &str, id: u64) -> Self {
        Self::with(address, query, &[("last-event-id", &id.to_string())])
    }

    #[track_caller]
    fn with(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut client = Client::connect(address);
        client.send_request("GET", &format!("/api/v1/watch?{query}"), headers, b"");
        let head = client.read_head().unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Self { client, text: String::new() }
    }

    /// The next event; `None` if the stream ended in order.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = self.client.read_chunk().expect("the stream broke off");
            if chunk.is_empty() {
                assert!(self.text.is_empty(), "half an event: {}", self.text);
                return None;
            }
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The next event, which is progress; its version.
    #[track_caller]
    pub(crate) fn progress(&mut self) -> u64 {
        let event = self.next().unwrap();
        assert_eq!((event.name.as_str(), event.id), ("progress", Some(event.version())), "{event:?}");
        event.version()
    }

    /// So many events that are not progress.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = self.next().expect("there is more to come");
            assert!(!["resync", "error"].contains(&event.name.as_str()), "{event:?}");
            events.extend(Some(event).filter(|event| event.name != "progress"));
        }
        events
    }
}

fn parse(text: &str) -> Event {
    let (mut name, mut data, mut id) = (None, None, None);
    for line in text.lines() {
        match line.split_once(": ").unwrap() {
            ("event", value) => name = Some(value.to_owned()),
            ("data", value) => data = Some(serde_json::from_str(value).unwrap()),
            ("id", value) => id = Some(value.parse().unwrap()),
            _ => panic!("{line}"),
        }
    }
    Event { name: name.unwrap(), data: data.unwrap(), id }
}
