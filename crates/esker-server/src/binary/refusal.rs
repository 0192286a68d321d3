//! Errors as answers.

use std::time::Duration;

use esker_wire::{
    ErrorCode,
    binary::{Answer, Extras},
    kv::PreconditionDetails,
};

use crate::http::ApiError;

/// When to ask again if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// When to ask another node, which costs this one nothing.
const RETRY_ELSEWHERE: Duration = Duration::from_millis(20);

/// What a request is answered that was not done. `more`: whether the client reads extra words.
pub(super) fn answer(error: &ApiError, more: bool) -> Answer<&[u8]> {
    let body = error.body();
    let after = error.retry_after().unwrap_or(match body.code {
        ErrorCode::NotLeader => RETRY_ELSEWHERE,
        _ => RETRY_AFTER,
    });
    let retry_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    if nothing_was_done(body.code) {
        return try_later(retry_ms, body.code, more);
    }
    let version = || {
        let details = body.details.clone().filter(|_| body.code == ErrorCode::PreconditionFailed)?;
        serde_json::from_value::<PreconditionDetails>(details).ok()?.version
    };
    let extras = match more {
        false => Extras::default(),
        true => Extras {
            version: version(),
            retry: (body.code == ErrorCode::OutcomeUnknown).then_some(retry_ms),
            ..Extras::default()
        },
    };
    let code = body.code.as_str().to_ascii_uppercase();
    Answer::Error { code: code.into(), message: body.message.as_bytes(), extras }
}

/// The answer to what may well be done a little later, or by another node.
pub(super) fn try_later<B>(retry_ms: u64, code: ErrorCode, more: bool) -> Answer<B> {
    let code = more.then_some(code);
    Answer::TryLater { retry_ms, extras: Extras { code, ..Extras::default() } }
}

/// Whether it says that nothing was done, and that it will not stay so.
fn nothing_was_done(code: ErrorCode) -> bool {
    use ErrorCode::{Busy, Draining, NoLeader, NotLeader, TooManyRequests, Unavailable};
    matches!(code, Busy | Draining | NoLeader | NotLeader | TooManyRequests | Unavailable)
}

#[cfg(test)]
mod tests {
    use esker_wire::binary::write_answer;

    use super::*;

    fn written(error: impl Into<ApiError>, more: bool) -> String {
        let mut out = Vec::new();
        write_answer(&mut out, &answer(&error.into(), more));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_may_be_done_later_is_told_from_what_may_not() {
        use esker_cluster::Error;
        let retry_after = Duration::from_millis(70);
        assert_eq!(written(Error::NoLeader { retry_after }, false), "TRY_LATER 70\n");
        assert_eq!(written(Error::NoLeader { retry_after }, true), "TRY_LATER 70 code=NO_LEADER\n");
        let busy = || Error::Engine(esker_engine::Error::Busy { retry_after });
        assert_eq!(written(busy(), true), "TRY_LATER 70 code=BUSY\n");
        let elsewhere = Error::NotLeader { leader: 2, http_address: "h:1".into() };
        assert_eq!(written(elsewhere, true), "TRY_LATER 20 code=NOT_LEADER\n");
        let unknown = written(Error::OutcomeUnknown("why".into()), true);
        assert!(unknown.starts_with("ERR OUTCOME_UNKNOWN ") && unknown.contains(" retry=50\n"), "{unknown}");
        let refused = written(Error::Engine(esker_engine::Error::Poisoned("why".into())), false);
        assert!(refused.starts_with("ERR WRITES_REFUSED "), "{refused}");
        let condition = || esker_engine::Refusal::Condition(Some(7));
        assert!(written(condition(), true).starts_with("ERR PRECONDITION_FAILED 52 version=7\n"));
        assert!(written(condition(), false).starts_with("ERR PRECONDITION_FAILED 52\n"));
    }
}
