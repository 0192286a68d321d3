//! The text that `/metrics` gives, as numbers. Pure; a line that is none of a metric is passed over.

use std::collections::BTreeMap;

/// A metric's labels, in order of their names.
pub(super) type Labels = BTreeMap<String, String>;

/// Every number of one reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metrics(BTreeMap<String, Vec<(Labels, f64)>>);

impl Metrics {
    pub(super) fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (name, labels, value) in text.lines().filter_map(line) {
            families.entry(name).or_default().push((labels, value));
        }
        Self(families)
    }

    /// All numbers of this name.
    pub(super) fn family(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.0.get(name).into_iter().flatten().map(|(labels, value)| (labels, *value))
    }

    /// The one number of this name, 0 if there is none.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.family(name).map(|(_, value)| value).sum()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// `name{label="value",…} number`.
fn line(line: &str) -> Option<(String, Labels, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), labels, value))
}

/// Labels up to the closing brace, and what stands behind it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, value) = rest.split_once("=\"")?;
        let (value, behind) = quoted(value)?;
        labels.insert(name.to_owned(), value);
        rest = behind;
    }
}

/// A value up to its closing quote, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "# HELP a Something.\n# TYPE a counter\na_total{x=\"1\",y=\"q\\\"\\n,}\"} 7\na_total 3.5\nb_bucket{le=\"+Inf\"} 2 # {} 1\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.number("a_total"), 10.5);
        let labels: Vec<_> = metrics.family("a_total").map(|(labels, _)| labels.clone()).collect();
        assert_eq!(labels[0].get("y").map(String::as_str), Some("q\"\n,}"));
        assert_eq!(metrics.number("b_bucket"), 2.0);
        assert_eq!(metrics.number("none"), 0.0);
        assert_eq!(metrics.names().collect::<Vec<_>>(), ["a_total", "b_bucket"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _read = Metrics::parse(&text);
        }

        #[test]
        fn no_line_of_labels_makes_it_panic(text in "a\\{[a=\"\\\\,} 1ü]{0,20}") {
            let _read = Metrics::parse(&text);
        }
    }
}
