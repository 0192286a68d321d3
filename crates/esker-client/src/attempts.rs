//! The attempts of one request: whom to ask, for how long, and when again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Error, Result, Settings,
    endpoints::{Endpoint, Endpoints},
    random,
};

/// Redirects followed at a stretch; nodes that send us around longer disagree, and are given time to agree.
const REDIRECTS_MAX: u32 = 4;
/// The slowest that a body is taken to arrive while an attempt's time is short, in bytes a second.
const BODY_BYTES_PER_SECOND: u64 = 1 << 20;

/// What a request is, as far as its attempts are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Manner {
    pub(crate) is_write: bool,
    /// It takes its time: silence says nothing about the server.
    pub(crate) patient: bool,
    /// It has no request id: not to be sent again when nobody knows whether it was done.
    pub(crate) once: bool,
    pub(crate) body_len: usize,
}

pub(crate) struct Attempts<'a> {
    settings: &'a Settings,
    endpoints: &'a Endpoints,
    manner: Manner,
    start: Instant,
    endpoint: Endpoint,
    /// Servers that failed since the last one of them was given time.
    failed: usize,
    /// Times that every server was asked, from 1.
    round: u32,
    /// At a stretch.
    redirects: u32,
    /// What was last heard, or waited for in vain, of a server that is there.
    heard: Option<Error>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(settings: &'a Settings, endpoints: &'a Endpoints, manner: Manner) -> Self {
        let (start, endpoint) = (Instant::now(), endpoints.preferred());
        Self { settings, endpoints, manner, start, endpoint, failed: 0, round: 1, redirects: 0, heard: None }
    }

    /// Whom to ask now.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How long to wait for the head of the answer.
    ///
    /// Where another server can be asked in place of one that is silent, that is short at first, and twice as long in every
    /// round: if it is the work that takes long, it gets its time in the end. The last attempt gets all of it.
    pub(crate) fn limit(&self) -> Duration {
        let (settings, retry) = (self.settings, &self.settings.retry);
        let whole = settings.request_timeout;
        let resent = retry.resends(self.manner.is_write)
            && !self.manner.patient
            && !self.manner.once
            && !retry.within.is_zero();
        if !resent || self.endpoints.count() < 2 {
            return whole;
        }
        let body = Duration::from_millis(self.manner.body_len as u64 * 1000 / BODY_BYTES_PER_SECOND);
        let limit = settings.attempt_timeout.saturating_mul(1 << (self.round - 1).min(16)) + body;
        match self.start.elapsed() + limit > retry.within {
            true => whole,
            false => limit.min(whole),
        }
    }

    /// Gives an answer back; after an error, waits until the next attempt is due, if there is to be one.
    pub(crate) async fn settle<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(answer) => {
                self.endpoints.answered(&self.endpoint);
                Ok(Some(answer))
            }
            Err(error) => self.after(error).await.map(|()| None),
        }
    }

    fn wants(&self, error: &Error, others: bool) -> bool {
        let unknown = matches!(
            error,
            Error::Interrupted { .. } | Error::TimedOut { .. } | Error::OutcomeUnknown { .. }
        );
        let forbidden = self.manner.once && unknown;
        !forbidden && self.settings.retry.wants(error, self.manner.is_write, others)
    }

    /// Where somebody was there, that others were not neither ends the attempts nor is what the caller has to know.
    fn what_counts(&mut self, error: Error, others: bool) -> Error {
        match (&error, &self.heard) {
            (Error::Unreachable { .. }, Some(heard)) if !others => heard.clone(),
            (Error::Unreachable { .. }, _) => error,
            _ => {
                self.heard = Some(error.clone());
                error
            }
        }
    }

    async fn after(&mut self, error: Error) -> Result<()> {
        if let Error::NotLeader { leader: Some(leader), .. } = &error
            && self.redirects < REDIRECTS_MAX
            && !self.settings.retry.within.is_zero()
        {
            self.redirects += 1;
            self.endpoint = self.endpoints.redirected(leader);
            return Ok(());
        }
        self.redirects = 0;
        self.failed += 1;
        let others = self.failed < self.endpoints.count();
        let retry = &self.settings.retry;
        let moves_on = error.moves_on();
        let error = self.what_counts(error, others);
        if !self.wants(&error, others) {
            return Err(error);
        }
        let elapsed = self.start.elapsed();
        let Some(pause) = retry.pause(&error, others, elapsed, self.round, random::fraction()) else {
            return Err(error);
        };
        if moves_on {
            self.endpoint = self.endpoints.after(&self.endpoint);
        }
        if !others {
            self.failed = 0;
            self.round += 1;
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use hyper::Method;

    use super::*;
    use crate::transport::Call;

    const WHOLE: Duration = Duration::from_secs(30);

    fn limit(settings: &Settings, given: &[&str], call: &Call, round: u32) -> Duration {
        let endpoints = Endpoints::new(given.iter().copied()).unwrap();
        let mut attempts = Attempts::new(settings, &endpoints, call.manner());
        attempts.round = round;
        attempts.limit()
    }

    /// A paused leader must not eat the whole window; a large body or a slow disk must not be cut off for good.
    #[test]
    fn an_attempt_is_short_only_where_another_may_follow() {
        let mut settings = Settings::default();
        let put = Call::new(Method::PUT, "/".into());
        let both = ["a:1", "b:1"];
        assert_eq!(limit(&settings, &both, &put, 1), settings.attempt_timeout);
        assert_eq!(limit(&settings, &both, &put, 3), 4 * settings.attempt_timeout);
        assert_eq!(limit(&settings, &both, &put, 9), WHOLE, "the last attempt");
        assert_eq!(limit(&settings, &both[..1], &put, 1), WHOLE, "nobody else to ask");
        let large = put.clone().with_body(Bytes::from(vec![0; 5 << 20]));
        assert_eq!(limit(&settings, &both, &large, 1), settings.attempt_timeout + Duration::from_secs(5));
        let patient = Call { patient: true, ..put.clone() };
        assert_eq!(limit(&settings, &both, &patient, 1), WHOLE);
        settings.retry.resend_writes = false;
        assert_eq!(limit(&settings, &both, &put, 1), WHOLE, "it would not be sent again");
        let get = Call::new(Method::GET, "/".into());
        assert_eq!(limit(&settings, &both, &get, 1), settings.attempt_timeout);
        settings.retry.within = Duration::ZERO;
        assert_eq!(limit(&settings, &both, &get, 1), WHOLE);
    }

    /// Without a majority one node is there and silent, and the others are gone: it is asked again, and it is what the caller is
    /// told of.
    #[tokio::test(start_paused = true)]
    async fn that_others_are_gone_does_not_end_it_where_somebody_is_there() {
        let settings = Settings::default();
        let endpoints = Endpoints::new(["a:1", "b:1"]).unwrap();
        let call = Call::new(Method::PUT, "/".into());
        let mut attempts = Attempts::new(&settings, &endpoints, call.manner());
        let mut asked = 0;
        let error = loop {
            let error = match attempts.endpoint().contains("a:1") {
                true => Error::TimedOut { after: Duration::ZERO },
                false => Error::Unreachable {
                    endpoint: attempts.endpoint().clone(),
                    source: Arc::new(std::io::Error::other("refused")),
                },
            };
            asked += 1;
            match attempts.settle::<()>(Err(error)).await {
                Ok(_) => tokio::time::advance(Duration::from_millis(500)).await,
                Err(error) => break error,
            }
        };
        assert!(asked > 4, "{asked}");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn every_server_is_asked_before_anybody_waits() {
        let settings = Settings::default();
        let endpoints = Endpoints::new(["a:1", "b:1", "c:1"]).unwrap();
        let call = Call::new(Method::GET, "/".into());
        let mut attempts = Attempts::new(&settings, &endpoints, call.manner());
        let mut asked: Vec<Endpoint> = Vec::new();
        for _ in 0..4 {
            asked.push(attempts.endpoint().clone());
            let late = Error::TimedOut { after: Duration::ZERO };
            assert!(attempts.settle::<()>(Err(late)).await.unwrap().is_none());
        }
        assert_eq!(asked, ["http://a:1", "http://b:1", "http://c:1", "http://a:1"].map(Arc::from));
        assert_eq!(attempts.round, 2);
    }
}
