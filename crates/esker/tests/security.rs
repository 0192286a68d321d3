//! SPEC 5.5 with the real binary: users, tokens, certificates, protected mode, and secrets that nobody is told.

use crate::support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use esker_proto::v1::{PutRequest, kv_client::KvClient};
use support::{Server, esker, run};
use tempfile::TempDir;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// A command with something on its standard input.
fn with_input(args: &[&str], input: &str) -> Output {
    let mut child =
        esker(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A directory with a file of users: `app` for `app/`, with the password `open-sesame` and a token, which is given back.
fn users(dir: &Path) -> (PathBuf, String) {
    let file = dir.join("users.toml");
    let path = file.to_str().unwrap();
    ok(&with_input(
        &["user", "add", "app", "--file", path, "--rule", "rw:app/", "--password-stdin"],
        "open-sesame\n",
    ));
    let token = ok(&run(&["user", "token", "app", "--file", path, "--name", "ci"]));
    (file, token.trim().to_owned())
}

#[test]
fn a_file_of_users_is_looked_after() {
    for name in ["users.toml", "users.yaml"] {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join(name);
        let path = file.to_str().unwrap();
        let add = |user: &str, more: &[&str]| {
            with_input(
                &[&["user", "add", user, "--file", path, "--password-stdin"], more].concat(),
                "pass word\n",
            )
        };
        ok(&add("app", &["--rule", "rw:app/", "--rule", "r:\"rates\"/"]));
        ok(&add("ops", &["--admin"]));
        assert!(text(&add("app", &[]).stderr).contains("there is a user `app` already"));
        ok(&run(&["user", "add", "default", "--file", path, "--no-password", "--rule", "r:public/"]));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let written = fs::read_to_string(&file).unwrap();
        assert!(written.contains("$argon2id$") && !written.contains("pass word"), "{written}");
        let token = ok(&run(&["user", "token", "app", "--file", path, "--name", "ci"]));
        assert!(token.starts_with("esker_") && !fs::read_to_string(&file).unwrap().contains(token.trim()));
        let list = ok(&run(&["user", "list", "--file", path]));
        assert_eq!(
            list,
            "app password rw:app/ r:\\\"rates\\\"/ token=ci\nops admin password\ndefault r:public/\n"
        );
        let json = ok(&run(&["user", "list", "--file", path, "--json"]));
        assert!(!json.contains("argon2") && !json.contains("sha256"), "{json}");
        ok(&run(&["user", "token", "app", "--file", path, "--name", "ci", "--revoke"]));
        ok(&with_input(&["user", "passwd", "ops", "--file", path, "--password-stdin"], "another\n"));
        ok(&run(&["user", "remove", "ops", "--file", path]));
        assert_eq!(run(&["user", "remove", "ops", "--file", path]).status.code(), Some(3));
        assert_eq!(
            run(&["user", "list", "--file", dir.path().join("no").to_str().unwrap()]).status.code(),
            Some(3)
        );
        assert_eq!(ok(&run(&["user", "list", "--file", path])).lines().count(), 2);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = run(&["user", "list", "--file", path]);
        assert!(text(&open.stderr).contains("chmod 600"), "{open:?}");
    }
}

#[test]
fn commands_show_tokens_and_passwords() {
    let dir = TempDir::new().unwrap();
    let (file, token) = users(dir.path());
    let server = Server::start(&dir.path().join("data"), &["--users-file", file.to_str().unwrap()]);
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        esker(args).env("KV_ENDPOINT", &server.endpoint).envs(variables.iter().copied()).output().unwrap()
    };
    let refused = run(&[], &["put", "app/k", "v"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("token"), "{refused:?}");
    ok(&run(&[("KV_TOKEN", &token)], &["put", "app/k", "v"]));
    assert_eq!(ok(&run(&[("KV_PASSWORD", "open-sesame")], &["--user", "app", "get", "app/k"])), "v");
    assert!(!run(&[("KV_PASSWORD", "wrong")], &["--user", "app", "get", "app/k"]).status.success());
    let other = run(&[("KV_TOKEN", &token)], &["put", "other", "v"]);
    assert!(text(&other.stderr).contains("no right to write"), "{other:?}");
}

/// Each front that others can reach has to be protected, or somebody has to insist.
#[test]
fn what_is_not_protected_listens_on_this_machine_alone() {
    let dir = TempDir::new().unwrap();
    let (file, _) = users(dir.path());
    let data = |name: &str| dir.path().join(name);
    let start =
        |name: &str, more: &[&str]| Server::try_start(&data(name), &[&["--host", "0.0.0.0"], more].concat());
    let (code, why) = start("a", &[]).err().unwrap();
    assert!(code == Some(2) && why.contains("neither TLS") && why.contains("--insecure"), "{why}");
    drop(start("b", &["--insecure"]).ok().unwrap());
    drop(start("c", &["--users-file", file.to_str().unwrap()]).ok().unwrap());
    let cluster =
        ["--users-file", file.to_str().unwrap(), "--join", "127.0.0.1:1", "--advertise-host", "127.0.0.1"];
    let (code, why) = start("d", &cluster).err().unwrap();
    assert!(code == Some(2) && why.contains("TLS between the nodes"), "{why}");
    let (code, why) = start("e", &["--tls-certificate", "absent.crt"]).err().unwrap();
    assert!(code == Some(2) && why.contains("`tls_key` is missing"), "{why}");
}

#[test]
fn settings_that_are_secret_are_not_shown() {
    let config = |more: &[&str]| {
        let mut command = esker(&[&["config"], more].concat());
        command.env("KV_AUTH_TOKEN", "sesame-sesame-sesame").output().unwrap()
    };
    for more in [&[][..], &["--json"]] {
        let shown = ok(&config(more));
        assert!(shown.contains("***") && !shown.contains("sesame"), "{shown}");
    }
    let short = esker(&["config"]).env("KV_AUTH_TOKEN", "sesame").output().unwrap();
    assert!(short.status.code() == Some(2) && !text(&short.stderr).contains("sesame"), "{short:?}");
}

/// A server with its whole log.
struct Logged {
    child: Child,
    endpoint: String,
    resp: String,
    binary: String,
    grpc: String,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Logged {
    fn start(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = esker(&["serve", "--port", "0", "--log-level", "trace", "--data-dir"]);
        command.arg(dir).args(args).envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<Mutex<String>>::default();
        let lines_read = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).unwrap() > 0 {
                lines_read.lock().unwrap().push_str(&text(&line));
                line.clear();
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut after = |word: &str| {
            let line = lines.find(|line| line.trim().starts_with(word)).unwrap();
            line.trim().trim_start_matches(word).trim().to_owned()
        };
        let (endpoint, resp) = (after("listening"), after("redis"));
        let (binary, grpc) = (after("binary"), after("grpc"));
        let [resp, grpc] = [resp, grpc].map(|url| url.split("://").last().unwrap_or_default().to_owned());
        Self { child, endpoint, resp, binary, grpc, log, reader }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// All that it logged.
    fn stop(mut self) -> String {
        self.signal("TERM");
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Waits until it has logged this.
    fn wait_for(&self, told: &str) {
        let (patience, start) = (std::time::Duration::from_secs(20), std::time::Instant::now());
        while !self.log.lock().unwrap().contains(told) {
            assert!(start.elapsed() < patience, "`{told}` was never logged");
            support::pause(std::time::Duration::from_millis(5));
        }
    }
}

/// A client is added to what is there.
#[test]
fn certificates_that_are_there_are_kept() {
    let dir = TempDir::new().unwrap();
    let make = |more: &[&str]| {
        ok(&run(&[&["cert", "--dir", dir.path().to_str().unwrap()], more].concat()));
        ["ca", "server", "shop"].map(|name| fs::read(dir.path().join(format!("{name}.crt"))).ok())
    };
    let [ca, server, none] = make(&["--host", "db.example"]);
    assert!(ca.is_some() && server.is_some() && none.is_none());
    let added = make(&["--client", "shop"]);
    assert!(added[0] == ca && added[1] == server && added[2].is_some());
    let renamed = make(&["--host", "other.example"]);
    assert!(renamed[0] == ca && renamed[1].is_some() && renamed[1] != server);
}

/// What a server says to try is what lets one in.
#[test]
fn the_invitation_says_what_has_to_be_shown() {
    let dir = TempDir::new().unwrap();
    let (file, _) = users(dir.path());
    let certs = dir.path().join("certs");
    let at = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    ok(&run(&["cert", "--dir", certs.to_str().unwrap()]));
    let mut open = Server::start(&dir.path().join("open"), &[]);
    let (curl, cli, redis) = (open.endpoint.clone(), open.endpoint.clone(), open.resp.replace(':', " -p "));
    let said = [
        format!("curl -X PUT --data-binary 'hello' {curl}/api/v1/kv/greeting"),
        format!("esker get greeting --endpoint {cli}"),
        format!("redis-cli -h {redis} get greeting"),
    ];
    assert_eq!(open.invitation(3), said);
    let (certificate, key) = (at("server.crt"), at("server.key"));
    let arguments =
        ["--users-file", file.to_str().unwrap(), "--tls-certificate", &certificate, "--tls-key", &key];
    let mut locked = Server::start(&dir.path().join("locked"), &arguments);
    let told = locked.invitation(3);
    let bearer = "curl --cacert ca.crt -H \"Authorization: Bearer $KV_TOKEN\" -X PUT";
    assert!(told[0].starts_with(bearer) && told[0].contains("https://"), "{told:?}");
    assert!(told[1].ends_with(" --ca ca.crt"), "{told:?}");
    assert!(told[2].ends_with(" --tls --cacert ca.crt --user NAME --askpass get greeting"), "{told:?}");
}

/// CHECKS 38: everything secret is used, rightly and wrongly, and everything that was written is looked through; with TLS, client certificates
/// and what SIGHUP does.
#[test]
fn no_secret_is_ever_logged() {
    let dir = TempDir::new().unwrap();
    let (file, token) = users(dir.path());
    let certs = dir.path().join("certs");
    let at = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    ok(&run(&["cert", "--dir", certs.to_str().unwrap(), "--client", "app", "--client", "other"]));
    assert_eq!(fs::metadata(at("server.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let arguments = [
        "--users-file",
        file.to_str().unwrap(),
        "--tls-certificate",
        &at("server.crt"),
        "--tls-key",
        &at("server.key"),
        "--tls-client-ca",
        &at("ca.crt"),
    ];
    let server =
        Logged::start(&dir.path().join("data"), &arguments, &[("KV_AUTH_TOKEN", "one-token-for-everything")]);
    assert!(server.endpoint.starts_with("https://"), "{}", server.endpoint);
    let client = |name: &str, variables: &[(&str, &str)], args: &[&str]| {
        let (cert, key) = (at(&format!("{name}.crt")), at(&format!("{name}.key")));
        let mut command = esker(&["--ca", &at("ca.crt"), "--cert", &cert, "--key", &key]);
        command.args(args).env("KV_ENDPOINT", &server.endpoint).envs(variables.iter().copied());
        command.output().unwrap()
    };
    // The certificate alone, a token, the one token, passwords right and wrong.
    ok(&client("app", &[], &["put", "app/k", "the-hidden-value"]));
    assert_eq!(ok(&client("other", &[("KV_TOKEN", &token)], &["get", "app/k"])), "the-hidden-value");
    ok(&client("other", &[("KV_TOKEN", "one-token-for-everything")], &["put", "z", "the-hidden-value"]));
    ok(&client("other", &[("KV_PASSWORD", "open-sesame")], &["--user", "app", "get", "app/k"]));
    for variables in [&[("KV_TOKEN", "wrong-token-wrong-token")][..], &[]] {
        assert!(!client("other", variables, &["get", "app/k"]).status.success());
    }
    assert!(
        !client("other", &[("KV_PASSWORD", "wrong-password")], &["--user", "app", "get", "app/k"])
            .status
            .success()
    );
    assert!(!client("app", &[], &["get", "z"]).status.success());
    // Without a certificate, and without TLS.
    let bare = esker(&["--ca", &at("ca.crt"), "get", "app/k"])
        .env("KV_ENDPOINT", &server.endpoint)
        .output()
        .unwrap();
    assert!(!bare.status.success());
    let plain = server.endpoint.replace("https", "http");
    assert!(!esker(&["get", "app/k"]).env("KV_ENDPOINT", plain).output().unwrap().status.success());
    let mut redis = std::net::TcpStream::connect(&server.resp).unwrap();
    redis.write_all(b"AUTH app open-sesame\r\n").unwrap();
    let _reset = redis.read_to_end(&mut Vec::new()).is_err();
    // A file that cannot be used changes nothing; one that can does at once.
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("$argon2id", "$argon3")).unwrap();
    server.signal("HUP");
    server.wait_for("those from before stay");
    ok(&client("app", &[], &["get", "app/k"]));
    fs::write(&file, good.replace("app/", "else/")).unwrap();
    server.signal("HUP");
    let (patience, start) = (std::time::Duration::from_secs(20), std::time::Instant::now());
    while client("app", &[], &["get", "app/k"]).status.success() {
        assert!(start.elapsed() < patience, "the new file was never read");
    }
    let log = server.stop();
    let hash = good.split("$argon2id").nth(1).unwrap().split('"').next().unwrap();
    let key = fs::read_to_string(at("app.key")).unwrap();
    let secrets = [
        "the-hidden-value",
        &token,
        "one-token-for-everything",
        "open-sesame",
        "wrong-token",
        "wrong-password",
        hash,
        key.lines().nth(1).unwrap(),
        "Bearer",
        "Basic ",
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "`{secret}` was logged: {log}");
    }
    for told in [
        "plain text came to a port that speaks TLS",
        "the client showed no certificate",
        "bad_credentials",
        "not_allowed",
        "those from before stay",
        "the users were read again",
    ] {
        assert!(log.contains(told), "`{told}` was not logged: {log}");
    }
}

/// CHECKS 38: the same over the binary protocol and gRPC, whose libraries have logs of their own.
#[test]
fn no_secret_of_the_other_fronts_is_ever_logged() {
    let dir = TempDir::new().unwrap();
    let (file, token) = users(dir.path());
    let arguments = ["--users-file", file.to_str().unwrap()];
    let server = Logged::start(&dir.path().join("data"), &arguments, &[]);
    let binary = |shown: &str| {
        let mut stream = std::net::TcpStream::connect(server.binary.trim_start_matches("esker://")).unwrap();
        let asked = format!("AUTH {}\n{shown}PUT 5 16\napp/kthe-hidden-value", shown.len());
        stream.write_all(asked.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    let basic = |pair: &str| format!("Basic {}", esker_wire::encode_base64(pair.as_bytes()));
    for right in [&token, "app:open-sesame"] {
        assert!(binary(right).starts_with("OK 0\nOK "), "{}", binary(right));
    }
    for wrong in ["wrong-token-wrong-token", "app:wrong-password"] {
        assert!(binary(wrong).starts_with("ERR UNAUTHORIZED "), "{}", binary(wrong));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let grpc = |authorization: &str| {
        runtime.block_on(async {
            let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
            let mut kv = KvClient::new(channel.connect().await.unwrap());
            let (key, value) = ("app/k".into(), "the-hidden-value".into());
            let mut request = tonic::Request::new(PutRequest { key, value, ..PutRequest::default() });
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
            kv.put(request).await.map_or_else(|status| status.code(), |_| tonic::Code::Ok)
        })
    };
    let (right, wrong) = (basic("app:open-sesame"), basic("app:wrong-password"));
    for (shown, code) in [
        (&format!("Bearer {token}"), tonic::Code::Ok),
        (&right, tonic::Code::Ok),
        (&wrong, tonic::Code::Unauthenticated),
        (&"Bearer wrong-token-wrong-token".into(), tonic::Code::Unauthenticated),
    ] {
        assert_eq!(grpc(shown), code);
    }
    let log = server.stop();
    for secret in [
        "the-hidden-value",
        &token,
        "open-sesame",
        "wrong-token",
        "wrong-password",
        &right[6..],
        &wrong[6..],
        "Bearer",
        "Basic ",
    ] {
        assert!(!log.contains(secret), "`{secret}` was logged: {log}");
    }
    for front in ["binary", "grpc"] {
        let told = log.lines().any(|line| line.contains("bad_credentials") && line.contains(front));
        assert!(told, "nothing was told of {front}: {log}");
    }
}
