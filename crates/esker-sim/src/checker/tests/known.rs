//! Good and bad histories by hand, one for each way of being wrong.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::checker::{
    Bounds, Failure, Promises, State, check, check_end_state, check_progress, check_replicas_equal,
};

fn checks(story: Story) -> Vec<&'static str> {
    check(&story.history(), Promises::default()).iter().map(|failure| failure.check).collect()
}

fn is_linearizable(story: Story) -> bool {
    !checks(story).contains(&"linearizability")
}

#[test]
fn overlapping_writes_may_take_effect_in_either_order() {
    for last in ["a", "b"] {
        let story = Story::default().op(1, 4, put("k", "a"), done(1)).op(2, 3, put("k", "b"), done(2));
        let version = if last == "a" { 1 } else { 2 };
        assert!(is_linearizable(story.op(5, 6, get("k"), found(last, version))), "{last}");
    }
}

/// CHECKS 17, 18.
#[test]
fn a_stale_read_is_found_twice_and_explained_by_three_operations() {
    let mut story = Story::default();
    for round in 0..50 {
        let at = 10 * round;
        let value = format!("v{round}");
        story = story.op(at + 1, at + 2, put("k", &value), done(round + 1));
        story = story.op(at + 3, at + 4, get("k"), found(&value, round + 1));
    }
    let history = story.op(601, 602, get("k"), found("v48", 49)).history();
    let failures = check(&history, Promises::default());
    let found: Vec<_> = failures.iter().map(|failure| failure.check).collect();
    assert_eq!(found, ["linearizability", "versions"]);
    let text = failures[0].explain(&history);
    assert!(failures[0].operations.len() <= 3, "{text}");
    assert!(
        text.contains("put k = v48") && text.contains("put k = v49") && text.contains("get k -> v48"),
        "{text}"
    );
}

#[test]
fn a_lost_write_is_found() {
    let story = Story::default().op(1, 2, put("k", "a"), done(1)).op(3, 4, get("k"), absent());
    assert!(!is_linearizable(story));
}

/// CHECKS 20.
#[test]
fn a_refused_write_must_not_be_seen() {
    let story = Story::default().op(1, 2, put("k", "a"), refused());
    assert!(!is_linearizable(story.op(3, 4, get("k"), found("a", 1))));
    let unseen = Story::default().op(1, 2, put("k", "a"), refused()).op(3, 4, get("k"), absent());
    assert!(is_linearizable(unseen));
}

#[test]
fn a_value_from_nowhere_or_from_the_future_is_found() {
    assert!(!is_linearizable(Story::default().op(1, 2, get("k"), found("a", 1))));
    let early = Story::default().op(1, 2, get("k"), found("a", 1)).op(3, 4, put("k", "a"), done(1));
    assert!(!is_linearizable(early));
}

#[test]
fn a_write_of_unknown_outcome_may_come_late_or_never_but_not_go() {
    let start = || Story::default().op(1, 2, put("k", "a"), unknown()).op(3, 4, put("k", "b"), done(1));
    assert!(is_linearizable(start().op(5, 6, get("k"), found("b", 1))));
    let late = || start().op(5, 6, get("k"), found("b", 1)).op(7, 8, get("k"), found("a", 2));
    assert!(is_linearizable(late()));
    assert!(!is_linearizable(late().op(9, 10, get("k"), found("b", 1))));
}

#[test]
fn deletes_of_unknown_outcome_are_each_used_once() {
    let start = || {
        let story = Story::default().op(1, 2, delete("k"), unknown()).op(3, 4, put("k", "a"), done(1));
        story.op(5, 6, get("k"), absent()).op(7, 8, put("k", "b"), done(3))
    };
    assert!(is_linearizable(start()));
    assert!(!is_linearizable(start().op(9, 10, get("k"), absent())));
    let with_another = Story::default().op(0, 1, delete("k"), unknown()).op(1, 2, delete("k"), unknown());
    let with_another = with_another.op(3, 4, put("k", "a"), done(1)).op(5, 6, get("k"), absent());
    assert!(is_linearizable(with_another.op(7, 8, put("k", "b"), done(3)).op(9, 10, get("k"), absent())));
}

