//! The binary protocol, without I/O: a header line of words, then exactly the bytes that it announces.
//!
//! ```text
//! client: encode -> Request header, key, value      server: Parser -> Frame -> Request, borrowed from the buffer
//! client: AnswerParser -> Answer, parts of the buffer       server: answer -> bytes
//! ```
//!
//! docs/binary.md is its page. Lengths are looked at when their line is there, before anything is kept for what they
//! announce, and what they announce is not looked at before it is there as a whole.

mod answer;
mod answers;
mod header;
mod items;
mod options;
mod parser;
#[cfg(test)]
mod tests;
mod text;

pub use answer::{Answer, Extras, write_answer};
pub use answers::{AnswerParser, NotAnAnswer};
pub use header::{Header, Verb};
pub use items::{Items, Operations, put_operation};
pub use options::{Options, SyncWish};
pub use parser::{Frame, Malformed, Parser, ParserLimits, Request};

/// The longest header line, with its end.
pub const HEADER_LEN_MAX: usize = 512;
/// The code of an error after which the server closes, without having looked at what came behind: a header that is none.
pub const MALFORMED: &str = "MALFORMED";
/// Likewise: what a header announces is beyond a limit.
pub const TOO_LARGE: &str = "TOO_LARGE";
/// The longest token.
pub const TOKEN_LEN_MAX: usize = 4096;
