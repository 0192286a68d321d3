//! Follows the changes of a prefix, and says where to go on another time:
//! `cargo run -p esker-client --example watch -- colour/ [VERSION]`.

use esker_client::{Client, WatchEvent, WatchOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut options = WatchOptions::prefix(arguments.next().unwrap_or_default());
    if let Some(version) = arguments.next() {
        options = options.from(version.parse()?);
    }
    let client = Client::new("http://127.0.0.1:8080")?;
    let mut changes = client.watch(options).await?;
    while let Some(event) = changes.next().await {
        match event? {
            WatchEvent::Put { key, value, version, .. } => {
                println!(
                    "{version}: {:?} = {:?}",
                    key.escape_ascii().to_string(),
                    value.map(|value| value.len())
                );
            }
            WatchEvent::Progress { version } => println!("{version}: go on from {}", version + 1),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
