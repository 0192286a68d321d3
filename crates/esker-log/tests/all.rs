//! All that is said of the log from outside, in one binary, a module each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod commit;
mod defects;
mod files;
mod merge;
mod recovery;
mod support;
mod writer;

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
