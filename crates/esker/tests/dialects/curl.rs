//! SPEC 3.1 to 3.4 with curl, as people type it: the requests of `curl.txt` and what they are answered, from the real binary.

use std::process::{Command, Stdio};

use super::support::Server;

const SCRIPT: &str = include_str!("curl.txt");

/// A request, and its status and body; `...` stands for anything.
struct Step {
    line: usize,
    command: &'static str,
    expected: &'static str,
}

fn steps() -> Vec<Step> {
    let lines = SCRIPT.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with("# "));
    let all: Vec<_> = lines.map(|(at, line)| (at + 1, line)).collect();
    let pairs = all.chunks(2).map(|pair| match *pair {
        [(line, command), (_, expected)] => {
            let command = command.strip_prefix("$ ").unwrap_or_else(|| panic!("line {line}: no command"));
            Step { line, command, expected }
        }
        _ => panic!("the last request has no answer"),
    });
    pairs.collect()
}

/// Runs a command line against a server; the status and the body, on one line.
fn run(command: &str, server: &Server) -> String {
    let address = server.endpoint.trim_start_matches("http://");
    // Nothing of the caller's own, no words on the progress, the status behind the body.
    let curl = r"curl -q -s --max-time 30 -w '\n%{http_code}' ";
    let line = command.replacen("curl ", curl, 1).replace("localhost:8080", address);
    let output = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let (body, status) = shown.rsplit_once('\n').unwrap_or_else(|| panic!("{command}: {shown}"));
    format!("{status} {}", body.replace('\n', "\\n"))
}

fn fits(answer: &str, expected: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| answer.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        // The last one is at the end, wherever else it may be as well.
        let found = if parts.peek().is_none() { rest.ends_with(part).then_some(0) } else { rest.find(part) };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn every_request_is_answered_as_it_is_written_down() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let backups = dir.path().join("backups");
    let arguments = ["--wal-sync-policy", "never", "--backup-dir", backups.to_str().unwrap()];
    let server = Server::start(&dir.path().join("data"), &arguments);
    let mut differences = Vec::new();
    for Step { line, command, expected } in steps() {
        let answer = run(command, &server);
        if !fits(&answer, expected) {
            differences.push(format!("{line}: {command}\n  expected {expected}\n  got      {answer}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The method and the path of a curl's command line.
fn asked(command: &str) -> (String, &str) {
    let behind = |option: &str| command.split(option).nth(1).and_then(|rest| rest.split(' ').next());
    let method = match behind(" -X ") {
        Some(method) => method,
        None if command.contains(" -I ") => "HEAD",
        None if command.contains(" -d ") => "POST",
        None => "GET",
    };
    let target = behind("http://localhost:8080").unwrap_or_default();
    (method.to_lowercase(), target.split(['?', '\'']).next().unwrap_or_default())
}

/// Whether a path is one of those that a template describes; the last part of a template may have slashes.
fn is_of(path: &str, template: &str) -> bool {
    let (path, template): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len()
        && path.iter().zip(&template).all(|(part, wanted)| part == wanted || wanted.starts_with('{'))
}

/// Whatever the server describes is asked for there, but for what needs a cluster or never ends by itself.
#[test]
fn no_request_is_forgotten() {
    let described: serde_json::Value = serde_json::from_str(esker_server::openapi_json()).unwrap();
    let asked: Vec<_> = steps().iter().map(|step| asked(step.command)).collect();
    // Profiles take their time, and have tests of their own.
    let all = described["paths"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with("/debug/"));
    for (template, operations) in all {
        for method in operations.as_object().unwrap().keys() {
            let is_asked = asked.iter().any(|(asked, path)| asked == method && is_of(path, template));
            assert!(is_asked, "curl.txt has no {method} {template}");
        }
    }
}
