//! Who the client is, and TLS, over all of its protocols: against a real server that has users and certificates.

use crate::support;

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Output, Stdio},
    thread,
};

use esker_client::{Credentials, Error, ErrorCode, Query, Range, Settings, TlsSettings, blocking::Client};
use serde_json::Value;
use support::{Server, esker, run};
use tempfile::TempDir;

const PASSWORD: &str = "open-sesame";

/// The user `app`, who may do all below `app/`, and certificates.
struct Secrets {
    dir: TempDir,
    token: String,
}

impl Secrets {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let users = dir.path().join("users.toml");
        let users = users.to_str().unwrap();
        let add = ["user", "add", "app", "--file", users, "--rule", "rw:app/", "--password-stdin"];
        let mut child =
            esker(&add).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
        ok(&child.wait_with_output().unwrap());
        let token = ok(&run(&["user", "token", "app", "--file", users])).trim().to_owned();
        let certs = dir.path().join("certs");
        ok(&run(&["cert", "--dir", certs.to_str().unwrap(), "--client", "app"]));
        Self { dir, token }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("certs").join(name)).unwrap()
    }

    fn server(&self, data: &str, tls: &[&str]) -> Server {
        let mut arguments = vec!["--users-file".to_owned(), self.path("users.toml").display().to_string()];
        for pair in tls.chunks(2) {
            let file = self.path("certs").join(pair[1]).display().to_string();
            arguments.extend([pair[0].to_owned(), file]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Server::start(&self.path(data), &arguments)
    }

    fn settings(&self, credentials: Option<Credentials>) -> Settings {
        let mut settings = Settings::default();
        settings.retry = esker_client::Retry::never();
        settings.credentials = credentials;
        settings.tls = TlsSettings { ca: Some(self.read("ca.crt")), identity: None };
        settings
    }

    fn token(&self) -> Option<Credentials> {
        Some(Credentials::Token(self.token.clone()))
    }
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn password(password: &str) -> Option<Credentials> {
    Some(Credentials::Password { user: "app".into(), password: password.into() })
}

const TLS: [&str; 4] = ["--tls-certificate", "server.crt", "--tls-key", "server.key"];
const MUTUAL_TLS: [&str; 6] =
    ["--tls-certificate", "server.crt", "--tls-key", "server.key", "--tls-client-ca", "ca.crt"];

/// The server's endpoints in all protocols, with or without TLS.
fn endpoints(server: &Server, with_tls: bool) -> Vec<String> {
    let address = |told: &str| told.split("://").last().unwrap().to_owned();
    let all = [("http", &server.endpoint), ("esker", &server.binary), ("grpc", &server.grpc)];
    let more = if with_tls { "s" } else { "" };
    all.iter().map(|(scheme, told)| format!("{scheme}{more}://{}", address(told))).collect()
}

/// Where clients of Redis connect.
fn redis(server: &Server, with_tls: bool) -> String {
    format!("redis{}://{}", if with_tls { "s" } else { "" }, server.resp)
}

/// Everything about keys, values that do not fit into one record of TLS, and connections that are used again.
fn works(endpoint: &str, settings: Settings) {
    let client = Client::with_settings(endpoint, settings).unwrap();
    let large = vec![b'x'; 3 << 20];
    client.put(b"app/large", large.clone()).unwrap();
    assert!(client.get(b"app/large").unwrap().unwrap().value == large, "{endpoint}");
    thread::scope(|scope| {
        for at in 0..40_u8 {
            let client = client.clone();
            scope.spawn(move || client.put(&[b"app/many/", &[at][..]].concat(), vec![at; 40_000]).unwrap());
        }
    });
    let query = Query { range: Range::Prefix(b"app/many/".to_vec()), ..Query::default() };
    for _ in 0..3 {
        let items: Vec<_> = client.scan(&query).unwrap().map(Result::unwrap).collect();
        assert_eq!(items.len(), 40, "{endpoint}");
        assert!(items.iter().all(|item| item.value.as_ref().unwrap().len() == 40_000));
    }
    assert_eq!(client.list(&query, None).unwrap().items.len(), 40, "{endpoint}");
    client.delete_range(&query.range, Default::default()).unwrap();
    assert!(client.delete(b"app/large").unwrap().existed, "{endpoint}");
    let forbidden = client.put(b"other", "v").unwrap_err();
    assert_eq!(forbidden.code(), Some(ErrorCode::Forbidden), "{endpoint}: {forbidden}");
}

fn is_turned_away(endpoint: &str, settings: Settings) {
    let client = Client::with_settings(endpoint, settings).unwrap();
    let scan = client.scan(&Query { range: Range::Prefix(b"app/".to_vec()), ..Query::default() });
    for error in
        [client.put(b"app/k", "v").unwrap_err(), client.get(b"app/k").unwrap_err(), scan.err().unwrap()]
    {
        let is_right = matches!(&error, Error::InvalidRequest { code: Some(ErrorCode::Unauthorized), .. });
        assert!(is_right, "{endpoint}: {error:?}");
    }
}

#[test]
fn right_ones_are_let_in_and_others_told_why_not() {
    let secrets = Secrets::new();
    for with_tls in [true, false] {
        let tls: &[&str] = if with_tls { &TLS } else { &[] };
        let server = secrets.server(if with_tls { "tls" } else { "plain" }, tls);
        for endpoint in endpoints(&server, with_tls) {
            works(&endpoint, secrets.settings(secrets.token()));
            works(&endpoint, secrets.settings(password(PASSWORD)));
            is_turned_away(&endpoint, secrets.settings(Some(Credentials::Token("wrong-token".into()))));
            is_turned_away(&endpoint, secrets.settings(None));
            let client = Client::with_settings(&endpoint, secrets.settings(password("wrong"))).unwrap();
            assert_eq!(client.get(b"app/k").unwrap_err().code(), Some(ErrorCode::Unauthorized), "{endpoint}");
        }
    }
}

/// Neither a server that nobody vouches for nor one that speaks in plain text is told anything.
#[test]
fn strangers_and_plain_text_are_not_spoken_to() {
    let secrets = Secrets::new();
    let (server, plain) = (secrets.server("tls", &TLS), secrets.server("plain", &[]));
    for endpoint in endpoints(&server, true) {
        let mut settings = secrets.settings(secrets.token());
        settings.tls = TlsSettings::default();
        let error = Client::with_settings(&endpoint, settings).unwrap().get(b"app/k").unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{endpoint}: {error:?}");
    }
    for endpoint in endpoints(&plain, true) {
        let client = Client::with_settings(&endpoint, secrets.settings(secrets.token())).unwrap();
        let error = client.get(b"app/k").unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{endpoint}: {error:?}");
    }
    for endpoint in endpoints(&server, false) {
        let client = Client::with_settings(&endpoint, secrets.settings(None)).unwrap();
        assert!(client.get(b"app/k").is_err(), "{endpoint}");
    }
}

#[test]
fn a_certificate_says_who_the_client_is() {
    let secrets = Secrets::new();
    let server = secrets.server("data", &MUTUAL_TLS);
    for endpoint in endpoints(&server, true) {
        let mut settings = secrets.settings(None);
        settings.tls.identity = Some((secrets.read("app.crt"), secrets.read("app.key")));
        works(&endpoint, settings);
        let bare = Client::with_settings(&endpoint, secrets.settings(secrets.token())).unwrap();
        assert!(bare.get(b"app/k").is_err(), "{endpoint}");
    }
}

/// Who shows something over the binary protocol is told where nobody looks at it.
#[test]
fn a_server_without_users_says_so() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut settings = Settings::default();
    settings.credentials = Some(Credentials::Token("some-token".into()));
    let error = Client::with_settings(&server.binary, settings).unwrap().get(b"k").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::BadRequest));
    assert!(error.to_string().contains("the server knows no tokens"), "{error}");
}

