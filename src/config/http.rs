use std::path::PathBuf;

use clap::ArgAction;

use super::CorsOrigins;

/// Limits on connections, TLS, and who may connect from a browser.
#[derive(clap::Args, Clone, Debug)]
pub struct ConnectionSettings {
    /// Largest number of open connections
    #[arg(
        long,
        env = "BIPEDALNET_MAX_CONNECTIONS",
        default_value_t = 1024,
        value_name = "NUMBER",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
    )]
    pub max_connections: usize,
    /// Largest number of open connections from one address. Behind a proxy, set it to max-connections
    #[arg(
        long,
        env = "BIPEDALNET_CONNECTIONS_PER_ADDRESS",
        default_value_t = 512,
        value_name = "NUMBER",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
    )]
    pub connections_per_address: usize,
    /// Time limit for a request's headers. A client must read something of each response in twice this
    /// time
    #[arg(
        long,
        env = "BIPEDALNET_HEADER_TIMEOUT_SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        value_name = "SECONDS"
    )]
    pub header_timeout_seconds: u64,
    /// How long a connection without requests stays open. Longer than the idle time of a load balancer in
    /// front, which is often 60 s, so that none sends a request while the server closes
    #[arg(
        long,
        env = "BIPEDALNET_IDLE_TIMEOUT_SECONDS",
        default_value_t = 75,
        value_parser = clap::value_parser!(u64).range(1..=600),
        value_name = "SECONDS"
    )]
    pub idle_timeout_seconds: u64,
    /// Largest size of a request's first line and headers
    #[arg(
        long,
        env = "BIPEDALNET_MAX_HEADER_BYTES",
        default_value_t = 16 << 10,
        value_parser = clap::value_parser!(u32).range(8 << 10..=1 << 20),
        value_name = "BYTES"
    )]
    pub max_header_bytes: u32,
    /// Certificate chain (PEM) for TLS. Without it, use a TLS proxy
    #[arg(long, env = "BIPEDALNET_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Origins of web pages that may call the API, such as https://app.example, with commas between
    /// them; * for all
    #[arg(long, env = "BIPEDALNET_CORS_ORIGINS", default_value = "", value_name = "ORIGINS")]
    pub cors_origins: CorsOrigins,
    /// Serve /phone, a page on which people record walks with their phone
    #[arg(
        long,
        env = "BIPEDALNET_PHONE_PAGE",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub phone_page: bool,
    /// Private key of the certificate (PEM, without a passphrase)
    #[arg(long, env = "BIPEDALNET_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// Limits on requests. All can change while the server runs.
#[derive(clap::Args, Clone, Debug)]
pub struct HttpSettings {
    /// Largest size of a body, before and after decompression
    #[arg(
        long,
        env = "BIPEDALNET_MAX_BODY_BYTES",
        default_value_t = 2 << 20,
        value_name = "BYTES",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1024..=64 << 20)
    )]
    pub max_body_bytes: usize,
    /// Largest number of items in a batch
    #[arg(
        long,
        env = "BIPEDALNET_MAX_BATCH",
        default_value_t = 64,
        value_name = "ITEMS",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64)
    )]
    pub max_batch: usize,
    /// Time limit for a request, from its last header to its response, including a slowly sent body
    #[arg(
        long,
        env = "BIPEDALNET_REQUEST_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub request_timeout_seconds: u32,
    /// Average request rate allowed for an API key, with bursts of ten seconds' worth; 0 means no limit
    #[arg(
        long,
        env = "BIPEDALNET_KEY_REQUESTS_PER_SECOND",
        default_value_t = 200,
        value_name = "REQUESTS"
    )]
    pub key_requests_per_second: u32,
    /// Average request rate allowed for an address (with IPv6, a /64 network), for all keys together
    #[arg(
        long,
        env = "BIPEDALNET_ADDRESS_REQUESTS_PER_SECOND",
        default_value_t = 200,
        value_name = "REQUESTS"
    )]
    pub address_requests_per_second: u32,
}
