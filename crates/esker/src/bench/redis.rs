//! A connection to a server of the Redis protocol: as much of RESP2 as SET and GET need, with pipelining.

use std::time::Duration;

use esker_client::{Credentials, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{http::in_time, servers::Servers};

/// One connection.
pub(super) struct Redis {
    stream: BufReader<Stream>,
    request: Vec<u8>,
    line: Vec<u8>,
    value: Vec<u8>,
    timeout: Duration,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Done,
    Value,
    Nothing,
}

impl Redis {
    /// Connects, and says who we are.
    pub(super) async fn connect(servers: &Servers, turn: usize) -> Result<Self, String> {
        let stream = BufReader::new(servers.connect(turn).await?);
        let (request, line, value) = Default::default();
        let mut redis = Self { stream, request, line, value, timeout: servers.timeout };
        if let Some(credentials) = servers.credentials() {
            redis.introduce(credentials).await?;
        }
        Ok(redis)
    }

    async fn introduce(&mut self, credentials: &Credentials) -> Result<(), String> {
        match credentials {
            Credentials::Password { user, password } => {
                push_command(&mut self.request, &[b"AUTH", user.as_bytes(), password.as_bytes()]);
            }
            Credentials::Token(token) => push_command(&mut self.request, &[b"AUTH", token.as_bytes()]),
            other => return Err(format!("{other:?} cannot be shown over the Redis protocol")),
        }
        let timeout = self.timeout;
        let exchange = async {
            self.send().await?;
            self.reply().await.map(|_| ())
        };
        in_time(timeout, exchange).await
    }

    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        let timeout = self.timeout;
        self.request.clear();
        push_command(&mut self.request, &[b"GET", key]);
        let exchange = async {
            self.send().await?;
            self.reply().await
        };
        Ok(in_time(timeout, exchange).await? == Reply::Value)
    }

    /// Sets every pair, in one pipeline.
    pub(super) async fn write(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        let timeout = self.timeout;
        self.request.clear();
        pairs.iter().for_each(|(key, value)| push_command(&mut self.request, &[b"SET", key, value]));
        let exchange = async {
            self.send().await?;
            for _ in pairs {
                self.reply().await?;
            }
            Ok::<_, String>(())
        };
        in_time(timeout, exchange).await
    }

    async fn send(&mut self) -> Result<(), String> {
        let stream = self.stream.get_mut();
        stream.write_all(&self.request).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).await.map_err(|e| e.to_string())?;
        let Some(line) = self.line.strip_suffix(b"\r\n") else { return Err("the server hung up".into()) };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match line {
            [b'+' | b':', ..] => Ok(Reply::Done),
            [b'$', b'-', b'1'] | [b'_'] => Ok(Reply::Nothing),
            [b'$', length @ ..] => {
                let length: usize = text(length).parse().map_err(|_| "a malformed length".to_owned())?;
                self.value.resize(length + 2, 0);
                self.stream.read_exact(&mut self.value).await.map_err(|e| e.to_string())?;
                Ok(Reply::Value)
            }
            [b'-', message @ ..] => Err(text(message)),
            other => Err(format!("an unexpected answer: {}", text(other))),
        }
    }
}

fn push_command(request: &mut Vec<u8>, words: &[&[u8]]) {
    request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut request = Vec::new();
        push_command(&mut request, &[b"SET", b"k", b"a\r\n"]);
        assert_eq!(request, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na\r\n\r\n");
    }
}
