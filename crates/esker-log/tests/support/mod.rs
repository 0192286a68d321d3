//! A log on a simulated disk, and frames for it.

pub(crate) mod merging;

use std::{collections::HashMap, path::Path, sync::Arc};

use esker_log::{
    Draft, LogOptions, Opening, Position, Recovered, Result,
    disk::sim::SimDisk,
    record::{RecordKind, Records, encode_record},
};

pub(crate) const DIR: &str = "/log";

pub(crate) fn options() -> LogOptions {
    LogOptions { segment_max_bytes: 2048, allocate_bytes: 512, ..LogOptions::default() }
}

/// Opens the log; gives also the value of each frame's only record.
pub(crate) fn open(disk: &SimDisk) -> Result<(Recovered, Vec<Vec<u8>>)> {
    open_with(disk, options())
}

pub(crate) fn open_with(disk: &SimDisk, options: LogOptions) -> Result<(Recovered, Vec<Vec<u8>>)> {
    let opening = Opening::begin(Arc::new(disk.clone()), Path::new(DIR), options, || Ok([3; 16]))?;
    let mut values = Vec::new();
    let recovered = opening.recover(Position::default(), HashMap::new(), &mut |frame| {
        assert_eq!(frame.header.index as usize, values.len() + 1);
        let (_, record) = Records::new(frame.payload).next().unwrap().unwrap();
        values.push(record.value.to_vec());
        Ok(())
    })?;
    Ok((recovered, values))
}

pub(crate) fn draft(value: &[u8]) -> Draft {
    let mut payload = Vec::new();
    encode_record(&mut payload, RecordKind::Put, b"key", value).unwrap();
    Draft::next(0, payload, 1)
}

/// The bytes that a frame with `value` takes.
pub(crate) fn frame_len(value: &[u8]) -> usize {
    esker_log::format::FRAME_HEADER_LEN + draft(value).payload.len()
}
