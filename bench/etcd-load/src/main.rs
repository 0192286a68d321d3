//! `etcd-load put|get ENDPOINTS CLIENTS SECONDS RECORDS [leader]`: so many clients, each with one request under way, on a
//! connection for every two of them, spread over the endpoints (comma-separated), or all to the one that leads. Keys as `esker bench` makes them in size: 16 bytes,
//! values of 100.

use std::time::{Duration, Instant};

use etcd_client::{Client, Error};
use hdrhistogram::Histogram;

/// Clients that share a connection.
const CLIENTS_PER_CONNECTION: usize = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (args, to_leader) = match args.split_last() {
        Some((last, rest)) if last == "leader" => (rest, true),
        _ => (&args[..], false),
    };
    let [_, what, endpoints, clients, seconds, records] = args else {
        return Err("usage: etcd-load put|get ENDPOINTS CLIENTS SECONDS RECORDS [leader]".into());
    };
    let (clients, records) = (clients.parse::<usize>()?, records.parse::<u64>()?);
    let mut endpoints: Vec<&str> = endpoints.split(',').collect();
    if to_leader {
        endpoints = vec![leader(&endpoints).await?];
    }
    let mut connections = Vec::new();
    for n in 0..clients.div_ceil(CLIENTS_PER_CONNECTION) {
        connections.push(Client::connect([endpoints[n % endpoints.len()]], None).await?);
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds.parse()?);
    let is_put = what == "put";
    let workers: Vec<_> = (0..clients)
        .map(|n| {
            let client = connections[n / CLIENTS_PER_CONNECTION].clone();
            tokio::spawn(work(client, is_put, n as u64, records, end))
        })
        .collect();
    let mut latency = Histogram::<u64>::new(3)?;
    for worker in workers {
        latency.add(worker.await??)?;
    }
    let per_second = latency.len() as f64 / begin.elapsed().as_secs_f64();
    let millis = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{what} {clients} clients: {per_second:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        millis(0.5),
        millis(0.99),
        millis(0.999)
    );
    Ok(())
}

async fn leader<'a>(endpoints: &[&'a str]) -> Result<&'a str, Box<dyn std::error::Error>> {
    for endpoint in endpoints {
        let status = Client::connect([endpoint], None).await?.maintenance_client().status().await?;
        if status.header().is_some_and(|header| header.member_id() == status.leader()) {
            return Ok(endpoint);
        }
    }
    Err("none of the endpoints leads".into())
}

async fn work(
    client: Client,
    is_put: bool,
    number: u64,
    records: u64,
    end: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut client = client.kv_client();
    let mut latency = Histogram::<u64>::new(3).expect("three digits are allowed");
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let value = vec![b'7'; 100];
    while Instant::now() < end {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = format!("user{:012}", random % records);
        let start = Instant::now();
        if is_put {
            client.put(key, value.clone(), None).await?;
        } else {
            client.get(key, None).await?;
        }
        latency.record(start.elapsed().as_micros() as u64).expect("a latency of hours does not happen");
    }
    Ok(latency)
}
