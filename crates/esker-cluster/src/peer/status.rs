//! [`PeerError`]s as gRPC statuses, both ways.

use std::{error::Error, time::Duration};

use tonic::{Code, Status};

use super::PeerError;

/// How much of an error's text is sent: headers are bounded.
const MESSAGE_BYTES: usize = 1024;

/// How long a [`PeerError::TimedOut`] waited, as metadata of the status.
const WAITED: &str = "esker-waited-us";

/// What to answer.
pub(super) fn of(error: PeerError) -> Status {
    match error {
        PeerError::Unreachable(why) => Status::unavailable(shortened(why)),
        PeerError::TimedOut(after) => timed_out(after),
        PeerError::WrongIdentity(why) => Status::failed_precondition(shortened(why)),
        PeerError::Failed(why) => Status::internal(shortened(why)),
    }
}

/// What the caller is told.
pub(super) fn error(status: &Status) -> PeerError {
    let message = status.message();
    match status.code() {
        Code::Unavailable | Code::Cancelled => PeerError::Unreachable(message.to_owned()),
        Code::DeadlineExceeded => PeerError::TimedOut(waited(status)),
        Code::FailedPrecondition => PeerError::WrongIdentity(message.to_owned()),
        Code::Internal => PeerError::Failed(message.to_owned()),
        code => PeerError::Failed(format!("{message} ({code})")),
    }
}

/// The connection, or this call's part of it, broke.
pub(super) fn broken(error: hyper::Error) -> Status {
    Status::unavailable(chain(&error))
}

/// An error with what caused it: hyper's own text is but the outermost layer.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn timed_out(after: Duration) -> Status {
    let mut status = Status::deadline_exceeded(format!("no answer within {after:?}"));
    let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(WAITED, micros.into());
    status
}

fn waited(status: &Status) -> Duration {
    let micros = status.metadata().get(WAITED).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_micros(micros.unwrap_or(0))
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_code_and_comes_back() {
        let cases = [
            (PeerError::Unreachable("gone".into()), Code::Unavailable),
            (PeerError::TimedOut(Duration::from_millis(1500)), Code::DeadlineExceeded),
            (PeerError::WrongIdentity("node 2".into()), Code::FailedPrecondition),
            (PeerError::Failed("disk".into()), Code::Internal),
        ];
        for (sent, code) in cases {
            let status = of(sent.clone());
            assert_eq!(status.code(), code);
            assert_eq!(format!("{:?}", error(&status)), format!("{sent:?}"));
        }
    }

    #[test]
    fn other_codes_say_which_they_were() {
        let told = error(&Status::out_of_range("too long"));
        assert!(matches!(&told, PeerError::Failed(why) if why.starts_with("too long (")), "{told:?}");
        assert!(matches!(error(&Status::cancelled("reset")), PeerError::Unreachable(_)));
        assert!(matches!(error(&Status::deadline_exceeded("")), PeerError::TimedOut(Duration::ZERO)));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let status = of(PeerError::Failed("é".repeat(1000) + "x"));
        assert_eq!(status.message(), "é".repeat(512));
    }
}
