//! Servers to measure: which protocol, where they are, TLS, and who we are.

use std::time::Duration;

use esker_client::{Client, Credentials, Dialer, Retry, Settings, Stream, TlsSettings};

use crate::exit::Failure;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Binary,
    Grpc,
    Redis,
}

/// What targets begin with, and whether that asks for TLS.
const SCHEMES: [(&str, Protocol, bool); 8] = [
    ("http://", Protocol::Http, false),
    ("https://", Protocol::Http, true),
    ("esker://", Protocol::Binary, false),
    ("eskers://", Protocol::Binary, true),
    ("grpc://", Protocol::Grpc, false),
    ("grpcs://", Protocol::Grpc, true),
    ("redis://", Protocol::Redis, false),
    ("rediss://", Protocol::Redis, true),
];

/// Who we are and whom we trust.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets {
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: TlsSettings,
}

/// One server or several that speak the same.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) protocol: Protocol,
    scheme: &'static str,
    /// `host:port` each.
    pub(super) addresses: Vec<String>,
    dialer: Dialer,
    secrets: Secrets,
    /// How long an answer may take.
    pub(super) timeout: Duration,
}

impl Servers {
    /// Reads `scheme://host:port`, or several with commas between. As everywhere, a bare `host:port` is HTTP.
    pub(super) fn parse(text: &str, secrets: Secrets, timeout: Duration) -> Result<Self, Failure> {
        let mut kind = None;
        let mut addresses = Vec::new();
        for target in text.split(',').map(str::trim) {
            let (scheme, address) = split(target).ok_or_else(|| no_target(target))?;
            if *kind.get_or_insert(scheme) != scheme {
                return Err(Failure::Usage(format!("`{text}`: give targets of one protocol")));
            }
            addresses.push(address.to_owned());
        }
        let Some((scheme, protocol, secured)) = kind else { return Err(no_target(text)) };
        let dialer = Dialer::new(secured.then_some(&secrets.tls));
        let dialer = dialer.map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(Self { protocol, scheme, addresses, dialer, secrets, timeout })
    }

    /// What is measured, as it would be typed.
    pub(super) fn name(&self) -> String {
        let urls: Vec<_> = self.addresses.iter().map(|address| self.url(address)).collect();
        urls.join(",")
    }

    fn url(&self, address: &str) -> String {
        format!("{}{address}", self.scheme)
    }

    /// All addresses, beginning with the one whose turn it is.
    pub(super) fn in_turn(&self, turn: usize) -> impl Iterator<Item = &str> {
        let count = self.addresses.len();
        (0..count).map(move |at| self.addresses[(turn + at) % count].as_str())
    }

    /// Connects to the server whose turn it is, or to the first after it that is there.
    pub(super) async fn connect(&self, turn: usize) -> Result<Stream, String> {
        let mut refusal = String::new();
        for address in self.in_turn(turn) {
            match self.dial(address).await {
                Ok(stream) => return Ok(stream),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    /// Connects to this server.
    pub(super) async fn dial(&self, address: &str) -> Result<Stream, String> {
        let stream = self.dialer.connect(address, CONNECT_TIMEOUT.min(self.timeout)).await;
        stream.map_err(|e| {
            let hint =
                if self.protocol == Protocol::Redis { "" } else { "; is `esker serve` running there?" };
            format!("cannot connect to {address}: {e}{hint}")
        })
    }

    /// What is shown to them.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.secrets.credentials.as_ref()
    }

    /// The client library's client of these, the first of them first. It sends nothing again.
    pub(super) fn client<'a>(&self, addresses: impl Iterator<Item = &'a str>) -> Result<Client, String> {
        let mut settings = Settings::default();
        (settings.discover, settings.retry) = (false, Retry::never());
        (settings.request_timeout, settings.attempt_timeout) = (self.timeout, self.timeout);
        settings.connect_timeout = CONNECT_TIMEOUT.min(self.timeout);
        settings.credentials = self.secrets.credentials.clone();
        settings.tls = self.secrets.tls.clone();
        let urls: Vec<_> = addresses.map(|address| self.url(address)).collect();
        Client::with_endpoints(urls.iter().map(String::as_str), settings).map_err(|e| e.to_string())
    }
}

type Kind = (&'static str, Protocol, bool);

/// The scheme and the address.
fn split(target: &str) -> Option<(Kind, &str)> {
    let split = |kind: Kind| Some((kind, target.strip_prefix(kind.0)?));
    let bare = || (!target.contains("://")).then_some((SCHEMES[0], target));
    let (kind, address) = SCHEMES.into_iter().find_map(split).or_else(bare)?;
    let address = address.trim_end_matches('/');
    (!address.is_empty()).then_some((kind, address))
}

fn no_target(text: &str) -> Failure {
    Failure::Usage(format!(
        "`{text}` is no target: give http://, esker://, grpc:// (or several, with commas between) or redis:// with host:port, with \
         an s before the colon for TLS, or dir:PATH"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Servers, Failure> {
        Servers::parse(text, Secrets::default(), Duration::from_secs(1))
    }

    #[test]
    fn targets_say_what_is_spoken() {
        for (scheme, protocol, _) in SCHEMES {
            let servers = parse(&format!("{scheme}h:1,{scheme}g:2/")).unwrap();
            assert_eq!((servers.protocol, servers.name()), (protocol, format!("{scheme}h:1,{scheme}g:2")));
        }
        assert_eq!(parse("h:1").unwrap().name(), "http://h:1");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in ["", "ftp://h:1", "http://", "http://h:1,", "http://h:1,https://h:2", "esker://h:1,h:2"] {
            assert!(matches!(parse(text), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn turns_go_around() {
        let servers = parse("a:1,b:1,c:1").unwrap();
        assert_eq!(servers.in_turn(4).collect::<Vec<_>>(), ["b:1", "c:1", "a:1"]);
    }
}
