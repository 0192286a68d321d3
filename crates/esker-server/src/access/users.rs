//! The users: as their file lists them, and as requests look them up.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use ring::digest;
use serde::{Deserialize, Serialize};

use super::{passwords, rights::Rights};

/// The user who shows nothing, if the file has one of this name without a password.
pub(crate) const DEFAULT: &str = "default";
/// What tokens of ours begin with: whoever finds one in the wrong place knows what it is.
const TOKEN_PREFIX: &str = "esker_";
const TOKEN_BYTES: usize = 32;
/// The longest name of a user.
const NAME_LEN_MAX: usize = 128;

/// What a file of users says.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersFile {
    /// The users, in the file's order.
    #[serde(default)]
    pub users: Vec<UserEntry>,
}

/// A user as a file lists it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// Its name. `default`, if it has no password, is whoever shows nothing.
    pub name: String,
    /// What its password hashes to, as a PHC string of argon2id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// May do everything: read and write every key, and look after the node and its cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub admin: bool,
    /// May read what is counted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub metrics: bool,
    /// What it may do to keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleEntry>,
    /// Its tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
}

/// What a user may do to the keys that begin alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// What the keys begin with; empty for all of them.
    pub prefix: String,
    /// The prefix is in base64, as it is not text.
    #[serde(default, skip_serializing_if = "is_false")]
    pub base64: bool,
    /// May read them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read: bool,
    /// May write them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub write: bool,
}

/// A token of a user.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// What its owner calls it.
    pub name: String,
    /// The SHA-256 of it, in hexadecimal digits. It has 256 random bits, so that a slow hash would protect nothing.
    pub sha256: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A fresh token: shown once, and kept as its hash.
pub struct NewToken {
    /// What its owner shows from now on.
    pub secret: String,
    /// What the file keeps.
    pub entry: TokenEntry,
}

impl NewToken {
    /// A token of this name.
    ///
    /// Errors: the system gives no random bytes.
    pub fn generate(name: &str) -> Result<Self, InvalidUsers> {
        let secret =
            format!("{TOKEN_PREFIX}{}", esker_wire::encode_base64url(&passwords::random::<TOKEN_BYTES>()?));
        let entry = TokenEntry { name: name.to_owned(), sha256: hash_token(&secret) };
        Ok(Self { secret, entry })
    }
}

/// What a file keeps of a token.
pub fn hash_token(secret: &str) -> String {
    token_hash(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a token. Looking a hash up takes no time that depends on how much of the token was guessed.
pub(crate) fn token_hash(token: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, token).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Why a list of users cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidUsers(pub(super) String);

impl fmt::Display for InvalidUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidUsers {}

/// A user, as requests find it.
pub(crate) struct User {
    pub(crate) name: String,
    /// The PHC string.
    pub(crate) password: Option<Arc<str>>,
    pub(crate) rights: Rights,
}

/// All users, as requests find them.
#[derive(Default)]
pub struct Users {
    by_name: HashMap<String, Arc<User>>,
    by_token: HashMap<[u8; 32], Arc<User>>,
}

impl fmt::Debug for Users {
    /// Without what they are known by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.by_name.len()).finish_non_exhaustive()
    }
}

/// How a caller proved to be a user. It holds as long as the file of users says the same.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Shows nothing.
    Default,
    /// The password that this PHC string is of.
    Password { name: String, phc: Arc<str> },
    /// A token with this hash.
    Token([u8; 32]),
    /// A certificate with this name.
    Certificate(String),
}

impl Users {
    /// The users of a file.
    pub fn new(file: &UsersFile) -> Result<Self, InvalidUsers> {
        let mut users = Self::default();
        file.users.iter().try_for_each(|entry| users.add(entry))?;
        Ok(users)
    }

    /// The same, and whoever shows this token may do everything.
    pub fn with_token(mut self, secret: &str) -> Self {
        let user = User { name: "token".into(), password: None, rights: Rights::all() };
        self.by_token.insert(token_hash(secret.as_bytes()), Arc::new(user));
        self
    }

