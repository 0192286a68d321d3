//! Tests that measure latencies, memory and stacks of servers, so that nothing else may run beside them.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests make files, connect as anybody may, and read output"
)]

mod abuse;
mod endurance;
mod seen;
#[allow(dead_code, reason = "each test binary uses its part")]
mod support;
