//! Errors as the API answers them: one body shape, one table of codes and statuses.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Every code with its text and HTTP status, once.
macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal;)+) => {
        /// What went wrong, told by what the caller can do. Texts are stable; statuses follow from them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as the wire spells it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
        }
    };
}

error_codes! {
    /// Another node leads the cluster: send the request where the Location header says.
    NotLeader = "not_leader", 307;
    /// The request is malformed or breaks a rule: fix it.
    BadRequest = "bad_request", 400;
    /// The request asks for something this server does not do: leave it out.
    NotSupported = "not_supported", 400;
    /// The caller did not say who it is, or what it showed is wrong.
    Unauthorized = "unauthorized", 401;
    /// The caller may not do this: it lacks the right, or is a page of another site, which may not write.
    Forbidden = "forbidden", 403;
    /// The key is absent.
    KeyNotFound = "key_not_found", 404;
    /// No such route.
    RouteNotFound = "route_not_found", 404;
    /// The route exists, but not for this method; see the Allow header.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The request did not arrive in time: send it faster.
    RequestTimeout = "request_timeout", 408;
    /// The state of the store does not allow it.
    Conflict = "conflict", 409;
    /// The value is no integer, so nothing can be added to it. Nothing was written.
    NotAnInteger = "not_an_integer", 409;
    /// The sum does not fit into a signed 64-bit integer. Nothing was written.
    Overflow = "overflow", 409;
    /// A condition of the request does not hold; the details tell the present version. Nothing was written.
    PreconditionFailed = "precondition_failed", 412;
    /// The body, the value or the batch is larger than the limit.
    PayloadTooLarge = "payload_too_large", 413;
    /// The request line is longer than the limit.
    UriTooLong = "uri_too_long", 414;
    /// The body's content type cannot be what the route takes.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The caller has too much under way: retry after the given time.
    TooManyRequests = "too_many_requests", 429;
    /// The headers are larger than the limit.
    HeadersTooLarge = "headers_too_large", 431;
    /// A defect in the server: report it.
    Internal = "internal", 500;
    /// Stored bytes are damaged: restore the file from a backup, or delete the key or write it anew.
    Damaged = "damaged", 500;
    /// The server cannot take the request now: retry after the given time.
    Unavailable = "unavailable", 503;
    /// A queue or budget is full: retry after the given time.
    Busy = "busy", 503;
    /// The connection cap is reached: retry after the given time.
    TooManyConnections = "too_many_connections", 503;
    /// The server is shutting down: retry, elsewhere or later.
    Draining = "draining", 503;
    /// The cluster has no leader now, or it does not answer; nothing was written: retry after the given time.
    NoLeader = "no_leader", 503;
    /// The write may or may not come to pass: retry it with the same Esker-Request-Id.
    OutcomeUnknown = "outcome_unknown", 503;
    /// An earlier write failed: writes are refused until the store is reopened; reads go on.
    WritesRefused = "writes_refused", 503;
    /// HTTP/1.0 cannot tell whether such an answer is whole: use HTTP/1.1.
    HttpVersionNotSupported = "http_version_not_supported", 505;
    /// The disk is full: free space; reads go on.
    DiskFull = "disk_full", 507;
    /// The index has filled the memory budget, and the write would add keys: delete some or raise the budget; overwrites, deletes
    /// and reads go on.
    MemoryFull = "memory_full", 507;
}

impl ErrorCode {
    /// The code spelled so, if this version knows it.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A code that this version does not know reads as [`ErrorCode::Internal`]: a newer server may say more.
impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Ok(Self::from_text(&text).unwrap_or(Self::Internal))
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use utoipa::{PartialSchema, ToSchema, openapi};

    use super::ErrorCode;

    impl PartialSchema for ErrorCode {
        fn schema() -> openapi::RefOr<openapi::schema::Schema> {
            openapi::ObjectBuilder::new()
                .schema_type(openapi::schema::Type::String)
                .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
                .into()
        }
    }

    impl ToSchema for ErrorCode {}
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorAnswer {
    /// The error.
    pub error: ErrorBody,
}

/// What went wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong and what to do about it.
    pub message: String,
    /// Particulars, such as the request id or the limit; null where there are none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub details: Option<serde_json::Value>,
}

impl ErrorAnswer {
    /// An error without particulars.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error: ErrorBody { code, message: message.into(), details: None } }
    }

    /// The same with particulars.
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.error.details = Some(details);
        self
    }

    /// The body's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_distinct() {
        for (at, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
            assert!(ErrorCode::ALL[..at].iter().all(|other| other.as_str() != code.as_str()));
            assert!((300..600).contains(&code.status()));
        }
    }

    #[test]
    fn the_body_has_the_promised_shape() {
        let body = ErrorAnswer::new(ErrorCode::KeyNotFound, "no such key").to_json();
        assert_eq!(body, br#"{"error":{"code":"key_not_found","message":"no such key","details":null}}"#);
        let newer: ErrorAnswer =
            serde_json::from_str(r#"{"error":{"code":"from_the_future","message":"m"}}"#).unwrap();
        assert_eq!(newer.error.code, ErrorCode::Internal);
    }
}
