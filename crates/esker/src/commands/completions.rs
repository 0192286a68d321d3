//! `esker completions`.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    cli::Cli,
    exit::{Failure, output as output_error},
    output,
};

pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    // Into memory first: the generator panics where writing fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "esker", &mut script);
    let mut out = output::stdout();
    out.write_all(&script).and_then(|()| out.flush()).map_err(output_error)
}
