//! `esker user`: looks after a file of users.

use std::io::{self, BufRead, Write};

use esker_server::{NewToken, RuleEntry, UserEntry, Users, UsersFile, hash_password};
use serde_json::json;

use crate::{
    cli::{UserArgs, UserCommand, UsersFileArgs},
    config::{read_users, write_users},
    exit::{Failure, output as output_error},
    files, output,
};

/// The longest password that is read.
const PASSWORD_LEN_MAX: usize = 1024;

pub(super) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { user, rule, admin, metrics, no_password } => add(
            &user,
            UserEntry { name: user.user.clone(), rules: rule, admin, metrics, ..UserEntry::default() },
            no_password,
        ),
        UserCommand::Passwd(args) => {
            let mut users = read(&args.file)?;
            find(&mut users, &args.user)?;
            let password = ask_password(&args)?;
            find(&mut users, &args.user)?.password = Some(password);
            write(&args.file, &users)
        }
        UserCommand::Remove(args) => {
            let mut users = read(&args.file)?;
            find(&mut users, &args.user)?;
            users.users.retain(|user| user.name != args.user);
            write(&args.file, &users)
        }
        UserCommand::Token { user, name, revoke } => token(&user, &name, revoke),
        UserCommand::List { file, .. } if !files::exists(&file.file) => {
            Err(Failure::NotFound(format!("there is no file {}", file.file.display())))
        }
        UserCommand::List { file, json } => list(&read(&file)?, json),
    }
}

/// What the file says; a file that is absent says nothing.
fn read(file: &UsersFileArgs) -> Result<UsersFile, Failure> {
    match files::exists(&file.file) {
        true => read_users(&file.file).map_err(Failure::Usage),
        false => Ok(UsersFile::default()),
    }
}

/// Writes what a server would take.
fn write(file: &UsersFileArgs, users: &UsersFile) -> Result<(), Failure> {
    Users::new(users).map_err(|e| Failure::Usage(e.to_string()))?;
    write_users(&file.file, users).map_err(Failure::Error)
}

fn find<'a>(users: &'a mut UsersFile, name: &str) -> Result<&'a mut UserEntry, Failure> {
    let found = users.users.iter_mut().find(|user| user.name == name);
    found.ok_or_else(|| Failure::NotFound(format!("there is no user `{}`", name.escape_debug())))
}

fn add(args: &UserArgs, mut entry: UserEntry, no_password: bool) -> Result<(), Failure> {
    let mut users = read(&args.file)?;
    if find(&mut users, &entry.name).is_ok() {
        let name = entry.name.escape_debug();
        return Err(Failure::Usage(format!(
            "there is a user `{name}` already: remove it first, or see passwd"
        )));
    }
    users.users.push(entry.clone());
    // Before anybody is asked for a password.
    Users::new(&users).map_err(|e| Failure::Usage(e.to_string()))?;
    if !no_password {
        entry.password = Some(ask_password(args)?);
    }
    users.users.pop();
    users.users.push(entry);
    write(&args.file, &users)
}

fn token(args: &UserArgs, name: &str, revoke: bool) -> Result<(), Failure> {
    let mut users = read(&args.file)?;
    let user = find(&mut users, &args.user)?;
    if revoke {
        let before = user.tokens.len();
        user.tokens.retain(|token| token.name != name);
        if user.tokens.len() == before {
            return Err(Failure::NotFound(format!("there is no token `{}`", name.escape_debug())));
        }
        return write(&args.file, &users);
    }
    let made = NewToken::generate(name).map_err(|e| Failure::Error(e.to_string()))?;
    user.tokens.push(made.entry);
    write(&args.file, &users)?;
    output::line(made.secret)
}

fn list(users: &UsersFile, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let all: Vec<_> = users.users.iter().map(told).collect();
        return output::json(&json!({ "users": all }));
    }
    let mut out = output::stdout();
    for user in &users.users {
        writeln!(out, "{}", line(user)).map_err(output_error)?;
    }
    out.flush().map_err(output_error)
}

/// A user without what it is known by.
fn told(user: &UserEntry) -> serde_json::Value {
    let tokens: Vec<_> = user.tokens.iter().map(|token| &token.name).collect();
    json!({
        "name": user.name, "admin": user.admin, "metrics": user.metrics, "rules": user.rules,
        "has_password": user.password.is_some(), "tokens": tokens,
    })
}

fn line(user: &UserEntry) -> String {
    let mut words = vec![user.name.clone()];
    let flags = [(user.admin, "admin"), (user.metrics, "metrics"), (user.password.is_some(), "password")];
    words.extend(flags.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word.to_owned()));
    words.extend(user.rules.iter().map(|RuleEntry { prefix, read, write, .. }| {
        let rights = [(*read, "r"), (*write, "w")].into_iter().filter(|(has, _)| *has).map(|(_, word)| word);
        format!("{}:{}", rights.collect::<String>(), prefix.escape_debug())
    }));
    words.extend(user.tokens.iter().map(|token| format!("token={}", token.name.escape_debug())));
    words.join(" ")
}

/// What is kept of a password that is typed, twice and unseen, or read from standard input.
fn ask_password(args: &UserArgs) -> Result<String, Failure> {
    let password = match args.password_stdin {
        true => read_line().map_err(Failure::doing("reading the password"))?,
        false => typed(&args.user)?,
    };
    match password.len() {
        0 => Err(Failure::Usage("the password is empty: use --no-password for a user without one".into())),
        1..=PASSWORD_LEN_MAX => hash_password(password.as_bytes()).map_err(|e| Failure::Error(e.to_string())),
        _ => Err(Failure::Usage(format!("a password has at most {PASSWORD_LEN_MAX} bytes"))),
    }
}

fn typed(user: &str) -> Result<String, Failure> {
    let ask = |what: &str| {
        files::read_unseen(what)
            .map_err(Failure::doing("asking for the password (is --password-stdin missing?)"))
    };
    let first = ask(&format!("Password for {user}: "))?;
    match ask("Once more: ")? == first {
        true => Ok(first),
        false => Err(Failure::Usage("the two are not the same: nothing was changed".into())),
    }
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), PASSWORD_LEN_MAX as u64 + 2).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
