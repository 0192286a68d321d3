//! From what is shown to who it is.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    attempts::Attempts,
    audit::{Attempt, Audit, Reason},
    caller::{Arrival, Caller, Identity},
    credentials::Shown,
    passwords::Passwords,
    users::{DEFAULT, InvalidUsers, Proof, User, Users, token_hash},
};

/// Who may use a server; cloning gives another handle to the same. [`AccessControl::default`] lets everybody do everything.
#[derive(Clone, Default)]
pub struct AccessControl(Option<Arc<Lock>>);

struct Lock {
    users: RwLock<Arc<Users>>,
    /// How often the list was replaced: who was known by an earlier one is looked up anew.
    generation: AtomicU64,
    /// Tells those who wait for long that it was.
    replaced: watch::Sender<()>,
    passwords: Passwords,
}

impl AccessControl {
    /// Only these users may do anything.
    ///
    /// Errors: the system gives no random bytes.
    pub fn of(users: Users) -> Result<Self, InvalidUsers> {
        let (users, generation) = (RwLock::new(Arc::new(users)), AtomicU64::new(0));
        let lock = Lock { users, generation, replaced: watch::Sender::new(()), passwords: Passwords::new()? };
        Ok(Self(Some(Arc::new(lock))))
    }

    /// Puts another list in place of the present one, at once: a user who is not in it, or whose password or token is another
    /// now, is a stranger from the next request on, also on connections that are open. Without users to begin with nothing
    /// is replaced.
    pub fn replace(&self, users: Users) {
        if let Self(Some(lock)) = self {
            *lock.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
            lock.generation.fetch_add(1, Ordering::Release);
            lock.replaced.send_modify(|()| ());
        }
    }

    /// Whether anybody has to say who it is.
    pub fn is_locked(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for AccessControl {
    /// Nothing about the users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessControl").field(&self.is_locked()).finish()
    }
}

impl Lock {
    /// The generation is read first: a list that is replaced in between is then looked at once more than needed, not once less.
    fn users(&self) -> (u64, Arc<Users>) {
        let generation = self.generation.load(Ordering::Acquire);
        (generation, Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Why what was shown is no proof. Which of name and password is wrong nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not right.
    Wrong,
    /// This address has tried too often.
    TooOften(Duration),
    /// Too many passwords are being verified.
    Crowded,
}

impl Refused {
    /// What whoever showed it is told.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Wrong => "the name, password or token is wrong",
            Self::TooOften(_) => {
                "too many wrong passwords came from this address: wait before the next attempt"
            }
            Self::Crowded => "too many passwords are being verified: retry later, or use a token",
        }
    }
}

/// Whom a server lets in, and the books of whom it did not.
#[derive(Default)]
pub(crate) struct Access {
    control: AccessControl,
    attempts: Attempts,
    pub(crate) audit: Audit,
}

impl Access {
    pub(crate) fn new(control: AccessControl) -> Self {
        Self { control, ..Self::default() }
    }

    /// Whether anybody has to say who it is.
    pub(crate) fn is_locked(&self) -> bool {
        self.control.is_locked()
    }

    /// Tells when the list of users was replaced; `None`: it never is.
    pub(super) fn replacements(&self) -> Option<watch::Receiver<()>> {
        Some(self.control.0.as_ref()?.replaced.subscribe())
    }

    /// Whether somebody has this token.
    pub(crate) fn knows_token(&self, token: &[u8]) -> bool {
        self.users().is_some_and(|users| by_token(&users, token).is_some())
    }

    /// The users as they are now.
    pub(crate) fn users(&self) -> Option<Arc<Users>> {
        Some(self.control.0.as_ref()?.users().1)
    }

    /// Who shows nothing but perhaps a certificate: the user of one of its names, or the one for everybody.
    pub(crate) fn arrive(&self, arrival: Arrival) -> Caller {
        let Some(lock) = &self.control.0 else { return Caller { arrival, identity: Identity::Anybody } };
        let (generation, users) = lock.users();
        let named = arrival.certificate.iter().find(|name| users.named(name).is_some());
        let proof = named.map_or(Proof::Default, |name| Proof::Certificate(name.clone()));
        let identity = match users.proven(&proof) {
            Some(user) => Identity::Known { user: Arc::clone(user), proof, generation },
            None => Identity::Stranger { generation },
        };
        Caller { arrival, identity }
    }

