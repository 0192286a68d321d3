//! The quick starts of README.md, run as they are printed, each against a fresh server, with nothing but the ports replaced, and
//! compared with the answers printed there. Where a program that one is for is not installed, it says that it was skipped;
//! `.ci/run` installs them.

use crate::support;
use crate::support::terminal;

/// The program in Rust.
mod quick_start {
    include!("../../esker-client/examples/readme/quick_start.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

use std::{env, path::Path, process::Command};

use support::Server;
use tempfile::TempDir;
use terminal::Terminal;

const README: &str = include_str!("../../../README.md");
const PROGRAM: &str = include_str!("../../esker-client/examples/readme/quick_start.rs");

/// The blocks of a language that have a word in them.
fn blocks(language: &str, word: &str) -> Vec<&'static str> {
    let mark = format!("\n```{language}\n");
    let begun = README.split(&mark[..]).skip(1);
    let blocks: Vec<_> =
        begun.map(|rest| rest.split("```\n").next().unwrap()).filter(|block| block.contains(word)).collect();
    assert!(!blocks.is_empty(), "the README has no block in {language} with `{word}`");
    blocks
}

fn server() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--resp-port", "0"]);
    (dir, server)
}

/// A block with the ports of this server.
fn for_server(block: &str, server: &Server) -> String {
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    block.replace("8080", &port(&server.endpoint)).replace("6380", &port(&server.resp))
}

fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: there is no {program}");
    }
    missing
}

/// Runs every `$ command` of a block on a terminal, and compares what it shows with what is printed below it.
fn runs_as_printed(block: &str) {
    let (dir, server) = server();
    let block = for_server(block, &server);
    let mut commands = block.split("$ ").skip(1).peekable();
    assert!(commands.peek().is_some(), "{block}");
    for command in commands {
        let (line, printed) = command.split_once('\n').unwrap();
        let (code, shown) = Terminal::with(&shell(line, &server, dir.path())).output();
        assert_eq!(shown.trim_end(), printed.trim_end(), "$ {line}");
        assert_eq!(code, Some(0), "$ {line}");
    }
}

/// A command line for the shell, which finds the binary of this build.
fn shell(line: &str, server: &Server, home: &Path) -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_esker")).parent().unwrap().to_owned();
    let path =
        env::join_paths([built].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path).env("KV_ENDPOINT", &server.endpoint).env("HOME", home);
    command
}

/// What a program says that it prints.
fn prints(program: &str) -> String {
    let marks = program.lines().filter_map(|line| line.split_once(" prints: "));
    marks.map(|(_, printed)| format!("{printed}\n")).collect()
}

#[test]
fn curl() {
    if !is_missing("curl") {
        blocks("console", "$ curl").into_iter().for_each(runs_as_printed);
    }
}

#[test]
fn redis_cli() {
    if !is_missing("redis-cli") {
        blocks("console", "$ redis-cli").into_iter().for_each(runs_as_printed);
    }
}

#[test]
fn the_command_line() {
    blocks("console", "$ esker").into_iter().for_each(runs_as_printed);
}

#[test]
fn python() {
    let python = |program: &str| Command::new("python3").args(["-c", program]).output();
    if !python("import redis").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no redis-py");
        return;
    }
    for block in blocks("python", "import redis") {
        let (_dir, server) = server();
        let output = python(&for_server(block, &server)).unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), prints(block));
    }
}

#[test]
fn rust() {
    assert_eq!(blocks("rust", "esker_client"), [PROGRAM], "examples/readme/quick_start.rs is another one");
    let (_dir, server) = server();
    let program = Command::new(env::current_exe().unwrap())
        .args(["--exact", "quick_starts::the_program_in_rust", "--ignored", "--nocapture"])
        .env("KV_ENDPOINT", &server.endpoint)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&program.stdout);
    assert!(program.status.success() && told.contains(&prints(PROGRAM)), "{program:?}");
}

#[test]
#[ignore = "is a program by itself, which the test `rust` runs"]
fn the_program_in_rust() {
    quick_start::run();
}
