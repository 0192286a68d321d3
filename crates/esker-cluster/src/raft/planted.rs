//! Defects of the kinds that systems like this one have had, to be planted on purpose: a simulator that does not find
//! them would not find others.
//!
//! Only with the feature `planted-bugs`, which tests alone enable. Without it every question is answered by a constant,
//! and nothing of this is compiled in.

/// A defect that can be planted.
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public with the feature only"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Entries are acknowledged before they are on the disk.
    AckBeforeSync,
    /// The leader answers linearizable reads without asking whether it still leads.
    ReadWithoutIndex,
    /// A restarted node does not remember for whom it voted.
    ForgetVote,
    /// Writes lose their request ids, so that a retry is applied once more.
    ApplyTwice,
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a defect in all nodes that run on this thread, or takes it out again.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(feature = "planted-bugs")]
pub(super) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn is_planted(_: Bug) -> bool {
    false
}
