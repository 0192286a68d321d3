//! An atomic batch with a condition: moves an amount between two counters unless somebody else did it before.
//! `cargo run -p esker-client --example batch`.

use esker_client::{Batch, Condition, Error, WriteOptions, blocking::Client};

fn main() -> Result<(), Error> {
    let client = Client::new("http://127.0.0.1:8080")?;
    let mut batch = Batch::new();
    batch.require(b"transfer/17", Condition::Absent);
    batch.put(b"transfer/17", b"done");
    batch.incr(b"account/1", -25);
    batch.incr(b"account/2", 25);
    match client.batch(batch, WriteOptions::default()) {
        Ok(done) => println!("moved, at version {}", done.version),
        Err(Error::ConditionFailed { .. }) => println!("it was moved before"),
        Err(e) => return Err(e),
    }
    Ok(())
}
