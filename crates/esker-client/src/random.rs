//! The client side's one home of randomness.

use std::hash::{BuildHasher, RandomState};

/// A number that no other client instance has, here or elsewhere: the standard library seeds its hashers from the
/// operating system.
pub(crate) fn client_number() -> u64 {
    RandomState::new().hash_one(())
}

/// Uniform in 0..1, for pauses.
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}
