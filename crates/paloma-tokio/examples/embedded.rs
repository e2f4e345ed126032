//! A broker inside a program, on the program's own runtime.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use paloma_tokio::{Broker, Config};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let config = Config::new().listen(([127, 0, 0, 1], 0).into());
    let broker = Broker::start(config).await?;
    println!("listening on {:?}", broker.local_addresses());
    // Here the program does what it is for.
    broker.stop().await.map_err(std::io::Error::other)
}
