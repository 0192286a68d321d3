//! What the client makes of servers of the binary protocol that are absent, busy, silent or break off. A script plays the server.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "a scripted server needs a socket of its own")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use esker_client::{Client, Error, ErrorCode, PutOptions, Query, Retry, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What arrived, connection by connection.
type Seen = Arc<Mutex<Vec<String>>>;

/// Answers what comes on one connection after the other with the given bytes, then hangs up; an empty answer stays silent, and
/// one that begins with `@WORD@` waits for the word.
async fn serve(answers: Vec<&'static str>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("esker://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What every connection begins with.
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            assert_eq!(&hello, b"PING\n");
            stream.write_all(b"PONG\n").await.unwrap();
            let mut request = vec![0; 65_536];
            let mut read = stream.read(&mut request).await.unwrap();
            let rest = answer.strip_prefix('@').and_then(|rest| rest.split_once('@'));
            let (word, answer) = rest.unwrap_or(("", answer));
            while !String::from_utf8_lossy(&request[..read]).contains(word) {
                read += stream.read(&mut request[read..]).await.unwrap();
            }
            log.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).into_owned());
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
    (endpoint, seen)
}

fn client(endpoint: &str, retry: Retry) -> Client {
    let mut settings = Settings::default();
    settings.retry = retry;
    settings.request_timeout = Duration::from_millis(300);
    settings.discover = false;
    Client::with_settings(endpoint, settings).unwrap()
}

const BUSY: &str = "TRY_LATER 0 code=BUSY\n";

#[tokio::test]
async fn a_busy_server_is_asked_again_and_copies_have_one_id() {
    let (endpoint, seen) = serve(vec![BUSY, "OK 7\n"]).await;
    assert_eq!(client(&endpoint, Retry::default()).put(b"k", "v").await.unwrap().version, 7);
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() == 2 && seen[0] == seen[1], "{seen:?}");
    assert!(seen[0].starts_with("PUT 1 1 id=") && seen[0].ends_with(" unordered more\nkv"), "{seen:?}");
    let (endpoint, _) = serve(vec![BUSY]).await;
    let error = client(&endpoint, Retry::never()).put(b"k", "v").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Busy), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_told_with_a_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("esker://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&endpoint, Retry::never()).get(b"k").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&endpoint), "{error}");
}

#[tokio::test]
async fn a_write_of_unknown_fate_is_resent_only_where_allowed() {
    let mut careful = Retry::default();
    careful.resend_writes = false;
    let (endpoint, _) = serve(vec!["OK"]).await;
    let error = client(&endpoint, careful).put(b"k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    let (endpoint, _) = serve(vec!["OK", "OK 7\n"]).await;
    assert_eq!(client(&endpoint, Retry::default()).put(b"k", "v").await.unwrap().version, 7);
    let (endpoint, seen) = serve(vec!["OK", "OK 7\n"]).await;
    let client = client(&endpoint, Retry::default());
    client.put_with(b"k", "v", PutOptions::default().if_absent()).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() == 2 && seen[0] == seen[1] && seen[0].contains(" id="), "{seen:?}");
}

/// What was sent behind a request that closes the connection was not looked at, and is sent again even where nothing is sent
/// twice.
#[tokio::test]
async fn what_was_not_looked_at_is_sent_again() {
    let (endpoint, seen) = serve(vec!["@INCR@ERR TOO_LARGE 1\nx", "OK 7 sum=1\n"]).await;
    let client = client(&endpoint, Retry::never());
    let (refused, done) = tokio::join!(client.put(b"k", "v"), client.incr(b"n", 1));
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::PayloadTooLarge));
    assert_eq!(done.unwrap().value, 1);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn silence_times_out_and_the_next_request_goes_elsewhere() {
    let (endpoint, _) = serve(vec!["", "NOT_FOUND\n"]).await;
    let client = client(&endpoint, Retry::never());
    assert!(matches!(client.get(b"k").await, Err(Error::TimedOut { .. })));
    assert_eq!(client.get(b"k").await.unwrap(), None);
}

#[tokio::test]
async fn a_scan_that_breaks_off_is_no_end() {
    const PAIR: &str = "PAIRS 2\n1 1 1 0\nkv";
    for (rest, complete) in [("1 0 2 0\nlEND\n", true), ("1 0 2 0\nl", false), ("1 5", false), ("", false)] {
        let (endpoint, _) = serve(vec![format!("{PAIR}{rest}").leak()]).await;
        let mut stream = client(&endpoint, Retry::never()).scan(&Query::default()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().key, b"k");
        loop {
            match stream.next().await {
                None => break assert!(complete, "{rest}"),
                Some(Ok(item)) => assert_eq!(item.key, b"l"),
                Some(Err(Error::Truncated { .. })) => break assert!(!complete, "{rest}"),
                Some(other) => panic!("{other:?}"),
            }
        }
        assert!(stream.next().await.is_none());
    }
}

/// What a server says that cannot go on.
#[tokio::test]
async fn a_scan_that_meets_damage_says_where() {
    let (endpoint, _) = serve(vec!["PAIRS 1\n1 1 1 0\nkvERR DAMAGED 9\nit is bad"]).await;
    let mut stream = client(&endpoint, Retry::never()).scan(&Query::default()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Damaged), "{error:?}");
    assert!(
        error.to_string().contains("it is bad") && error.to_string().contains("after 1 items"),
        "{error}"
    );
}

#[tokio::test]
async fn another_program_is_recognised() {
    let (endpoint, _) = serve(vec!["HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    let error = client(&endpoint, Retry::never()).get(b"k").await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
}

/// The next node is asked when one turns the connection away, is gone, or says nothing.
#[tokio::test]
async fn the_next_node_is_asked() {
    let (good, _) = serve(vec!["VALUE 1 3\nv", "VALUE 1 3\nv", "VALUE 1 3\nv"]).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone_endpoint = format!("esker://{}", gone.local_addr().unwrap());
    drop(gone);
    let (turned, _) = serve(vec!["TRY_LATER 1000\n"]).await;
    let (draining, _) = serve(vec!["TRY_LATER 1000 code=DRAINING\n"]).await;
    for bad in [gone_endpoint, turned, draining] {
        let client = client(&format!("{bad},{good}"), Retry::default());
        assert_eq!(client.get(b"k").await.unwrap().unwrap().version, 3);
        assert_eq!(&*client.endpoint(), good.as_str());
    }
}