    /// Who shows this. Where there are no users, everybody is welcome, whatever is shown.
    pub(crate) async fn authenticate(
        &self,
        arrival: Arrival,
        shown: Shown<'_>,
        now: Duration,
    ) -> Result<Caller, Refused> {
        let Some(lock) = &self.control.0 else { return Ok(self.arrive(arrival)) };
        let (generation, users) = lock.users();
        let proven = match shown {
            Shown::Token(token) => by_token(&users, token).ok_or(Refused::Wrong),
            Shown::Password { name, password } => {
                self.by_password(lock, &users, &arrival, (name, password), now).await
            }
        };
        match proven {
            Ok((user, proof)) => {
                Ok(Caller { arrival, identity: Identity::Known { user, proof, generation } })
            }
            Err(refused) => {
                let name = match shown {
                    Shown::Password { name, .. } => std::str::from_utf8(name).ok(),
                    Shown::Token(_) => None,
                };
                let user = name.filter(|name| users.named(name).is_some());
                let reason = match refused {
                    Refused::Wrong => Reason::BadCredentials,
                    Refused::TooOften(_) | Refused::Crowded => Reason::TooManyAttempts,
                };
                let attempt = Attempt { user, operation: "authenticate", key: None };
                self.audit.denied(&arrival, reason, attempt, now);
                Err(refused)
            }
        }
    }

    async fn by_password(
        &self,
        lock: &Lock,
        users: &Users,
        arrival: &Arrival,
        (name, password): (&[u8], &[u8]),
        now: Duration,
    ) -> Result<(Arc<User>, Proof), Refused> {
        // A token stands for the password of its user, and behind the name that clients of Redis send by themselves, too.
        let token = by_token(users, password);
        if let Some(found) =
            token.filter(|(user, _)| name == user.name.as_bytes() || name == DEFAULT.as_bytes())
        {
            return Ok(found);
        }
        let user = std::str::from_utf8(name).ok().and_then(|name| users.named(name));
        let phc = user.and_then(|user| user.password.as_ref());
        let proven = |(user, phc): (&Arc<User>, &Arc<str>)| {
            (Arc::clone(user), Proof::Password { name: user.name.clone(), phc: Arc::clone(phc) })
        };
        let known = || user.zip(phc).filter(|(_, phc)| lock.passwords.remembers(phc, password, now));
        if let Some(known) = known() {
            return Ok(proven(known));
        }
        let _turn = lock.passwords.turn(phc, password).await.map_err(|_| Refused::Crowded)?;
        if let Some(known) = known() {
            return Ok(proven(known));
        }
        let address = arrival.remote.map(|remote| remote.ip());
        self.attempts.take(address, now).map_err(Refused::TooOften)?;
        let verified = lock.passwords.verify(phc, password, now).await;
        let is_wrong = matches!(verified, Ok(false));
        if !is_wrong {
            self.attempts.give_back(address);
        }
        match verified.map_err(|_| Refused::Crowded)? {
            true => user.zip(phc).map(proven).ok_or(Refused::Wrong),
            false => Err(Refused::Wrong),
        }
    }

    /// Books what was shown and cannot be read.
    pub(crate) fn unreadable(&self, arrival: &Arrival, now: Duration) -> Refused {
        let attempt = Attempt { user: None, operation: "authenticate", key: None };
        self.audit.denied(arrival, Reason::BadCredentials, attempt, now);
        Refused::Wrong
    }

    /// The same caller as of the present list of users; `None`: it is that already.
    pub(super) fn renewed(&self, caller: &Caller) -> Option<Caller> {
        let lock = self.control.0.as_ref()?;
        let (Identity::Known { generation, .. } | Identity::Stranger { generation }) = &caller.identity
        else {
            return None;
        };
        if *generation == lock.generation.load(Ordering::Acquire) {
            return None;
        }
        let Identity::Known { proof, .. } = &caller.identity else {
            return Some(self.arrive(caller.arrival.clone()));
        };
        let (generation, users) = lock.users();
        let Some(user) = users.proven(proof) else { return Some(self.arrive(caller.arrival.clone())) };
        let identity = Identity::Known { user: Arc::clone(user), proof: proof.clone(), generation };
        Some(Caller { arrival: caller.arrival.clone(), identity })
    }

    /// Has `look` see the user that a caller is now; `None`: a stranger. Nothing that cores share is written as long as the list is
    /// the one that the caller was known by.
    pub(super) fn with_user<T>(&self, identity: &Identity, look: impl FnOnce(Option<&Arc<User>>) -> T) -> T {
        let Some(lock) = &self.control.0 else { return look(None) };
        let current = lock.generation.load(Ordering::Acquire);
        match identity {
            Identity::Anybody => look(None),
            Identity::Known { user, generation, .. } if *generation == current => look(Some(user)),
            Identity::Known { proof, .. } => look(lock.users().1.proven(proof)),
            Identity::Stranger { generation } if *generation == current => look(None),
            Identity::Stranger { .. } => look(lock.users().1.proven(&Proof::Default)),
        }
    }
}

fn by_token(users: &Users, token: &[u8]) -> Option<(Arc<User>, Proof)> {
    let hash = token_hash(token);
    users.with_token_hash(&hash).map(|user| (Arc::clone(user), Proof::Token(hash)))
}
