//! Query parameters: each known, given once, decoded once.

use std::{borrow::Cow, str::FromStr};

use esker_wire::percent;
use http::{HeaderMap, HeaderName, header};

use super::error::ApiError;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
}

impl<'a> Query<'a> {
    /// Reads the parameters; any that is not in `known` is an error. `+` stands for a space.
    pub(crate) fn parse(query: Option<&'a str>, known: &[&str]) -> Result<Self, ApiError> {
        Self::read(query, known, Err)
    }

    /// Reads the parameters in `known` and passes over the others.
    pub(crate) fn parse_known(query: Option<&'a str>, known: &[&str]) -> Result<Self, ApiError> {
        Self::read(query, known, |_unknown| Ok(()))
    }

    fn read(
        query: Option<&'a str>,
        known: &[&str],
        on_unknown: fn(ApiError) -> Result<(), ApiError>,
    ) -> Result<Self, ApiError> {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
            let name = match percent::decode_query(name.as_bytes())? {
                Cow::Borrowed(_) => Cow::Borrowed(name),
                Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
            };
            if !known.contains(&&*name) {
                on_unknown(ApiError::bad_request(unknown(&name, known)))?;
                continue;
            }
            if parsed.bytes(&name).is_some() {
                return Err(ApiError::bad_request(format!("the parameter `{name}` is given twice")));
            }
            // Somebody's variable that was not set, perhaps: `?prefix` is not to mean every key there is.
            let Some(value) = value else {
                let message =
                    format!("the parameter `{name}` has no value: write `{name}=` if it is to be empty");
                return Err(ApiError::bad_request(message));
            };
            parsed.pairs.push((name, percent::decode_query(value.as_bytes())?));
        }
        Ok(parsed)
    }

    /// A parameter's bytes.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// A parameter's bytes, if there are any: a key is never empty.
    pub(crate) fn key(&self, name: &str) -> Option<&[u8]> {
        self.bytes(name).filter(|bytes| !bytes.is_empty())
    }

    /// A parameter that is text of a kind; `allowed` tells what to write instead.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, ApiError> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        let text = std::str::from_utf8(bytes).ok();
        let value = text.and_then(|text| text.parse().ok());
        value.map(Some).ok_or_else(|| {
            let got = bytes.escape_ascii();
            ApiError::bad_request(format!("the parameter `{name}` is `{got}`: it takes {allowed}"))
        })
    }

    /// A parameter that is `true` or `false`; false if absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.parsed(name, "`true` or `false`")?.unwrap_or(false))
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match known {
        [] => format!("unknown parameter `{name}`: this path takes none"),
        known => format!("unknown parameter `{name}`: this path takes {}", known.join(", ")),
    }
}

/// Refuses conditions that a request does not take: doing it regardless would be worse than not doing it.
pub(crate) fn refuse_conditions(headers: &HeaderMap, conditions: &[HeaderName]) -> Result<(), ApiError> {
    match conditions.iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(ApiError::not_supported(format_args!("the header `{name}` on this request"))),
        None => Ok(()),
    }
}

/// Refuses a coded body: values are stored as they come, and nobody would decode them.
pub(crate) fn refuse_content_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => Err(ApiError::new(
            esker_wire::ErrorCode::UnsupportedMediaType,
            "a Content-Encoding is not supported: send the body uncoded",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(query: &str) -> String {
        Query::parse(Some(query), &["start", "reverse"])
            .unwrap_err()
            .into_answer()
            .extensions()
            .get::<super::super::error::ErrorNote>()
            .map(|note| format!("{} {}", note.code, note.message))
            .unwrap()
    }

    #[test]
    fn parameters_are_decoded_once() {
        let query = Query::parse(Some("start=a%2Fb+%252B&reverse=true&"), &["start", "reverse"]).unwrap();
        assert_eq!(query.bytes("start").unwrap(), b"a/b %2B");
        assert!(query.flag("reverse").unwrap());
        assert!(query.bytes("end").is_none());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(refusal("begin=a").contains("takes start, reverse"));
        assert!(refusal("start=a&start=b").contains("given twice"));
        assert!(refusal("start=%zz").contains("hex digits"));
        assert!(refusal("reverse=true&start").contains("`start` has no value"));
    }
}
