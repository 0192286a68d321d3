//! ACL: users and their rights, told in the words of Redis. They are changed in their file, not here.

use super::introspection::{CATEGORIES, commands_of};
use crate::{
    access::User,
    resp::{
        Args, Reply,
        permit::why_not,
        refusal::{Done, Refusal, lower},
        session::{Session, user_of},
        table::{find, place_of},
    },
};

pub(crate) fn whoami(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.bulk(user_of(&session.door).as_bytes());
    Ok(())
}

pub(crate) fn users(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let names: Vec<String> = match session.door.access.users() {
        None => vec!["default".into()],
        Some(users) => users.all().iter().map(|user| user.name.clone()).collect(),
    };
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

pub(crate) fn list(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let lines: Vec<Vec<u8>> = match session.door.access.users() {
        None => vec![b"user default on nopass ~* &* +@all".to_vec()],
        Some(users) => users.all().iter().map(|user| line(user)).collect(),
    };
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.bulk(line));
    Ok(())
}

fn line(user: &User) -> Vec<u8> {
    let mut line = format!("user {} {} ", user.name, flags(user).join(" ")).into_bytes();
    line.extend_from_slice(&keys(user));
    line.extend_from_slice(commands(user).as_bytes());
    line
}

/// Whoever shows nothing is `default`; all others show a password or a token.
fn flags(user: &User) -> &'static [&'static str] {
    if user.name == "default" && user.password.is_none() { &["on", "nopass"] } else { &["on"] }
}

/// What commands there are for it: rights are to keys, and what concerns others takes an admin.
fn commands(user: &User) -> &'static str {
    if user.rights.admin() { "+@all" } else { "+@all -@admin" }
}

/// Its rights as patterns of keys, each with a space behind it.
fn keys(user: &User) -> Vec<u8> {
    if user.rights.admin() {
        return b"~* ".to_vec();
    }
    let mut text = Vec::new();
    for (prefix, reads, writes) in user.rights.rules() {
        text.extend_from_slice(match (reads, writes) {
            (true, true) => b"~",
            (true, false) => b"%R~",
            (false, _) => b"%W~",
        });
        for &byte in prefix {
            if b"*?[]\\^".contains(&byte) {
                text.push(b'\\');
            }
            text.push(byte);
        }
        text.extend_from_slice(b"* ");
    }
    text
}

/// ACL GETUSER name; passwords are not told, nor are their hashes.
pub(crate) fn getuser(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let users = session.door.access.users();
    let user = users.as_ref().and_then(|users| users.named(std::str::from_utf8(args.get(2)).ok()?));
    let (flags, commands, keys): (&[&str], _, _) = match user {
        Some(user) => (flags(user), commands(user), keys(user)),
        // Without users there is `default`, who may do everything.
        None if users.is_none() && args.get(2) == b"default" => (&["on", "nopass"], "+@all", b"~*".to_vec()),
        None => {
            reply.null();
            return Ok(());
        }
    };
    reply.map(6);
    reply.bulk(b"flags");
    reply.array(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(0);
    reply.bulk(b"commands");
    reply.bulk(commands.as_bytes());
    reply.bulk(b"keys");
    reply.bulk(keys.trim_ascii_end());
    reply.bulk(b"channels");
    reply.bulk(b"");
    reply.bulk(b"selectors");
    reply.array(0);
    Ok(())
}

/// ACL DRYRUN username command [argument ...]: whether a user may run a command, which is not run.
pub(crate) fn dryrun(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let (name, command) = (String::from_utf8_lossy(args.get(2)), args.behind(3));
    let users = session.door.access.users();
    // Without users there is `default`, who may do everything.
    let (user, is_there) = match &users {
        None => (None, name == "default"),
        Some(users) => (users.named(&name), users.named(&name).is_some()),
    };
    if !is_there {
        return Err(format!("ERR User '{name}' not found").into());
    }
    if place_of(command.name()).is_none() {
        return Err(format!("ERR Command '{}' not found", lower(command.name())).into());
    }
    let (_, spec) = find(command)?;
    match user.and_then(|user| why_not(user, spec, command)) {
        None => reply.simple("OK"),
        Some(why) => reply.bulk(why.as_bytes()),
    }
    Ok(())
}

/// ACL CAT [category].
pub(crate) fn cat(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let names: Vec<&str> = match args.len() {
        2 => CATEGORIES.to_vec(),
        3 => {
            let category = lower(args.get(2));
            if !CATEGORIES.contains(&category.as_str()) {
                return Err(format!("ERR Unknown category '{category}'").into());
            }
            commands_of(&category)
        }
        _ => return Err(Refusal::arity("acl|cat")),
    };
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}
