//! The table of commands in docs/resp.md.

use std::fmt::Write;

use super::table::{Family, Spec, TABLE};

/// The commands of each family, in Markdown.
fn commands() -> String {
    let mut page = String::new();
    for family in Family::ALL {
        let specs = TABLE.iter().flat_map(|spec| match spec.subcommands() {
            [] => std::slice::from_ref(*spec),
            all => all,
        });
        write!(
            page,
            "### {}\n\n| command | arguments | keys | since | |\n| --- | --- | --- | --- | --- |\n",
            family.as_str()
        )
        .and_then(|()| specs.filter(|spec| spec.family == family).try_for_each(|spec| row(&mut page, spec)))
        .expect("writing to a string cannot fail");
        page.push('\n');
    }
    page
}

fn row(page: &mut String, spec: &Spec) -> std::fmt::Result {
    let name = spec.name.replace('|', " ").to_ascii_uppercase();
    let arguments = match spec.syntax {
        "" => String::new(),
        syntax => format!("`{}`", syntax.replace('|', "\\|")),
    };
    let keys = match (spec.keys.first, spec.keys.last, spec.keys.step) {
        (0, ..) => "none".to_owned(),
        (_, -1, 2) => "every second".to_owned(),
        (_, -1, _) => "all".to_owned(),
        (first, last, _) if first == last => "one".to_owned(),
        _ => "two".to_owned(),
    };
    let summary = spec.summary.replace('|', "\\|");
    writeln!(page, "| `{name}` | {arguments} | {keys} | {} | {summary} |", spec.since)
}

#[cfg(test)]
mod tests {
    /// What this test prints goes between the two marks of the page.
    #[test]
    fn the_page_has_the_commands_of_the_table() {
        let page = include_str!("../../../../docs/resp.md");
        let told =
            page.split_once("<!-- commands -->\n\n").and_then(|(_, rest)| rest.split_once("<!-- end -->"));
        let expected = super::commands();
        let (told, _) = told.expect("the page has both marks");
        assert!(told == expected, "docs/resp.md differs from the table:\n{expected}");
    }
}
