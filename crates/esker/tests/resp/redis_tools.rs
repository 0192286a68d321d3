//! redis-cli and redis-benchmark, as people use them; where they are installed.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use super::{
    client::{Answer, Client, encode},
    clients::{Secure, is_there, port_of},
    server,
    support::Server,
    terminal::Terminal,
};

/// redis-cli for a server, with these words; `None` if there is none.
fn cli(server: &Server, words: &[&str]) -> Option<Command> {
    let mut cli = Command::new("redis-cli");
    is_there("redis-cli", Command::new("redis-cli").arg("--version")).then(|| {
        cli.args(["-p", port_of(server)]).args(words);
        cli
    })
}

/// What a command prints that has to succeed.
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with standard input.
fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn redis_cli_speaks_both_versions_plainly_and_over_tls() {
    let (plain, _dir) = server(&[]);
    let Some(mut set) = cli(&plain, &["-3", "set", "a", "1"]) else { return };
    assert_eq!(printed(set.output().unwrap()), "OK\n");
    for (words, expected) in [
        (&["-2", "get", "a"][..], "1\n"),
        (&["-3", "--json", "mget", "a", "b"], "[\"1\",null]\n"),
        (&["--csv", "mget", "a", "b"], "\"1\",NULL\n"),
        (&["-r", "3", "incr", "n"], "1\n2\n3\n"),
        (&["-n", "0", "dbsize"], "2\n"),
        (&["erange", "a", "z"], "a\n1\nn\n3\n"),
    ] {
        assert_eq!(printed(cli(&plain, words).unwrap().output().unwrap()), expected, "{words:?}");
    }
    let secure = Secure::start();
    let authority = secure.authority.to_str().unwrap();
    let user = ["--user", "app", "--pass", "open-sesame", "--no-auth-warning"];
    for version in ["-2", "-3"] {
        let words = [&["--tls", "--cacert", authority, version], &user[..], &["set", "app/k", "v"]].concat();
        assert_eq!(printed(cli(&secure.server, &words).unwrap().output().unwrap()), "OK\n");
    }
    // Whom nobody vouches for is not spoken to.
    let untrusted =
        cli(&secure.server, &[&["--tls"], &user[..], &["get", "app/k"]].concat()).unwrap().output();
    assert!(String::from_utf8(untrusted.unwrap().stderr).unwrap().contains("certificate verify failed"));
    // Nor without TLS.
    let plain = cli(&secure.server, &["get", "app/k"]).unwrap().output().unwrap();
    assert!(!plain.status.success(), "{plain:?}");
}

#[test]
fn redis_cli_inserts_and_looks_through_many_keys() {
    const KEYS: usize = 10_000;
    let (server, _dir) = server(&[]);
    let Some(pipe) = cli(&server, &["--pipe"]) else { return };
    let value = |n: usize| vec![b'v'; n % 100 + 1];
    let commands = |n: usize| encode(&[b"SET", format!("key:{n}").as_bytes(), &value(n)]);
    let input: Vec<u8> = (0..KEYS).flat_map(commands).collect();
    let told = printed(with_input(pipe, &input));
    assert!(told.contains(&format!("errors: 0, replies: {KEYS}")), "{told}");
    let from_stdin = cli(&server, &["-x", "set", "zz"]).unwrap();
    assert_eq!(printed(with_input(from_stdin, &[b'x'; 300])), "OK\n");

    let run = |words: &[&str]| printed(cli(&server, words).unwrap().output().unwrap());
    assert_eq!(run(&["--scan"]).lines().count(), KEYS + 1);
    assert_eq!(run(&["--scan", "--pattern", "key:999*"]).lines().count(), 11);
    let biggest = run(&["--bigkeys"]);
    assert!(biggest.contains("Biggest string found '\"zz\"' has 300 bytes"), "{biggest}");
    assert!(biggest.contains("10001 strings with 505300 bytes"), "{biggest}");
    assert!(run(&["--memkeys"]).contains("Biggest string found '\"zz\"' has "));
}

/// What redis-cli shows that never ends, and what it is refused.
#[test]
fn redis_cli_shows_figures_and_is_told_what_there_is_not() {
    let (server, _dir) = server(&[]);
    let Some(stat) = cli(&server, &["--stat", "-i", "1"]) else { return };
    let mut client = Client::connect(&server.resp);
    (0..7).for_each(|n| drop(client.call(&[b"SET", format!("k{n}").as_bytes(), b"v"])));
    let mut screen = Terminal::sized(&stat, 80);
    screen.expect("keys       mem");
    screen.expect("\n7 ");
    drop(screen);
    for (words, reason) in [
        (&["monitor"][..], "ERR 'monitor' is not supported by Esker: commands are not shown"),
        (&["--hotkeys"], "access frequency not tracked"),
        (&["--rdb", "absent.rdb"], "is not supported by Esker: "),
        (&["--eval", "/dev/null"], "is not supported by Esker: there are no scripts"),
        (&["-n", "1", "get", "a"], "ERR DB index is out of range"),
        (&["--cluster", "info", &server.resp], "is not configured as a cluster node"),
    ] {
        let Output { stdout, stderr, .. } = cli(&server, words).unwrap().output().unwrap();
        let told = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(told.contains(reason), "{words:?}: {told}");
    }
    assert_eq!(client.ask("PING"), Answer::Simple("PONG".into()));
}

/// The server tells redis-cli the names and the arguments of its commands, Esker's own among them.
#[test]
fn redis_cli_completes_and_hints() {
    let (server, _dir) = server(&[]);
    let Some(interactive) = cli(&server, &[]) else { return };
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(interactive.get_program());
    command.args(interactive.get_args()).env("HOME", home.path());
    let mut screen = Terminal::sized(&command, 200);
    screen.expect("> ");
    screen.send("set ");
    screen.expect("key value [NX|XX|IFEQ value|IFNE value] [GET] [EX seconds|PX milliseconds");
    screen.send("\u{15}erange ");
    screen.expect("start end [LIMIT count] [REV]");
    screen.send("\u{15}delif\t");
    screen.expect("DELIFEQ");
    screen.send("\u{15}help erange\r");
    screen.expect("Keys and values from one key to another");
    screen.send("\u{15}quit\r");
    assert_eq!(screen.wait(), Some(0));
}

#[test]
fn redis_benchmark_runs() {
    let (server, _dir) = server(&[]);
    if !is_there("redis-benchmark", Command::new("redis-benchmark").arg("--version")) {
        return;
    }
    let tests = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"];
    for more in
        [&["-P", "16"][..], &["--threads", "2"], &["-3"], &["-c", "200"], &["-r", "1000", "-d", "512"]]
    {
        let mut benchmark = Command::new("redis-benchmark");
        benchmark.args(["-p", port_of(&server), "-n", "2000", "--csv", "-t", "ping,set,get,incr,mset"]);
        let told = printed(benchmark.args(more).output().unwrap());
        for test in tests {
            let line = told.lines().find(|line| line.starts_with(&format!("\"{test}\",\"")));
            let figure =
                line.and_then(|line| line.split('"').nth(3)).and_then(|figure| figure.parse::<f64>().ok());
            assert!(figure.is_some_and(|figure| figure > 0.0), "{more:?}: {test}: {told}");
        }
    }
}
