//! Ports on loopback that are one test's alone.

use std::{
    fs::{File, OpenOptions},
    io,
    net::TcpListener,
};

/// Below the ports that the kernel gives to outgoing connections (32,768 and up, unless somebody changed that), so that one is still
/// free when a process that had it starts again.
const FIRST: u16 = 15_000;
const BLOCK: u16 = 50;
const BLOCKS: u16 = 340;

/// A block of ports, held by a locked file: tests in other threads and processes take other blocks, though nobody listens there
/// at the moment. Given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    end: u16,
    _held: File,
}

impl Ports {
    /// Takes a block that nobody holds. Errors: the temporary directory cannot be written to; all blocks are held.
    #[expect(clippy::disallowed_methods, reason = "a file of a harness, not of the store")]
    pub fn reserve() -> io::Result<Self> {
        let dir = std::env::temp_dir().join("esker-test-ports");
        std::fs::create_dir_all(&dir)?;
        // Where others begin elsewhere, blocks are used again later, when what was closed is forgotten.
        let begin = (std::process::id() % u32::from(BLOCKS)) as u16;
        for block in (begin..BLOCKS).chain(0..begin) {
            let first = FIRST + block * BLOCK;
            let path = dir.join(format!("{first}.lock"));
            let held = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            if held.try_lock().is_ok() {
                return Ok(Self { next: first, end: first + BLOCK, _held: held });
            }
        }
        Err(io::Error::other("all blocks of ports are held by other tests"))
    }

    /// The next one on which nobody listens. Errors: the block has no more.
    #[expect(
        clippy::disallowed_methods,
        reason = "looking for a free port is the one thing done with the socket"
    )]
    pub fn next_free(&mut self) -> io::Result<u16> {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        Err(io::Error::other("the block of ports has no more"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut blocks: Vec<Ports> = (0..4).map(|_| Ports::reserve().unwrap()).collect();
        let ports: Vec<u16> =
            blocks.iter_mut().flat_map(|block| (0..20).map(|_| block.next_free().unwrap())).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    }
}
