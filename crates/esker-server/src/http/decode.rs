//! Request bodies, decoded where it keeps nobody waiting.

use esker_cluster::Limits;
use esker_wire::ErrorCode;

use super::{error::ApiError, receive::Received};

/// Larger bodies are decoded on a thread of their own: a runtime thread has others to serve.
const INLINE_BYTES_MAX: usize = 128 << 10;

/// What `read` makes of a body, which is let go of then.
pub(crate) async fn decode<T: Send + 'static>(
    received: Received,
    read: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, ApiError> {
    if received.bytes.len() <= INLINE_BYTES_MAX {
        return Ok(read(&received.bytes));
    }
    // With its share of the budget: the body is held until it is decoded, also if the client goes away.
    let decoding = tokio::task::spawn_blocking(move || read(&received.bytes));
    decoding.await.map_err(|_| {
        let why = "the body's decoder failed; nothing was written: report this defect";
        ApiError::new(ErrorCode::Internal, why)
    })
}

/// Room for the JSON around and the escapes within the largest batch, as far as is reasonable.
pub(crate) fn batch_body_max(limits: Limits) -> usize {
    limits.batch_bytes.saturating_mul(2).saturating_add(limits.batch_ops.saturating_mul(64))
}

/// The same for one value.
pub(crate) fn value_body_max(limits: Limits) -> usize {
    /// Names, brackets, and the longest key.
    const AROUND: usize = 128 << 10;
    limits.value_bytes.saturating_mul(2).saturating_add(AROUND)
}
