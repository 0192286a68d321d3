//! Spans of requests, for distributed tracing: the server says what it did and for whom, and whoever made the process sends it
//! on. Where nobody wants to know, a request costs a branch.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName};

/// How W3C Trace Context names the header.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Takes spans.
pub trait Spans: fmt::Debug + Send + Sync {
    /// A request, or all that came together, was answered. Must not wait.
    fn record(&self, span: &RequestSpan<'_>);
}

/// What was done for a client.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestSpan<'a> {
    /// `http`, `resp`, `binary` or `grpc`.
    pub front: &'static str,
    /// As in the metrics.
    pub operation: &'static str,
    /// What the client is about, if it said so.
    pub parent: Option<TraceParent>,
    /// Since 1970.
    pub began: Duration,
    /// Up to the answer.
    pub took: Duration,
    /// HTTP's status or gRPC's code; none where only single answers of many tell.
    pub status: Option<SpanStatus>,
    /// The connection's number, as in the log.
    pub connection: u64,
    /// The number of the request on its connection, as in the log.
    pub request: u64,
    /// What the client calls the request.
    pub request_id: Option<&'a str>,
    /// How many requests came together.
    pub requests: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanStatus {
    /// HTTP's.
    Http(u16),
    /// gRPC's, as the protocol numbers it.
    Grpc(i32),
}

impl SpanStatus {
    /// Whether the server failed.
    pub fn is_failure(self) -> bool {
        // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        const FAILURES: [i32; 6] = [2, 4, 12, 13, 14, 15];
        match self {
            Self::Http(status) => status >= 500,
            Self::Grpc(code) => FAILURES.contains(&code),
        }
    }
}

/// A span of somebody else's, of which ours is a part: <https://www.w3.org/TR/trace-context/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Of everything that belongs together; never all zeros.
    pub trace_id: [u8; 16],
    /// Of the client's span; never all zeros.
    pub span_id: [u8; 8],
    /// Whether the client records it.
    pub is_sampled: bool,
}

impl TraceParent {
    /// What the headers say; a malformed one counts for none, as the recommendation wants it.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let first = given.next()?;
        given.next().is_none().then(|| Self::parse(first.as_bytes())).flatten()
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may go on behind a dash.
    fn parse(text: &[u8]) -> Option<Self> {
        const LEN: usize = 55;
        let (known, more) = text.split_at_checked(LEN)?;
        let version = hex::<1>(&known[..2])?[0];
        let fits = match version {
            0 => more.is_empty(),
            u8::MAX => false,
            _ => more.first().is_none_or(|byte| *byte == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        if !fits || !dashes {
            return None;
        }
        let (trace_id, span_id) = (hex::<16>(&known[3..35])?, hex::<8>(&known[36..52])?);
        let flags = hex::<1>(&known[53..])?[0];
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// Bytes of lower-case hexadecimal digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read() {
        let parent = TraceParent::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!(parent.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(parent.span_id[6..], [0x33, 0x31]);
        assert!(parent.is_sampled);
        assert!(!TraceParent::parse(GIVEN.replace("-01", "-00").as_bytes()).unwrap().is_sampled);
        let later = format!("01{}-more", &GIVEN[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()), Some(parent));
    }

    #[test]
    fn what_is_malformed_counts_for_none() {
        for text in [
            "",
            "00",
            &GIVEN[..54],
            &format!("{GIVEN}-"),
            &format!("{GIVEN}0"),
            &format!("ff{}", &GIVEN[2..]),
            &GIVEN.to_uppercase(),
            &GIVEN.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GIVEN.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GIVEN.replace("-b7", "_b7"),
            &GIVEN.replace("0af7", "0ag7"),
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, GIVEN.parse().unwrap());
        assert!(TraceParent::of(&headers).is_some());
        headers.append(TRACEPARENT, GIVEN.parse().unwrap());
        assert_eq!(TraceParent::of(&headers), None, "twice");
    }
}
