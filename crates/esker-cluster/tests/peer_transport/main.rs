//! The real network between nodes, over loopback sockets, with a made-up node at the other end.

#![expect(clippy::unwrap_used, reason = "a test")]

mod calls;
mod fake;
mod reach;
mod streams;
mod tls;
