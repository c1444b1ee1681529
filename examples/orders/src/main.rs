//! Serves the example: `ISSUER`, `AUDIENCE` and `LISTEN` in the environment say otherwise than the defaults here.

use std::env;
use std::error::Error;
use std::io::Write as _;

use keyward_guard::Guard;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name, usual: &str| env::var(name).unwrap_or_else(|_| usual.to_owned());
    let issuer = setting("ISSUER", "http://127.0.0.1:8080");
    let audience = setting("AUDIENCE", "https://orders.example");
    let guard = Guard::discover(issuer).audience(audience).realm("orders").await?;

    let listener = TcpListener::bind(setting("LISTEN", "127.0.0.1:3000")).await?;
    writeln!(std::io::stdout(), "orders: http://{}", listener.local_addr()?)?;
    axum::serve(listener, orders::router(guard)).await?;
    Ok(())
}
