//! `If-Match` and `If-None-Match` on writes: what must hold of the key (RFC 9110, section 13).

use esker_cluster::{Batch, WriteOptions};
use esker_engine::{Committed, Condition};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{access::Door, http::error::ApiError};

/// What the headers demand of the key, if anything.
pub(super) fn condition_of(headers: &HeaderMap) -> Result<Option<Condition>, ApiError> {
    let matching = only(headers, &header::IF_MATCH)?.map(if_match).transpose()?;
    let not_matching = only(headers, &header::IF_NONE_MATCH)?.map(if_none_match).transpose()?;
    match (matching, not_matching) {
        (Some(_), Some(_)) => {
            Err(ApiError::bad_request("If-Match and If-None-Match cannot both hold: give one of them"))
        }
        (matching, not_matching) => Ok(matching.or(not_matching)),
    }
}

/// The one value of a header. Who gives two has two conditions in mind.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut given = headers.get_all(name).iter();
    match (given.next(), given.next()) {
        (_, Some(_)) => Err(ApiError::bad_request(format!("the header {name} is given twice"))),
        (first, None) => Ok(first),
    }
}

fn if_match(value: &HeaderValue) -> Result<Condition, ApiError> {
    let text = value.as_bytes().trim_ascii();
    if text == b"*" {
        return Ok(Condition::Present);
    }
    let quoted = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let digits = quoted.filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let version = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    version.map(Condition::Version).ok_or_else(|| {
        let got = text.escape_ascii();
        ApiError::bad_request(format!(
            "If-Match is `{got}`: it takes one version in quotes, as in \"7\", or *"
        ))
    })
}

fn if_none_match(value: &HeaderValue) -> Result<Condition, ApiError> {
    match value.as_bytes().trim_ascii() {
        b"*" => Ok(Condition::Absent),
        other => {
            let got = other.escape_ascii();
            Err(ApiError::bad_request(format!("If-None-Match on a write is `{got}`: it takes * only")))
        }
    }
}

/// Commits a batch, if `condition` holds of the key.
pub(super) async fn write(
    door: &Door,
    mut batch: Batch,
    key: &[u8],
    condition: Option<Condition>,
    options: WriteOptions,
) -> Result<Committed, ApiError> {
    if let Some(condition) = condition {
        batch.require(key, condition)?;
    }
    applied(door.write(batch, options).await?)
}

/// What came of a batch that was applied; an error of one that was not.
pub(super) fn applied(committed: Committed) -> Result<Committed, ApiError> {
    committed.refusal().map_or(Ok(committed), |refusal| Err(refusal.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(given: &[(HeaderName, &'static str)]) -> Result<Option<Condition>, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name, HeaderValue::from_static(value));
        }
        condition_of(&headers).map_err(|e| e.into_answer().status().as_u16())
    }

    #[test]
    fn conditions_are_a_version_presence_or_absence() {
        assert_eq!(condition(&[]), Ok(None));
        for (value, expected) in [
            ("*", Condition::Present),
            (" \"7\" ", Condition::Version(7)),
            ("\"0\"", Condition::Version(0)),
            ("\"18446744073709551615\"", Condition::Version(u64::MAX)),
        ] {
            assert_eq!(condition(&[(header::IF_MATCH, value)]), Ok(Some(expected)), "{value}");
        }
        assert_eq!(condition(&[(header::IF_NONE_MATCH, "*")]), Ok(Some(Condition::Absent)));
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let wrong = [
            "",
            "7",
            "\"\"",
            "\"-1\"",
            "\"+1\"",
            "W/\"7\"",
            "\"7\", \"8\"",
            "\"x\"",
            "\"18446744073709551616\"",
        ];
        for value in wrong {
            assert_eq!(condition(&[(header::IF_MATCH, value)]), Err(400), "{value}");
        }
        assert_eq!(condition(&[(header::IF_NONE_MATCH, "\"7\"")]), Err(400));
        assert_eq!(condition(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]), Err(400));
        assert_eq!(condition(&[(header::IF_MATCH, "\"1\""), (header::IF_MATCH, "\"2\"")]), Err(400));
    }
}
