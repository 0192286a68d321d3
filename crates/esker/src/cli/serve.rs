//! `esker serve`, and `esker config`, which takes the same settings.

use std::path::PathBuf;

use clap::Args;

use crate::config::ConfigArgs;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Write the address served, as host:port, to this file once requests are taken
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCommandArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the manual's page about the settings
    #[arg(long, hide = true, conflicts_with = "json")]
    pub(crate) markdown: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}
