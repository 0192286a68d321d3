//! All that is said of the fronts in one process, in one binary, a module each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "access/main.rs"]
mod access;
mod backup;
mod binary;
mod dialect_envelope;
mod dialect_query;
mod dialect_verb;
mod dialects;
mod faults;
mod limits;
mod native_api;
mod native_conditions;
mod native_keys;
mod support;
mod tls;
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
