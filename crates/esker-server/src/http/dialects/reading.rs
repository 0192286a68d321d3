//! JSON bodies of many items, read one by one: who sends more than is allowed holds no memory for it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::http::error::ApiError;

/// Text that is borrowed from the body where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Serde takes an array for the fields of an object in their order, and its words for that have the names of types in them.
pub(super) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

pub(super) const NO_OBJECT: &str = "it is no object";

/// Why a body is refused. Nothing of it may be committed.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It is not the JSON it should be.
    Malformed(String),
    /// It lacks its field.
    Missing,
    /// An item was refused.
    Refused(ApiError),
}

/// Reads `{"<field>":[item,...]}` and hands every item to `each`, in order. Other fields are passed over.
pub(super) fn read_list<'de, T: Deserialize<'de>>(
    json: &'de [u8],
    field: &'static str,
    each: &mut dyn FnMut(T) -> Result<(), ApiError>,
) -> Result<(), BodyError> {
    let mut refused = None;
    let list = List { each, refused: &mut refused };
    let mut found = false;
    let read = read_object(json, field, list, &mut found);
    ended(read, refused)?;
    if found { Ok(()) } else { Err(BodyError::Missing) }
}

/// Reads `{"<name>":"<text>",...}` and hands every pair to `each`, in order.
pub(super) fn read_pairs<'de>(
    json: &'de [u8],
    each: &mut dyn FnMut(Cow<'de, str>, Cow<'de, str>) -> Result<(), ApiError>,
) -> Result<(), BodyError> {
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let pairs = Pairs { each, refused: &mut refused };
    let read = deserializer.deserialize_map(pairs).and_then(|()| deserializer.end());
    ended(read, refused)
}

/// serde's own errors carry only text, so a refusal is kept aside.
fn ended(read: serde_json::Result<()>, refused: Option<ApiError>) -> Result<(), BodyError> {
    match (read, refused) {
        (_, Some(refused)) => Err(BodyError::Refused(refused)),
        (Err(e), None) => Err(BodyError::Malformed(e.to_string())),
        (Ok(()), None) => Ok(()),
    }
}

fn read_object<'de, 'r, T: Deserialize<'de>>(
    json: &'de [u8],
    field: &'static str,
    list: List<'r, T>,
    found: &'r mut bool,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.deserialize_map(Object { field, list: Some(list), found })?;
    deserializer.end()
}

/// An object of which one field counts.
struct Object<'r, T> {
    field: &'static str,
    /// `None` once it is read.
    list: Option<List<'r, T>>,
    found: &'r mut bool,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if name.0 != self.field {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let list = self.list.take().ok_or_else(|| A::Error::duplicate_field(self.field))?;
            map.next_value_seed(list)?;
            *self.found = true;
        }
        Ok(())
    }
}

/// An array whose items are handed on one by one.
struct List<'r, T> {
    each: &'r mut dyn FnMut(T) -> Result<(), ApiError>,
    refused: &'r mut Option<ApiError>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<T>()? {
            (self.each)(item).map_err(|e| {
                *self.refused = Some(e);
                A::Error::custom("refused")
            })?;
        }
        Ok(())
    }
}

/// An object whose fields are handed on one by one.
struct Pairs<'r, 'de> {
    each: &'r mut dyn FnMut(Cow<'de, str>, Cow<'de, str>) -> Result<(), ApiError>,
    refused: &'r mut Option<ApiError>,
}

impl<'de> Visitor<'de> for Pairs<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, text)) = map.next_entry::<Text<'de>, Text<'de>>()? {
            (self.each)(name.0, text.0).map_err(|e| {
                *self.refused = Some(e);
                A::Error::custom("refused")
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(json: &str) -> Result<Vec<u32>, BodyError> {
        let mut seen = Vec::new();
        read_list(json.as_bytes(), "items", &mut |item: u32| {
            seen.push(item);
            if item < 9 { Ok(()) } else { Err(ApiError::bad_request("nine")) }
        })?;
        Ok(seen)
    }

    #[test]
    fn items_come_in_order_and_other_fields_are_passed_over() {
        assert_eq!(list(r#"{"a":[{}],"items":[2,1],"b":null}"#).unwrap(), [2, 1]);
        assert!(list(r#"{"items":[]}"#).unwrap().is_empty());
        assert!(matches!(list("{}"), Err(BodyError::Missing)));
        assert!(matches!(list(r#"{"items":[1,9,"x"]}"#), Err(BodyError::Refused(_))));
        for bad in ["", "[]", r#"{"items":{}}"#, r#"{"items":[1],"items":[]}"#, r#"{"items":[1]} x"#] {
            assert!(matches!(list(bad), Err(BodyError::Malformed(_))), "{bad}");
        }
    }

    /// CHECKS 33.
    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(list(&deep).is_err());
        assert!(list(&format!(r#"{{"other":{deep}"#)).is_err());
        assert!(list(&format!(r#"{{"items":{deep}"#)).is_err());
    }

    #[test]
    fn pairs_come_in_order_also_twice() {
        let mut seen = Vec::new();
        let json = br#"{"b":"1","a\n":"","b":"2"}"#;
        read_pairs(json, &mut |name, text| {
            seen.push(format!("{name}={text}"));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["b=1", "a\n=", "b=2"]);
        for bad in ["", "[]", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":"1"} x"#] {
            assert!(read_pairs(bad.as_bytes(), &mut |_, _| Ok(())).is_err(), "{bad}");
        }
    }
    proptest! {
        /// CHECKS 35.
        #[test]
        fn any_body_is_read_or_refused(bytes: Vec<u8>, text in r#"\{("items"|"a"|[a-z:,"\[\]{}\\0-9]){0,60}"#) {
            for body in [&bytes[..], text.as_bytes()] {
                let mut items = 0;
                let read = read_list(body, "items", &mut |_: Text<'_>| {
                    items += 1;
                    Ok(())
                });
                prop_assert!(items <= body.len());
                prop_assert!(!matches!(read, Err(BodyError::Refused(_))), "nothing was");
                prop_assert!(!matches!(read_pairs(body, &mut |_, _| Ok(())), Err(BodyError::Missing | BodyError::Refused(_))));
            }
        }

        #[test]
        fn what_is_written_is_read(pairs: std::collections::BTreeMap<String, String>) {
            let body = serde_json::to_vec(&pairs).unwrap();
            let mut seen = std::collections::BTreeMap::new();
            read_pairs(&body, &mut |name, text| {
                seen.insert(name.into_owned(), text.into_owned());
                Ok(())
            }).unwrap();
            prop_assert_eq!(seen, pairs);
        }
    }
}