    fn add(&mut self, entry: &UserEntry) -> Result<(), InvalidUsers> {
        let wrong = |what: String| InvalidUsers(format!("user `{}`: {what}", entry.name.escape_debug()));
        check_name(&entry.name).map_err(|why| wrong(why.into()))?;
        if let Some(phc) = &entry.password {
            passwords::check_hash(phc).map_err(|why| wrong(format!("`password` {why}")))?;
        }
        let rules = entry.rules.iter().map(rule).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let rights = Rights::new(rules, entry.admin, entry.metrics);
        let password = entry.password.as_deref().map(Arc::from);
        let user = Arc::new(User { name: entry.name.clone(), password, rights });
        let mut names = HashSet::new();
        for token in &entry.tokens {
            let hash = parse_hash(&token.sha256).ok_or_else(|| {
                wrong(format!("token `{}`: `sha256` takes 64 hexadecimal digits", token.name.escape_debug()))
            })?;
            if !names.insert(&token.name) || self.by_token.insert(hash, Arc::clone(&user)).is_some() {
                return Err(wrong(format!("token `{}` is there twice", token.name.escape_debug())));
            }
        }
        match self.by_name.insert(entry.name.clone(), user) {
            None => Ok(()),
            Some(_) => Err(wrong("it is there twice".into())),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// In the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<User>> {
        let mut all: Vec<_> = self.by_name.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Who shows a token.
    pub(crate) fn with_token_hash(&self, hash: &[u8; 32]) -> Option<&Arc<User>> {
        self.by_token.get(hash)
    }

    /// Whom a proof is of, if it still holds.
    pub(crate) fn proven(&self, proof: &Proof) -> Option<&Arc<User>> {
        match proof {
            Proof::Default => self.named(DEFAULT).filter(|user| user.password.is_none()),
            Proof::Password { name, phc } => {
                self.named(name).filter(|user| user.password.as_ref() == Some(phc))
            }
            Proof::Token(hash) => self.with_token_hash(hash),
            Proof::Certificate(name) => self.named(name),
        }
    }
}

/// Names are told in logs and in one line of RESP: letters without surprises.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'"' && byte != b'\\';
    match (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(
            "a name has 1 to 128 letters, digits or signs of ASCII, without space, colon, quote or backslash",
        ),
    }
}

fn rule(entry: &RuleEntry) -> Result<(Vec<u8>, bool, bool), String> {
    if !entry.read && !entry.write {
        return Err(format!(
            "the rule for `{}` allows nothing: give `read` or `write`",
            entry.prefix.escape_debug()
        ));
    }
    let prefix = match entry.base64 {
        false => entry.prefix.clone().into_bytes(),
        true => esker_wire::decode_base64(entry.prefix.as_bytes())
            .map_err(|e| format!("the prefix `{}` is {e}", entry.prefix.escape_debug()))?,
    };
    Ok((prefix, entry.read, entry.write))
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> UserEntry {
        UserEntry { name: name.into(), ..UserEntry::default() }
    }

    fn refusal(users: Vec<UserEntry>) -> String {
        Users::new(&UsersFile { users }).unwrap_err().to_string()
    }

    #[test]
    fn tokens_are_long_random_and_found_by_their_hash() {
        let (a, b) = (NewToken::generate("ci").unwrap(), NewToken::generate("ci").unwrap());
        assert_ne!(a.secret, b.secret);
        assert!(a.secret.starts_with("esker_") && a.secret.len() >= 6 + 43, "{}", a.secret.len());
        assert!(!a.entry.sha256.contains(&a.secret));
        let users = UsersFile { users: vec![UserEntry { tokens: vec![a.entry], ..entry("app") }] };
        let users = Users::new(&users).unwrap();
        assert_eq!(users.with_token_hash(&token_hash(a.secret.as_bytes())).unwrap().name, "app");
        assert!(users.with_token_hash(&token_hash(b.secret.as_bytes())).is_none());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let rule =
            |prefix: &str, base64| RuleEntry { prefix: prefix.into(), base64, read: true, write: false };
        let token = |sha256: &str| TokenEntry { name: "t".into(), sha256: sha256.into() };
        let hash = hash_token("x");
        for (users, part) in [
            (vec![entry("")], "a name has"),
            (vec![entry("a b")], "a name has"),
            (vec![entry("a"), entry("a")], "`a`: it is there twice"),
            (vec![UserEntry { password: Some("secret".into()), ..entry("a") }], "`password`"),
            (
                vec![UserEntry {
                    password: Some("$argon2id$v=19$m=4294967295,t=9,p=1$c2FsdHNhbHQ$aGFzaGhhc2g".into()),
                    ..entry("a")
                }],
                "`password`",
            ),
            (
                vec![UserEntry { rules: vec![RuleEntry { read: false, ..rule("p", false) }], ..entry("a") }],
                "allows nothing",
            ),
            (vec![UserEntry { rules: vec![rule("!", true)], ..entry("a") }], "base64"),
            (vec![UserEntry { tokens: vec![token("12")], ..entry("a") }], "64 hexadecimal digits"),
            (vec![UserEntry { tokens: vec![token(&hash), token(&hash)], ..entry("a") }], "twice"),
        ] {
            let refusal = refusal(users);
            assert!(refusal.contains(part), "{refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }
}
