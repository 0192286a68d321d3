//! What a command takes, asked before anything of it is done: so that a command in a transaction is refused when it is queued,
//! and neighbours that share a batch do not share a refusal. The door asks again.

use esker_engine::KeyRange;

use super::{
    Args,
    commands::{connection::hello_authenticates, scan::erange_of},
    keyspace::Need,
    refusal::{Done, NOAUTH, Refusal},
    session::user_of,
    table::{Control, Needs, Run, Spec},
};
use crate::access::{Door, Right, User};

/// What nobody needs to be known for.
const OPEN: [&str; 4] = ["auth", "hello", "quit", "reset"];
/// What concerns other connections and users.
const ADMIN: [&str; 6] = ["client|list", "client|kill", "acl|users", "acl|list", "acl|getuser", "acl|dryrun"];

/// Whether a command makes its caller another one.
pub(crate) fn authenticates(spec: &Spec, args: Args<'_>) -> bool {
    match spec.run {
        Run::Control(control) => control == Control::Auth,
        Run::Session(_) => spec.name == "hello" && hello_authenticates(args),
        _ => false,
    }
}

/// Something that a command takes of whoever runs it.
enum Demand<'a> {
    /// To be known.
    Known,
    Admin,
    Key(Right, &'a [u8]),
    Range(Right, KeyRange),
}

/// All that a command takes, in the order in which it is asked for.
fn demands<'a>(spec: &'static Spec, args: Args<'a>) -> impl Iterator<Item = Demand<'a>> {
    let writes = spec.flags.contains(&"write");
    // Whatever its answer depends on, it tells something of.
    let reads = spec.needs(args) != Need::Nothing || matches!(spec.run, Run::Control(Control::Watch));
    let known = (!OPEN.contains(&spec.name)).then_some(Demand::Known);
    let admin = ADMIN.contains(&spec.name).then_some(Demand::Admin);
    let of_key = move |key| {
        let read = reads.then_some(Demand::Key(Right::Read, key));
        read.into_iter().chain(writes.then_some(Demand::Key(Right::Write, key)))
    };
    let all_keys = (writes && spec.keys.first == 0).then(|| Demand::Range(Right::Write, KeyRange::all()));
    known.into_iter().chain(admin).chain(spec.keys.of(args).flat_map(of_key)).chain(all_keys)
}

/// Whether the caller may run a command.
pub(crate) fn permit(door: &Door, spec: &'static Spec, args: Args<'_>) -> Done {
    demands(spec, args).try_for_each(|demand| match demand {
        Demand::Known => door.may_know(spec.name).map_err(|_| NOAUTH),
        Demand::Admin => door
            .may_administer(spec.name)
            .map_err(|_| Refusal::from(format!("NOPERM {}", may_not_run(&user_of(door), spec)))),
        Demand::Key(right, key) => Ok(door.may(right, key)?),
        Demand::Range(right, range) => Ok(door.may_over(spec.name, right, &range)?),
    })
}

/// Why a user may not run a command, if so, in the words of ACL DRYRUN. Commands that walk over keys show each user what it may
/// read; those that name a range, or count, take the right to read all of it.
pub(crate) fn why_not(user: &User, spec: &'static Spec, args: Args<'_>) -> Option<String> {
    let walked = walked(spec, args).map(|range| Demand::Range(Right::Read, range));
    demands(spec, args).chain(walked).find_map(|demand| match demand {
        Demand::Known => None,
        Demand::Admin => (!user.rights.admin()).then(|| may_not_run(&user.name, spec)),
        Demand::Key(right, key) => (!user.rights.cover_key(right, key)).then(|| {
            let key = String::from_utf8_lossy(key);
            format!("User {} has no permissions to access the '{key}' key", user.name)
        }),
        Demand::Range(right, range) => {
            (!user.rights.cover(right, &range)).then(|| may_not_run(&user.name, spec))
        }
    })
}

/// The range of which all is read, if the command has one; the door asks for the right to it.
fn walked(spec: &Spec, args: Args<'_>) -> Option<KeyRange> {
    match spec.run {
        Run::Keys(Needs::Count, _) => Some(KeyRange::all()),
        Run::Walk(_) if spec.name == "erange" => Some(erange_of(args)),
        _ => None,
    }
}

fn may_not_run(user: &str, spec: &Spec) -> String {
    format!("User {user} has no permissions to run the '{}' command", spec.name)
}
