//! Who is on the other end of a connection.

use std::borrow::Cow;

use esker_wire::binary::{Answer, Extras};

use crate::access::{Door, Refused, Shown};

/// The code of the answer where there is nothing to check a token against.
const NOT_CONFIGURED: &str = "AUTH_NOT_CONFIGURED";
/// The code where the token is nobody's.
const UNAUTHORIZED: &str = "UNAUTHORIZED";

/// The answer to `AUTH`, and the door from now on: that of whom the token, or `user:password`, belongs to. After one that is
/// wrong, everything stays as it was.
pub(super) async fn enter(door: &Door, shown: &[u8]) -> (Answer<&'static [u8]>, Door) {
    let refuse = |code: &'static str, message: &'static str| {
        let message = message.as_bytes();
        (Answer::Error { code: Cow::Borrowed(code), message, extras: Extras::default() }, door.clone())
    };
    if !door.access.is_locked() {
        return refuse(NOT_CONFIGURED, "the server knows no tokens: everybody who connects may do anything");
    }
    let now = door.clock().monotonic();
    let claim = match shown.iter().position(|&byte| byte == b':') {
        // One that somebody chose may have a colon.
        _ if door.access.knows_token(shown) => Shown::Token(shown),
        Some(colon) => Shown::Password { name: &shown[..colon], password: &shown[colon + 1..] },
        None => Shown::Token(shown),
    };
    match door.access.authenticate(door.arrival().clone(), claim, now).await {
        Ok(caller) => (Answer::Ok { version: 0, extras: Extras::default() }, door.with_caller(caller)),
        Err(Refused::TooOften(wait)) => {
            let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            (Answer::TryLater { retry_ms, extras: Extras::default() }, door.clone())
        }
        Err(refused @ Refused::Wrong) => refuse(UNAUTHORIZED, refused.message()),
        Err(Refused::Crowded) => {
            (Answer::TryLater { retry_ms: 1000, extras: Extras::default() }, door.clone())
        }
    }
}
