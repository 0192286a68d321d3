//! What programs in other languages do: grpcio, and grpcurl where it is installed, which know the services from reflection alone.

use std::process::Command;

use super::{program::Program, server};

/// The script needs nothing but the port: reflection tells it the rest.
#[test]
fn grpcio_works() {
    let python = || Command::new("python3");
    let probe = python().args(["-c", "import grpc, grpc_reflection"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no grpcio with grpcio-reflection");
        return;
    }
    let (server, _dir) = server(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc/client.py");
    Program::start(python().args([script, &server.grpc])).succeed();
}

/// The script reads the published files, as programs with other libraries do that generate code from them.
#[test]
fn grpc_js_works() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let packages = format!("{folder}/../../target/node/node_modules");
    let node = |arguments: &[&str]| {
        let mut node = Command::new("node");
        node.env("NODE_PATH", &packages).args(arguments);
        node
    };
    let probe = "require('@grpc/grpc-js'); require('@grpc/proto-loader')";
    if !node(&["-e", probe]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no @grpc/grpc-js with @grpc/proto-loader");
        return;
    }
    let (server, _dir) = server(&[]);
    let (script, protos) =
        (format!("{folder}/tests/grpc/client.cjs"), format!("{folder}/../esker-proto/proto"));
    Program::start(&mut node(&[&script, &server.grpc, &protos])).succeed();
}

#[test]
fn grpcurl_works() {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        eprintln!("skipped: there is no grpcurl");
        return;
    }
    let (server, _dir) = server(&[]);
    let ask = |message: &str, call: &str| {
        let mut grpcurl = Command::new("grpcurl");
        Program::start(grpcurl.args(["-plaintext", "-d", message, &server.grpc, call])).succeed()
    };
    ask(r#"{"key":"Z3JlZXRpbmc=","value":"aGVsbG8="}"#, "esker.v1.Kv/Put");
    let got = ask(r#"{"key":"Z3JlZXRpbmc="}"#, "esker.v1.Kv/Get");
    assert!(got.contains("aGVsbG8="), "{got}");
}
