//! The HTTP API of bipedalnet as types, and a client for it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`api`] | the bodies of requests and responses; the server uses them too |
//! | `client` | [`Client`]: a method for each operation that a backend needs |
//! | `exchange` | one request: headers, time limits, retries |
//! | `events` | following a training job |
//! | `body` | recordings and documents as compressed CBOR |
//! | `error` | [`ClientError`] |
//!
//! # Example
//!
//! ```no_run
//! use bipedalnet_client::api::Verified;
//! use bipedalnet_client::{Client, VerifyOptions};
//! use bipedalnet_core::gait::Recording;
//!
//! # fn record_walk() -> Recording { unimplemented!() }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("https://gait.example.com", std::env::var("BIPEDALNET_KEY").ok())?;
//!
//! client.put_user("ann").await?;
//! let enrolled = client.enroll("ann", &record_walk()).await?;
//! println!("{} more windows of walking are needed", enrolled.user.windows_missing);
//!
//! match client.identify(&record_walk(), None).await?.user {
//!     Some(user) => println!("this is {user}"),
//!     None => println!("this is not an enrolled user"),
//! }
//!
//! let options = VerifyOptions { fmr: Some(0.001), ..VerifyOptions::default() };
//! let answer = client.verify("ann", &record_walk(), &options).await?;
//! let is_ann = answer.decision == Verified::Accept;
//! # Ok(())
//! # }
//! ```
//!
//! # Retries
//!
//! The client retries a request up to four times within a minute:
//!
//! - after a lost connection or a time-out,
//! - after the statuses 408, 429, 502, 503 and 504, and after 409 if the first try is still running.
//!
//! It waits at least as long as `Retry-After` says. Retries are safe: each request that changes
//! something carries its own `Idempotency-Key`, so the server applies it once.

pub mod api;
mod body;
mod client;
mod error;
mod events;
mod exchange;

pub use body::{Body, walk};
pub use client::{Client, VerifyOptions};
pub use error::ClientError;
