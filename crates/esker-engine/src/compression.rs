//! Compression of values, each by itself: what is written says how, so the setting may change at any time.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
};

use esker_log::{Error, Result, record::VALUE_LEN_MAX};
use flate2::{read::GzDecoder, write::GzEncoder};

/// How values are compressed when they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: hardly slower than none.
    Lz4,
    /// Zstandard at a level from 1 (fast) to 22 (small); 3 is its own default.
    Zstd(i32),
    /// Gzip at a level from 0 (stored) to 9 (small); 6 is its own default.
    Gzip(u32),
}

/// The methods as a record's flags name them. On disk: never reuse one.
const LZ4: u8 = 1;
const ZSTD: u8 = 2;
const GZIP: u8 = 3;

/// Shorter values are not tried: the length in front and the time are not worth what may be saved.
const VALUE_LEN_MIN: usize = 64;

/// Bytes of the length in front of a compressed value.
const LENGTH_LEN: usize = 4;

impl Compression {
    /// Errors with `InvalidRequest` if the level is out of range.
    pub(crate) fn check(self) -> Result<()> {
        let refuse = |what: &str| Err(Error::InvalidRequest(format!("the level of {what}")));
        match self {
            Self::Zstd(level) if !(1..=22).contains(&level) => refuse("zstd must be 1 to 22"),
            Self::Gzip(level) if level > 9 => refuse("gzip must be 0 to 9"),
            _ => Ok(()),
        }
    }

    /// Whether a value of this length is compressed at all.
    pub(crate) fn may_compress(self, value_len: usize) -> bool {
        self != Self::None && value_len >= VALUE_LEN_MIN
    }

    /// Hands the value's compressed body and the method for the flags to `take`; `None` where at least an eighth would not be
    /// saved.
    pub(crate) fn compress<R>(self, value: &[u8], take: impl FnOnce(u8, &[u8]) -> R) -> Option<R> {
        if !self.may_compress(value.len()) {
            return None;
        }
        BENCH.with_borrow_mut(|bench| {
            let method = bench.compress(self, value)?;
            let taken =
                (bench.body.len() <= value.len() - value.len() / 8).then(|| take(method, &bench.body));
            bench.body.shrink_to(BENCH_BYTES_KEPT);
            taken
        })
    }
}

/// A thread keeps so much room for bodies; what a larger value took is given back.
const BENCH_BYTES_KEPT: usize = 256 << 10;

thread_local! {
    /// Making room and tables anew for each value took longer than compressing short ones.
    static BENCH: RefCell<Bench> = RefCell::default();
}

/// What a thread compresses with.
#[derive(Default)]
struct Bench {
    body: Vec<u8>,
    lz4: lz4_flex::block::CompressTable,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    zstd_level: i32,
}

impl Bench {
    /// Leaves the compressed body in `body`; gives the method.
    fn compress(&mut self, compression: Compression, value: &[u8]) -> Option<u8> {
        self.body.clear();
        self.body.extend_from_slice(&(value.len() as u32).to_le_bytes());
        match compression {
            Compression::None => None,
            Compression::Lz4 => {
                let most = lz4_flex::block::get_maximum_output_size(value.len());
                self.body.resize(LENGTH_LEN + most, 0);
                let room = &mut self.body[LENGTH_LEN..];
                let len = lz4_flex::block::compress_into_with_table(value, room, &mut self.lz4).ok()?;
                self.body.truncate(LENGTH_LEN + len);
                Some(LZ4)
            }
            Compression::Zstd(level) => {
                let packed = self.zstd(level)?.compress(value).ok()?;
                self.body.extend_from_slice(&packed);
                Some(ZSTD)
            }
            Compression::Gzip(level) => {
                let mut encoder = GzEncoder::new(&mut self.body, flate2::Compression::new(level.min(9)));
                encoder.write_all(value).and_then(|()| encoder.finish().map(drop)).ok()?;
                Some(GZIP)
            }
        }
    }

    fn zstd(&mut self, level: i32) -> Option<&mut zstd::bulk::Compressor<'static>> {
        if self.zstd.is_none() || self.zstd_level != level {
            self.zstd = Some(zstd::bulk::Compressor::new(level).ok()?);
            self.zstd_level = level;
        }
        self.zstd.as_mut()
    }
}

/// The value that a compressed body holds. It is exactly as long as the body says, and no more is ever allocated.
///
/// Errors: `InvalidRequest` if it makes no sense. Its checksum was right, so whoever wrote it did not know how.
pub(crate) fn decompress(method: u8, body: &[u8]) -> Result<Vec<u8>> {
    let bad = || Error::InvalidRequest("a compressed value makes no sense".into());
    let (len, packed) = body.split_first_chunk::<LENGTH_LEN>().ok_or_else(bad)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > VALUE_LEN_MAX {
        return Err(bad());
    }
    let value = match method {
        LZ4 => lz4_flex::block::decompress(packed, len).map_err(|_| bad())?,
        ZSTD => unpack_zstd(packed, len).map_err(|_| bad())?,
        GZIP => {
            let mut value = Vec::new();
            let limit = len as u64 + 1;
            GzDecoder::new(packed).take(limit).read_to_end(&mut value).map_err(|_| bad())?;
            value
        }
        _ => return Err(bad()),
    };
    if value.len() == len { Ok(value) } else { Err(bad()) }
}

thread_local! {
    /// A context is larger than most values.
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn unpack_zstd(packed: &[u8], len: usize) -> io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(zstd::bulk::Decompressor::new()?),
        };
        unpacker.decompress(packed, len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(compression: Compression, value: &[u8]) -> Option<(u8, Vec<u8>)> {
        compression.compress(value, |method, body| (method, body.to_vec()))
    }

    const ALL: [Compression; 3] = [Compression::Lz4, Compression::Zstd(3), Compression::Gzip(6)];

    #[test]
    fn what_is_compressed_comes_back() {
        for compression in ALL {
            for value in [vec![b'a'; 64], b"abcdefgh".repeat(1000), vec![0; 1 << 20]] {
                let (method, body) = compressed(compression, &value).expect("it pays");
                assert!(body.len() < value.len());
                assert_eq!(decompress(method, &body).unwrap(), value, "{compression:?}");
            }
        }
    }

    #[test]
    fn what_does_not_pay_is_left_alone() {
        let noise: Vec<u8> = (0..4096_u32)
            .flat_map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 31).to_le_bytes())
            .collect();
        let noise: Vec<u8> = noise.iter().enumerate().map(|(i, byte)| byte ^ ((i * i) >> 3) as u8).collect();
        for compression in ALL {
            assert!(compressed(compression, &[b'a'; 63]).is_none());
            if let Some((_, body)) = compressed(compression, &noise) {
                assert!(body.len() <= noise.len() - noise.len() / 8, "{compression:?}");
            }
        }
        assert!(compressed(Compression::None, &[b'a'; 1000]).is_none());
    }

    /// CHECKS 35: lengths are checked before anything is allocated, and what is no value is an error.
    #[test]
    fn what_makes_no_sense_is_refused() {
        for (method, body) in ALL.map(|compression| compressed(compression, &[b'a'; 1000]).unwrap()) {
            for cut in 0..body.len() {
                assert!(decompress(method, &body[..cut]).is_err(), "{method} {cut}");
            }
            for len in [0_u32, 999, 1001, u32::MAX] {
                let mut lying = body.clone();
                lying[..4].copy_from_slice(&len.to_le_bytes());
                assert!(decompress(method, &lying).is_err(), "{method} {len}");
            }
        }
        assert!(decompress(0, &[0; 8]).is_err());
    }
}
