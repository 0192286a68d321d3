//! Esker's storage engines.

pub mod bitcask;
