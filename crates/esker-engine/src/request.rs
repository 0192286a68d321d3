//! Request ids: what tells a retried write from a new one.

use std::{fmt, str::FromStr};

use esker_log::record::{RecordKind, Records};

/// Identifies a write across its retries: a client's random number, and the number of the write among that client's.
/// A write whose id was applied already is answered as it was the first time, and not applied again.
///
/// As text, two hexadecimal numbers with a dash between, as in `5f3a09c1d2e4b687-2a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// Drawn at random by each client instance.
    pub client: u64,
    /// Counts up.
    pub sequence: u64,
}

/// The client number that no client has: a batch of nothing but a request of this client changes nothing and is the mark at
/// which replicas compare their states.
pub(crate) const COMPARISON_CLIENT: u64 = u64::MAX;

/// The id of the request that a batch belongs to, if it says.
pub(crate) fn request_of(payload: &[u8]) -> Option<RequestId> {
    let (_, first) = Records::new(payload).next()?.ok()?;
    let id = || RequestId::from_bytes(first.key);
    if first.kind == RecordKind::Request { id() } else { None }
}

/// Bytes of an encoded request id.
pub const REQUEST_ID_LEN: usize = 16;

impl RequestId {
    /// The mark at which replicas compare their states, for the `nth` time.
    pub fn comparison(nth: u64) -> Self {
        Self { client: COMPARISON_CLIENT, sequence: nth }
    }

    /// Whether it is such a mark, and no request of a client.
    pub fn is_comparison(&self) -> bool {
        self.client == COMPARISON_CLIENT
    }

    /// Both numbers, big-endian.
    pub fn to_bytes(self) -> [u8; REQUEST_ID_LEN] {
        let mut out = [0; REQUEST_ID_LEN];
        out[..8].copy_from_slice(&self.client.to_be_bytes());
        out[8..].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    /// The opposite of [`RequestId::to_bytes`]; `None` if the length is another.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (client, sequence) = bytes.split_first_chunk::<8>()?;
        let sequence: &[u8; 8] = sequence.try_into().ok()?;
        Some(Self { client: u64::from_be_bytes(*client), sequence: u64::from_be_bytes(*sequence) })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.client, self.sequence)
    }
}

/// A text that is no request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRequestId;

impl fmt::Display for InvalidRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request id is two hexadecimal numbers of up to 16 digits with a dash between")
    }
}

impl std::error::Error for InvalidRequestId {}

impl FromStr for RequestId {
    type Err = InvalidRequestId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (client, sequence) = text.split_once('-').ok_or(InvalidRequestId)?;
        let id = Self { client: hexadecimal(client)?, sequence: hexadecimal(sequence)? };
        if id.is_comparison() { Err(InvalidRequestId) } else { Ok(id) }
    }
}

/// Like `u64::from_str_radix`, which also takes a sign.
fn hexadecimal(text: &str) -> Result<u64, InvalidRequestId> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits).ok_or(InvalidRequestId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id = RequestId { client: 0x5f3a_09c1_d2e4_b687, sequence: 42 };
        assert_eq!(id.to_string(), "5f3a09c1d2e4b687-2a");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RequestId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(RequestId::from_bytes(&[0; 15]), None);
        for wrong in
            ["ffffffffffffffff-1", "", "-", "1", "1-", "-1", "g-1", "+1-1", "1--1", "11112222333344445-1"]
        {
            assert_eq!(wrong.parse::<RequestId>(), Err(InvalidRequestId), "{wrong:?}");
        }
    }
}
