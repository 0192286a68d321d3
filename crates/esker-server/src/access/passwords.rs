//! Passwords: kept as argon2id, verified seldom, and never on a thread that serves others.
//!
//! A verification takes tens of milliseconds and 19 MiB. So only few run at a time, only so many wait, and one that succeeded is
//! remembered for a while: as a keyed hash of what was shown and what it was held against, under a key of this process, so
//! that neither a password nor a hash that could be guessed at lies in memory, and a changed password is another entry.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use ring::hmac;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};

use super::users::InvalidUsers;

/// So many verifications run at a time: the rest of the cores are for those who are known already.
const AT_A_TIME_MAX: usize = 2;
/// So many wait at most, and
const WAITING_MAX: usize = 64;
/// for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A success is remembered for so long,
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// and so many are.
const REMEMBERED_MAX: usize = 1024;
/// What a hash in a file may cost at most: KiB, passes and lanes.
const MEMORY_KIB_MAX: u32 = 256 << 10;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 8;

/// A password cannot be hashed.
#[derive(Debug)]
pub struct PasswordError(String);

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PasswordError {}

/// What a file of users keeps of a password: a PHC string of argon2id with a fresh salt.
///
/// Errors: the system gives no random bytes.
pub fn hash_password(password: &[u8]) -> Result<String, PasswordError> {
    let salt = random::<16>().map_err(|e| PasswordError(e.to_string()))?;
    let hashed = Argon2::default().hash_password_with_salt(password, &salt);
    hashed
        .map(|phc| phc.to_string())
        .map_err(|e| PasswordError(format!("the password cannot be hashed: {e}")))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], InvalidUsers> {
    let drawn = esker_log::entropy::random_bytes();
    drawn.map_err(|e| InvalidUsers(format!("the system gives no random bytes: {e}")))
}

/// Why a text is no hash that passwords are held against; it does not tell the text.
pub(super) fn check_hash(phc: &str) -> Result<(), &'static str> {
    const WHAT: &str = "is no PHC string of argon2id: make it with `esker user passwd`";
    let parsed = PasswordHash::new(phc).map_err(|_| WHAT)?;
    if parsed.algorithm.as_str() != "argon2id" || parsed.hash.is_none() || parsed.salt.is_none() {
        return Err(WHAT);
    }
    let params = Params::try_from(&parsed).map_err(|_| WHAT)?;
    match params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX {
        true => Ok(()),
        false => Err("costs more than 256 MiB, 16 passes or 8 lanes: make a cheaper one"),
    }
}

fn fits(phc: &str, password: &[u8]) -> bool {
    PasswordHash::new(phc).is_ok_and(|phc| Argon2::default().verify_password(password, &phc).is_ok())
}

/// Too many verifications wait.
#[derive(Debug)]
pub(super) struct Crowded;

/// Verifies passwords.
pub(super) struct Passwords {
    key: hmac::Key,
    /// When each is forgotten, on the server's clock.
    remembered: Mutex<HashMap<[u8; 32], Duration>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// The verifications under way, and who waits for the same.
    under_way: Mutex<HashMap<[u8; 32], Arc<AsyncMutex<()>>>>,
    /// What the password of a user is held against whom there is not, so that it takes as long.
    nobodys: Arc<str>,
}

