//! CHECKS 35: Any bytes as a request over gRPC: refused, or no more elements than were counted before they were decoded.
#![no_main]

use esker_proto::{
    fields,
    v1::{BatchRequest, MultiGetRequest, PutRequest, ScanRequest},
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|message: &[u8]| {
    let count = fields::count(message);
    if let Ok(batch) = BatchRequest::decode(message)
        && let Some(count) = count
    {
        assert!(batch.operations.len() + batch.conditions.len() <= count);
    }
    if let Ok(asked) = MultiGetRequest::decode(message)
        && let Some(count) = count
    {
        assert!(asked.keys.len() <= count);
    }
    if let Ok(put) = PutRequest::decode(message) {
        assert!(PutRequest::decode(&*put.encode_to_vec()).is_ok_and(|again| again == put));
    }
    if let Ok(scan) = ScanRequest::decode(message) {
        assert!(ScanRequest::decode(&*scan.encode_to_vec()).is_ok_and(|again| again == scan));
    }
});
