//! CHECKS 36 on every front: any bytes are a key, and the same one wherever it is written and read.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use tokio::runtime::Runtime;

use super::{kv, put, server, support::Server, v1::GetRequest};

const KEYS: [&[u8]; 9] =
    [b"..", b"/", b"a/../b", b"%2f", b"\0", b"\r\n", b" +&=?#", b"*1\r\n$4\r\nPING\r\n", b"\xff\xfe\xc3\xa9"];

/// Sends bytes on a connection of their own and reads up to its end, which comes when all of a pipeline is answered.
fn pipelined(address: &str, bytes: &[u8]) -> Vec<u8> {
    exchange(address, bytes, |stream| stream.shutdown(Shutdown::Write).unwrap())
}

fn exchange(address: &str, bytes: &[u8], then: impl FnOnce(&TcpStream)) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    then(&stream);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The body of an answer of HTTP, which has to be 200.
fn http(server: &Server, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let answer =
        exchange(server.endpoint.trim_start_matches("http://"), &[head.as_bytes(), body].concat(), |_| ());
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{target}: {}", answer.escape_ascii());
    let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    answer[at + 4..].to_vec()
}

fn resp(server: &Server, words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend([format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
    }
    pipelined(&server.resp, &command)
}

fn binary(server: &Server, request: &[&[u8]]) -> Vec<u8> {
    pipelined(server.binary.trim_start_matches("esker://"), &request.concat())
}

/// Every byte of it percent-encoded.
fn percent(key: &[u8]) -> String {
    key.iter().map(|byte| format!("%{byte:02X}")).collect()
}

type WriteKey = fn(&Server, &Runtime, &[u8], &str);
type ReadKey = fn(&Server, &Runtime, &[u8]) -> String;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// How each front is asked to write a value under a key, and to read it.
const FRONTS: [(&str, WriteKey, ReadKey); 7] = [
    (
        "native",
        |server, _, key, value| {
            drop(http(server, "PUT", &format!("/api/v1/kv/{}", percent(key)), value.as_bytes()))
        },
        |server, _, key| text(&http(server, "GET", &format!("/api/v1/kv/{}", percent(key)), b"")),
    ),
    (
        "envelope",
        |server, _, key, value| {
            let body = format!(r#"{{"value":"{value}"}}"#);
            drop(http(server, "PUT", &format!("/kv/{}", percent(key)), body.as_bytes()));
        },
        |server, _, key| {
            let answer: serde_json::Value =
                serde_json::from_slice(&http(server, "GET", &format!("/kv/{}", percent(key)), b"")).unwrap();
            let value = answer["data"]["value"].as_str().unwrap();
            match answer["data"]["encoding"].as_str() {
                // Where the key is no text, the value is coded with it.
                Some("base64") => text(&esker_wire::decode_base64(value.as_bytes()).unwrap()),
                _ => value.to_owned(),
            }
        },
    ),
    (
        "verb",
        |server, _, key, value| {
            let [key, value] = [key, value.as_bytes()].map(esker_wire::encode_base64);
            let body = format!(r#"{{"key":"{key}","value":"{value}","encoding":"base64"}}"#);
            drop(http(server, "POST", "/put", body.as_bytes()));
        },
        |server, _, key| text(&http(server, "GET", &format!("/get?key={}", percent(key)), b"")),
    ),
    (
        "query",
        |server, _, key, value| {
            drop(http(server, "PUT", &format!("/put?key={}", percent(key)), value.as_bytes()))
        },
        |server, _, key| text(&http(server, "GET", &format!("/read?key={}", percent(key)), b"")),
    ),
    (
        "resp",
        |server, _, key, value| assert_eq!(resp(server, &[b"SET", key, value.as_bytes()]), b"+OK\r\n"),
        |server, _, key| {
            let answer = text(&resp(server, &[b"GET", key]));
            answer.split("\r\n").nth(1).unwrap().to_owned()
        },
    ),
    (
        "binary",
        |server, _, key, value| {
            let head = format!("PUT {} {}\n", key.len(), value.len());
            let answer = binary(server, &[head.as_bytes(), key, value.as_bytes()]);
            assert!(answer.starts_with(b"OK "), "{}", answer.escape_ascii());
        },
        |server, _, key| {
            let answer = text(&binary(server, &[format!("GET {}\n", key.len()).as_bytes(), key]));
            answer.split_once('\n').unwrap().1.to_owned()
        },
    ),
    (
        "grpc",
        |server, runtime, key, value| {
            let call = async { kv(server).await.put(put(key.to_vec(), value.to_owned())).await };
            drop(runtime.block_on(call).unwrap());
        },
        |server, runtime, key| {
            let asked = GetRequest { key: key.to_vec().into(), ..GetRequest::default() };
            let call = async { kv(server).await.get(asked).await };
            text(&runtime.block_on(call).unwrap().into_inner().entry.unwrap().value)
        },
    ),
];

#[test]
fn any_bytes_are_the_same_key_on_every_front() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, _dir) = server(&[]);
    for key in KEYS {
        for (writer, write, _) in FRONTS {
            write(&server, &runtime, key, writer);
            for (reader, _, read) in FRONTS {
                let found = read(&server, &runtime, key);
                assert_eq!(found, writer, "{reader}: {}", key.escape_ascii());
            }
        }
    }
    // None of them was taken for another one, or for a path.
    let count = resp(&server, &[b"DBSIZE"]);
    assert_eq!(text(&count), format!(":{}\r\n", KEYS.len()));
}
