//! The Redis protocol, RESP2 and RESP3, without I/O: bytes to commands, answers to bytes.
//!
//! A client sends arrays of strings in either version of the protocol, or lines of words (inline commands), so
//! [`Parser`] knows no other shape, and no nesting. Only answers differ between the versions: [`Reply`] writes both.
//!
//! What was announced and has not come costs nothing: the parser keeps places in the caller's buffer, one for each
//! argument that has begun to arrive.

mod commands;
mod inline;
mod integer;
mod parser;
mod reply;

pub use commands::{Command, Commands};
pub use integer::parse_integer;
pub use parser::{Parser, ParserLimits, ProtocolError};
pub use reply::{Protocol, Reply};
