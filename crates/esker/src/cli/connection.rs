//! How the client commands reach the server, and as whom.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::values::millis;

/// How the client commands reach the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The server, or some nodes of a cluster with commas between: the leader is found, and the other nodes
    #[arg(
        long,
        global = true,
        env = "KV_ENDPOINT",
        value_name = "URL[,URL...]",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) endpoint: String,
    /// How long to wait for an answer, such as 500ms or 30s [default: 30s; verify, admin and changes of a cluster's members: a day]
    #[arg(long, global = true, value_name = "TIME", value_parser = millis)]
    pub(crate) timeout: Option<u64>,
    #[command(flatten)]
    pub(crate) identity: Identity,
}

impl Connection {
    /// How long to wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        const TIMEOUT: Duration = Duration::from_secs(30);
        self.timeout.map_or(TIMEOUT, Duration::from_millis)
    }
}

/// Who the client is, and whom it trusts.
#[derive(Clone, Args)]
pub(crate) struct Identity {
    /// A token to show (flags show in the list of processes: better KV_TOKEN)
    #[arg(
        long,
        global = true,
        env = "KV_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "user_name"
    )]
    pub(crate) token: Option<String>,
    /// The user to be; its password is in KV_PASSWORD
    #[arg(id = "user_name", long = "user", global = true, env = "KV_USER", value_name = "USER")]
    pub(crate) user_name: Option<String>,
    /// The authority of the certificate of an https://, eskers:// or grpcs:// server, in PEM [default: those of the system]
    #[arg(long, global = true, env = "KV_CA", value_name = "PATH")]
    pub(crate) ca: Option<PathBuf>,
    /// The client's certificate, in PEM
    #[arg(long, global = true, env = "KV_CERT", value_name = "PATH", requires = "key_file")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert, in PEM
    #[arg(
        id = "key_file",
        long = "key",
        global = true,
        env = "KV_KEY",
        value_name = "PATH",
        requires = "cert"
    )]
    pub(crate) key_file: Option<PathBuf>,
}

impl std::fmt::Debug for Identity {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user_name)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}
