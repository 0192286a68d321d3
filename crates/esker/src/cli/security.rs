//! `esker user` and `esker cert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use esker_server::RuleEntry;

/// The command words behind `user`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; its password is asked for, or read from standard input
    Add {
        #[command(flatten)]
        user: UserArgs,
        /// What it may do: r, w or rw, a colon, and what the keys begin with (nothing for all keys)
        #[arg(long, value_name = "RIGHTS:PREFIX", value_parser = rule)]
        rule: Vec<RuleEntry>,
        /// It may do everything
        #[arg(long)]
        admin: bool,
        /// It may read the metrics
        #[arg(long)]
        metrics: bool,
        /// It has none: for those who show tokens or certificates, and for `default`
        #[arg(long, conflicts_with = "password_stdin")]
        no_password: bool,
    },
    /// Give a user another password
    Passwd(UserArgs),
    /// Remove a user
    Remove(UserArgs),
    /// Make a token for a user, and print it: it is not kept
    Token {
        #[command(flatten)]
        user: UserArgs,
        /// What its owner calls it
        #[arg(long, value_name = "TOKEN", default_value = "token")]
        name: String,
        /// Take the token of this name away
        #[arg(long)]
        revoke: bool,
    },
    /// List the users with their rights
    List {
        #[command(flatten)]
        file: UsersFileArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A user in a file of users.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    /// The user's name
    #[arg(value_name = "USER")]
    pub(crate) user: String,
    #[command(flatten)]
    pub(crate) file: UsersFileArgs,
    /// Read the password from standard input, up to the end of its first line
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// Which file of users.
#[derive(Debug, Args)]
pub(crate) struct UsersFileArgs {
    /// The file, .toml or .yaml
    #[arg(long, value_name = "PATH", env = "KV_USERS_FILE")]
    pub(crate) file: PathBuf,
}

/// `r:`, `w:` or `rw:` and a prefix.
fn rule(text: &str) -> Result<RuleEntry, String> {
    let (rights, prefix) = text.split_once(':').unwrap_or((text, ""));
    let (read, write) = match rights {
        "r" => (true, false),
        "w" => (false, true),
        "rw" => (true, true),
        _ => return Err("a rule is r, w or rw, a colon, and what the keys begin with, as in rw:shop/".into()),
    };
    Ok(RuleEntry { prefix: prefix.into(), base64: false, read, write })
}

/// What certificates to make.
#[derive(Debug, Args)]
pub(crate) struct CertArgs {
    /// Where to; made if there is none
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: PathBuf,
    /// A name or address of the server, beside localhost, 127.0.0.1 and ::1; a server's certificate that is there is replaced only
    /// where this is given
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// A client, which is the user of this name
    #[arg(long, value_name = "USER", default_value = "client")]
    pub(crate) client: Vec<String>,
    /// For how many days they are good
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(crate) days: u16,
}
