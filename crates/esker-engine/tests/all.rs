//! All that is said of the engine from outside, in one binary, a module each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backup;
mod backup_archive;
mod backup_faults;
mod common;
mod compact;
mod conformance;
mod crash;
mod damage;
mod damage_merged;
mod faults;
mod fixtures;
mod merge;
mod merge_crash;
mod misplaced;
mod model;
mod races;
mod repair;
mod replica;
mod replica_crash;
mod replica_faults;
mod replica_time;
mod requests;
mod rows;
mod store;
mod verify_merged;
mod watch;

/// A file that is no module here would never be run.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test looks at the sources")]
fn every_file_takes_part() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = format!("\nmod {};\n", name.trim_end_matches(".rs"));
        assert!(name == "all.rs" || include_str!("all.rs").contains(&module), "{name}");
    }
}
