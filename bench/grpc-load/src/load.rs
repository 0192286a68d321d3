//! The load: a closed loop, so that both servers get the same from the same client.

use std::time::{Duration, Instant};

use bytes::Bytes;
use esker_proto::v1::{GetRequest, PutRequest, kv_client::KvClient};
use hdrhistogram::Histogram;
use tonic::transport::{Channel, Endpoint};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;

#[derive(Clone, Copy)]
pub enum Operation {
    Get,
    Put,
}

pub async fn run(address: &str, operation: Operation, connections: u64, calls: u64, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut workers = Vec::new();
    for connection in 0..connections {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.tcp_nodelay(true).connect().await.expect("a server");
        for call in 0..calls {
            let seed = connection * calls + call;
            workers.push(tokio::spawn(work(KvClient::new(channel.clone()), operation, seed, end)));
        }
    }
    let mut latencies = histogram();
    let mut errors = 0;
    for worker in workers {
        let (its, failed) = worker.await.expect("no panic");
        latencies.add(&its).expect("the same bounds");
        errors += failed;
    }
    let at = |quantile| latencies.value_at_quantile(quantile);
    println!(
        "{:10} /s  errors {errors} p50 {} us p99 {} us p99.9 {} us",
        latencies.len() / seconds.max(1),
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("sound bounds")
}

/// One call after the other until the end: how long each took, in microseconds, and how many failed.
async fn work(mut kv: KvClient<Channel>, operation: Operation, seed: u64, end: Instant) -> (Histogram<u64>, u64) {
    let (mut latencies, mut errors) = (histogram(), 0);
    let value = Bytes::from(vec![b'7'; VALUE_BYTES]);
    let mut n = seed;
    loop {
        let start = Instant::now();
        if start >= end {
            return (latencies, errors);
        }
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = Bytes::from(format!("key{}", (n >> 33) % KEYS));
        let done = match operation {
            Operation::Get => kv.get(GetRequest { key, ..Default::default() }).await.map(drop),
            Operation::Put => {
                kv.put(PutRequest { key, value: value.clone(), ..Default::default() }).await.map(drop)
            }
        };
        match done {
            Ok(()) => latencies.saturating_record(start.elapsed().as_micros() as u64),
            Err(_) => errors += 1,
        }
    }
}
