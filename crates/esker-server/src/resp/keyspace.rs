//! The keys that one command, or all of a transaction, works on.
//!
//! What they hold is read before; the commands then run in memory, each seeing what those before it did; what comes of it
//! is one batch that is applied only if the keys still are as they were read:
//!
//! ```text
//! read at one snapshot -> run the commands -> batch: conditions on what was read, changes -> refused? all over again
//! ```
//!
//! So a command is a plain function, and a transaction is as atomic as a command.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use esker_cluster::{Batch, Limits};
use esker_engine::{Condition, Entry, Item, KeyRange, Meta, Value, Version};

use super::refusal::{ANSWER_TOO_LARGE, ANSWERS_FILL_BUDGET, DEFECT, Done, Refusal};
use crate::access::{Door, GuardedScan};
use crate::http::Share;

/// What a command reads of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Nothing: it writes whatever is there.
    Nothing,
    /// Whether they are there, and until when.
    Presence,
    /// What they hold.
    Values,
}

/// More keys than this are found by hash.
const SEARCHED_MAX: usize = 8;

/// See the module.
pub(crate) struct Keyspace {
    cells: Vec<Cell>,
    /// The places of the cells, once there are many.
    places: HashMap<Vec<u8>, usize>,
    now_ms: u64,
    limits: Limits,
    /// Whether all keys were deleted, before what the cells say.
    is_flushed: bool,
    /// How many keys there were.
    keys_before: u64,
    /// Holds what the values take.
    _room: Option<Arc<Room>>,
}

struct Cell {
    key: Vec<u8>,
    before: Before,
    after: Option<After>,
}

/// What the store held.
enum Before {
    /// Nobody asked.
    Unread,
    Absent,
    Present {
        version: Version,
        expiry: Option<u64>,
        value: Option<Value>,
        len: Option<u64>,
    },
}

/// What the commands made of it.
enum After {
    Absent,
    Present { value: Vec<u8>, expiry: Option<u64> },
}

/// A key that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) value: &'a [u8],
    /// From when on it is absent, in milliseconds since 1970.
    pub(crate) expiry: Option<u64>,
}

impl Keyspace {
    /// Reads what the commands need. Keys may come several times; values are of one snapshot.
    pub(crate) async fn read(
        door: &Door,
        keys: Vec<(&[u8], Need)>,
        room: impl FnOnce() -> Room,
    ) -> Done<Self> {
        let mut keyspace = Self::empty(door);
        let mut values = Vec::new();
        for (key, need) in keys {
            let place = keyspace.place(key);
            match need {
                Need::Nothing => {}
                // The store does not know such keys at all.
                _ if check_key(key).is_err() => keyspace.note(place, None),
                Need::Presence => keyspace.note_meta(place, door.meta(key)?),
                Need::Values => values.push(place),
            }
        }
        values.sort_unstable();
        values.dedup();
        match values[..] {
            [] => {}
            [one] => {
                let entry = door.get(&keyspace.cells[one].key).await?;
                keyspace.note(one, entry);
            }
            _ => keyspace.read_many(door, values, Arc::new(room())).await?,
        }
        Ok(keyspace)
    }

    /// The same for a single key, as most commands have.
    pub(crate) async fn read_one(door: &Door, key: &[u8], need: Need) -> Done<Self> {
        let mut keyspace = Self::empty(door);
        let place = keyspace.place(key);
        match need {
            Need::Nothing => {}
            _ if check_key(key).is_err() => keyspace.note(place, None),
            Need::Presence => keyspace.note_meta(place, door.meta(key)?),
            Need::Values => keyspace.note(place, door.get(key).await?),
        }
        Ok(keyspace)
    }

    async fn read_many(&mut self, door: &Door, places: Vec<usize>, room: Arc<Room>) -> Done {
        let keys = places.iter().map(|place| self.cells[*place].key.clone()).collect();
        let admit = Arc::clone(&room);
        let entries = door.multi_get(keys, move |bytes| admit.take(bytes)).await;
        let entries = entries.map_err(|e| room.refusal().unwrap_or_else(|| e.into()))?;
        places.into_iter().zip(entries).for_each(|(place, entry)| self.note(place, entry));
        self._room = Some(room);
        Ok(())
    }

    fn empty(door: &Door) -> Self {
        Self {
            cells: Vec::new(),
            places: HashMap::new(),
            now_ms: now_ms(door),
            limits: door.limits(),
            is_flushed: false,
            keys_before: 0,
            _room: None,
        }
    }

