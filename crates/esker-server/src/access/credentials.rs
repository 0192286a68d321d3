//! What callers show: names with passwords, and tokens.

use std::fmt;

use http::{HeaderMap, header};
use zeroize::Zeroizing;

/// The longest that is looked at: nobody has a longer password or token.
const LEN_MAX: usize = 1024;

/// What a caller shows.
pub(crate) enum Shown<'a> {
    /// A name and a password.
    Password { name: &'a [u8], password: &'a [u8] },
    /// A token.
    Token(&'a [u8]),
}

impl fmt::Debug for Shown<'_> {
    /// Nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(***)",
            Self::Token(_) => "Token(***)",
        })
    }
}

/// What a request shows in its head. `Err`: something that cannot be read.
pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Option<Owned>, Malformed> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() || first.len() > 2 * LEN_MAX {
        return Err(Malformed);
    }
    let bytes = first.as_bytes();
    let (scheme, rest) = bytes.split_at(bytes.iter().position(|&byte| byte == b' ').ok_or(Malformed)?);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Some(Owned::Token(rest.to_vec().into())));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(Malformed);
    }
    // The password is wiped in both places.
    let mut name = Zeroizing::new(esker_wire::decode_base64(rest).map_err(|_| Malformed)?);
    let colon = name.iter().position(|&byte| byte == b':').ok_or(Malformed)?;
    let password = Zeroizing::new(name.split_off(colon + 1));
    name.truncate(colon);
    Ok(Some(Owned::Password { name, password }))
}

/// The header `Authorization` is neither `Bearer` nor `Basic` as they should be.
#[derive(Debug)]
pub(crate) struct Malformed;

/// The same as [`Shown`], decoded. Its memory is wiped when it is let go of.
pub(crate) enum Owned {
    Password { name: Zeroizing<Vec<u8>>, password: Zeroizing<Vec<u8>> },
    Token(Zeroizing<Vec<u8>>),
}

impl Owned {
    pub(crate) fn shown(&self) -> Shown<'_> {
        match self {
            Self::Password { name, password } => Shown::Password { name, password },
            Self::Token(token) => Shown::Token(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, if there is one, and a secret.
    type Pair = (Vec<u8>, Vec<u8>);

    fn parse(value: &'static str) -> Result<Option<Pair>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, http::HeaderValue::from_static(value));
        match of_headers(&headers).map_err(|_| ())? {
            None => Ok(None),
            Some(Owned::Password { name, password }) => Ok(Some((name.to_vec(), password.to_vec()))),
            Some(Owned::Token(token)) => Ok(Some((Vec::new(), token.to_vec()))),
        }
    }

    #[test]
    fn headers_carry_tokens_and_passwords() {
        assert!(matches!(of_headers(&HeaderMap::new()), Ok(None)));
        let both = |name: &str, password: &str| Ok(Some((name.into(), password.into())));
        assert_eq!(parse("Bearer abc"), both("", "abc"));
        assert_eq!(parse("bearer  abc "), both("", "abc"));
        assert_eq!(parse("Basic YXBwOnA6dw=="), both("app", "p:w"));
        assert_eq!(parse("Basic YXBwOg=="), both("app", ""));
        for wrong in ["", "Bearer", "Basic !", "Basic YXBw", "Digest x", "YXBwOnA="] {
            assert_eq!(parse(wrong), Err(()), "{wrong}");
        }
    }
}
