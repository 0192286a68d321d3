//! `esker cluster demo`: it shows what it says, and leaves nothing behind, however it ends.

use crate::support;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Without a process that has it open, and intact.
fn assert_left_alone(home: &Path) {
    for node in 1..=3 {
        let data = home.join(format!("node{node}/data"));
        let output = support::run(&["verify", "--data-dir", data.to_str().unwrap()]);
        assert!(output.status.success(), "node {node}: {output:?}");
    }
}

#[test]
fn leaders_are_lost_and_nothing_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("demo");
    let output = support::run(&["cluster", "demo", "--json", "--data-dir", home.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let steps: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "started",
            "elected",
            "members",
            "writing",
            "killed",
            "failed_over",
            "checked",
            "came_back",
            "stopped",
            "handed_over",
            "checked",
            "came_back",
            "equal",
            "done",
            "kept",
        ]
    );
    let step = |name: &str| &steps[names.iter().position(|other| *other == name).unwrap()];
    assert_eq!(step("started")["nodes"].as_array().unwrap().len(), 3);
    assert_ne!(step("failed_over")["leader"], step("killed")["node"]);
    assert!(step("failed_over")["gap_ms"].as_f64().unwrap() > 0.0);
    assert!(step("came_back")["missed"].as_u64().unwrap() > 0);
    assert_ne!(step("handed_over")["leader"], step("stopped")["node"]);
    let done = step("done");
    assert!(done["acknowledged"].as_u64().unwrap() > 500, "{done}");
    assert_eq!(step("equal")["keys"], done["acknowledged"]);
    assert_left_alone(&home);
}

#[test]
fn an_interrupt_ends_every_process() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("demo");
    let mut command =
        support::esker(&["cluster", "demo", "--rounds", "1000", "--data-dir", home.to_str().unwrap()]);
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let killed = lines.find(|line| line.as_ref().unwrap().starts_with("kill "));
    assert!(killed.is_some(), "{:?}", demo.wait_with_output());
    let signalled = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    lines.for_each(|line| drop(line.unwrap()));
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");
    assert_left_alone(&home);
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "mine").unwrap();
    let output = support::run(&["cluster", "demo", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"), "{output:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
