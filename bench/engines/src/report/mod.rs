//! Tables and plots of a results file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::run::read_lines;

mod plots;
mod summary;
mod tables;

use summary::Summary;

#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// The results, as `run` wrote them.
    results: PathBuf,
    /// A document whose part between `<!-- bench/engines: begin -->` and `<!-- bench/engines: end -->` becomes the tables
    /// (added at its end if there is none); without, they are printed.
    #[arg(long)]
    into: Option<PathBuf>,
    /// Where the plots go.
    #[arg(long)]
    plots: Option<PathBuf>,
}

const BEGIN: &str = "<!-- bench/engines: begin -->";
const END: &str = "<!-- bench/engines: end -->";

pub fn report(args: &ReportArgs) -> Result<()> {
    let summary = Summary::of(read_lines(&args.results)?);
    let mut text = tables::markdown(&summary);
    if let Some(dir) = &args.plots {
        std::fs::create_dir_all(dir)?;
        for (name, title) in plots::draw(&summary, dir)? {
            let folder = dir.file_name().and_then(|name| name.to_str()).unwrap_or("plots");
            text.push_str(&format!("![{title}]({folder}/{name})\n"));
        }
    }
    match &args.into {
        Some(document) => replace_in(document, &text),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

fn replace_in(document: &Path, text: &str) -> Result<()> {
    let old = std::fs::read_to_string(document).with_context(|| document.display().to_string())?;
    Ok(std::fs::write(document, replaced(&old, text))?)
}

fn replaced(old: &str, text: &str) -> String {
    let part = format!("{BEGIN}\n\n{}\n\n{END}", text.trim());
    match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{part}{}", &old[..begin], &old[end + END.len()..])
        }
        _ => format!("{}\n\n{part}\n", old.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_is_added_once_and_then_replaced() {
        let first = replaced("# Title\n", "one");
        assert_eq!(first, format!("# Title\n\n{BEGIN}\n\none\n\n{END}\n"));
        let more = format!("{first}\n## After\n");
        assert_eq!(replaced(&more, "two"), more.replace("one", "two"));
    }
}
