//! Values and tables for people: nothing that a terminal would act on, and nothing longer than asked for.

use crate::output::printable;

/// Rows of a table that are laid out together; more follow in the same way, so that a scan needs little memory.
pub(super) const PAGE_ROWS: usize = 100;
/// A column of keys is at most so wide; longer keys push their own line aside.
const KEY_WIDTH_MAX: usize = 40;

/// A value, cut after `cut` bytes with a note that says so.
pub(super) fn value(bytes: &[u8], cut: usize) -> String {
    if bytes.len() <= cut {
        return printable(bytes);
    }
    let shown = &bytes[..boundary(bytes, cut)];
    format!("{} … {} more bytes", printable(shown), bytes.len() - shown.len())
}

/// The last place up to `cut` that is not within a character.
fn boundary(bytes: &[u8], cut: usize) -> usize {
    let within = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (cut.saturating_sub(3)..=cut).rev().find(|&at| !within(at)).unwrap_or(cut)
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    /// Its value as it is shown.
    pub(super) value: String,
    pub(super) version: String,
}

/// A page of a table; the first one has a head.
pub(super) fn table(rows: &[Row], first: bool) -> String {
    let keys: Vec<_> = rows.iter().map(|row| printable(&row.key)).collect();
    let key = widest(keys.iter().map(|key| key.chars().count()), "key").min(KEY_WIDTH_MAX);
    let version = widest(rows.iter().map(|row| row.version.len()), "version");
    let mut text = String::new();
    if first {
        text += &format!("{:key$}  {:>version$}  value\n", "key", "version");
    }
    for (name, row) in keys.iter().zip(rows) {
        let line = format!("{name:key$}  {:>version$}  {}", row.version, row.value);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The width of a column with this title.
fn widest(widths: impl Iterator<Item = usize>, title: &str) -> usize {
    widths.fold(title.len(), usize::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters_and_said_to_be() {
        assert_eq!(value(b"abc", 3), "abc");
        assert_eq!(value(b"abcd", 3), "abc … 1 more bytes");
        assert_eq!(value("aüü".as_bytes(), 4), "aü … 2 more bytes");
        assert_eq!(value(b"\x80\x80\x80\x80\x80\x80", 5), "\\x80\\x80\\x80\\x80\\x80 … 1 more bytes");
        assert_eq!(value(b"\x1b[31m\n", 9), "\\x1b[31m\\n");
    }

    #[test]
    fn a_table_has_columns() {
        let row = |key: &[u8], version: u64, value: &str| Row {
            key: key.into(),
            version: version.to_string(),
            value: value.into(),
        };
        let rows = [row(b"a", 7, "x"), row("ü\n".as_bytes(), 12_345_678, "")];
        let text = "key   version  value\na           7  x\nü\\n  12345678\n";
        assert_eq!(table(&rows, true), text);
        assert_eq!(table(&rows[..1], false), "a          7  x\n");
    }
}
