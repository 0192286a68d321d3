//! Connections over real sockets that move from home to home.

use futures_util::FutureExt;
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName},
    },
};

use super::*;
use crate::{accept::Serves, http::test_service, resp::RespService, stream::Stream};

trait Talks: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Talks for T {}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server.unwrap()).into(), Arc::new(client).into())
}

fn connections(homes: &Homes) -> Vec<usize> {
    homes.0.homes.iter().map(|home| home.connections.load(Ordering::Relaxed)).collect()
}

async fn until(condition: impl Fn() -> bool) {
    let look = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect("it comes about");
}

/// Each counts up, to `sum`.
async fn ask(clients: &mut [Box<dyn Talks>], sum: u64) {
    for (number, client) in clients.iter_mut().enumerate() {
        // Begun here and ended there, perhaps.
        client.write_all(format!("INCR {number}\r\nSET other:{number}").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(format!(" {sum}\r\nGET {number}\r\n").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
    }
    let told = format!(":{sum}\r\n+OK\r\n${}\r\n{sum}\r\n", sum.to_string().len());
    for client in clients {
        let mut answer = vec![0; told.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), told);
    }
}

/// Clients of connections that are served at home, every second one ciphered.
#[expect(clippy::disallowed_methods, reason = "both ends of a connection, in one test")]
async fn connect(homes: &Homes, front: &Arc<Front>, count: usize) -> Vec<Box<dyn Talks>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (acceptor, connector) = tls();
    let mut clients: Vec<Box<dyn Talks>> = Vec::new();
    for number in 0..count {
        let (resp, acceptor) = (RespService::new(Arc::clone(front)), acceptor.clone());
        let is_ciphered = number % 2 == 1;
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        homes.take_in(accepted.unwrap().0, is_ciphered, async move |stream, lodging| {
            let stream = Stream::accept(stream, is_ciphered.then_some(acceptor)).await.unwrap();
            resp.serve(stream, Some(lodging)).await;
        });
        clients.push(match is_ciphered {
            false => Box::new(client.unwrap()),
            true => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(connector.connect(name, client.unwrap()).await.unwrap())
            }
        });
    }
    clients
}

/// While homes open and close under them, plain and ciphered connections lose and mix up nothing, and end up spread evenly over the
/// open ones; of those they came from they need nothing any more.
#[tokio::test]
async fn connections_move_between_their_requests() {
    const CONNECTIONS: usize = 12;
    let (service, _dir) = test_service();
    let front = Arc::clone(service.front());
    let (homes, mut threads) = Homes::start(&front, NonZeroUsize::new(3).unwrap(), None, || ()).unwrap();
    let mut clients = connect(&homes, &front, CONNECTIONS).await;
    assert_eq!(connections(&homes), [4, 4, 4]);
    let mut sum = 0;
    for open in [1, 3, 2, 1, 2, 3, 3, 1] {
        homes.open_so_many(open);
        for _ in 0..5 {
            sum += 1;
            ask(&mut clients, sum).await;
        }
        let fair = |at: usize| if at < open { CONNECTIONS / open } else { 0 };
        until(|| connections(&homes).iter().enumerate().all(|(at, &there)| there == fair(at))).await;
    }
    // Every second one that has something to do goes where there is less of it.
    homes.even_out(0, 1);
    ask(&mut clients, sum + 1).await;
    until(|| connections(&homes) == [6, 6, 0]).await;
    homes.open_so_many(1);
    ask(&mut clients, sum + 2).await;
    until(|| connections(&homes) == [12, 0, 0]).await;
    HomeThreads(threads.0.split_off(1)).join().unwrap();
    ask(&mut clients, sum + 3).await;
    // After a second of silence a timer rings.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    ask(&mut clients, sum + 4).await;
    drop(clients);
    until(|| connections(&homes) == [0, 0, 0]).await;
    threads.join().unwrap();
}

/// Who asks for much is served elsewhere until it has asked for little for a while; so is who begins with a handshake, until that is
/// done.
#[tokio::test]
async fn a_connection_leaves_for_its_long_answers() {
    const LONG: usize = 300_000;
    let (service, _dir) = test_service();
    let front = Arc::clone(service.front());
    let shared = Handle::current();
    let (homes, threads) = Homes::start(&front, NonZeroUsize::new(2).unwrap(), Some(&shared), || ()).unwrap();
    let away = || homes.home(homes.away().unwrap()).connections.load(Ordering::Relaxed);
    let mut clients = connect(&homes, &front, 4).await;
    until(|| connections(&homes) == [2, 2]).await;
    ask(&mut clients, 1).await;
    let value = "v".repeat(LONG);
    clients[0]
        .write_all(format!("*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n${LONG}\r\n{value}\r\n").as_bytes())
        .await
        .unwrap();
    clients[0].read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(away(), 0);
    let told = format!("${LONG}\r\n{value}\r\n");
    for client in &mut clients[..2] {
        client.write_all(b"GET long\r\n").await.unwrap();
        client.flush().await.unwrap();
        let mut answer = vec![0; told.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer == told.as_bytes());
    }
    assert_eq!((connections(&homes).iter().sum::<usize>(), away()), (2, 2));
    for sum in 2..40 {
        ask(&mut clients, sum).await;
    }
    until(|| connections(&homes) == [2, 2]).await;
    assert_eq!(away(), 0);
    drop(clients);
    until(|| connections(&homes) == [0, 0]).await;
    threads.join().unwrap();
}

/// What is answered at once waits until all that were ready have run; who is alone waits for nobody.
#[tokio::test]
async fn answers_of_a_turn_are_written_together() {
    let (service, _dir) = test_service();
    let (homes, threads) = Homes::start(service.front(), NonZeroUsize::new(1).unwrap(), None, || ()).unwrap();
    let alone = Lodging::new(homes.clone(), false);
    assert!(alone.stand_back().now_or_never().is_some());
    let order: Arc<Mutex<Vec<(&str, usize)>>> = Arc::default();
    let connection = |number: usize| {
        let (order, lodging) = (Arc::clone(&order), Lodging::new(homes.clone(), false));
        async move {
            order.lock().push(("ran", number));
            lodging.stand_back().await;
            order.lock().push(("wrote", number));
        }
    };
    let connections = [connection(1), connection(2), connection(3)];
    let turn = homes.home(0).handle.spawn(async { connections.map(tokio::spawn) });
    for connection in turn.await.unwrap() {
        connection.await.unwrap();
    }
    let expected = ["ran", "wrote"].iter().flat_map(|what| (1..=3).map(move |number| (*what, number)));
    assert!(order.lock().iter().copied().eq(expected), "{order:?}");
    drop(alone);
    threads.join().unwrap();
}
