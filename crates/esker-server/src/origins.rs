//! Which sites' pages browsers let use the server (CORS).

use std::{fmt, str::FromStr};

/// Sites, by the origin that a browser names: scheme, host, and port where it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every site.
    All,
    /// These sites; without any, none.
    These(Vec<String>),
}

impl Origins {
    /// Whether pages of this origin are let in.
    pub(crate) fn allow(&self, origin: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::These(known) => known.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin)),
        }
    }
}

/// Text that names no origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOrigins(String);

impl fmt::Display for InvalidOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no origin: write it as a browser does, as in https://example.org:8443", self.0)
    }
}

impl std::error::Error for InvalidOrigins {}

/// `*`, or origins with commas between, or nothing.
impl FromStr for Origins {
    type Err = InvalidOrigins;

    fn from_str(text: &str) -> Result<Self, InvalidOrigins> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let given = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        given.map(origin).collect::<Result<_, _>>().map(Self::These)
    }
}

fn origin(text: &str) -> Result<String, InvalidOrigins> {
    let (scheme, authority) = text.split_once("://").unwrap_or_default();
    let is_host = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte);
    match matches!(scheme, "http" | "https") && !authority.is_empty() && authority.bytes().all(is_host) {
        true => Ok(text.to_owned()),
        false => Err(InvalidOrigins(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_all_some_or_none() {
        assert!("*".parse::<Origins>().unwrap().allow(b"https://any.example"));
        assert!(!"".parse::<Origins>().unwrap().allow(b"https://any.example"));
        let some: Origins = "https://a.example, http://localhost:3000,".parse().unwrap();
        assert!(some.allow(b"https://A.example") && some.allow(b"http://localhost:3000"));
        for other in ["http://a.example", "https://a.example:444", "http://localhost", "null", ""] {
            assert!(!some.allow(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_no_browser_would_name_is_refused() {
        for wrong in
            ["a.example", "https://", "https://a/b", "ftp://a", "https://*.a", "*,https://a", "https://a b"]
        {
            assert!(wrong.parse::<Origins>().is_err(), "{wrong}");
        }
    }
}
