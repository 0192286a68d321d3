//! The bitcask engine: values stay in the log, an ordered index in memory says where.

pub mod keydir;
