use esker_client::blocking::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::var("KV_ENDPOINT").unwrap_or("http://127.0.0.1:8080".into());
    let client = Client::new(&endpoint)?;
    client.put(b"greeting", "hello")?;
    if let Some(entry) = client.get(b"greeting")? {
        println!("{:?}, version {}", entry.value, entry.version); // prints: b"hello", version 1
    }
    println!("{}", client.incr(b"visits", 1)?.value); // prints: 1
    Ok(())
}
