//! Who calls and who is meant, in the metadata of a call. The head of the proto file has the form.

use tonic::{
    Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

use super::{Caller, Id, Identity};

const CLUSTER: &str = "esker-cluster";
const FROM: &str = "esker-from";
const TO: &str = "esker-to";

/// The metadata of every call on the caller's behalf.
pub(super) fn of(caller: &Caller) -> MetadataMap {
    let mut metadata = MetadataMap::with_capacity(3);
    metadata.insert(CLUSTER, value(hex(caller.cluster)));
    metadata.insert(FROM, value(identity(caller.from)));
    metadata.insert(TO, value(identity(caller.to)));
    metadata
}

/// The caller, or INVALID_ARGUMENT.
pub(super) fn caller(metadata: &MetadataMap) -> Result<Caller, Status> {
    Ok(Caller {
        cluster: read(metadata, CLUSTER, parse_hex)?,
        from: read(metadata, FROM, parse_identity)?,
        to: read(metadata, TO, parse_identity)?,
    })
}

fn value(text: String) -> MetadataValue<Ascii> {
    text.parse().expect("digits and dashes are allowed in metadata")
}

fn identity(identity: Identity) -> String {
    format!("{}-{}", identity.node, hex(identity.instance))
}

fn hex(id: Id) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

fn read<T>(metadata: &MetadataMap, key: &str, parse: fn(&str) -> Option<T>) -> Result<T, Status> {
    let mut values = metadata.get_all(key).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Status::invalid_argument(format!("the call must have one {key}")));
    };
    let parsed = value.to_str().ok().and_then(parse);
    parsed.ok_or_else(|| Status::invalid_argument(format!("the call's {key} is malformed")))
}

fn parse_identity(text: &str) -> Option<Identity> {
    let (node, instance) = text.split_once('-')?;
    // `parse` would also take a sign.
    let digits = node.bytes().all(|byte| byte.is_ascii_digit());
    Some(Identity { node: node.parse().ok().filter(|_| digits)?, instance: parse_hex(instance)? })
}

fn parse_hex(text: &str) -> Option<Id> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| digits).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const CALLER: Caller = Caller {
        cluster: *b"0123456789abcdef",
        from: Identity { node: 7, instance: [0; 16] },
        to: Identity { node: u64::MAX, instance: [0xff; 16] },
    };

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(caller(&of(&CALLER)).unwrap(), CALLER);
        assert_eq!(of(&CALLER).get(FROM).unwrap(), "7-00000000000000000000000000000000");
    }

    #[test]
    fn anything_else_is_refused() {
        let id = "0".repeat(32);
        let wrong = [
            (CLUSTER, String::new()),
            (CLUSTER, "0".repeat(31)),
            (CLUSTER, "0".repeat(33)),
            (CLUSTER, format!("+{}", "0".repeat(31))),
            (CLUSTER, "g".repeat(32)),
            (FROM, id.clone()),
            (FROM, format!("-{id}")),
            (FROM, format!("+1-{id}")),
            (TO, format!("1-{id}-")),
            (TO, format!("18446744073709551616-{id}")),
        ];
        for (key, text) in wrong {
            let mut metadata = of(&CALLER);
            metadata.insert(key, value(text.clone()));
            assert_eq!(caller(&metadata).unwrap_err().code(), Code::InvalidArgument, "{key}: {text}");
        }
    }

    #[test]
    fn each_must_be_there_once() {
        for key in [CLUSTER, FROM, TO] {
            let mut metadata = of(&CALLER);
            let value = metadata.remove(key).unwrap();
            assert_eq!(caller(&metadata).unwrap_err().code(), Code::InvalidArgument);
            metadata.append(key, value.clone());
            assert_eq!(caller(&metadata).unwrap(), CALLER);
            metadata.append(key, value);
            assert_eq!(caller(&metadata).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
