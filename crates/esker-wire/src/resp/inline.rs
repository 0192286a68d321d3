//! Inline commands: a line of words with spaces between, some of them quoted, as one types it into a terminal.

use super::Commands;

/// Takes a line apart and adds its command, unless it is empty. `None` if its quotes do not match, or if there are more
/// words than `words_max`.
pub(super) fn split(line: &[u8], words_max: usize, commands: &mut Commands) -> Option<()> {
    let start = commands.unquoted().len();
    let mut lens = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let before = commands.unquoted().len();
        let taken = (lens.len() < words_max).then(|| word(rest, commands.unquoted()))?;
        let Some(taken) = taken else {
            commands.unquoted().truncate(start);
            return None;
        };
        lens.push(commands.unquoted().len() - before);
        rest = rest[taken..].trim_ascii_start();
    }
    if !lens.is_empty() {
        commands.push_inline(start, &lens);
    }
    Some(())
}

/// Reads one word; says how much of the text it takes. `None` if a quote is not closed, or something follows it.
fn word(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += match byte {
            byte if is_space(byte) => break,
            b'"' => closed(text, at + double_quoted(&text[at..], out)?, at)?,
            b'\'' => closed(text, at + single_quoted(&text[at..], out)?, at)?,
            byte => {
                out.push(byte);
                1
            }
        };
    }
    Some(at)
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// How long a quoted part is that ends at `end`: a space follows it, or nothing.
fn closed(text: &[u8], end: usize, start: usize) -> Option<usize> {
    text.get(end).is_none_or(|byte| is_space(*byte)).then_some(end - start)
}

fn single_quoted(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at..)? {
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [b'\'', ..] => return Some(at + 1),
            [byte, ..] => {
                out.push(*byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

fn double_quoted(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at..)? {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_digit(*high) << 4 | hex_digit(*low));
                at += 4;
            }
            [b'\\', byte, ..] => {
                out.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [b'"', ..] => return Some(at + 1),
            [byte, ..] => {
                out.push(*byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<Vec<u8>>> {
        let mut commands = Commands::default();
        split(line.as_bytes(), 10, &mut commands)?;
        Some(match commands.is_empty() {
            true => Vec::new(),
            false => commands.get(0, b"").from(0).map(<[u8]>::to_vec).collect(),
        })
    }

    #[test]
    fn lines_are_words_some_of_them_quoted() {
        for (line, expected) in [
            ("SET k v", vec!["SET", "k", "v"]),
            ("  get\t k  ", vec!["get", "k"]),
            ("", vec![]),
            (r#"a "b c" 'd e'"#, vec!["a", "b c", "d e"]),
            (r#"a "" ''"#, vec!["a", "", ""]),
            (r#""\n\r\t\x41\q\"""#, vec!["\n\r\tAq\""]),
            (r"'it\'s \n'", vec![r"it's \n"]),
            (r#"pre"fix""#, vec!["prefix"]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(words(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn quotes_that_do_not_match_are_refused() {
        for line in [r#"a "b"#, "a 'b", r#""a"b"#, "'a'b", r#""a\"#, r"'a\'"] {
            assert_eq!(words(line), None, "{line}");
        }
        assert_eq!(words("1 2 3 4 5 6 7 8 9 10 11"), None, "too many");
    }
}
