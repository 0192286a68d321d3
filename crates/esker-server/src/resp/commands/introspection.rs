//! COMMAND and HELP: the table, told to clients.

use super::is;
use crate::resp::{
    Args, Reply,
    glob::matches,
    refusal::{Done, Refusal, SYNTAX, lower},
    session::Session,
    table::{Argument, Keys, Kind, Spec, TABLE, place_of},
};

/// A command of the table, or a subcommand of one, by its name.
fn named(name: &[u8]) -> Option<&'static Spec> {
    let name = lower(name);
    let (parent, is_whole) = match name.split_once('|') {
        Some((parent, _)) => (parent, false),
        None => (name.as_str(), true),
    };
    let parent = TABLE[place_of(parent.as_bytes())?];
    if is_whole { Some(parent) } else { parent.subcommands().iter().find(|spec| spec.name == name) }
}

pub(crate) fn count(_session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(TABLE.len() as i64);
    Ok(())
}

/// COMMAND, COMMAND INFO [name ...].
pub(crate) fn info(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    if args.len() <= 2 {
        reply.array(TABLE.len());
        TABLE.iter().for_each(|spec| describe(spec, reply));
        return Ok(());
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match named(name) {
            Some(spec) => describe(spec, reply),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn describe(spec: &Spec, reply: &mut Reply<'_>) {
    let categories = categories(spec);
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(spec.arity.into());
    reply.set(spec.flags.len());
    spec.flags.iter().for_each(|flag| reply.simple(flag));
    let Keys { first, last, step } = spec.keys;
    [first, last, step].into_iter().for_each(|number| reply.integer(number.into()));
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(&format!("@{category}")));
    // No tips.
    reply.array(0);
    describe_keys(spec, reply);
    reply.array(spec.subcommands().len());
    spec.subcommands().iter().for_each(|sub| describe(sub, reply));
}

/// Where the keys are, as Redis 7 has it.
fn describe_keys(spec: &Spec, reply: &mut Reply<'_>) {
    let Keys { first, last, step } = spec.keys;
    if first == 0 {
        return reply.array(0);
    }
    let text = |reply: &mut Reply<'_>, text: &str| reply.bulk(text.as_bytes());
    let number = |reply: &mut Reply<'_>, name: &str, number: i32| {
        reply.bulk(name.as_bytes());
        reply.integer(number.into());
    };
    reply.array(1);
    reply.map(3);
    text(reply, "flags");
    let access: &[&str] = if spec.only_reads() { &["RO", "ACCESS"] } else { &["RW", "ACCESS", "UPDATE"] };
    reply.set(access.len());
    access.iter().for_each(|flag| reply.simple(flag));
    text(reply, "begin_search");
    reply.map(2);
    text(reply, "type");
    text(reply, "index");
    text(reply, "spec");
    reply.map(1);
    number(reply, "index", first);
    text(reply, "find_keys");
    reply.map(2);
    text(reply, "type");
    text(reply, "range");
    text(reply, "spec");
    reply.map(3);
    // Counted from the first key, or from the end.
    number(reply, "lastkey", if last < 0 { last } else { last - first });
    number(reply, "keystep", step);
    number(reply, "limit", 0);
}

/// Every category that a command may be in.
pub(super) const CATEGORIES: [&str; 10] = [
    "keyspace",
    "read",
    "write",
    "string",
    "connection",
    "transaction",
    "admin",
    "dangerous",
    "fast",
    "slow",
];

/// The commands of a category.
pub(super) fn commands_of(category: &str) -> Vec<&'static str> {
    let all = TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands()));
    all.filter(|spec| categories(spec).contains(&category)).map(|spec| spec.name).collect()
}

fn categories(spec: &Spec) -> Vec<&'static str> {
    let has = |flag: &str| spec.flags.contains(&flag);
    let mut all = Vec::new();
    match spec.family.as_str() {
        "string" => all.push("string"),
        "generic" | "esker" => all.push("keyspace"),
        "connection" => all.push("connection"),
        "transactions" => all.push("transaction"),
        _ => {}
    }
    if has("write") {
        all.push("write");
    }
    if spec.only_reads() {
        all.push("read");
    }
    if has("admin") {
        all.extend(["admin", "dangerous"]);
    } else if ["keys", "flushall", "flushdb"].contains(&spec.name) {
        all.push("dangerous");
    }
    all.push(if has("fast") { "fast" } else { "slow" });
    all
}

