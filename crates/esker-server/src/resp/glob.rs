//! Patterns of keys: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what is meant as it is.

/// Whether the text fits the pattern. Takes time in proportion to the product of their lengths at most, whatever they are.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    // Where the last star is, and up to where it takes the text.
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match step(&pattern[at..], text[in_text]) {
            Step::Star => {
                star = Some((at + 1, in_text));
                at += 1;
            }
            Step::Fits(len) => {
                at += len;
                in_text += 1;
            }
            Step::Differs => match &mut star {
                // An earlier star need not be tried again: the last one can take all that it could.
                Some((behind, taken)) => {
                    *taken += 1;
                    (at, in_text) = (*behind, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// What all texts that fit begin with.
pub(crate) fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        rest = match rest {
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                prefix.push(*byte);
                rest
            }
        };
    }
}

/// What the beginning of a pattern says of a byte.
enum Step {
    Star,
    /// It is the byte; so much of the pattern says so.
    Fits(usize),
    Differs,
}

fn step(pattern: &[u8], byte: u8) -> Step {
    let fits = |does: bool, len| if does { Step::Fits(len) } else { Step::Differs };
    match pattern {
        [] => Step::Differs,
        [b'*', ..] => Step::Star,
        [b'?', ..] => Step::Fits(1),
        [b'[', class @ ..] => {
            let (does, len) = class_has(class, byte);
            fits(does, 1 + len)
        }
        [b'\\', escaped, ..] => fits(*escaped == byte, 2),
        [literal, ..] => fits(*literal == byte, 1),
    }
}

/// Whether a class, without its opening bracket, has a byte, and how long it is. One that is not closed ends with the
/// pattern.
fn class_has(class: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut has = false;
    loop {
        at += match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                has |= *escaped == byte;
                2
            }
            [from, b'-', to, ..] => {
                has |= (*from.min(to)..=*from.max(to)).contains(&byte);
                3
            }
            [single, ..] => {
                has |= *single == byte;
                1
            }
        };
    }
    (has != is_negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
            ("[abc", "c", true),
            ("[", "[", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxxcx", false),
            ("user:*:name", "user:7:name", true),
            ("user:*:name", "user:7:names", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// CHECKS 38: a pattern that would take a naive matcher for ever.
    #[test]
    fn no_pattern_takes_long() {
        let pattern = "a*".repeat(1000) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 20_000]));
    }

    #[test]
    fn prefixes_are_what_comes_before_the_first_wildcard() {
        for (pattern, prefix) in
            [("user:*", "user:"), ("*", ""), ("a\\*b?c", "a*b"), ("abc", "abc"), ("a[b]", "a")]
        {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }
}
