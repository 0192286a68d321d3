//! Opening connections: TLS where the endpoint asks for it, then who the client is, before anything else.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use esker_wire::binary::{Answer, AnswerParser};
use hyper::Uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::failure::{refusal, unexpected};
use crate::{
    Credentials, Error, Result, Settings, connect::Dialer, endpoints::Endpoint, error::OTHER_PORT,
    stream::Stream,
};

/// The answer to `AUTH` has a line and a sentence.
const ANSWER_BYTES: usize = 1 << 10;

/// How connections are opened.
pub(super) struct Opener {
    connect_timeout: Duration,
    dialer: Dialer,
    /// Says who one is, as a whole request.
    introduction: Option<Vec<u8>>,
}

impl fmt::Debug for Opener {
    /// Without what is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_introduced = self.introduction.is_some();
        f.debug_struct("Opener").field("is_introduced", &is_introduced).finish_non_exhaustive()
    }
}

impl Opener {
    /// `uses_tls`: whether any endpoint asks for it.
    pub(super) fn new(settings: &Settings, uses_tls: bool) -> Result<Self> {
        if !uses_tls {
            // What cannot be used is told all the same.
            settings.tls.config(false)?;
        }
        let dialer = Dialer::new(uses_tls.then_some(&settings.tls))?;
        let introduction = settings.credentials.as_ref().map(Credentials::auth).transpose()?;
        Ok(Self { connect_timeout: settings.connect_timeout, dialer, introduction })
    }

    /// A connection whose other end knows who this is. Whoever calls gives it a time-out: a password takes its time.
    ///
    /// Errors: as those of answers, if the server does not want us.
    pub(super) async fn open(&self, endpoint: &Endpoint) -> Result<Stream> {
        let unreachable =
            |e: io::Error| Error::Unreachable { endpoint: endpoint.clone(), source: Arc::new(e) };
        let late = |_| unreachable(io::ErrorKind::TimedOut.into());
        let connected = timeout(self.connect_timeout, self.connect(endpoint)).await.map_err(late)?;
        let mut stream = connected.map_err(unreachable)?;
        // Nothing else was sent if that fails. Something is asked in any case: a Redis would take `DEL 5` for a command of its own,
        // and for a key.
        let introduction = self.introduction.as_deref().unwrap_or(b"PING\n");
        let answer = introduce(&mut stream, introduction).await.map_err(unreachable)??;
        if self.introduction.is_some() {
            match refusal(answer)? {
                Answer::Ok { .. } => {}
                other => return Err(unexpected(&other)),
            }
        }
        Ok(stream)
    }

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Stream> {
        let uri: Uri = endpoint.parse().map_err(io::Error::other)?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        self.dialer.connect(authority, self.connect_timeout).await
    }
}

/// Says who the client is; gives the answer, or why it is none.
async fn introduce(stream: &mut Stream, introduction: &[u8]) -> io::Result<Result<Answer>> {
    stream.write_all(introduction).await?;
    stream.flush().await?;
    let (mut parser, mut input) = (AnswerParser::default(), BytesMut::with_capacity(ANSWER_BYTES));
    loop {
        match parser.next(&mut input) {
            Err(e) => return Ok(Err(Error::Protocol(format!("{e}; {OTHER_PORT}")))),
            Ok(Some(_)) if !input.is_empty() => {
                return Ok(Err(Error::Protocol("an answer to no request".into())));
            }
            Ok(Some(answer)) => return Ok(Ok(answer)),
            Ok(None) if stream.read_buf(&mut input).await? == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_wire::binary::TOKEN_LEN_MAX;

    use super::*;

    #[test]
    fn what_cannot_be_shown_is_refused_and_not_told() {
        let error = Credentials::Token("sesame".repeat(TOKEN_LEN_MAX)).auth().unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }) && !error.to_string().contains("sesame"));
        let credentials = Some(Credentials::Token("sesame".into()));
        let settings = Settings { credentials, ..Settings::default() };
        let opener = Opener::new(&settings, false).unwrap();
        assert!(!format!("{opener:?}").contains("sesame"));
        assert_eq!(opener.introduction.as_deref(), Some(&b"AUTH 6\nsesame"[..]));
    }
}
