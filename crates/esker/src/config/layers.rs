//! Laying the layers over each other.

use super::{
    cluster,
    effective::{Effective, Given, Outcome, Source},
    kind::Value,
    table::{Setting, Standard, TABLE},
};

/// The outcome of the layers, strongest first. Every value is checked, also one that a stronger layer hides:
/// a mistake should not wait for the day the flag is left out.
pub(crate) fn merge(layers: Vec<Vec<Given>>, warnings: Vec<String>) -> Result<Effective, String> {
    let mut read_layers = Vec::new();
    for layer in layers {
        read_layers.push(read(layer)?);
    }
    let own = TABLE.iter().filter(|setting| !matches!(setting.default, Standard::AliasOf(_)));
    let outcomes = own.map(|setting| pick(setting, &read_layers)).collect();
    let mut effective = Effective { outcomes, warnings };
    cluster::place(&mut effective)?;
    Ok(effective)
}

/// The values of one layer, under the names of the settings they really set.
fn read(layer: Vec<Given>) -> Result<Vec<Outcome>, String> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for given in layer {
        let value = given
            .setting
            .kind
            .parse(&given.text)
            .map_err(|why| format!("{}: `{}`: {why}", given.source, given.setting.name))?;
        let setting = given.setting.target();
        if let Some(other) = outcomes.iter().find(|o| o.setting.name == setting.name && o.value != value) {
            let (a, b) = (&other.source, &given.source);
            return Err(format!(
                "{a} and {b} set the same thing, `{}`, to {} and {value}: give one",
                setting.name, other.value
            ));
        }
        outcomes.push(Outcome { setting, value, source: given.source });
    }
    Ok(outcomes)
}

fn pick(setting: &'static Setting, layers: &[Vec<Outcome>]) -> Outcome {
    let given = layers.iter().flatten().find(|outcome| outcome.setting.name == setting.name);
    given.cloned().unwrap_or_else(|| Outcome { setting, value: default(setting), source: Source::Default })
}

fn default(setting: &Setting) -> Value {
    match setting.default {
        Standard::Value(text) => setting.kind.parse(text).expect("a test reads every default of the table"),
        Standard::Cores { times, least, most } => {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
            Value::Count((cores * times).clamp(least, most))
        }
        Standard::HalfOfMemory => Value::Bytes(esker_log::machine::memory_bytes() / 2),
        Standard::EighthOfMemory => Value::Bytes(esker_log::machine::memory_bytes() / 8),
        Standard::AliasOf(_) => unreachable!("another name for a setting has no outcome of its own"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, text: &str, source: Source) -> Given {
        Given { setting: Setting::find(name).unwrap(), text: text.to_owned(), source }
    }

    fn flag(name: &str, text: &str) -> Given {
        given(name, text, Source::Flag(name.to_owned()))
    }

    fn variable(name: &str, text: &str) -> Given {
        given(name, text, Source::Variable(name.to_owned()))
    }

    fn line(name: &str, text: &str) -> Given {
        given(name, text, Source::File("e.yaml".into(), 1))
    }

    fn outcome(layers: [Vec<Given>; 3], name: &str) -> (String, String) {
        let effective = merge(layers.into(), Vec::new()).unwrap();
        let found = effective.outcomes.iter().find(|outcome| outcome.setting.name == name).unwrap();
        (found.value.to_string(), found.source.to_string())
    }

    #[test]
    fn each_layer_overrides_the_next() {
        let all = || [vec![flag("port", "1")], vec![variable("port", "2")], vec![line("port", "3")]];
        let [flags, variables, lines] = all();
        assert_eq!(outcome(all(), "port").0, "1");
        assert_eq!(outcome([vec![], variables, lines.clone()], "port").0, "2");
        assert_eq!(outcome([vec![], vec![], lines], "port"), ("3".to_owned(), "file e.yaml:1".to_owned()));
        assert_eq!(outcome([vec![], vec![], vec![]], "port"), ("8080".to_owned(), "default".to_owned()));
        assert_eq!(outcome([flags, vec![], vec![]], "host").1, "default");
    }

    #[test]
    fn another_name_sets_the_same_thing() {
        let by_alias =
            [vec![], vec![variable("sync_on_put", "false")], vec![line("wal_sync_policy", "every:5")]];
        assert_eq!(outcome(by_alias, "wal_sync_policy").0, "never");
        let agreeing = [vec![flag("sync_on_put", "true"), flag("wal_sync_policy", "always")], vec![], vec![]];
        assert_eq!(outcome(agreeing, "wal_sync_policy").0, "always");
        let split = vec![vec![flag("sync_on_put", "true"), flag("wal_sync_policy", "never")]];
        let refusal = merge(split, Vec::new()).unwrap_err();
        assert!(refusal.contains("--sync_on_put") && refusal.contains("--wal_sync_policy"), "{refusal}");
    }

    #[test]
    fn a_value_out_of_range_is_refused_even_where_it_is_hidden() {
        let refusal =
            merge(vec![vec![flag("port", "1")], vec![line("port", "70000")]], Vec::new()).unwrap_err();
        for part in ["e.yaml:1", "`port`", "70000", "65535"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
