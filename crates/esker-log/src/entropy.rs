//! Randomness from the operating system: the one home of it.

use std::io;

use crate::format::StoreId;

/// Draws the identity of a new store.
pub fn random_store_id() -> io::Result<StoreId> {
    random_bytes()
}

/// Draws bytes that nobody can guess: for keys, tokens and salts.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
