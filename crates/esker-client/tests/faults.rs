//! What the client makes of servers that are absent, busy, silent or break off. A script plays the server.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "a scripted server needs a socket of its own")]

use std::time::Duration;

use esker_client::{Client, Error, ErrorCode, Query, Retry, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers one connection after the other with the given bytes, then hangs up; an empty answer stays silent.
async fn serve(answers: Vec<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 65_536];
            let _ = stream.read(&mut request).await.unwrap();
            if answer.is_empty() {
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(stream)
                });
                continue;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    endpoint
}

fn client(endpoint: &str, retry: Retry) -> Client {
    let mut settings = Settings::default();
    settings.retry = retry;
    settings.request_timeout = Duration::from_millis(300);
    Client::with_settings(endpoint, settings).unwrap()
}

const BUSY: &str = "HTTP/1.1 503 X\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 48\r\n\r\n\
                    {\"error\":{\"code\":\"busy\",\"message\":\"queue full\"}}";
const WRITTEN: &str = "HTTP/1.1 200 X\r\ncontent-length: 23\r\n\r\n{\"key\":\"k\",\"version\":7}";

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let endpoint = serve(vec![BUSY, BUSY, WRITTEN]).await;
    assert_eq!(client(&endpoint, Retry::default()).put(b"k", "v").await.unwrap().version, 7);
    let endpoint = serve(vec![BUSY]).await;
    let error = client(&endpoint, Retry::never()).put(b"k", "v").await.unwrap_err();
    assert!(matches!(&error, Error::RetryLater { message, .. } if message == "queue full"), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_told_with_a_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&endpoint, Retry::never()).get(b"k").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&endpoint) && text.contains("refused") && text.contains("esker serve"), "{text}");
}

#[tokio::test]
async fn a_write_of_unknown_fate_is_resent_only_where_allowed() {
    let broken = "HTTP/1.1 200 X\r\ncontent-length: 23\r\n\r\n{\"key\"";
    let mut careful = Retry::default();
    careful.resend_writes = false;
    let endpoint = serve(vec![broken]).await;
    let error = client(&endpoint, careful).put(b"k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    let endpoint = serve(vec![broken, WRITTEN]).await;
    assert_eq!(client(&endpoint, Retry::default()).put(b"k", "v").await.unwrap().version, 7);
}

#[tokio::test]
async fn silence_times_out() {
    let endpoint = serve(vec![""]).await;
    let error = client(&endpoint, Retry::never()).get(b"k").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_scan_that_breaks_off_is_no_end() {
    let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
    let line = "1e\r\n{\"key\":\"k\",\"value\":\"v\",\"version\":1}\n\r\n".replace("1e", "24");
    let whole = format!("{head}{line}0\r\n\r\n").leak();
    let cut = format!("{head}{line}").leak();
    let torn = format!("{head}{line}6\r\n{{\"key\"\r\n0\r\n\r\n").leak();
    for (answer, complete) in [(&*whole, true), (cut, false), (torn, false)] {
        let endpoint = serve(vec![answer]).await;
        let mut stream = client(&endpoint, Retry::never()).scan(&Query::default()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().key, b"k");
        match stream.next().await {
            None => assert!(complete, "{answer}"),
            Some(Err(Error::Truncated { items: 1, .. })) => assert!(!complete, "{answer}"),
            Some(other) => panic!("{other:?}"),
        }
        assert!(stream.next().await.is_none());
    }
}

/// What a server says that cannot go on, though the connection ends in the middle.
#[tokio::test]
async fn a_scan_that_meets_damage_says_where() {
    let error = r#"{"error":{"code":"damaged","message":"0000000001.log is damaged at byte 64"}}"#;
    let chunk = |line: &str| format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
    let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = format!("{head}{}{}", chunk(r#"{"key":"k","value":"v","version":1}"#), chunk(error));
    let endpoint = serve(vec![answer.leak()]).await;
    let mut stream = client(&endpoint, Retry::never()).scan(&Query::default()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().key, b"k");
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Damaged), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("0000000001.log is damaged at byte 64") && text.contains("after 1 items"),
        "{text}"
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn another_program_is_recognised() {
    let endpoint = serve(vec!["HTTP/1.1 404 X\r\ncontent-length: 9\r\n\r\nnot found"]).await;
    let error = client(&endpoint, Retry::never()).get(b"k").await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
}
