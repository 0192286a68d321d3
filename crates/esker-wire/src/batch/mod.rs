//! Batches: `{"operations":[{"type":"put","key","value","ttl" or "expires_at"},{"type":"delete","key"},{"type":"incr","key","by"},
//! {"type":"delete_range","prefix"}],"if":[{"key","is":"absent"}]}`.
//!
//! The decoder hands each operation on as soon as it is read, so that a batch is never held twice, and stops
//! at the first one beyond a limit. Depth is bounded by serde_json's recursion limit.

mod decode;
mod json;
mod operation;
#[cfg(test)]
mod tests;

pub use self::{
    decode::{BatchError, BatchLimits, decode},
    json::{BatchAnswer, BatchRequest, JsonCondition, JsonOperation, OperationType, Presence},
    operation::{Demand, Expiry, Operation, Range},
};
