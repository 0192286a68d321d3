//! `esker config`.

use std::io::Write;

use serde_json::json;

use crate::{
    cli::ConfigCommandArgs,
    config::{self, Effective, Settings},
    exit::{Failure, output as output_error},
    output,
};

pub(super) fn run(args: ConfigCommandArgs) -> Result<(), Failure> {
    if args.markdown {
        let mut out = output::stdout();
        return out.write_all(config::page().as_bytes()).and_then(|()| out.flush()).map_err(output_error);
    }
    let effective = args.config.effective().map_err(Failure::Usage)?;
    effective.warn();
    // What the server would refuse is refused here too, in the same words.
    Settings::new(&effective).map_err(Failure::Usage)?;
    match args.json {
        true => print_json(&effective),
        false => print(&effective),
    }
}

fn print(effective: &Effective) -> Result<(), Failure> {
    let mut out = output::stdout();
    let width = |text: fn(&config::Outcome) -> String| {
        effective.outcomes.iter().map(|o| text(o).len()).max().unwrap_or(0)
    };
    let names = width(|outcome| outcome.setting.name.to_owned());
    let values = width(|outcome| outcome.value.to_string());
    for outcome in &effective.outcomes {
        let (name, value, source) = (outcome.setting.name, outcome.value.to_string(), &outcome.source);
        writeln!(out, "{name:names$}  {value:values$}  {source}").map_err(output_error)?;
    }
    out.flush().map_err(output_error)
}

fn print_json(effective: &Effective) -> Result<(), Failure> {
    let settings: serde_json::Map<_, _> = effective
        .outcomes
        .iter()
        .map(|outcome| {
            let value = json!({ "value": outcome.value.to_string(), "source": outcome.source.to_string() });
            (outcome.setting.name.to_owned(), value)
        })
        .collect();
    output::json(&settings)
}
