//! Where the lines typed are kept, and which.

use std::{env, path::PathBuf};

use crate::files;

/// Lines kept.
pub(super) const LINES_MAX: usize = 1000;
/// A longer line has a value in it that nobody types again.
const LINE_LEN_MAX: usize = 4096;
/// What a line that tells a secret has in it.
const SECRETS: [&str; 3] = ["password", "token", "secret"];

/// `esker/history` in the user's directory of state, made if need be; `None` if the user has none.
pub(super) fn file() -> std::io::Result<Option<PathBuf>> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let Some(dir) = state.map(|state| state.join("esker")) else { return Ok(None) };
    files::make_private_dir(&dir)?;
    let file = dir.join("history");
    files::make_private(&file)?;
    Ok(Some(file))
}

/// Whether a line is kept. One that begins with a blank is not to be, as in other shells.
pub(super) fn keeps(line: &str) -> bool {
    let lower = line.to_lowercase();
    !line.starts_with(char::is_whitespace)
        && line.len() <= LINE_LEN_MAX
        && !SECRETS.iter().any(|secret| lower.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_what_is_too_long_are_not_kept() {
        assert!(keeps("put colour/sky blue"));
        for line in [" put a b", "put user/1/Password x", "use --token abc", &"x".repeat(LINE_LEN_MAX + 1)] {
            assert!(!keeps(line), "{line}");
        }
    }
}
