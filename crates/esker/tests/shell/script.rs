//! Commands from a pipe and from the command line.

use std::process::Output;

use serde_json::Value;

use super::{
    server,
    support::{Server, run},
};

#[track_caller]
fn does(server: &Server, input: &[u8], told: &str) {
    let output = server.with_input(&["shell"], input);
    assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{output:?}");
    assert!(output.status.success(), "{output:?}");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn commands_are_done_one_after_another() {
    let (_dir, server) = server();
    does(
        &server,
        b"put a 1; put b 'two words'\n# nothing\n\nget b\nget a b",
        "version 1\nversion 2\ntwo words\na\t1\nb\ttwo words\n",
    );
    does(
        &server,
        b"scan --reverse\nincr n 5\ndel a\nmget b n",
        "b\ttwo words\na\t1\n5\ndeleted 1\nb\ttwo words\nn\t5\n",
    );
    does(&server, b"ttl b\nput t x --ttl 1h\nget t\nquit\nget absent", "it stays\nversion 5\nx\n");
    let ttl = server.with_input(&["shell"], b"ttl t");
    let millis: u64 = String::from_utf8(ttl.stdout).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((3_000_000..=3_600_000).contains(&millis), "{millis}");
    let status = server.ok(&["shell", "-c", "status", "-c", "nodes; help"]);
    for part in ["keys      3", "leader", "Print the keys and values of a range"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(server.ok(&["console", "-c", "help put"]).contains("--if-absent"));
    assert!(server.ok(&["attach", "-c", "scan --help"]).contains("Usage: scan"));
}

#[test]
fn any_byte_goes_in_and_comes_out() {
    let (_dir, server) = server();
    does(
        &server,
        b"put k\\x00\\xff \"\\x01\\n\\\"\"\nput raw '\xff\nline'\nput -- -k -v",
        "version 1\nversion 2\nversion 3\n",
    );
    does(&server, b"get k\\x00\\xff; get raw; get -- -k", "\\x01\\n\"\n\\xff\\nline\n-v\n");
    assert_eq!(server.with_input(&["shell"], b"get --raw raw").stdout, b"\xff\nline");
    does(&server, b"get --hex raw", "ff0a6c696e65\n");
}

#[test]
fn a_batch_is_done_whole_or_not() {
    let (_dir, server) = server();
    does(
        &server,
        b"put c 0\nbegin\nput a 1\nincr n 2\ndel c\nget c\ncommit\nscan",
        "version 1\ncollected 1\ncollected 2\ncollected 3\n0\n3 operations, version 2\na\t1\nn\t2\n",
    );
    let output = server.with_input(&["shell"], b"begin\nput x 1\nput a 2 --if-absent\ncommit\nget x");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(stderr(&output).contains("the key is at version 2"), "{output:?}");
    does(&server, b"begin; del --prefix a; discard; get a", "collected 1\ndiscarded 1 write\n1\n");
    for (input, why) in [
        (&b"commit"[..], "there is no batch"),
        (b"begin;commit", "empty"),
        (b"begin;begin", "commit or discard"),
        (b"begin; put a 1 --ack all", "set ack"),
        (b"begin; put a 1; quit", "not committed"),
        (b"begin\nput a 1\n", "not committed"),
    ] {
        let output = server.with_input(&["shell"], input);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(why), "{why}: {output:?}");
    }
}

/// Every command is done; the last failure is the exit code.
#[test]
fn failures_are_told_and_the_last_one_counts() {
    let (_dir, server) = server();
    let input = b"get absent\nfly\nput k \\q\nput k 'v'\nput k w --if-absent\nget k";
    let output = server.with_input(&["shell"], input);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(6), &b"version 1\nv\n"[..]), "{output:?}");
    for why in [
        "no such key: absent",
        "no such command: fly; try help",
        "\\q is no escape",
        "the key is at version 1",
    ] {
        assert!(stderr(&output).contains(why), "{why}: {output:?}");
    }
    let output = server.run(&["shell", "--stop-on-error", "-c", "get absent; put no 1", "-c", "put nor 1"]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b""[..]), "{output:?}");
    let output = server.with_input(&["shell"], b"put k 'open");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("never closed") && !stderr(&output).contains("panicked"), "{output:?}");
    let output = server.with_input(&["shell"], b"put k\n");
    assert!(stderr(&output).contains("give the value"), "{output:?}");
    let output = run(&["shell", "--endpoint", "127.0.0.1:1", "-c", "get k"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

#[test]
fn settings_and_json() {
    let (_dir, server) = server();
    let output = server.run(&["shell", "--json", "-c", "put k v; get k; incr n; mget k none; ttl k"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>();
    assert_eq!(objects.len(), 6, "{lines}");
    assert_eq!(
        (&objects[1]["value"], &objects[2]["value"], &objects[5]["expires_at"]),
        (&"v".into(), &1.into(), &Value::Null)
    );
    let shown = "set timeout 5s; set consistency stale; set ack local; set json on; get k; set";
    let told = server.ok(&["shell", "-c", shown]);
    for line in [
        "timeout      5000ms",
        "consistency  stale",
        "ack          local",
        "json         on",
        "\"version\":1",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let told = server.run(&["shell", "-c", "use 127.0.0.1:1; get k"]);
    assert_eq!((told.status.code(), &told.stdout[..]), (Some(4), &b"http://127.0.0.1:1\n"[..]));
    for wrong in ["set ack some", "set json maybe", "set speed 1", "use redis://h:1"] {
        assert_eq!(server.run(&["shell", "-c", wrong]).status.code(), Some(2), "{wrong}");
    }
}
