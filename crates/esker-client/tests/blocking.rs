//! The blocking client where there is no server, and where it must not be used.

#![expect(clippy::unwrap_used, reason = "a test")]

use esker_client::{Error, blocking::Client};

fn client() -> Client {
    let mut settings = esker_client::Settings::default();
    settings.retry = esker_client::Retry::never();
    // Port 0 is never listened on.
    Client::with_settings("http://127.0.0.1:0", settings).unwrap()
}

#[test]
fn errors_are_those_of_the_other_client() {
    let client = client();
    assert!(matches!(client.get(b"k").unwrap_err(), Error::Unreachable { .. }));
    assert!(matches!(client.clone().put(b"", "v").unwrap_err(), Error::InvalidRequest { .. }));
}

#[test]
fn clones_are_used_by_many_threads() {
    let client = client();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.get(b"k").is_err())
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[tokio::test]
async fn within_a_runtime_it_refuses_and_does_not_panic() {
    let client = client();
    let error = client.get(b"k").unwrap_err();
    assert!(error.to_string().contains("async runtime"), "{error}");
    drop(client);
}
