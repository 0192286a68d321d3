//! Batches as they may come.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::Ttl;

const LIMITS: BatchLimits = BatchLimits { operations: 3, bytes: 20 };

fn check(json: &str) -> Result<Vec<String>, BatchError> {
    let mut seen = Vec::new();
    decode(json.as_bytes(), LIMITS, &mut |operation| {
        seen.push(show(&operation));
        Ok(())
    })?;
    Ok(seen)
}

fn show(operation: &Operation<'_>) -> String {
    match operation {
        Operation::Put { key, value, expiry: None } => {
            format!("{}={}", key.escape_ascii(), value.escape_ascii())
        }
        Operation::Put { key, value, expiry: Some(Expiry::After(ttl)) } => {
            format!("{}={} for {ttl}", key.escape_ascii(), value.escape_ascii())
        }
        Operation::Put { key, value, expiry: Some(Expiry::At(then)) } => {
            format!("{}={} until {then}", key.escape_ascii(), value.escape_ascii())
        }
        Operation::Delete { key } => format!("-{}", key.escape_ascii()),
        Operation::Incr { key, by } => format!("{}+{by}", key.escape_ascii()),
        Operation::DeleteRange(Range::Prefix(prefix)) => format!("-{}*", prefix.escape_ascii()),
        Operation::DeleteRange(Range::Between(start, end)) => {
            format!("-{}..{}", start.escape_ascii(), end.escape_ascii())
        }
        Operation::Require { key, demand } => format!("{} {demand:?}", key.escape_ascii()),
    }
}

#[test]
fn puts_and_deletes_come_in_order() {
    let json = r#"{"operations":[{"type":"put","key":"a","value":"1\n"},
        {"type":"delete","key":"b"},{"encoding":"base64","value":"/w","key":"AA==","type":"put"}]}"#;
    assert_eq!(check(json).unwrap(), ["a=1\\n", "-b", "\\x00=\\xff"]);
}

#[test]
fn every_operation_and_condition_is_read() {
    let json = r#"{"operations":[{"type":"put","key":"a","value":"1","ttl":"90s"},
        {"type":"incr","key":"n"}]}"#;
    assert_eq!(check(json).unwrap(), ["a=1 for 90s", "n+1"]);
    let json = r#"{"operations":[{"type":"put","key":"a","value":"1","expires_at":1900000000000}]}"#;
    assert_eq!(check(json).unwrap(), ["a=1 until 1900000000000"]);
    let json = r#"{"operations":[{"type":"delete_range","prefix":""},{"type":"incr","key":"n","by":-4}]}"#;
    assert_eq!(check(json).unwrap(), ["-*", "n+-4"]);
    let range = r#"{"type":"delete_range","start":"/w","end":"/w==","encoding":"base64"}"#;
    let json =
        format!(r#"{{"if":[{{"key":"a","is":"absent"}},{{"key":"b","version":7}}],"operations":[{range}]}}"#);
    assert_eq!(check(&json).unwrap(), ["a Absent", "b Version(7)", "-\\xff..\\xff"]);
    let json = r#"{"operations":[{"type":"delete","key":"a"}],"if":[{"key":"YQ","encoding":"base64","is":"present"}]}"#;
    assert_eq!(check(json).unwrap(), ["-a", "a Present"]);
}

