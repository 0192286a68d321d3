//! The operations of a batch as they are given, whatever that is: what is wrong with one is no matter of the others, so only
//! what is no JSON at all ends the reading.

use std::{borrow::Cow, fmt};

use esker_wire::{Encoding, decode_text};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::http::dialects::reading::Text;

/// What a visitor makes of JSON values that it does not expect: takes them in, and says so.
macro_rules! anything_else {
    ($value:expr) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

/// A valid operation: a put, or a delete where there is no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write<'a> {
    pub(super) key: Cow<'a, [u8]>,
    pub(super) value: Option<Cow<'a, [u8]>>,
}

/// An operation as it is given. Fields that are not named here are passed over.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    is_object: bool,
    kind: Field<'a>,
    key: Field<'a>,
    value: Field<'a>,
    encoding: Field<'a>,
}

/// A field as it is given.
#[derive(Debug, Default)]
enum Field<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Other,
}

impl<'a> Given<'a> {
    /// Its type, if that is text.
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.text()
    }

    /// Its key, if that is text.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.text()
    }

    /// What it asks for, or what is wrong with it.
    pub(super) fn into_write(self) -> Result<Write<'a>, String> {
        if !self.is_object {
            return Err("the operation is not an object".into());
        }
        let is_put = match self.kind.required("type")?.as_ref() {
            "put" => true,
            "delete" => false,
            _ => return Err("the type is neither put nor delete".into()),
        };
        let encoding = match self.encoding {
            Field::Absent => None,
            Field::Text(name) if name == "base64" => Some(Encoding::Base64),
            Field::Text(_) | Field::Other => return Err("the 'encoding' field takes base64 only".into()),
        };
        let bytes = |name: &str, field: Field<'a>| {
            decode_text(field.required(name)?, encoding).map_err(|e| format!("the '{name}' field is {e}"))
        };
        let key = bytes("key", self.key)?;
        let value = if is_put { Some(bytes("value", self.value)?) } else { None };
        Ok(Write { key, value })
    }
}

impl<'a> Field<'a> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Other => None,
        }
    }

    fn required(self, name: &str) -> Result<Cow<'a, str>, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Absent => Err(format!("Missing '{name}' field")),
            Self::Other => Err(format!("the '{name}' field is not text")),
        }
    }
}

impl<'de> Deserialize<'de> for Given<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Operation;

        impl<'de> Visitor<'de> for Operation {
            type Value = Given<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an operation")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given<'de>, A::Error> {
                let mut given = Given { is_object: true, ..Given::default() };
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    let field = match name.0.as_ref() {
                        "type" => &mut given.kind,
                        "key" => &mut given.key,
                        "value" => &mut given.value,
                        "encoding" => &mut given.encoding,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = map.next_value()?;
                }
                Ok(given)
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Given<'de>, E> {
                Ok(Given::default())
            }

            fn visit_unit<E: Error>(self) -> Result<Given<'de>, E> {
                Ok(Given::default())
            }

            anything_else!(Given::default());
        }

        deserializer.deserialize_any(Operation)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyField;

        impl<'de> Visitor<'de> for AnyField {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Field<'de>, E> {
                Ok(Field::Text(text.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Field<'de>, E> {
                Ok(Field::Text(text.to_owned().into()))
            }

            fn visit_unit<E: Error>(self) -> Result<Field<'de>, E> {
                Ok(Field::Absent)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }

            anything_else!(Field::Other);
        }

        deserializer.deserialize_any(AnyField)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<String, String> {
        let given: Given<'_> = serde_json::from_str(json).unwrap();
        let Write { key, value } = given.into_write()?;
        let value = value.map_or("gone".into(), |value| value.escape_ascii().to_string());
        Ok(format!("{}={value}", key.escape_ascii()))
    }

    #[test]
    fn puts_and_deletes_are_read() {
        assert_eq!(read(r#"{"type":"put","key":"a\n","value":""}"#).unwrap(), "a\\n=");
        assert_eq!(read(r#"{"value":1,"key":"a","type":"delete","more":[{}]}"#).unwrap(), "a=gone");
        let coded = r#"{"type":"put","key":"/w==","value":"AA","encoding":"base64"}"#;
        assert_eq!(read(coded).unwrap(), "\\xff=\\x00");
    }

    #[test]
    fn whatever_is_json_is_taken_and_told() {
        for (json, why) in [
            ("7", "not an object"),
            ("-7", "not an object"),
            ("0.5", "not an object"),
            ("null", "not an object"),
            ("true", "not an object"),
            ("\"put\"", "not an object"),
            ("[{}]", "not an object"),
            ("{}", "Missing 'type' field"),
            (r#"{"type":1}"#, "the 'type' field is not text"),
            (r#"{"type":"incr","key":"a"}"#, "the type is neither put nor delete"),
            (r#"{"type":"delete"}"#, "Missing 'key' field"),
            (r#"{"type":"put","key":"a"}"#, "Missing 'value' field"),
            (r#"{"type":"put","key":"a","value":null}"#, "Missing 'value' field"),
            (r#"{"type":"put","key":["a"],"value":""}"#, "the 'key' field is not text"),
            (r#"{"type":"put","key":"a","value":{"b":{}}}"#, "the 'value' field is not text"),
            (r#"{"type":"put","key":"*","value":"","encoding":"base64"}"#, "the 'key' field is not base64"),
            (r#"{"type":"delete","key":"a","encoding":"hex"}"#, "takes base64 only"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            "put|delete|base64|[a-z]{0,3}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let fields = prop::collection::btree_map("type|key|value|encoding|x", inner.clone(), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(serde_json::Value::from),
                fields.prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// CHECKS 35.
        #[test]
        fn any_json_is_an_operation_or_says_what_is_wrong(json in any_json()) {
            let text = json.to_string();
            let given: Given<'_> = serde_json::from_str(&text).unwrap();
            let write = given.into_write();
            prop_assert!(json.is_object() || write.is_err(), "{}", text);
            prop_assert!(write.is_err() || json["key"].is_string(), "{}", text);
        }
    }
}
