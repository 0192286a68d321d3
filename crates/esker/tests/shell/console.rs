//! The shell on a terminal: editing, completion, history, Ctrl-C.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::{
    server,
    support::{esker, pause},
    terminal::Terminal,
};

const PROMPT: &str = "esker> ";
const TAB: &str = "\t";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

#[test]
fn lines_are_completed_and_kept() {
    let (dir, server) = server();
    let mut shell = Terminal::start(&server.endpoint, dir.path(), &["shell"]);
    shell.expect(PROMPT);
    shell.send("put colour/sky 'blue\r");
    // The quote is open: it goes on.
    shell.send("grey'\r");
    shell.expect("version 1");
    shell.expect("ms)");
    shell.expect(PROMPT);
    shell.send(&format!("get col{TAB}"));
    shell.expect("colour/sky");
    shell.send("\r");
    shell.expect("blue\\ngrey");
    shell.expect(PROMPT);
    shell.send(&format!("sca{TAB}--pre{TAB}c\r"));
    shell.expect("key         version  value");
    shell.expect("colour/sky        1  blue\\ngrey");
    shell.expect("1 key");
    shell.expect(PROMPT);
    shell.send(" put hidden 1\r");
    shell.expect("version 2");
    shell.expect(PROMPT);
    shell.send("begin\r");
    shell.expect("esker batch(0)> ");
    shell.send("discard\r");
    shell.expect(PROMPT);
    shell.send(CTRL_D);
    assert_eq!(shell.wait(), Some(0));

    let history = dir.path().join(".local/state/esker/history");
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&history).unwrap();
    assert!(kept.contains("get colour/sky\n") && !kept.contains("hidden"), "{kept}");

    let mut shell = Terminal::start(&server.endpoint, dir.path(), &["shell"]);
    shell.expect(PROMPT);
    shell.send(UP);
    shell.expect("discard");
    shell.send(&format!("{UP}{UP}{UP}"));
    shell.expect("get colour/sky");
    shell.send("\r");
    shell.expect("blue\\ngrey");
    shell.send("quit\r");
    assert_eq!(shell.wait(), Some(0));
}

/// Large values do not flood the terminal, and no byte of one controls it.
#[test]
fn values_do_no_harm() {
    let (dir, server) = server();
    let large = "x".repeat(3000);
    server.ok(&["put", "large", &large]);
    server.ok(&["put", "escape", "\x1b[2J"]);
    let mut shell = Terminal::start(&server.endpoint, dir.path(), &["shell"]);
    shell.expect(PROMPT);
    shell.send("get large\r");
    shell.expect("… 2744 more bytes");
    shell.expect("get --raw KEY");
    shell.send("get escape\r");
    shell.expect("\\x1b[2J");
    shell.send("set cut 10; get large\r");
    shell.expect("\r\nxxxxxxxxxx … 2990 more bytes");
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_shell() {
    let (dir, server) = server();
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut shell = Terminal::start(&server.endpoint, dir.path(), &["shell"]);
    shell.expect(PROMPT);
    shell.send(&format!("use {}\r", silent.local_addr().unwrap()));
    shell.expect(PROMPT);
    shell.send("put k v\r");
    // It is under way.
    let _connection = silent.accept().unwrap();
    shell.send(CTRL_C);
    shell.expect("interrupted");
    shell.expect(PROMPT);
    shell.send(&format!("dropped{CTRL_C}"));
    shell.expect(PROMPT);
    shell.send(&format!("use {}; put k w\r", server.endpoint));
    shell.expect("version 1");
    shell.send("quit\r");
    assert_eq!(shell.wait(), Some(0));
}

#[test]
fn changes_are_watched_until_ctrl_c() {
    let (dir, server) = server();
    server.ok(&["put", "k/1", "before"]);
    let mut shell = Terminal::start(&server.endpoint, dir.path(), &["shell"]);
    shell.expect(PROMPT);
    shell.send("watch --prefix k/ --from 1\r");
    shell.expect("put\t1\tk/1\tbefore\r\n");
    server.ok(&["put", "other", "unseen"]);
    server.ok(&["del", "k/1"]);
    shell.expect("delete\t3\tk/1\r\n");
    shell.send(CTRL_C);
    shell.expect("interrupted");
    shell.expect(PROMPT);
    shell.send("get other\r");
    shell.expect("\r\nunseen\r\n");
}

/// The server goes and comes back; the shell stays.
#[test]
fn a_server_that_comes_back_is_found_again() {
    let dir = tempfile::TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut first = crate::support::Server::start(&data, &[]);
    let port = first.endpoint.rsplit(':').next().unwrap().to_owned();
    let mut shell = Terminal::start(&first.endpoint, dir.path(), &["shell"]);
    shell.expect(PROMPT);
    shell.send("put k v\r");
    shell.expect("version 1");
    first.kill();
    shell.send("get k\r");
    shell.expect("cannot connect");
    let data = data.to_str().unwrap();
    let _second = Again(
        esker(&["serve", "--port", &port, "--resp-port", "0", "--log-level", "error", "--data-dir", data])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port.parse().unwrap())).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not come back");
        pause(Duration::from_millis(10));
    }
    shell.send("get k\r");
    shell.expect("\r\nv\r\n");
}

/// A server on a port of our choice; killed when dropped.
struct Again(Child);

impl Drop for Again {
    fn drop(&mut self) {
        // Ended already, or never to be missed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