#[test]
fn what_is_no_condition_is_refused_with_its_place() {
    let refused = |conditions: &str| {
        let json = format!(r#"{{"operations":[{{"type":"delete","key":"a"}}],"if":{conditions}}}"#);
        check(&json).unwrap_err().to_string()
    };
    assert!(refused(r#"[{"key":"a"}]"#).contains("condition 0: it takes either `is` or `version`"));
    assert!(refused(r#"[{"key":"a","is":"absent","version":1}]"#).contains("either"));
    assert!(refused(r#"[{"key":"a","is":"there"}]"#).contains("unknown variant"));
    assert!(refused(r#"{}"#).contains("an array"));
    assert!(check(r#"{"if":[{"key":"a","is":"absent"}],"operations":[]}"#).is_err(), "nothing to do");
    assert!(check(r#"{"if":[{"key":"a","is":"absent"}]}"#).is_err());
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_place() {
    let one = |operation: &str| check(&format!(r#"{{"operations":[{operation}]}}"#)).unwrap_err().to_string();
    assert!(one(r#"{"type":"put","key":"a"}"#).contains("operation 0: a put needs a `value`"));
    assert!(one(r#"{"type":"delete","key":"a","value":""}"#).contains("takes no `value`"));
    assert!(one(r#"{"type":"put","value":"a"}"#).contains("a put needs a `key`"));
    assert!(one(r#"{"type":"put","key":"a","value":"b","ttl":"3"}"#).contains("`ttl` is `3`"));
    assert!(one(r#"{"type":"delete","key":"a","ttl":"3s"}"#).contains("takes no `ttl`"));
    assert!(one(r#"{"type":"incr","key":"a","expires_at":3}"#).contains("takes no `expires_at`"));
    let both = r#"{"type":"put","key":"a","value":"b","ttl":"3s","expires_at":3}"#;
    assert!(one(both).contains("either `ttl` or `expires_at`"));
    assert!(one(r#"{"type":"put","key":"a","value":"b","by":3}"#).contains("takes no `by`"));
    assert!(one(r#"{"type":"incr","key":"a","by":9223372036854775808}"#).contains("i64"));
    assert!(one(r#"{"type":"delete_range"}"#).contains("needs a `prefix`"));
    assert!(one(r#"{"type":"delete_range","start":"a"}"#).contains("needs a `prefix`"));
    assert!(one(r#"{"type":"delete_range","start":"a","end":""}"#).contains("not empty"));
    assert!(one(r#"{"type":"delete_range","key":"a","prefix":"a"}"#).contains("takes no `key`"));
    assert!(one(r#"{"type":"put","key":"a","value":"b","live":1}"#).contains("unknown field `live`"));
    assert!(one(r#"{"type":"move","key":"a"}"#).contains("unknown variant `move`"));
    assert!(one(r#"{"type":"put","key":"*","value":"","encoding":"base64"}"#).contains("not base64"));
    assert!(one("").contains("at least one"));
    assert!(check("{}").is_err() && check("[]").is_err() && check("").is_err());
    assert!(check(r#"{"operations":[{"type":"delete","key":"b"}]} x"#).is_err());
    assert!(check(r#"{"operations":[],"operations":[]}"#).is_err());
}

#[test]
fn limits_are_too_large_not_malformed() {
    let many = [r#"{"type":"delete","key":"b"}"#; 4].join(",");
    let big = r#"{"type":"put","key":"b","value":"01234567890123456789"}"#;
    let conditions = [r#"{"key":"b","is":"absent"}"#; 3].join(",");
    let one = r#"{"type":"delete","key":"b"}"#;
    let guarded = format!(r#"{{"if":[{conditions}],"operations":[{one}]}}"#);
    assert!(matches!(check(&guarded), Err(BatchError::TooLarge(_))));
    for operations in [many.as_str(), big] {
        let refused = check(&format!(r#"{{"operations":[{operations}]}}"#)).unwrap_err();
        assert!(matches!(refused, BatchError::TooLarge(_)), "{refused}");
    }
}

/// CHECKS 33.
#[test]
fn depth_is_bounded() {
    assert!(check(&"[".repeat(100_000)).is_err());
    assert!(check(&format!(r#"{{"operations":{}"#, "[".repeat(100_000))).is_err());
}

proptest! {
    #[test]
    fn what_a_client_writes_is_read(key: Vec<u8>, value: Vec<u8>, by: i64, time in 1..u64::MAX) {
        let ttl = Ttl::from_millis(time);
        let (key, value) = (&key[..], &value[..]);
        let operations = vec![
            JsonOperation::put(key, value),
            JsonOperation::put(key, value).living(ttl),
            JsonOperation::put(key, value).expiring(Some(time)),
            JsonOperation::delete(key),
            JsonOperation::incr(key, by),
            JsonOperation::delete_prefix(key),
        ];
        let demands = [Demand::Absent, Demand::Present, Demand::Version(9)];
        let conditions = demands.map(|demand| JsonCondition::new(key, demand)).to_vec();
        let json = serde_json::to_vec(&BatchRequest { operations, conditions }).unwrap();
        let mut seen = Vec::new();
        let limits = BatchLimits { operations: 9, bytes: usize::MAX };
        decode(&json, limits, &mut |operation| {
            seen.push(show(&operation));
            Ok(())
        }).unwrap();
        let of = |bytes: &[u8]| Cow::Owned(bytes.to_vec());
        let mut expected = vec![
            Operation::Put { key: of(key), value: of(value), expiry: None },
            Operation::Put { key: of(key), value: of(value), expiry: ttl.map(Expiry::After) },
            Operation::Put { key: of(key), value: of(value), expiry: Some(Expiry::At(time)) },
            Operation::Delete { key: of(key) },
            Operation::Incr { key: of(key), by },
            Operation::DeleteRange(Range::Prefix(of(key))),
        ];
        expected.extend(demands.map(|demand| Operation::Require { key: of(key), demand }));
        prop_assert_eq!(seen, expected.iter().map(show).collect::<Vec<_>>());
    }

    /// CHECKS 35.
    #[test]
    fn any_input_is_decoded_or_refused(json: Vec<u8>) {
        let _ = decode(&json, LIMITS, &mut |_| Ok(()));
    }
}
