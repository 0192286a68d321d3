//! Who may do what: users, what they show, and the [`Door`] between every front and the Store.
//!
//! ```text
//! what is shown (password, token, certificate) -> Access -> Caller \
//!                                                                   Door -> Store
//! what is asked (read, write, key, range, ...) --------------------/
//! ```
//!
//! No front holds the Store: it lies behind [`Guarded`], which only [`Door`] opens, and a door belongs to one caller. So what
//! a front forgets to ask is refused all the same.
//!
//! docs/security.md says what users see of it.

mod attempts;
mod audit;
mod authenticate;
mod caller;
mod credentials;
mod door;
mod passwords;
mod rights;
mod scan;
mod users;
mod walk;
mod watch;

pub(crate) use self::{
    audit::key_told,
    authenticate::{Access, Refused},
    caller::{Arrival, Entrance, Trail},
    credentials::Shown,
    door::{Door, Guarded},
    rights::Right,
    scan::GuardedScan,
    users::User,
    walk::Walk,
    watch::GuardedWatch,
};
pub use self::{
    authenticate::AccessControl,
    passwords::{PasswordError, hash_password},
    users::{InvalidUsers, NewToken, RuleEntry, TokenEntry, UserEntry, Users, UsersFile, hash_token},
};
