//! Esker's gRPC interface: messages, clients and servers of `esker.v1`, generated from the `.proto` files that this crate
//! publishes (`proto/esker/v1/`). They document every message and field; docs/grpc.md says how to use them.
//!
//! Byte fields are [`bytes::Bytes`]: on receipt they are slices of the message that they came in.

pub mod fields;

/// `esker.v1`: `Kv` and `Cluster`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("esker.v1");
}

/// All of it as an encoded `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/esker.bin"));