/// COMMAND DOCS [name ...].
pub(crate) fn docs(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let specs: Vec<&Spec> = match args.len() {
        2 => TABLE.iter().copied().collect(),
        // Names that there are none of are left out.
        _ => args.from(2).filter_map(named).collect(),
    };
    document_all(&specs, reply);
    Ok(())
}

fn document_all(specs: &[&Spec], reply: &mut Reply<'_>) {
    reply.map(specs.len());
    for spec in specs {
        reply.bulk(spec.name.as_bytes());
        let subcommands: Vec<&Spec> = spec.subcommands().iter().collect();
        let arguments = spec.arguments();
        reply.map(3 + usize::from(!arguments.is_empty()) + usize::from(!subcommands.is_empty()));
        for (name, value) in
            [("summary", spec.summary), ("since", spec.since), ("group", spec.family.as_str())]
        {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
        if !arguments.is_empty() {
            reply.bulk(b"arguments");
            document_arguments(&arguments, reply);
        }
        if !subcommands.is_empty() {
            reply.bulk(b"subcommands");
            document_all(&subcommands, reply);
        }
    }
}

/// The arguments of a command, from which redis-cli makes its hints.
fn document_arguments(arguments: &[Argument], reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| document_argument(argument, reply));
}

fn document_argument(argument: &Argument, reply: &mut Reply<'_>) {
    let (kind, inner) = match &argument.kind {
        Kind::Value(kind) => (*kind, None),
        Kind::Word => ("pure-token", None),
        Kind::OneOf(inner) => ("oneof", Some(inner)),
        Kind::Block(inner) => ("block", Some(inner)),
    };
    let mut texts = vec![("name", argument.name), ("type", kind)];
    if inner.is_none() {
        texts.push(("display_text", argument.name));
    }
    texts.extend(argument.token.map(|token| ("token", token)));
    let flags = [("optional", argument.is_optional), ("multiple", argument.is_multiple)];
    let flags: Vec<&str> = flags.into_iter().filter(|(_, is)| *is).map(|(flag, _)| flag).collect();
    reply.map(texts.len() + usize::from(!flags.is_empty()) + usize::from(inner.is_some()));
    for (name, value) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !flags.is_empty() {
        reply.bulk(b"flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    if let Some(inner) = inner {
        reply.bulk(b"arguments");
        document_arguments(inner, reply);
    }
}

/// COMMAND LIST [FILTERBY ACLCAT category | PATTERN pattern | MODULE module].
pub(crate) fn list(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let names: Vec<&str> = match args.len() {
        2 => TABLE.iter().map(|spec| spec.name).collect(),
        5 if is(args.get(2), "FILTERBY") => filtered(args.get(3), args.get(4))?,
        _ => return Err(SYNTAX),
    };
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

fn filtered(by: &[u8], value: &[u8]) -> Done<Vec<&'static str>> {
    let value = lower(value);
    let all = TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands()));
    let fits: fn(&Spec, &str) -> bool = match by {
        by if is(by, "ACLCAT") => return Ok(commands_of(&value)),
        by if is(by, "PATTERN") => |spec, pattern| matches(pattern.as_bytes(), spec.name.as_bytes()),
        by if is(by, "MODULE") => |_, _| false,
        _ => return Err(SYNTAX),
    };
    Ok(all.filter(|spec| fits(spec, &value)).map(|spec| spec.name).collect())
}

/// COMMAND GETKEYS command [argument ...].
pub(crate) fn getkeys(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let inner = args.behind(2);
    place_of(inner.name()).ok_or(Refusal::new("ERR Invalid command specified"))?;
    let (_, spec) = crate::resp::table::find(inner)
        .map_err(|_| Refusal::new("ERR Invalid number of arguments specified for command"))?;
    let keys: Vec<&[u8]> = spec.keys.of(inner).collect();
    if keys.is_empty() {
        return Err(Refusal::new("ERR The command has no key arguments"));
    }
    reply.array(keys.len());
    keys.into_iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// The subcommands of a command, a name and a summary in turn.
pub(crate) fn help(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let Some(parent) = place_of(args.name()).map(|place| TABLE[place]) else { return Err(SYNTAX) };
    let name = parent.name.to_ascii_uppercase();
    reply.array(1 + 2 * parent.subcommands().len());
    reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for spec in parent.subcommands() {
        reply.simple(format!("{} {}", spec.last_word().to_ascii_uppercase(), spec.syntax).trim_end());
        reply.simple(&format!("    {}", spec.summary));
    }
    Ok(())
}
