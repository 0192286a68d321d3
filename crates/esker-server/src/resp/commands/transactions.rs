//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC reads every key that its commands name at one snapshot, runs them in memory one after another, and commits what
//! they changed as one batch, on condition that no key which they read, and none that is watched, was written meanwhile.
//! If a watched key was, nothing is done; if another one was, it begins anew.

use crate::resp::{
    Args, Reply,
    execute::{ATTEMPTS_MAX, applied, note, read_point, room_for},
    keyspace::{Keyspace, Need},
    refusal::{CONTENDED, Done, Refusal},
    session::{Session, Transaction},
    table::{Needs, Run, Spec},
};

pub(crate) fn multi(session: &mut Session, reply: &mut Reply<'_>) -> Done {
    if session.transaction.is_some() {
        return Err(Refusal::new("ERR MULTI calls can not be nested"));
    }
    session.transaction = Some(Transaction::default());
    reply.simple("OK");
    Ok(())
}

pub(crate) fn discard(session: &mut Session, reply: &mut Reply<'_>) -> Done {
    if session.transaction.take().is_none() {
        return Err(Refusal::new("ERR DISCARD without MULTI"));
    }
    session.unwatch();
    reply.simple("OK");
    Ok(())
}

pub(crate) fn unwatch(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    session.unwatch();
    reply.simple("OK");
    Ok(())
}

pub(crate) async fn watch(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    if session.transaction.is_some() {
        return Err(Refusal::new("ERR WATCH inside MULTI is not allowed"));
    }
    read_point(&session.door).await?;
    for key in args.from(1) {
        let version = session.door.meta(key)?.map(|meta| meta.version);
        session.watch(key, version)?;
    }
    reply.simple("OK");
    Ok(())
}

pub(crate) async fn exec(session: &mut Session, reply: &mut Reply<'_>) -> Done {
    let Some(transaction) = session.transaction.take() else {
        return Err(Refusal::new("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut session.watched);
    session.unwatch();
    if transaction.is_spoiled {
        return Err(Refusal::new("EXECABORT Transaction discarded because of previous errors."));
    }
    let (mark, protocol) = (reply.len(), reply.protocol());
    for _ in 0..ATTEMPTS_MAX {
        let mut keyspace = read(&transaction, &watched, session).await?;
        if is_stale(&keyspace, &watched)? {
            reply.null_array();
            return Ok(());
        }
        run(&transaction, &mut keyspace, session, reply);
        let Some(batch) = keyspace.into_batch()? else { return Ok(()) };
        if applied(&session.door, batch).await? {
            return Ok(());
        }
        // What the commands were told does not hold.
        reply.rewind(mark);
        reply.speak(protocol);
        session.protocol = protocol;
    }
    Err(CONTENDED)
}

type Watched = std::collections::HashMap<Vec<u8>, Option<esker_engine::Version>>;

/// What a command reads. In a transaction all of it is read at one snapshot, which gives values.
fn need_of(spec: &Spec, args: Args<'_>) -> Need {
    match spec.needs(args) {
        Need::Nothing => Need::Nothing,
        Need::Presence | Need::Values => Need::Values,
    }
}

async fn read(transaction: &Transaction, watched: &Watched, session: &Session) -> Done<Keyspace> {
    let door = &session.door;
    read_point(door).await?;
    let mut keys: Vec<(&[u8], Need)> = Vec::new();
    let mut counts = false;
    for (spec, args) in transaction.commands() {
        let need = need_of(spec, args);
        keys.extend(spec.keys.of(args).map(|key| (key, need)));
        counts |= matches!(spec.run, Run::Keys(Needs::Count, _));
    }
    keys.extend(watched.keys().map(|key| (key.as_slice(), Need::Values)));
    let keyspace = Keyspace::read(door, keys, || room_for(door)).await?;
    Ok(if counts { keyspace.with_count(door.count_keys()?) } else { keyspace })
}

fn is_stale(keyspace: &Keyspace, watched: &Watched) -> Done<bool> {
    for (key, version) in watched {
        if keyspace.version(key)? != *version {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs the commands, answering each; one that fails does not hinder the others.
fn run(transaction: &Transaction, keyspace: &mut Keyspace, session: &mut Session, reply: &mut Reply<'_>) {
    reply.array(transaction.len());
    for (spec, args) in transaction.commands() {
        let mark = reply.len();
        let done = match &spec.run {
            Run::Keys(_, run) => run(keyspace, args, reply),
            Run::Session(run) => run(session, args, reply),
            // None of these is queued.
            Run::Walk(_) | Run::Control(_) | Run::Parent(_) => {
                Err(Refusal::new("ERR Command not allowed inside a transaction"))
            }
        };
        if let Err(refusal) = done {
            note(&session.door, &refusal);
            reply.rewind(mark);
            reply.error(refusal.text());
        }
    }
}
