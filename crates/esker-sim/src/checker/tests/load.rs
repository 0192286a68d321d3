//! A minute of real traffic is checked in seconds: 10 clients, 50 keys, 200,000 operations, some of unknown outcome.

use super::*;
use crate::{
    Rng,
    checker::{Promises, check},
};

/// A history of a correct store, in which each operation takes effect when it is called.
fn history(clients: u64, keys: u64, operations: u64) -> History {
    let rng = Rng::new(1);
    let mut values: Vec<Option<(String, u64)>> = vec![None; keys as usize];
    let mut ends = vec![0; clients as usize];
    let mut story = Story::default();
    for version in 1..=operations {
        let client = rng.index(ends.len());
        // A client's next call comes after its last end, and all calls in order.
        let call = version * 10;
        let end = call + rng.below(10 * clients) * 10 + 1 + client as u64 % 9;
        if ends[client] > call {
            continue;
        }
        ends[client] = end;
        let at = rng.index(values.len());
        let key = format!("k{at:02}");
        let unanswered = rng.chance(0.01);
        let write_ended = if unanswered { unknown() } else { done(version) };
        story = match rng.below(20) {
            0..=9 => {
                let read = values[at].as_ref().map_or(absent(), |(value, version)| found(value, *version));
                story.op(call, end, get(&key), read)
            }
            10 => {
                values[at] = None;
                story.op(call, end, delete(&key), write_ended)
            }
            _ => {
                let value = format!("v{version}");
                values[at] = Some((value.clone(), version));
                story.op(call, end, put(&key, &value), write_ended)
            }
        };
    }
    story.history()
}

#[test]
fn a_minute_of_traffic_is_checked_in_bounded_space() {
    let history = history(10, 50, 1_300_000);
    assert!(history.operations.len() > 200_000, "{}", history.operations.len());
    assert_eq!(check(&history, Promises::default()), []);
}

#[test]
fn one_hot_key_is_checked_too() {
    let history = history(10, 1, 100_000);
    assert_eq!(check(&history, Promises::default()), []);
}
