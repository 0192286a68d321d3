//! docs/configuration.md, made from the table.

use std::fmt::Write;

use super::table::{Standard, TABLE, UNSUPPORTED};

const HEAD: &str = "\
# Configuration

<!-- Made from the table in crates/esker/src/config/table.rs by `esker config --markdown`; do not edit. -->

`esker serve` needs no configuration. Every setting below can be given in three places; the first that has it
counts:

1. a flag: `esker serve --port 9000`
2. an environment variable: `KV_PORT=9000 esker serve`
3. a file: `esker serve --config esker.yaml` (or `KV_CONFIG=esker.yaml`), in YAML or TOML by its extension

```yaml
# esker.yaml
port: 9000
data_dir: /var/lib/esker
wal_sync_policy: every:100
```

`esker config` takes the same flags and shows every setting's effective value and where it came from.

Sizes are whole numbers with a unit (`64MiB`, `1GB`) or of bytes; times are whole numbers with a unit (`500ms`,
`30s`, `5m`, `1h`) or of milliseconds. An unknown key in a file and a value that is not allowed are errors that name
the key, the place and what is allowed; an unknown variable `KV_*` that looks like one of these is warned about.
";

/// The page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for setting in TABLE {
        let (name, flag, variable) = (setting.name, setting.flag(), setting.variable());
        write!(page, "\n## {name}\n\n`--{flag}` · `{variable}` · `{name}:`\n\n{}\n\n", setting.help)
            .and_then(|()| writeln!(page, "- Allowed: {}", setting.kind.allowed()))
            .and_then(|()| match setting.default {
                Standard::Value(text) if !text.is_empty() => writeln!(page, "- Default: `{text}`"),
                Standard::Value(_)
                | Standard::Cores { .. }
                | Standard::HalfOfMemory
                | Standard::EighthOfMemory
                | Standard::AliasOf(_) => {
                    writeln!(page, "- Default: {}", setting.default_text())
                }
            })
            .expect("writing to a string cannot fail");
    }
    page.push_str("\n## Not supported by this version\n\n");
    page.push_str("These are refused in a file; as variables they are warned about and have no effect:\n\n");
    for name in UNSUPPORTED {
        writeln!(page, "- `{name}`").expect("writing to a string cannot fail");
    }
    page
}

#[cfg(test)]
mod tests {
    /// Made again by `cargo run -p esker -- config --markdown > docs/configuration.md`.
    #[test]
    fn the_checked_in_page_is_up_to_date() {
        let checked_in = include_str!("../../../../docs/configuration.md");
        assert!(checked_in == super::page(), "docs/configuration.md differs from the table: make it again");
    }
}
