//! `grpc-load serve PORT`: a bare tonic server that answers Get with 100 bytes, and Put with a version.
//!
//! `grpc-load run ADDRESS get|put CONNECTIONS CALLS SECONDS`: keeps so many calls under way on each of so many connections,
//! over 100,000 keys, and says how many were answered, and how fast.

mod bare;
mod load;

use std::net::{Ipv4Addr, SocketAddr};

const USAGE: &str = "usage: grpc-load serve PORT | grpc-load run ADDRESS get|put CONNECTIONS CALLS SECONDS";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|number| number.parse::<u64>().ok()).expect(USAGE);
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            let port = u16::try_from(number(1)).expect(USAGE);
            bare::serve(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        }
        Some("run") => {
            let operation = match arguments.get(2).map(String::as_str) {
                Some("get") => load::Operation::Get,
                Some("put") => load::Operation::Put,
                _ => panic!("{USAGE}"),
            };
            load::run(&arguments[1], operation, number(3), number(4), number(5)).await;
        }
        _ => panic!("{USAGE}"),
    }
}