    /// Knows how many keys there are.
    pub(crate) fn with_count(mut self, keys: u64) -> Self {
        self.keys_before = keys;
        self
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        match self.cells.len() {
            0..=SEARCHED_MAX => self.cells.iter().position(|cell| cell.key == key),
            _ => self.places.get(key).copied(),
        }
    }

    /// The key's cell, a new one if need be.
    fn place(&mut self, key: &[u8]) -> usize {
        if let Some(place) = self.find(key) {
            return place;
        }
        let place = self.cells.len();
        self.cells.push(Cell { key: key.to_vec(), before: Before::Unread, after: None });
        match place {
            0..SEARCHED_MAX => {}
            // The first of too many: those before it are not in the map yet.
            SEARCHED_MAX => {
                let all = self.cells.iter().enumerate();
                self.places = all.map(|(place, cell)| (cell.key.clone(), place)).collect();
            }
            _ => drop(self.places.insert(key.to_vec(), place)),
        }
        place
    }

    fn note(&mut self, place: usize, entry: Option<Entry>) {
        self.cells[place].before = match entry {
            None => Before::Absent,
            Some(Entry { value, version, expiry }) => {
                let len = Some(value.len() as u64);
                Before::Present { version, expiry, value: Some(value), len }
            }
        };
    }

    fn note_meta(&mut self, place: usize, meta: Option<Meta>) {
        // A value that was read says as much.
        if matches!(self.cells[place].before, Before::Unread) {
            self.cells[place].before = match meta {
                None => Before::Absent,
                Some(Meta { version, value_len, expiry }) => {
                    Before::Present { version, expiry, value: None, len: value_len }
                }
            };
        }
    }

    /// The time of day, in milliseconds since 1970: the same for all commands of a transaction.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The longest value.
    pub(crate) fn value_bytes_max(&self) -> usize {
        self.limits.value_bytes
    }