#[test]
fn values_that_are_written_twice_are_searched_all_the_same() {
    let twice = || {
        let story = Story::default().op(1, 2, put("k", "a"), done(1)).op(3, 4, put("k", "b"), done(2));
        story.op(5, 6, put("k", "a"), done(3))
    };
    assert!(is_linearizable(twice().op(7, 8, get("k"), found("a", 3))));
    assert!(!is_linearizable(twice().op(7, 8, get("k"), found("b", 2))));
}

#[test]
fn the_search_gives_up_loudly() {
    let mut story = Story::default();
    for at in 0..12 {
        story = story.op(1 + at, 100 + at, put("k", &format!("v{at}")), done(at + 1));
    }
    let bounds = Bounds { configurations: 100, ..Bounds::default() };
    let failures = check(&story.history(), Promises { bounds, ..Promises::default() });
    assert!(failures.iter().any(|failure| failure.message.contains("GAVE UP")), "{failures:?}");
}

/// CHECKS 16.
#[test]
fn half_a_batch_is_found() {
    let keys = ["b/1", "b/2"];
    let start = || {
        let story = Story::default().op(1, 2, batch(&keys, "x"), done(1));
        story.op(3, 4, batch(&keys, "y"), done(2))
    };
    let whole = [("b/1", "y", 2), ("b/2", "y", 2)];
    assert!(checks(start().op(5, 6, scan("b/"), scanned(&whole))).is_empty());
    for part in [&[("b/1", "y", 2), ("b/2", "x", 1)][..], &[("b/1", "y", 2)]] {
        assert_eq!(checks(start().op(5, 6, scan("b/"), scanned(part))), ["atomic batches"]);
    }
    // A key that is also written alone is in no group.
    let mixed = start().op(5, 6, put("b/1", "z"), done(3));
    let torn = [("b/1", "z", 3), ("b/2", "y", 2)];
    assert!(checks(mixed.op(7, 8, scan("b/"), scanned(&torn))).is_empty());
}

#[test]
fn versions_are_unique_and_follow_real_time() {
    let two = |one: u64, other: u64| {
        let story = Story::default().op(1, 2, put("k", "a"), done(one));
        checks(story.op(3, 4, put("l", "b"), done(other)))
    };
    assert!(two(1, 2).is_empty());
    assert!(two(2, 1).contains(&"versions"));
    assert!(two(1, 1).contains(&"versions"));
    let overlapping = Story::default().op(1, 4, put("k", "a"), done(2)).op(2, 3, put("l", "b"), done(1));
    assert!(checks(overlapping).is_empty());
}

#[test]
fn a_value_has_one_version() {
    let story = Story::default().op(1, 2, put("k", "a"), done(1));
    assert_eq!(checks(story.op(3, 4, get("k"), found("a", 2))), ["versions"]);
}

#[test]
fn stale_reads_may_lag_but_not_go_back() {
    let start = || {
        let story = Story::default().op(1, 2, put("k", "a"), done(1)).op(3, 4, put("k", "b"), done(2));
        story.op(5, 6, stale_get("k"), found("a", 1)).op(7, 8, stale_get("k"), found("b", 2))
    };
    assert!(checks(start()).is_empty());
    assert_eq!(checks(start().op(9, 10, stale_get("k"), found("a", 1))), ["monotonic stale reads"]);
    assert_eq!(checks(start().op(9, 10, stale_get("k"), absent())), ["monotonic stale reads"]);
    let deleted = start().op(9, 20, delete("k"), done(3)).op(11, 12, stale_get("k"), absent());
    assert!(checks(deleted).is_empty());
    assert!(checks(start().restart(9).op(10, 11, stale_get("k"), found("a", 1))).is_empty());
    let applied = |at| Outcome::Read { found: None, applied: Some(at) };
    let falling = Story::default().op(1, 2, stale_get("x"), applied(5)).op(3, 4, stale_get("y"), applied(4));
    assert_eq!(checks(falling), ["monotonic stale reads"]);
}

