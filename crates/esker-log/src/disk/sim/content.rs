//! The bytes of a file, in pages that copies share until one of them writes.

use std::sync::Arc;

const PAGE: usize = 4096;

/// The longest file the simulation takes; it keeps one pointer per page of the written part.
pub(super) const LEN_MAX: u64 = 16 << 30;

type Page = [u8; PAGE];

/// The bytes of a file. A clone costs one reference count; pages never written are holes that read as zeros.
///
/// Invariant: bytes at and past `len` in the last page are zero, so that extending the file shows zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf` from `offset` as far as the file goes; says how many bytes that were.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buf.len() as u64));
        let total = end.saturating_sub(offset) as usize;
        let mut done = 0;
        while done < total {
            let (page, within) = locate(offset + done as u64);
            let n = (PAGE - within).min(total - done);
            match self.pages.get(page) {
                Some(Some(bytes)) => buf[done..done + n].copy_from_slice(&bytes[within..within + n]),
                _ => buf[done..done + n].fill(0),
            }
            done += n;
        }
        total
    }

    /// Puts `data` at `offset`, extending the file if need be.
    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        let pages = Arc::make_mut(&mut self.pages);
        let needed = end.div_ceil(PAGE as u64) as usize;
        if pages.len() < needed {
            pages.resize(needed, None);
        }
        let mut done = 0;
        while done < data.len() {
            let (page, within) = locate(offset + done as u64);
            let n = (PAGE - within).min(data.len() - done);
            let bytes = pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(bytes)[within..within + n].copy_from_slice(&data[done..done + n]);
            done += n;
        }
        self.len = self.len.max(end);
    }

    /// Cuts or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages = Arc::make_mut(&mut self.pages);
            pages.truncate(len.div_ceil(PAGE as u64) as usize);
            let (page, within) = locate(len);
            if let Some(Some(bytes)) = pages.get_mut(page) {
                Arc::make_mut(bytes)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Extends to `len` if shorter.
    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Inverts one bit; false if the file ends before.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let mut byte = [0];
        if self.read(&mut byte, offset) == 0 {
            return false;
        }
        self.write(&[byte[0] ^ (1 << bit)], offset);
        true
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }
}

/// The page that holds `offset`, and where in it.
fn locate(offset: u64) -> (usize, usize) {
    ((offset / PAGE as u64) as usize, (offset % PAGE as u64) as usize)
}
