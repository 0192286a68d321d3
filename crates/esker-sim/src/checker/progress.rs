//! CHECKS 28: after healing, progress within a bound.

use std::time::Duration;

use super::Failure;
use crate::history::History;

/// That a write which began after `healed` was acknowledged within `bound`.
pub fn check_progress(history: &History, healed: Duration, bound: Duration) -> Option<Failure> {
    let writes = history.operations.iter().filter(|operation| operation.was_acknowledged());
    let after = writes.filter(|operation| operation.call.at >= healed);
    let first = after.filter_map(|operation| operation.end).map(|end| end.at).min();
    let message = match first {
        Some(at) if at <= healed + bound => return None,
        Some(at) => format!("it took {:?} from healing to the first acknowledged write", at - healed),
        None => "no write was acknowledged after healing".into(),
    };
    Some(Failure::new("progress", format!("{message}; {bound:?} is the bound"), Vec::new()))
}
