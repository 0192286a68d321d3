//! Tables and plots of a results file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::run::read_lines;

pub mod panels;
mod plots;
mod summary;
pub mod tables;

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

/// What stands around this report's part of a document.
const PART: &str = "bench/engines";

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
        Some(document) => replace_in(document, PART, &text),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

/// Makes `text` the part of a document between `<!-- PART: begin -->` and `<!-- PART: end -->`, which is added at its end if
/// there is none.
pub fn replace_in(document: &Path, part: &str, text: &str) -> Result<()> {
    let old = std::fs::read_to_string(document).with_context(|| document.display().to_string())?;
    Ok(std::fs::write(document, replaced(&old, part, text))?)
}

fn replaced(old: &str, part: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {part}: begin -->"), format!("<!-- {part}: end -->"));
    let new = format!("{begin}\n\n{}\n\n{end}", text.trim());
    match (old.find(&begin), old.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{new}{}", &old[..from], &old[to + end.len()..]),
        _ => format!("{}\n\n{new}\n", old.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_is_added_once_and_then_replaced() {
        let first = replaced("# Title\n", "a", "one");
        assert_eq!(first, "# Title\n\n<!-- a: begin -->\n\none\n\n<!-- a: end -->\n");
        let more = replaced(&format!("{first}\n## After\n"), "b", "three");
        assert_eq!(replaced(&more, "a", "two"), more.replace("one", "two"));
        assert!(more.contains("one") && more.contains("three"));
    }
}
