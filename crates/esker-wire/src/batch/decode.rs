//! Reading a batch: each operation is handed on as soon as it is read.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{
    json::{JsonCondition, JsonOperation},
    operation::Operation,
};

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most operations.
    pub operations: usize,
    /// The most bytes of keys and values together.
    pub bytes: usize,
}

/// Why a batch is refused. Nothing of it may be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// It is not the JSON it should be, or an operation breaks a rule.
    Malformed(String),
    /// It is larger than a limit.
    TooLarge(String),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::TooLarge(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BatchError {}

/// Reads a batch and hands every operation to `each`, in order, and every condition; says how many operations there were.
/// Conditions count for the limits as operations do.
///
/// `each` may refuse an operation with a reason. On an error the operations handed on so far are void.
pub fn decode(
    json: &[u8],
    limits: BatchLimits,
    each: &mut dyn FnMut(Operation<'_>) -> Result<(), String>,
) -> Result<usize, BatchError> {
    let mut reader = Reader { limits, each, operations: 0, conditions: 0, bytes: 0, refused: None };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = reader.read(&mut deserializer).and_then(|()| deserializer.end());
    match (read, reader.refused) {
        (_, Some(refused)) => Err(refused),
        (Err(e), None) => Err(BatchError::Malformed(format!("the body is not a batch: {e}"))),
        (Ok(()), None) if reader.operations == 0 => {
            Err(BatchError::Malformed("`operations` is empty: a batch needs at least one".into()))
        }
        (Ok(()), None) => Ok(reader.operations),
    }
}

/// What serde walks with. serde's own errors carry only text, so a refusal is kept aside in `refused`.
struct Reader<'f> {
    limits: BatchLimits,
    each: &'f mut dyn FnMut(Operation<'_>) -> Result<(), String>,
    operations: usize,
    conditions: usize,
    bytes: usize,
    refused: Option<BatchError>,
}

impl Reader<'_> {
    fn read<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(Body(self))
    }

    fn take(&mut self, operation: JsonOperation<'_>) -> Result<(), BatchError> {
        let at = self.operations;
        self.operations += 1;
        self.hand_on(operation.into_operation(), &format_args!("operation {at}"))
    }

    fn take_condition(&mut self, condition: JsonCondition<'_>) -> Result<(), BatchError> {
        let at = self.conditions;
        self.conditions += 1;
        self.hand_on(condition.into_condition(), &format_args!("condition {at}"))
    }

    /// `place` is only for errors.
    fn hand_on(
        &mut self,
        operation: Result<Operation<'_>, String>,
        place: &dyn fmt::Display,
    ) -> Result<(), BatchError> {
        let malformed = |why| BatchError::Malformed(format!("{place}: {why}"));
        let operation = operation.map_err(malformed)?;
        self.bytes += operation.len();
        if self.operations + self.conditions > self.limits.operations {
            let limit = self.limits.operations;
            return Err(BatchError::TooLarge(format!(
                "the batch has more than {limit} operations: split it"
            )));
        }
        if self.bytes > self.limits.bytes {
            let limit = self.limits.bytes;
            return Err(BatchError::TooLarge(format!("the batch has more than {limit} bytes: split it")));
        }
        (self.each)(operation).map_err(malformed)
    }
}

struct Body<'r, 'f>(&'r mut Reader<'f>);

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `operations`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut operations, mut conditions) = (false, false);
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match field.as_ref() {
                "operations" if operations => return Err(A::Error::duplicate_field("operations")),
                "if" if conditions => return Err(A::Error::duplicate_field("if")),
                "operations" => {
                    operations = true;
                    map.next_value_seed(Each::<JsonOperation<'de>>::new(self.0, Reader::take))?;
                }
                "if" => {
                    conditions = true;
                    map.next_value_seed(Each::<JsonCondition<'de>>::new(self.0, Reader::take_condition))?;
                }
                other => return Err(A::Error::unknown_field(other, &["operations", "if"])),
            }
        }
        if operations { Ok(()) } else { Err(A::Error::missing_field("operations")) }
    }
}

/// An array whose items are handed on one by one.
struct Each<'r, 'f, T> {
    reader: &'r mut Reader<'f>,
    take: fn(&mut Reader<'f>, T) -> Result<(), BatchError>,
}

impl<'r, 'f, T> Each<'r, 'f, T> {
    fn new(reader: &'r mut Reader<'f>, take: fn(&mut Reader<'f>, T) -> Result<(), BatchError>) -> Self {
        Self { reader, take }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Each<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<T>()? {
            if let Err(refused) = (self.take)(self.reader, item) {
                self.reader.refused = Some(refused);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
