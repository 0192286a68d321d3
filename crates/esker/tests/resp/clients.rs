//! What programs with other people's client libraries do: scripts in `clients/`, one for each library, in both versions of the
//! protocol where it speaks both. Each is given a server, which it may have restarted under its connections, and one with TLS
//! and users. `.ci/run` installs the libraries; a test whose library is not there says that it was skipped.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    program::Program,
    proxy::Proxy,
    support::{Server, esker},
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resp/clients");

/// A server with TLS, and with a user `app` who may do everything below `app/`.
pub(crate) struct Secure {
    pub(crate) server: Server,
    /// The file of the authority.
    pub(crate) authority: PathBuf,
    _dir: TempDir,
}

impl Secure {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (users, certs) = (at("users.toml"), at("certs"));
        let mut add =
            esker(&["user", "add", "app", "--file", &users, "--rule", "rw:app/", "--password-stdin"]);
        let mut child = add.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"open-sesame\n").unwrap();
        assert!(child.wait().unwrap().success());
        let made = esker(&["cert", "--dir", &certs]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let (certificate, key) = (at("certs/server.crt"), at("certs/server.key"));
        let arguments = ["--users-file", &users, "--tls-certificate", &certificate, "--tls-key", &key];
        let server = Server::start(&dir.path().join("data"), &arguments);
        let authority = dir.path().join("certs/ca.crt");
        Self { server, authority, _dir: dir }
    }

    pub(crate) fn port(&self) -> &str {
        port_of(&self.server)
    }
}

pub(crate) fn port_of(server: &Server) -> &str {
    server.resp.rsplit(':').next().unwrap()
}

/// Leads nowhere: a port that nobody may listen on without being root.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Runs a script with a port, the port and the authority of a server with TLS; it restarts the first server whenever the script
/// asks for it. The port stays, being a proxy's: somebody else might take the server's own meanwhile.
fn runs(program: &mut Command) {
    let dir = tempfile::tempdir().unwrap();
    let start = || Server::start(dir.path(), &["--wal-sync-policy", "never"]);
    let mut server = start();
    let proxy = Proxy::start(&format!("http://{}", server.resp), || usize::MAX);
    let secure = Secure::start();
    let port = proxy.endpoint.rsplit(':').next().unwrap();
    let mut script = Program::start(program.args([port, secure.port()]).arg(&secure.authority));
    while let Some(line) = script.line() {
        assert_eq!(line, "restart", "the script says something else");
        proxy.lead_to(NOWHERE);
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0));
        server = start();
        proxy.lead_to(&format!("http://{}", server.resp));
        script.say(b"restarted\n");
    }
    script.succeed();
}

/// Whether something can be run; if not, a word on what is missing.
pub(crate) fn is_there(what: &str, probe: &mut Command) -> bool {
    let is_there = probe.output().is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("skipped: there is no {what}");
    }
    is_there
}

/// Node, which finds packages where `.ci/run` installs them.
fn node() -> Command {
    let mut node = Command::new("node");
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/node/node_modules");
    let path = env::join_paths([installed].into_iter().chain(env::var_os("NODE_PATH").map(PathBuf::from)));
    node.env("NODE_PATH", path.unwrap());
    node
}

fn python() -> Command {
    Command::new("python3")
}

#[test]
fn redis_py_works() {
    if is_there("redis-py", python().args(["-c", "from redis import Redis"])) {
        runs(python().arg(format!("{SCRIPTS}/redis_py.py")));
    }
}

#[test]
fn ioredis_works() {
    if is_there("ioredis", node().args(["-e", "require('ioredis')"])) {
        runs(node().arg(format!("{SCRIPTS}/ioredis.cjs")));
    }
}

#[test]
fn node_redis_works() {
    if is_there("node-redis", node().args(["-e", "require('redis')"])) {
        runs(node().arg(format!("{SCRIPTS}/node_redis.cjs")));
    }
}

#[test]
fn valkey_glide_works() {
    if is_there("valkey-glide", python().args(["-c", "import glide"])) {
        runs(python().arg(format!("{SCRIPTS}/glide_py.py")));
    }
}

/// Go as the packages of a distribution have it: sources below one directory, and no modules.
fn go(arguments: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.args(arguments).env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOFLAGS", "");
    go
}

#[test]
fn redigo_works() {
    if is_there("redigo", &mut go(&["list", "github.com/gomodule/redigo/redis"])) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("redigo");
        let source = format!("{SCRIPTS}/redigo.go");
        let built = go(&["build", "-o", program.to_str().unwrap(), &source]).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        runs(&mut Command::new(program));
    }
}
