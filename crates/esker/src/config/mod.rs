//! The server's settings: flags > environment > file > defaults.
//!
//! [`table::TABLE`] says everything about a setting once; the flags, the environment names, the file's keys,
//! `esker config`, the errors and docs/configuration.md all derive from it.

mod cli;
mod cluster;
mod effective;
mod environment;
mod file;
mod kind;
mod layers;
mod page;
mod security;
mod settings;

mod table;

pub(crate) use cli::ConfigArgs;
pub(crate) use cluster::ClusterSettings;
pub(crate) use effective::{Effective, Outcome};
pub(crate) use kind::{parse_bytes, parse_millis};
pub(crate) use page::page;
pub(crate) use security::{Security, read_users, write_users};
pub(crate) use settings::{LogFormat, Settings};
