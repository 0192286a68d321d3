//! Compression of values, each by itself: what is written says how, so the setting may change at any time.

use std::io::{Read, Write};

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
    /// The value's compressed body and the method for the flags; `None` where at least an eighth would not be saved.
    pub(crate) fn compress(self, value: &[u8]) -> Option<(u8, Vec<u8>)> {
        if value.len() < VALUE_LEN_MIN {
            return None;
        }
        let mut body = (value.len() as u32).to_le_bytes().to_vec();
        let method = match self {
            Self::None => return None,
            Self::Lz4 => {
                body.extend(lz4_flex::block::compress(value));
                LZ4
            }
            Self::Zstd(level) => {
                body.extend(zstd::bulk::compress(value, level).ok()?);
                ZSTD
            }
            Self::Gzip(level) => {
                let mut encoder = GzEncoder::new(&mut body, flate2::Compression::new(level.min(9)));
                encoder.write_all(value).and_then(|()| encoder.finish().map(drop)).ok()?;
                GZIP
            }
        };
        (body.len() <= value.len() - value.len() / 8).then_some((method, body))
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
        ZSTD => zstd::bulk::decompress(packed, len).map_err(|_| bad())?,
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 3] = [Compression::Lz4, Compression::Zstd(3), Compression::Gzip(6)];

    #[test]
    fn what_is_compressed_comes_back() {
        for compression in ALL {
            for value in [vec![b'a'; 64], b"abcdefgh".repeat(1000), vec![0; 1 << 20]] {
                let (method, body) = compression.compress(&value).expect("it pays");
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
        let noise: Vec<u8> = noise.iter().enumerate().map(|(i, byte)| byte ^ (i * i >> 3) as u8).collect();
        for compression in ALL {
            assert!(compression.compress(&[b'a'; 63]).is_none());
            if let Some((_, body)) = compression.compress(&noise) {
                assert!(body.len() <= noise.len() - noise.len() / 8, "{compression:?}");
            }
        }
        assert!(Compression::None.compress(&[b'a'; 1000]).is_none());
    }

    /// CHECKS 35: lengths are checked before anything is allocated, and what is no value is an error.
    #[test]
    fn what_makes_no_sense_is_refused() {
        for (method, body) in ALL.map(|compression| compression.compress(&[b'a'; 1000]).unwrap()) {
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
