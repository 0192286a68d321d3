//! Multi-get: `{"keys":["a","b"]}`, answered with an item for each, or null.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use crate::{DecodeError, decode_base64, kv::Item};

/// The most keys that one request may ask for.
pub const KEYS_MAX: usize = 10_000;

/// The body of a multi-get as a caller writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MgetRequest<'a> {
    /// The keys; with `?encoding=base64` in base64. At most 10,000.
    pub keys: Vec<Cow<'a, str>>,
}

/// The answer to a multi-get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MgetAnswer<'a> {
    /// For each key, in the order of the request, what it held; null where it was absent. All at one instant.
    pub items: Vec<Option<Item<'a>>>,
}

/// Why a multi-get is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MgetError {
    /// It is not the JSON it should be.
    Malformed(String),
    /// It asks for more than [`KEYS_MAX`] keys.
    TooLarge(String),
}

impl fmt::Display for MgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::TooLarge(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for MgetError {}

/// Reads the keys of a multi-get; `base64` says how they are written.
pub fn decode(json: &[u8], base64: bool) -> Result<Vec<Vec<u8>>, MgetError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body<'a> {
        #[serde(borrow)]
        keys: Keys<'a>,
    }
    // Serde takes an array for the fields in their order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(MgetError::Malformed("the body is not a multi-get: it is no object".into()));
    }
    let body: Body<'_> = serde_json::from_slice(json)
        .map_err(|e| MgetError::Malformed(format!("the body is not a multi-get: {e}")))?;
    if body.keys.count > KEYS_MAX {
        let why =
            format!("{} keys are asked for, the limit is {KEYS_MAX}: split the request", body.keys.count);
        return Err(MgetError::TooLarge(why));
    }
    let bytes = |(at, key): (usize, Cow<'_, str>)| -> Result<Vec<u8>, MgetError> {
        let key = match base64 {
            true => decode_base64(key.as_bytes()),
            false => Ok(key.into_owned().into_bytes()),
        };
        let key = key.and_then(|key| match key.is_empty() {
            true => Err(DecodeError::new("empty")),
            false => Ok(key),
        });
        key.map_err(|e| MgetError::Malformed(format!("key {at} is {e}")))
    };
    body.keys.kept.into_iter().enumerate().map(bytes).collect()
}

/// As many keys as are allowed, and how many there were: who asks for more holds no more memory.
struct Keys<'a> {
    kept: Vec<Cow<'a, str>>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Keys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Keys<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<Keys<'de>, A::Error> {
                #[derive(Deserialize)]
                struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut kept = Vec::new();
                while kept.len() < KEYS_MAX {
                    match keys.next_element::<Text<'de>>()? {
                        Some(Text(key)) => kept.push(key),
                        None => return Ok(Keys { count: kept.len(), kept }),
                    }
                }
                let mut count = kept.len();
                while keys.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Keys { kept, count })
            }
        }

        deserializer.deserialize_seq(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_come_in_order_as_text_or_base64() {
        assert_eq!(decode(br#"{"keys":["b","a\n","b"]}"#, false).unwrap(), [&b"b"[..], b"a\n", b"b"]);
        assert_eq!(decode(br#"{"keys":["/w==","YQ"]}"#, true).unwrap(), [&b"\xff"[..], b"a"]);
        assert!(decode(br#"{"keys":[]}"#, false).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_multi_get_is_refused() {
        let malformed = |json: &str, base64| match decode(json.as_bytes(), base64) {
            Err(MgetError::Malformed(why)) => why,
            other => panic!("{json}: {other:?}"),
        };
        for json in
            ["", "[]", r#"[["a"]]"#, "{}", r#"{"keys":"a"}"#, r#"{"keys":[1]}"#, r#"{"keys":[],"x":1}"#]
        {
            malformed(json, false);
        }
        assert!(malformed(r#"{"keys":["a",""]}"#, false).contains("key 1 is empty"));
        assert!(malformed(r#"{"keys":["*"]}"#, true).contains("key 0 is not base64"));
    }

    #[test]
    fn too_many_keys_are_too_large() {
        let body = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![r#""k""#; count].join(","));
        assert_eq!(decode(body(KEYS_MAX).as_bytes(), false).unwrap().len(), KEYS_MAX);
        assert!(matches!(decode(body(KEYS_MAX + 1).as_bytes(), false), Err(MgetError::TooLarge(_))));
    }

    proptest! {
        /// CHECKS 35.
        #[test]
        fn any_input_is_decoded_or_refused(json: Vec<u8>, base64: bool) {
            let _ = decode(&json, base64);
        }
    }
}