impl Passwords {
    /// Errors: the system gives no random bytes.
    pub(super) fn new() -> Result<Self, InvalidUsers> {
        let nobodys = hash_password(&random::<32>()?).map_err(|e| InvalidUsers(e.to_string()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?),
            remembered: Mutex::default(),
            permits: Arc::new(Semaphore::new((cores / 2).clamp(1, AT_A_TIME_MAX))),
            waiting: AtomicUsize::new(0),
            under_way: Mutex::default(),
            nobodys: nobodys.into(),
        })
    }

    /// Whether this password was found right a while ago.
    pub(super) fn remembers(&self, phc: &str, password: &[u8], now: Duration) -> bool {
        let tag = self.tag(phc, password);
        self.lock().get(&tag).is_some_and(|until| *until > now)
    }

    /// Waits until nobody else verifies the same password: if it was right, it is remembered then. The connections of a pool, which come all
    /// at once, would else be as many attempts.
    pub(super) async fn turn(&self, phc: Option<&Arc<str>>, password: &[u8]) -> Result<Turn<'_>, Crowded> {
        let tag = self.tag(phc.unwrap_or(&self.nobodys), password);
        let gate = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if under_way.len() >= REMEMBERED_MAX {
                // Who lost patience leaves its gate behind.
                under_way.retain(|_, gate| Arc::strong_count(gate) > 1);
            }
            Arc::clone(under_way.entry(tag).or_default())
        };
        let gate = tokio::time::timeout(PATIENCE, gate.lock_owned()).await.map_err(|_| Crowded)?;
        Ok(Turn { passwords: self, tag, _gate: gate })
    }

    /// Whether the password is right; without a hash to hold it against it is not, and that takes as long to find out.
    pub(super) async fn verify(
        &self,
        phc: Option<&Arc<str>>,
        password: &[u8],
        now: Duration,
    ) -> Result<bool, Crowded> {
        let is_somebodys = phc.is_some();
        let phc = Arc::clone(phc.unwrap_or(&self.nobodys));
        let tag = self.tag(&phc, password);
        let permit = {
            let _waiting = Waiting::enter(&self.waiting).ok_or(Crowded)?;
            let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned()).await;
            permit.map_err(|_| Crowded)?.map_err(|_| Crowded)?
        };
        let password = zeroize::Zeroizing::new(password.to_vec());
        // Who goes away meanwhile does not let the next one in before this one is done.
        let verified = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            fits(&phc, &password)
        });
        let is_right = verified.await.map_err(|_| Crowded)? && is_somebodys;
        if is_right {
            self.remember(tag, now);
        }
        Ok(is_right)
    }

    fn tag(&self, phc: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        // The one has no end in the other.
        context.update(&(phc.len() as u64).to_be_bytes());
        context.update(phc.as_bytes());
        context.update(password);
        context.sign().as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    fn remember(&self, tag: [u8; 32], now: Duration) {
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, until| *until > now);
        }
        if remembered.len() >= REMEMBERED_MAX {
            let oldest = remembered.iter().min_by_key(|(_, until)| **until).map(|(tag, _)| *tag);
            oldest.and_then(|tag| remembered.remove(&tag));
        }
        remembered.insert(tag, now + REMEMBERED_FOR);
    }

    /// Every change is whole before anything can panic.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Duration>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody else verifies the same password.
pub(super) struct Turn<'a> {
    passwords: &'a Passwords,
    tag: [u8; 32],
    _gate: OwnedMutexGuard<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.passwords.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one's: nobody waits.
        if under_way.get(&self.tag).is_some_and(|gate| Arc::strong_count(gate) == 2) {
            under_way.remove(&self.tag);
        }
    }
}

/// One of those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::AcqRel) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_right_is_remembered_for_a_while_and_nothing_else() {
        let passwords = Passwords::new().unwrap();
        let phc: Arc<str> = hash_password(b"right").unwrap().into();
        let now = Duration::from_secs(7);
        assert!(!passwords.remembers(&phc, b"right", now));
        assert!(passwords.verify(Some(&phc), b"right", now).await.unwrap());
        assert!(!passwords.verify(Some(&phc), b"wrong", now).await.unwrap());
        assert!(!passwords.verify(None, b"right", now).await.unwrap());
        assert!(passwords.remembers(&phc, b"right", now));
        assert!(!passwords.remembers(&phc, b"wrong", now));
        assert!(!passwords.remembers(&phc, b"right", now + REMEMBERED_FOR));
        let changed = hash_password(b"right").unwrap();
        assert!(!passwords.remembers(&changed, b"right", now));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let passwords = Passwords::new().unwrap();
        for at in 0..REMEMBERED_MAX as u64 + 10 {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&at.to_be_bytes());
            passwords.remember(tag, Duration::from_millis(at));
        }
        assert_eq!(passwords.lock().len(), REMEMBERED_MAX);
        assert!(!passwords.lock().contains_key(&[0; 32]), "the oldest goes first");
    }

    #[tokio::test]
    async fn who_shows_the_same_at_the_same_time_waits_for_one_verification() {
        let passwords = Passwords::new().unwrap();
        let phc: Arc<str> = hash_password(b"right").unwrap().into();
        let verified = AtomicUsize::new(0);
        let show = async || {
            let _turn = passwords.turn(Some(&phc), b"right").await.unwrap();
            if !passwords.remembers(&phc, b"right", Duration::ZERO) {
                verified.fetch_add(1, Ordering::Relaxed);
                assert!(passwords.verify(Some(&phc), b"right", Duration::ZERO).await.unwrap());
            }
        };
        futures_util::future::join_all((0..100).map(|_| show())).await;
        assert_eq!(verified.into_inner(), 1);
        assert!(passwords.under_way.lock().unwrap().is_empty());
        // Another password is nobody's business.
        let _turn = passwords.turn(Some(&phc), b"right").await.unwrap();
        let _other = passwords.turn(Some(&phc), b"wrong").await.unwrap();
    }

    #[tokio::test]
    async fn a_crowd_is_turned_away() {
        let passwords = Passwords::new().unwrap();
        let _all: Vec<_> = (0..WAITING_MAX).map(|_| Waiting::enter(&passwords.waiting).unwrap()).collect();
        assert!(passwords.verify(None, b"x", Duration::ZERO).await.is_err());
    }
}