fn messages(failures: &[Failure]) -> String {
    failures.iter().map(|failure| failure.message.as_str()).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_end_state_holds_every_acknowledged_write_and_no_refused_one() {
    let history = Story::default()
        .op(1, 2, put("k", "old"), done(1))
        .op(3, 4, put("k", "new"), done(2))
        .op(5, 6, put("k", "no"), refused())
        .op(7, 8, put("k", "maybe"), unknown())
        .history();
    let end = |value: Option<&str>| {
        let there = value.map(|value| (bytes("k"), Versioned { value: bytes(value), version: 9 }));
        messages(&check_end_state(&history, &there.into_iter().collect::<State>()))
    };
    assert_eq!((end(Some("new")), end(Some("maybe"))), (String::new(), String::new()));
    assert!(end(Some("old")).contains("lost") && end(None).contains("lost"));
    assert!(end(Some("no")).contains("was refused"));
    assert!(end(Some("else")).contains("nobody wrote"));
    let other: State = [(bytes("x"), Versioned { value: bytes("v"), version: 1 })].into();
    assert!(messages(&check_end_state(&history, &other)).contains("nobody wrote it"));
}

#[test]
fn a_key_that_was_deleted_at_last_may_be_absent_and_must_not_be_back() {
    let history = Story::default().op(1, 2, put("k", "a"), done(1)).op(3, 4, delete("k"), done(2)).history();
    assert!(check_end_state(&history, &State::new()).is_empty());
    let back: State = [(bytes("k"), Versioned { value: bytes("a"), version: 1 })].into();
    assert!(messages(&check_end_state(&history, &back)).contains("lost"));
}

/// CHECKS 26.
#[test]
fn replicas_that_differ_are_found() {
    let one: State = [(bytes("k"), Versioned { value: bytes("a"), version: 1 })].into();
    let other: State = [(bytes("k"), Versioned { value: bytes("a"), version: 2 })].into();
    assert!(check_replicas_equal(&BTreeMap::from([(1, one.clone()), (2, one.clone())])).is_empty());
    let message = messages(&check_replicas_equal(&BTreeMap::from([(1, one), (2, other), (3, State::new())])));
    assert!(message.contains("1 and 2 differ in k") && message.contains("1 and 3"), "{message}");
}

/// CHECKS 28.
#[test]
fn slow_healing_is_found() {
    let history =
        Story::default().op(1, 500, put("k", "a"), done(1)).op(300, 400, put("k", "b"), done(2)).history();
    let within = |bound| check_progress(&history, Duration::from_millis(200), Duration::from_millis(bound));
    assert!(within(200).is_none());
    assert!(within(199).is_some_and(|failure| failure.message.contains("200ms")));
}

fn incr(key: &str) -> Action {
    Action::Incr { key: bytes(key) }
}

fn sum(value: u32, version: u64) -> Outcome {
    Outcome::Sum { value, version: Some(version) }
}

fn put_if(key: &str, value: &str, expected: Option<u64>) -> Action {
    Action::PutIf { key: bytes(key), value: bytes(value), expected }
}

fn failed(present: Option<u64>) -> Outcome {
    Outcome::Failed { present }
}

#[test]
fn two_increments_come_to_two_sums() {
    let race = |second: u32| {
        let story = Story::default().op(1, 10, incr("n"), sum(1, 1)).op(2, 9, incr("n"), sum(second, 2));
        checks(story.op(11, 12, get("n"), found("2", 2)))
    };
    assert!(race(2).is_empty());
    assert!(race(1).contains(&"linearizability"), "both saw nothing: one is lost");
}

#[test]
fn an_increment_of_unknown_outcome_counts_once_or_never() {
    let read = |value: &str| {
        let story = Story::default().op(1, 2, incr("n"), sum(1, 1)).op(3, 4, incr("n"), unknown());
        checks(story.op(5, 6, get("n"), found(value, 7)))
    };
    assert!(read("1").is_empty() && read("2").is_empty());
    assert!(read("3").contains(&"linearizability"));
}

#[test]
fn of_two_compare_and_sets_from_one_version_one_is_done() {
    let race = |second: Outcome| {
        let story = Story::default().op(1, 2, put("k", "a"), done(1));
        let story = story.op(3, 10, put_if("k", "b", Some(1)), done(2));
        checks(story.op(4, 9, put_if("k", "c", Some(1)), second))
    };
    assert!(race(failed(Some(2))).is_empty());
    assert!(race(unknown()).is_empty(), "it was not done, or nobody has seen it");
    assert!(race(done(3)).contains(&"linearizability"), "both were done");
    assert!(race(failed(None)).contains(&"linearizability"), "the key was there all the time");
}

#[test]
fn a_put_of_what_is_there_must_not_find_it_absent() {
    let then = |outcome: Outcome| {
        let story = Story::default().op(1, 2, put_if("k", "a", None), done(1));
        checks(story.op(3, 4, put_if("k", "b", None), outcome))
    };
    assert!(then(failed(Some(1))).is_empty());
    assert!(then(done(2)).contains(&"linearizability"));
}

/// A chain of compare-and-sets nobody heard of is explained by the read at its end.
#[test]
fn what_a_swap_was_made_of_was_there() {
    let story = Story::default()
        .op(1, 2, put("k", "a"), done(1))
        .op(3, 4, put_if("k", "b", Some(1)), unknown())
        .op(5, 6, get("k"), found("b", 2))
        .op(7, 8, put_if("k", "c", Some(2)), unknown())
        .op(9, 10, get("k"), found("c", 3));
    assert!(checks(story).is_empty());
}

#[test]
fn what_may_have_expired_may_be_absent_but_not_old() {
    let expiring = |value: &str| {
        let (key, value) = (bytes("t"), bytes(value));
        Action::PutExpiring { key, value, ttl: std::time::Duration::from_secs(1) }
    };
    let then = |seen: Outcome| {
        let story = Story::default().op(1, 2, expiring("a"), done(1)).op(3, 4, expiring("b"), done(2));
        let story = story.op(5, 6, get("t"), absent()).op(7, 8, get("t"), seen);
        checks(story)
    };
    assert!(then(found("b", 2)).is_empty(), "another node's clock is behind");
    assert!(then(found("a", 1)).contains(&"linearizability"));
}

#[test]
fn a_deleted_range_is_gone_as_a_whole() {
    let range = || Action::DeleteRange { prefix: bytes("g/"), keys: vec![bytes("g/1"), bytes("g/2")] };
    let then = |seen: Outcome| {
        let story = Story::default().op(1, 2, batch(&["g/1", "g/2"], "a"), done(1));
        checks(story.op(3, 10, range(), done(2)).op(4, 9, scan("g/"), seen))
    };
    assert!(then(scanned(&[])).is_empty());
    assert!(then(scanned(&[("g/1", "a", 1), ("g/2", "a", 1)])).is_empty());
    assert!(then(scanned(&[("g/2", "a", 1)])).contains(&"atomic batches"));
}

#[test]
fn a_counter_ends_with_what_was_acknowledged() {
    let story = Story::default().op(1, 2, incr("n"), sum(1, 1)).op(3, 4, incr("n"), unknown());
    let history = story.history();
    let ends = |value: &str| {
        let state = State::from([(bytes("n"), Versioned { value: bytes(value), version: 1 })]);
        check_end_state(&history, &state).is_empty()
    };
    assert!(ends("1") && ends("2"));
    assert!(!ends("3") && !check_end_state(&history, &State::new()).is_empty());
}
