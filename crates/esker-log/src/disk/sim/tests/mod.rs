//! Each promise of the model, one test.

mod device;
mod faults;
mod power_loss;

use std::{path::Path, sync::Arc};

use super::SimDisk;
use crate::disk::{Disk as _, File, OpenMode};

const A: &str = "/a";
const B: &str = "/b";

fn create(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn open(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), OpenMode::ReadWrite).unwrap()
}

fn rename(disk: &SimDisk, from: &str, to: &str) {
    disk.rename(Path::new(from), Path::new(to)).unwrap();
}

fn remove(disk: &SimDisk, path: &str) {
    disk.remove(Path::new(path)).unwrap();
}

fn sync_root(disk: &SimDisk) {
    disk.sync_dir(Path::new("/")).unwrap();
}
