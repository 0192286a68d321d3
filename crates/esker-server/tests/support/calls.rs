//! Calls of gRPC, each on a connection of its own, over any stream.

use bytes::Bytes;
use esker_proto::v1::GetResponse;
use h2::{RecvStream, SendStream, client::handshake};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Told {
    /// As `grpc-status` says it.
    pub(crate) code: u32,
    /// What stands for it in Esker's words, if it is an error.
    pub(crate) esker_code: String,
    /// All messages, as they came.
    pub(crate) body: Vec<u8>,
}

impl Told {
    /// The value in the answer to `Get`.
    pub(crate) fn value(&self) -> Vec<u8> {
        let answer = GetResponse::decode(&self.body[FRAME_HEAD..]).unwrap();
        answer.entry.unwrap().value.to_vec()
    }
}

/// What stands before a message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// A message as it goes over the wire.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name| Some(headers.get(name)?.to_str().unwrap().to_owned());
    Some((text("grpc-status")?.parse().unwrap(), text("esker-code").unwrap_or_default()))
}

/// A call whose answer has begun.
pub(crate) struct Opened {
    /// What the head says, if the answer is nothing but that.
    end: Option<(u32, String)>,
    answer: RecvStream,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// Calls `service/method`, and waits for the head of the answer.
pub(crate) async fn open<S>(
    stream: S,
    path: &str,
    authorization: Option<&str>,
    message: Vec<u8>,
) -> Result<Opened, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Ok(begin(stream, path, authorization, message, true).await?.0)
}

/// The status in the head of the answer to a call of a stranger whose message never comes as a whole.
pub(crate) async fn open_unfinished<S>(
    stream: S,
    path: &str,
    begun: Vec<u8>,
) -> Result<Option<(u32, String)>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (opened, _unfinished) = begin(stream, path, None, begun, false).await?;
    opened.connection.abort();
    Ok(opened.end)
}

async fn begin<S>(
    stream: S,
    path: &str,
    authorization: Option<&str>,
    message: Vec<u8>,
    is_whole: bool,
) -> Result<(Opened, SendStream<Bytes>), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = Request::post(format!("http://test/{path}"));
    let mut request = request.header("content-type", "application/grpc").header("te", "trailers");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false)?;
    // Who is refused is refused whether it comes or not.
    let _is_taken = body.send_data(message.into(), is_whole).is_ok();
    let (head, answer) = answer.await?.into_parts();
    Ok((Opened { end: status(&head.headers), answer, connection }, body))
}

impl Opened {
    /// The answer to its end.
    pub(crate) async fn finish(mut self) -> Result<Told, h2::Error> {
        let mut body = Vec::new();
        while self.end.is_none() {
            match self.answer.data().await.transpose()? {
                Some(piece) => {
                    self.answer.flow_control().release_capacity(piece.len())?;
                    body.extend_from_slice(&piece);
                }
                None => {
                    let trailers = self.answer.trailers().await?;
                    self.end = Some(trailers.as_ref().and_then(status).expect("a call ends with a status"));
                }
            }
        }
        self.connection.abort();
        let (code, esker_code) = self.end.expect("the loop ends with it");
        Ok(Told { code, esker_code, body })
    }
}

/// The same as a whole. Of an answer that goes on without end only the head is awaited.
pub(crate) async fn call<S>(
    stream: S,
    path: &str,
    authorization: Option<&str>,
    message: Vec<u8>,
) -> Result<Told, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut opened = open(stream, path, authorization, message).await?;
    if path.ends_with("/Watch") {
        opened.end.get_or_insert((0, String::new()));
    }
    opened.finish().await
}