#[test]
fn what_is_shown_is_not_told() {
    let secrets = Secrets::new();
    for endpoint in ["https://h:1", "eskers://h:1", "grpcs://h:1"] {
        for credentials in [secrets.token(), password(PASSWORD)] {
            let client = Client::with_settings(endpoint, secrets.settings(credentials)).unwrap();
            let told = format!("{client:?} {client:#?}");
            let encoded = "YXBwOm9wZW4tc2VzYW1l";
            for secret in [secrets.token.as_str(), PASSWORD, encoded, &format!("{:?}", PASSWORD.as_bytes())] {
                assert!(!told.contains(secret), "{endpoint}: {told}");
            }
        }
    }
}

#[test]
fn the_command_line_shows_them_over_every_protocol() {
    let secrets = Secrets::new();
    let server = secrets.server("data", &MUTUAL_TLS);
    assert!(server.binary.starts_with("eskers://"), "{}", server.binary);
    let certs = secrets.path("certs");
    let at = |name: &str| certs.join(name).display().to_string();
    for endpoint in endpoints(&server, true) {
        let identity = ["--ca", &at("ca.crt"), "--cert", &at("app.crt"), "--key", &at("app.key")];
        let run = |variables: &[(&str, &str)], args: &[&str]| {
            let mut command = esker(&[&["--endpoint", &endpoint], &identity[..], args].concat());
            command.envs(variables.iter().copied()).output().unwrap()
        };
        ok(&run(&[("KV_TOKEN", &secrets.token)], &["put", "app/k", "v"]));
        assert_eq!(ok(&run(&[("KV_PASSWORD", PASSWORD)], &["--user", "app", "get", "app/k"])), "v");
        let wrong = run(&[("KV_TOKEN", "wrong-token")], &["get", "app/k"]);
        assert!(!wrong.status.success() && !String::from_utf8_lossy(&wrong.stderr).contains("wrong-token"));
    }
}

