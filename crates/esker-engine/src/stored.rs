//! Values as they are stored: what comes before the bytes that a user wrote.
//!
//! ```text
//! [expires at, 8 bytes, if the flag says so] [length before compression, 4 bytes, if compressed] bytes
//! ```

use std::borrow::Cow;

use esker_log::{Error, Result, record::flags};

use crate::compression;

/// Bytes of the time at which a value expires.
const EXPIRY_LEN: usize = 8;

/// A stored value, taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    /// From when on the key is absent, in milliseconds since 1970.
    pub(crate) expiry: Option<u64>,
    /// How it is compressed, as the flags say.
    compression: u8,
    /// What is behind the expiry.
    body: &'a [u8],
}

/// What a damaged value is called.
fn damaged(what: &str) -> Error {
    Error::InvalidRequest(format!("a stored value makes no sense: {what}"))
}

impl<'a> Stored<'a> {
    /// Takes what is stored apart. Errors: `InvalidRequest` if it is too short for what its flags say.
    pub(crate) fn new(record_flags: u8, stored: &'a [u8]) -> Result<Self> {
        let (expiry, body) = match record_flags & flags::EXPIRES {
            0 => (None, stored),
            _ => {
                let (expiry, body) =
                    stored.split_first_chunk::<EXPIRY_LEN>().ok_or_else(|| damaged("no time"))?;
                (Some(u64::from_le_bytes(*expiry)), body)
            }
        };
        let compression = (record_flags & flags::COMPRESSION) >> flags::COMPRESSION_SHIFT;
        Ok(Self { expiry, compression, body })
    }

    /// Whether the value has to be decompressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.compression != 0
    }

    /// The value as it was written.
    ///
    /// Errors: `InvalidRequest` if it cannot be decompressed.
    pub(crate) fn value(&self) -> Result<Cow<'a, [u8]>> {
        match self.compression {
            0 => Ok(Cow::Borrowed(self.body)),
            method => compression::decompress(method, self.body).map(Cow::Owned),
        }
    }

    /// What is stored behind the expiry: the value, if it is not compressed.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }
}