    /// What the key holds. Errors: the command's row does not say that it reads values.
    pub(crate) fn get(&self, key: &[u8]) -> Done<Option<Held<'_>>> {
        let Some(cell) = self.find(key).map(|place| &self.cells[place]) else { return Err(DEFECT) };
        match (&cell.after, &cell.before) {
            (Some(After::Absent), _) => Ok(None),
            (Some(After::Present { value, expiry }), _) => Ok(Some(Held { value, expiry: *expiry })),
            (None, _) if self.is_flushed => Ok(None),
            (None, Before::Absent) => Ok(None),
            (None, Before::Present { value: Some(value), expiry, .. }) => {
                Ok(Some(Held { value, expiry: *expiry }))
            }
            (None, Before::Present { value: None, .. } | Before::Unread) => Err(DEFECT),
        }
    }

    /// Until when the key is there, if it is. Errors: the command's row does not say that it reads this.
    pub(crate) fn expiry(&self, key: &[u8]) -> Done<Option<Option<u64>>> {
        let Some(cell) = self.find(key).map(|place| &self.cells[place]) else { return Err(DEFECT) };
        match (&cell.after, &cell.before) {
            (Some(After::Absent), _) => Ok(None),
            (Some(After::Present { expiry, .. }), _) => Ok(Some(*expiry)),
            (None, _) if self.is_flushed => Ok(None),
            (None, Before::Absent) => Ok(None),
            (None, Before::Present { expiry, .. }) => Ok(Some(*expiry)),
            (None, Before::Unread) => Err(DEFECT),
        }
    }

    /// Whether the key is there. Errors as [`Keyspace::expiry`].
    pub(crate) fn exists(&self, key: &[u8]) -> Done<bool> {
        Ok(self.expiry(key)?.is_some())
    }

    /// The length of its value, if the key is there and the length known without it. Errors as [`Keyspace::expiry`].
    pub(crate) fn value_len(&self, key: &[u8]) -> Done<Option<u64>> {
        if !self.exists(key)? {
            return Ok(None);
        }
        let cell = self.find(key).map(|place| &self.cells[place]);
        Ok(cell.and_then(|cell| match (&cell.after, &cell.before) {
            (Some(After::Present { value, .. }), _) => Some(value.len() as u64),
            (None, Before::Present { len, .. }) => *len,
            _ => None,
        }))
    }

    /// Puts a value. Errors: one that is longer than values may be.
    pub(crate) fn put(&mut self, key: &[u8], value: Vec<u8>, expiry: Option<u64>) -> Done {
        check_key(key)?;
        let (len, limit) = (value.len(), self.limits.value_bytes);
        if len > limit {
            return Err(format!("ERR the value has {len} bytes, the limit is {limit}").into());
        }
        let place = self.place(key);
        let is_over = expiry.is_some_and(|at| at <= self.now_ms);
        self.cells[place].after =
            Some(if is_over { After::Absent } else { After::Present { value, expiry } });
        Ok(())
    }

    /// Deletes a key, whether it is there or not.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        let place = self.place(key);
        self.cells[place].after = Some(After::Absent);
    }

    /// Deletes all keys.
    pub(crate) fn flush(&mut self) {
        self.is_flushed = true;
        self.cells.iter_mut().for_each(|cell| cell.after = None);
    }

    /// How many keys there are now, of those that the commands did not touch as many as there were.
    pub(crate) fn count(&self) -> u64 {
        let was = |cell: &Cell| matches!(cell.before, Before::Present { .. }) && !self.is_flushed;
        let is = |cell: &Cell| match cell.after {
            Some(After::Present { .. }) => true,
            Some(After::Absent) => false,
            None => was(cell),
        };
        let before = if self.is_flushed { 0 } else { self.keys_before };
        let added = self.cells.iter().filter(|cell| is(cell) && !was(cell)).count() as u64;
        let removed = self.cells.iter().filter(|cell| was(cell) && !is(cell)).count() as u64;
        (before + added).saturating_sub(removed)
    }

    /// The version of a key as it was read; `None` if it was absent. Errors: it was not read.
    pub(crate) fn version(&self, key: &[u8]) -> Done<Option<Version>> {
        match self.find(key).map(|place| &self.cells[place].before) {
            Some(Before::Absent) => Ok(None),
            Some(Before::Present { version, .. }) => Ok(Some(*version)),
            Some(Before::Unread) | None => Err(DEFECT),
        }
    }

    /// What the commands changed, on condition that what they read still holds; `None` if they changed nothing.
    pub(crate) fn into_batch(self) -> Done<Option<Batch>> {
        if !self.is_flushed && self.cells.iter().all(|cell| cell.after.is_none()) {
            return Ok(None);
        }
        let mut batch = Batch::new(self.limits);
        for cell in &self.cells {
            match cell.before {
                Before::Unread => {}
                Before::Absent if check_key(&cell.key).is_err() => {}
                Before::Absent => batch.require(&cell.key, Condition::Absent)?,
                Before::Present { version, .. } => batch.require(&cell.key, Condition::Version(version))?,
            }
        }
        if self.is_flushed {
            batch.delete_range(&KeyRange::all())?;
        }
        for Cell { key, after, .. } in &self.cells {
            match after {
                None => {}
                Some(After::Absent) if check_key(key).is_err() => {}
                Some(After::Absent) => batch.delete(key)?,
                Some(After::Present { value, expiry: None }) => batch.put(key, value)?,
                Some(After::Present { value, expiry: Some(at) }) => batch.put_expiring(key, value, *at)?,
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// The store's time of day, in milliseconds since 1970.
pub(crate) fn now_ms(door: &Door) -> u64 {
    u64::try_from(door.clock().wall().as_millis()).unwrap_or(u64::MAX)
}

/// Refuses a key that no store can hold; it is absent for whoever reads it.
pub(crate) fn check_key(key: &[u8]) -> Done {
    match key.len() {
        0 => Err(Refusal::new("ERR a key has at least one byte")),
        1..=esker_wire::KEY_LEN_MAX => Ok(()),
        len => Err(format!("ERR the key has {len} bytes, the limit is {}", esker_wire::KEY_LEN_MAX).into()),
    }
}

/// Room for the values of one answer, taken as they are read, by whichever thread reads them.
pub(crate) struct Room(Mutex<Taken>);

struct Taken {
    /// What the answer may still hold.
    left: usize,
    /// What it has of what all answers may hold together.
    share: Share,
    refusal: Option<Refusal>,
}

impl Room {
    /// Room for at most so many bytes.
    pub(crate) fn new(share: Share, bytes: usize) -> Self {
        Self(Mutex::new(Taken { left: bytes, share, refusal: None }))
    }

    /// Takes some of it. Errors: there is not so much.
    pub(crate) fn admit(&self, bytes: usize) -> Done {
        match self.take(bytes) {
            true => Ok(()),
            false => Err(self.refusal().unwrap_or(ANSWER_TOO_LARGE)),
        }
    }

    /// Takes some of it, if it is there.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        // Every change is whole before anything can panic.
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = match taken.left.checked_sub(bytes) {
            None => Some(ANSWER_TOO_LARGE),
            Some(_) if !taken.share.grow(bytes) => Some(ANSWERS_FILL_BUDGET),
            Some(left) => {
                taken.left = left;
                None
            }
        };
        let is_taken = refusal.is_none();
        taken.refusal = taken.refusal.take().or(refusal);
        is_taken
    }

    /// The same scan, whose chunks are read into this room; what does not fit ends it.
    pub(crate) fn admitting(self: &Arc<Self>, scan: GuardedScan) -> GuardedScan {
        let room = Arc::clone(self);
        let scan = scan.shaped(|chunk| {
            let bytes = chunk.iter().map(Item::memory).sum();
            (chunk, bytes)
        });
        // Each holds what others may wait for: so it waits for nobody.
        scan.admitting(Arc::new(move |bytes| room.take(bytes).then(|| Box::new(()) as _)), Duration::ZERO)
    }

    /// Why there was none, if so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refusal.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_service;

    /// Reads these keys of an empty store.
    async fn keyspace(keys: &[(&[u8], Need)]) -> (Keyspace, Door, tempfile::TempDir) {
        let (service, dir) = test_service();
        let store = service.door().clone();
        let share = service.front().answer_budget.share();
        let keyspace = Keyspace::read(&store, keys.to_vec(), || Room::new(share, 100)).await;
        (keyspace.unwrap(), store, dir)
    }

    #[tokio::test]
    async fn commands_see_what_those_before_them_did() {
        let (mut keyspace, _store, _dir) = keyspace(&[(b"a", Need::Values), (b"b", Need::Presence)]).await;
        assert!(keyspace.get(b"a").unwrap().is_none() && !keyspace.exists(b"b").unwrap());
        keyspace.put(b"a", b"1".to_vec(), None).unwrap();
        keyspace.put(b"b", b"22".to_vec(), Some(u64::MAX)).unwrap();
        assert_eq!(keyspace.get(b"a").unwrap().unwrap().value, b"1");
        assert_eq!(
            (keyspace.value_len(b"b").unwrap(), keyspace.expiry(b"b").unwrap()),
            (Some(2), Some(Some(u64::MAX)))
        );
        assert_eq!(keyspace.count(), 2);
        keyspace.delete(b"a");
        assert_eq!((keyspace.exists(b"a").unwrap(), keyspace.count()), (false, 1));
        keyspace.flush();
        assert_eq!((keyspace.exists(b"b").unwrap(), keyspace.count()), (false, 0));
        keyspace.put(b"a", Vec::new(), Some(0)).unwrap();
        assert!(!keyspace.exists(b"a").unwrap(), "it has expired already");
    }

    #[tokio::test]
    async fn what_was_not_asked_for_is_not_guessed() {
        let (mut keyspace, _store, _dir) = keyspace(&[(b"a", Need::Nothing)]).await;
        assert!(
            keyspace.get(b"a").is_err() && keyspace.exists(b"a").is_err() && keyspace.get(b"other").is_err()
        );
        keyspace.put(b"a", b"1".to_vec(), None).unwrap();
        assert!(keyspace.get(b"a").is_ok());
        assert!(keyspace.version(b"a").is_err());
    }

    #[tokio::test]
    async fn a_batch_depends_on_what_was_read() {
        let (mut keyspace, store, _dir) = keyspace(&[(b"a", Need::Values), (b"", Need::Presence)]).await;
        keyspace.put(b"a", b"1".to_vec(), None).unwrap();
        keyspace.delete(b"");
        let batch = keyspace.into_batch().unwrap().unwrap();
        let mut other = Batch::new(store.limits());
        other.put(b"a", b"2").unwrap();
        store.write(other, Default::default()).await.unwrap();
        assert!(store.write(batch, Default::default()).await.unwrap().is_void());
    }

    #[tokio::test]
    async fn many_keys_are_found_too() {
        let names: Vec<Vec<u8>> = (0..100_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let keys: Vec<(&[u8], Need)> = names.iter().map(|name| (name.as_slice(), Need::Values)).collect();
        let (mut keyspace, _store, _dir) = keyspace(&keys).await;
        for (n, name) in names.iter().enumerate() {
            keyspace.put(name, n.to_string().into_bytes(), None).unwrap();
        }
        for (n, name) in names.iter().enumerate() {
            assert_eq!(keyspace.get(name).unwrap().unwrap().value, n.to_string().as_bytes());
        }
        assert_eq!(keyspace.count(), 100);
        assert!(keyspace.put(b"", Vec::new(), None).is_err());
        assert!(keyspace.put(&[b'k'; 65_536], Vec::new(), None).is_err());
    }
}
