//! Who may use the server, and with what it speaks TLS: settings that are read again while it runs.

use std::path::{Path, PathBuf};

use esker_server::{AccessControl, TlsControl, TlsFiles, Users, UsersFile};

use super::effective::Effective;
use crate::files;

/// The shortest `auth_token`: whoever guesses it may do everything.
const TOKEN_LEN_MIN: usize = 16;

/// What of the settings says who may come in.
#[derive(Clone, Default)]
pub(crate) struct Security {
    users_file: Option<PathBuf>,
    auth_token: Option<String>,
    tls: Option<TlsPaths>,
}

/// The files of TLS.
#[derive(Debug, Clone)]
struct TlsPaths {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl std::fmt::Debug for Security {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security")
            .field("users_file", &self.users_file)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Security {
    /// The settings of what was given; an error says which of them do not go together.
    pub(super) fn new(effective: &Effective) -> Result<Self, String> {
        let path = |name| Some(effective.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
        let source = |name| &effective.outcome(name).source;
        let auth_token = Some(effective.secret("auth_token")).filter(|token| !token.is_empty());
        if auth_token
            .is_some_and(|token| token.len() < TOKEN_LEN_MIN || !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(format!(
                "{}: `auth_token` has {TOKEN_LEN_MIN} signs of ASCII at least, without spaces: whoever guesses it may do everything",
                source("auth_token")
            ));
        }
        let client_ca = path("tls_client_ca");
        let tls = match (path("tls_certificate"), path("tls_key")) {
            (Some(certificate), Some(key)) => Some(TlsPaths { certificate, key, client_ca }),
            (None, None) if client_ca.is_none() => None,
            (certificate, _) => {
                let missing = if certificate.is_some() { "tls_key" } else { "tls_certificate" };
                return Err(format!("`{missing}` is missing: TLS takes `tls_certificate` and `tls_key`"));
            }
        };
        Ok(Self { users_file: path("users_file"), auth_token: auth_token.map(str::to_owned), tls })
    }

    /// Whether anybody has to say who it is.
    pub(crate) fn has_users(&self) -> bool {
        self.users_file.is_some() || self.auth_token.is_some()
    }

    /// Whether the fronts speak TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Who may use the server, as the files are now.
    pub(crate) fn access(&self) -> Result<AccessControl, String> {
        match self.has_users() {
            true => AccessControl::of(self.users()?).map_err(|e| e.to_string()),
            false => Ok(AccessControl::default()),
        }
    }

    /// TLS, as the files are now.
    pub(crate) fn tls(&self) -> Result<Option<TlsControl>, String> {
        let Some(paths) = &self.tls else { return Ok(None) };
        TlsControl::new(&paths.read()?)
            .map(Some)
            .map_err(|e| format!("{e} ({})", paths.certificate.display()))
    }

    /// Reads the files again. What cannot be used is told, and leaves what is in use.
    pub(crate) fn reload(&self, access: &AccessControl, tls: Option<&TlsControl>) {
        if self.users_file.is_some() {
            match self.users() {
                Ok(users) => {
                    access.replace(users);
                    tracing::info!("the users were read again");
                }
                Err(why) => tracing::error!(%why, "the users cannot be read again: those from before stay"),
            }
        }
        if let (Some(paths), Some(tls)) = (&self.tls, tls) {
            let replaced = paths.read().and_then(|files| tls.replace(&files).map_err(|e| e.to_string()));
            match replaced {
                Ok(()) => tracing::info!("the certificates were read again"),
                Err(why) => {
                    tracing::error!(%why, "the certificates cannot be read again: those from before stay")
                }
            }
        }
    }

    fn users(&self) -> Result<Users, String> {
        let file = self.users_file.as_deref().map_or_else(|| Ok(UsersFile::default()), read_users)?;
        let wrong = |e| match &self.users_file {
            Some(path) => format!("{}: {e}", path.display()),
            None => format!("{e}"),
        };
        let users = Users::new(&file).map_err(wrong)?;
        Ok(match &self.auth_token {
            Some(token) => users.with_token(token),
            None => users,
        })
    }
}

impl TlsPaths {
    fn read(&self) -> Result<TlsFiles, String> {
        let read = |path: &Path| files::read(path).map_err(|e| format!("{}: {e}", path.display()));
        Ok(TlsFiles {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }
}

/// How a file of users is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Result<Self, String> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Ok(Self::Toml),
            Some("yaml" | "yml") => Ok(Self::Yaml),
            _ => Err(format!("{}: the name of a file of users ends in .toml, .yaml or .yml", path.display())),
        }
    }
}

/// Reads a file of users. Parsers quote what they do not understand, and that may be a hash: of their errors only the place is
/// told.
pub(crate) fn read_users(path: &Path) -> Result<UsersFile, String> {
    let refuse = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let format = Format::of(path)?;
    let text = files::read_private(path).map_err(|e| refuse(&e))?;
    if text.trim().is_empty() {
        return Ok(UsersFile::default());
    }
    match format {
        Format::Toml => toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count());
            refuse(&format_args!("line {line}: {}", e.message()))
        }),
        Format::Yaml => serde_saphyr::from_str(&text).map_err(|e| {
            refuse(&format_args!(
                "is no list of users{}",
                e.location().map_or_else(String::new, |at| format!(", line {}", at.line()))
            ))
        }),
    }
}

/// Writes a file of users, which nobody else may read.
pub(crate) fn write_users(path: &Path, users: &UsersFile) -> Result<(), String> {
    let refuse = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = match Format::of(path)? {
        Format::Toml => toml::to_string(users).map_err(|e| refuse(&e))?,
        Format::Yaml => serde_saphyr::to_string(users).map_err(|e| refuse(&e))?,
    };
    files::write_private(path, text.as_bytes()).map_err(|e| refuse(&e))
}