/// The load generator, over every protocol, with each way of saying who it is.
#[test]
fn what_is_secured_is_measured_too() {
    let secrets = Secrets::new();
    let users = secrets.path("users.toml").display().to_string();
    let rule = ["user", "add", "load", "--file", &users, "--rule", "rw:user", "--no-password"];
    ok(&run(&rule));
    let token = ok(&run(&["user", "token", "load", "--file", &users])).trim().to_owned();
    ok(&run(&["cert", "--dir", secrets.path("certs").to_str().unwrap(), "--client", "load"]));
    let bench = |target: &str, more: &[&str], token: &str| {
        let run = ["bench", "a", "-r", "20", "-n", "40", "-c", "2", "--json", "--target", target];
        esker(&[&run[..], more].concat()).env("KV_TOKEN", token).output().unwrap()
    };
    for with_tls in [true, false] {
        let tls: &[&str] = if with_tls { &TLS } else { &[] };
        let server = secrets.server(if with_tls { "tls" } else { "plain" }, tls);
        let redis = redis(&server, with_tls);
        let ca = secrets.path("certs").join("ca.crt").display().to_string();
        let trusts: &[&str] = if with_tls { &["--ca", &ca] } else { &[] };
        for target in endpoints(&server, with_tls).into_iter().chain([redis]) {
            let report: Value = serde_json::from_str(&ok(&bench(&target, trusts, &token))).unwrap();
            assert_eq!(report["operations"]["read"]["errors"], 0, "{target}: {report}");
            assert_eq!(report["operations"]["read"]["missed"], 0, "{target}: {report}");
            let wrong = bench(&target, trusts, "wrong-token");
            assert!(!wrong.status.success(), "{target}: {wrong:?}");
            assert!(!String::from_utf8_lossy(&wrong.stderr).contains("wrong-token"), "{target}: {wrong:?}");
            if with_tls {
                let strangers = bench(&target, &[], &token);
                assert_eq!(strangers.status.code(), Some(4), "{target}: {strangers:?}");
            }
        }
    }
    let server = secrets.server("mutual", &MUTUAL_TLS);
    let at = |name: &str| secrets.path("certs").join(name).display().to_string();
    let identity = ["--ca", &at("ca.crt"), "--cert", &at("load.crt"), "--key", &at("load.key")];
    for target in endpoints(&server, true).into_iter().chain([redis(&server, true)]) {
        let run = ["bench", "fill", "-r", "20", "--batch", "5", "--json", "--target", &target];
        ok(&esker(&[&run[..], &identity].concat()).output().unwrap());
    }
}
