//! The command line's layer: one flag for each setting, and `--config`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use super::{
    effective::{Effective, Given, Source},
    environment, file,
    kind::Kind,
    layers,
    table::{Setting, TABLE},
};
use crate::files;

/// The flags of the settings, as given.
#[derive(Debug, Default)]
pub(crate) struct ConfigArgs {
    given: Vec<Given>,
    file: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads the other layers and lays all of them over each other.
    pub(crate) fn effective(self) -> Result<Effective, String> {
        let mut warnings = Vec::new();
        let variables = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.to_string_lossy().into_owned())));
        let variables = environment::read(variables, &mut warnings);
        let lines = match &self.file {
            None => Vec::new(),
            Some(path) => {
                let text =
                    files::read_to_string(path).map_err(|e| format!("reading {}: {e}", path.display()))?;
                file::read(path, &text)?
            }
        };
        layers::merge(vec![self.given, variables, lines], warnings)
    }
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .env("KV_CONFIG")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("A file of settings, in YAML or TOML by its extension");
        TABLE.iter().map(flag).fold(command.arg(config), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.kind.placeholder())
        .action(ArgAction::Set)
        .help_heading("Settings")
        .help(format!(
            "{} [env: {}] [default: {}]",
            setting.help,
            setting.variable(),
            setting.default_text()
        ));
    match setting.kind {
        Kind::Flag => arg.num_args(0..=1).default_missing_value("true").require_equals(true),
        _ => arg,
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.given = TABLE
            .iter()
            .filter_map(|setting| {
                let text = matches.get_one::<String>(setting.name)?.clone();
                Some(Given { setting, text, source: Source::Flag(setting.flag()) })
            })
            .collect();
        Ok(())
    }
}
