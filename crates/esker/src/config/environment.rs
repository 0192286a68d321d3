//! The environment's layer: variables `KV_*`.
//!
//! An unknown variable is warned about and no more: the prefix is short, and other programs may use it.

use super::{
    effective::{Given, Source},
    table::{Setting, TABLE, UNSUPPORTED, similar},
};

/// Variables with our prefix that belong to the command line, not to the server.
const CLIENT_VARIABLES: &[&str] = &["KV_ENDPOINT", "KV_CONFIG"];

/// The settings given in `variables`; adds to `warnings`.
pub(crate) fn read(
    variables: impl Iterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Vec<Given> {
    let mut found = Vec::new();
    let mut ours: Vec<_> = variables.filter(|(name, _)| name.starts_with("KV_")).collect();
    ours.sort();
    for (name, text) in ours {
        match TABLE.iter().find(|setting| setting.variable() == name) {
            Some(setting) => found.push(Given { setting, text, source: Source::Variable(name) }),
            None => warnings.extend(unknown(&name)),
        }
    }
    found
}

fn unknown(name: &str) -> Option<String> {
    let key = name.trim_start_matches("KV_").to_ascii_lowercase();
    if CLIENT_VARIABLES.contains(&name) {
        return None;
    }
    if UNSUPPORTED.contains(&key.as_str()) {
        return Some(format!("environment {name}: this version does not support it, so it has no effect"));
    }
    let meant = similar(&key).and_then(Setting::find).map(Setting::variable);
    meant.map(|meant| format!("environment {name} is not known and has no effect: did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pairs: &[(&str, &str)]) -> (Vec<Given>, Vec<String>) {
        let mut warnings = Vec::new();
        let pairs = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        (read(pairs, &mut warnings), warnings)
    }

    #[test]
    fn takes_its_own_and_leaves_the_rest() {
        let (found, warnings) =
            read_all(&[("KV_PORT", "1"), ("HOME", "/"), ("KV_ENDPOINT", "x"), ("KV_ZZZZZZ", "")]);
        assert_eq!((found.len(), found[0].setting.name, found[0].text.as_str()), (1, "port", "1"));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn says_what_has_no_effect() {
        let (_, warnings) =
            read_all(&[("KV_DATADIR", "x"), ("KV_MEMTABLE_BYTES", "3"), ("KV_VIRTUAL_NODES", "9")]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings.iter().any(|warning| warning.contains("KV_DATA_DIR?")), "{warnings:?}");
        assert!(warnings.iter().any(|warning| warning.contains("KV_MEMTABLE_BYTES: this version does not")));
    }
}
