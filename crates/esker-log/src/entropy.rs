//! Randomness from the operating system: the one home of it.

use std::io;

use crate::format::StoreId;

/// Draws the identity of a new store.
pub fn random_store_id() -> io::Result<StoreId> {
    let mut id = StoreId::default();
    let mut filled = 0;
    while filled < id.len() {
        filled += rustix::rand::getrandom(&mut id[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(id)
}
