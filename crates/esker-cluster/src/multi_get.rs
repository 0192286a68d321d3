//! Many keys at one snapshot.
//!
//! A few keys are looked up where the caller is, if they are in memory. What is left, because it is on the disk or because it
//! is much, goes to the I/O pool in a few parts, each of which is one job.

use std::sync::Arc;

use esker_engine::{ColdRead, Entry, Lookup, Reader, View};
use futures_util::future::try_join_all;

use crate::{
    Error, Result,
    scan::{Workers, on_pool},
};

/// So many keys are looked up at once; a runtime thread has others to serve.
const INLINE_MAX: usize = 32;
/// One caller keeps so many threads of the pool busy at most.
const PARTS_MAX: usize = 4;

/// What is still to be read: where its value goes, and how to come by it.
type Left = (usize, Source);

enum Source {
    Key(Vec<u8>),
    Cold(ColdRead),
}

/// Whether there is room for a value of so many bytes.
pub(crate) type Admit = dyn Fn(usize) -> bool + Send + Sync;

/// Looks for those keys together that will be looked up where the caller is. (A view has most of its index in common with the present.)
pub(crate) fn prefetch(reader: &Reader, keys: &[Vec<u8>]) {
    let inline: Vec<&[u8]> = keys.iter().take(INLINE_MAX).map(Vec::as_slice).collect();
    if inline.len() > 1 {
        reader.prefetch(&inline);
    }
}

/// Reads `keys` in `view`. Errors: `TooLarge` if a value is not admitted.
pub(crate) async fn read(
    view: View,
    keys: Vec<Vec<u8>>,
    admit: Arc<Admit>,
    workers: &Workers,
) -> Result<Vec<Option<Entry>>> {
    let mut entries: Vec<Option<Entry>> = Vec::new();
    entries.resize_with(keys.len(), || None);
    let mut left: Vec<Left> = Vec::new();
    for (at, key) in keys.into_iter().enumerate() {
        if at >= INLINE_MAX {
            left.push((at, Source::Key(key)));
            continue;
        }
        match view.get(&key)? {
            Lookup::Absent => {}
            Lookup::Found(entry) => entries[at] = Some(admitted(&*admit, entry)?),
            Lookup::Cold(read) => left.push((at, Source::Cold(read))),
        }
    }
    let view = Arc::new(view);
    let jobs = parts(left).into_iter().map(|part| {
        let (view, admit) = (Arc::clone(&view), Arc::clone(&admit));
        on_pool(workers, move || part.into_iter().map(|left| fetch(&view, &*admit, left)).collect())
    });
    for part in try_join_all(jobs).await? {
        let part: Vec<(usize, Option<Entry>)> = part;
        part.into_iter().for_each(|(at, entry)| entries[at] = entry);
    }
    Ok(entries)
}

/// A few parts of about the same length, none if there is nothing.
fn parts(mut left: Vec<Left>) -> Vec<Vec<Left>> {
    let len = left.len().div_ceil(PARTS_MAX).max(1);
    let mut parts = Vec::with_capacity(PARTS_MAX);
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(len));
        parts.push(std::mem::replace(&mut left, rest));
    }
    parts
}

/// Reads one value, waiting for the disk.
fn fetch(view: &View, admit: &Admit, (at, source): Left) -> Result<(usize, Option<Entry>)> {
    let entry = match source {
        Source::Cold(read) => Some(read.fetch()?),
        Source::Key(key) => match view.get(&key)? {
            Lookup::Absent => None,
            Lookup::Found(entry) => Some(entry),
            Lookup::Cold(read) => Some(read.fetch()?),
        },
    };
    Ok((at, entry.map(|entry| admitted(admit, entry)).transpose()?))
}

fn admitted(admit: &Admit, entry: Entry) -> Result<Entry> {
    match admit(entry.value.len()) {
        true => Ok(entry),
        false => Err(Error::TooLarge("there is no room for all of the values: ask for fewer keys".into())),
    }
}
