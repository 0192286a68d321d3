//! The file's layer: a flat map of keys and values, in YAML or TOML by the file's extension.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::{
    effective::{Given, Source},
    table::{Setting, TABLE, UNSUPPORTED, similar},
};

/// The settings given in the text of the file at `path`.
pub(crate) fn read(path: &Path, text: &str) -> Result<Vec<Given>, String> {
    let pairs = parse(path, text)?;
    pairs.into_iter().map(|(key, value)| given(path, text, &key, value)).collect()
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Json>, String> {
    let refuse = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(text).map_err(|e| refuse(&e)),
        Some("yaml" | "yml") if is_blank(text) => Ok(Map::new()),
        Some("yaml" | "yml") => serde_saphyr::from_str(text).map_err(|e| refuse(&e)),
        _ => Err(refuse(&"the name of a configuration file ends in .yaml, .yml or .toml")),
    }
}

/// Nothing but comments: YAML reads that as null, which is no map.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

fn given(path: &Path, text: &str, key: &str, value: Json) -> Result<Given, String> {
    let line = line_of(text, key);
    let source = Source::File(path.to_owned(), line);
    let setting = Setting::find(key).ok_or_else(|| format!("{source}: {}", unknown(key)))?;
    let text = match value {
        Json::String(text) => text,
        Json::Bool(flag) => flag.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => {
            return Err(format!("{source}: `{key}` wants {}", setting.kind.allowed()));
        }
    };
    Ok(Given { setting, text, source })
}

fn unknown(key: &str) -> String {
    if UNSUPPORTED.contains(&key) {
        return format!("this version does not support `{key}`; take the line out");
    }
    match similar(key) {
        Some(meant) => format!("there is no setting `{key}`; did you mean `{meant}`?"),
        None => {
            let names: Vec<_> = TABLE.iter().map(|setting| setting.name).collect();
            format!("there is no setting `{key}`; there are {}", names.join(", "))
        }
    }
}

/// The number of the line that gives `key`, from 1; 0 where it is written in a way that is not looked for.
fn line_of(text: &str, key: &str) -> usize {
    let gives = |line: &str| {
        let rest = line.trim_start().trim_start_matches(['"', '\'']).strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with([':', '=']))
    };
    text.lines().position(gives).map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &str) -> Result<Vec<(String, String, String)>, String> {
        let found = read(Path::new(name), text)?;
        Ok(found.into_iter().map(|g| (g.setting.name.to_owned(), g.text, g.source.to_string())).collect())
    }

    #[test]
    fn yaml_and_toml_say_the_same() {
        let expected = |name: &str| {
            vec![
                ("insecure".to_owned(), "true".to_owned(), format!("file {name}:4")),
                ("port".to_owned(), "99".to_owned(), format!("file {name}:2")),
                ("segment_max_bytes".to_owned(), "64MiB".to_owned(), format!("file {name}:3")),
            ]
        };
        let yaml = "# comment\nport: 99\nsegment_max_bytes: 64MiB\n\"insecure\": true\n";
        let toml = "# comment\nport = 99\nsegment_max_bytes = \"64MiB\"\n\"insecure\" = true\n";
        for (name, text) in [("e.yaml", yaml), ("e.toml", toml)] {
            let mut found = read_as(name, text).unwrap();
            found.sort();
            assert_eq!(found, expected(name));
        }
        assert_eq!(read_as("e.yml", "---\n# nothing\n").unwrap(), []);
        assert_eq!(read_as("e.toml", "").unwrap(), []);
    }

    #[test]
    fn refusals_name_key_and_place() {
        for (name, text, parts) in [
            ("e.yaml", "\nprot: 1", &["e.yaml:2", "`prot`", "`port`"][..]),
            ("e.toml", "zzzzzzzzz = 1", &["e.toml:1", "`zzzzzzzzz`", "data_dir", "io_queue"]),
            ("e.yaml", "memtable_bytes: 3", &["e.yaml:1", "`memtable_bytes`", "does not support"]),
            ("e.yaml", "port: [1]", &["e.yaml:1", "`port`", "from 0 to 65535"]),
            ("e.yaml", "port: 1\nport: 2", &["e.yaml"]),
            ("e.yaml", "{", &["e.yaml"]),
            ("e.toml", "port = ", &["e.toml"]),
            ("e.json", "{}", &["e.json", ".toml"]),
        ] {
            let refusal = read_as(name, text).unwrap_err();
            assert!(parts.iter().all(|part| refusal.contains(part)), "{refusal}");
        }
    }
}
