//! What the native HTTP API says: JSON shapes, error codes, percent-coded keys and cursors.
//!
//! Server and client share this crate, so they cannot disagree. It does no I/O, and every decoder is a pure
//! function of bytes whose lengths are checked before anything is kept: see [`batch::decode`],
//! [`mget::decode`], [`cursor::Cursor::decode`] and [`percent::decode`].

pub mod admin;
pub mod batch;
pub mod binary;
pub mod cluster;
pub mod cursor;
mod encoding;
pub mod error;
pub mod kv;
pub mod mget;
pub mod options;
pub mod percent;
pub mod resp;
mod ttl;
pub mod watch;

pub use encoding::{
    DecodeError, Encoding, decode_base64, decode_text, encode_base64, encode_base64url, encode_pair,
};
pub use error::{ErrorAnswer, ErrorBody, ErrorCode};
pub use options::{Ack, Consistency};
pub use ttl::{InvalidTtl, Ttl};

/// Where every route of the native API begins.
pub const API_PREFIX: &str = "/api/v1";
/// Where the path of a single key begins: all that follows is the percent-coded key.
pub const KEY_PREFIX: &str = "/api/v1/kv/";
/// What follows the key in the path that adds to it.
pub const INCR_SUFFIX: &str = "/incr";
/// The content type of a streamed list: one JSON item a line.
pub const NDJSON: &str = "application/x-ndjson";
/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = 65_535;
