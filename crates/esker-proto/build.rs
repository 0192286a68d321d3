//! Generates the Rust of the published proto files, without protoc.

use std::path::{Path, PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let files = ["esker/v1/kv.proto", "esker/v1/cluster.proto"].map(|file| root.join(file));
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo names OUT_DIR")?);
    write(&out.join("esker.bin"), &descriptors.encode_to_vec())?;
    // Whoever connects chooses the transport.
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a build script writes what it generates")]
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}
