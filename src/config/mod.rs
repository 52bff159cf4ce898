//! The server's settings: for each one its flag, environment variable, default and unit.
//!
//! A setting has the same name as a flag and as a key in the settings file.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | [`Config`]: all settings |
//! | `service.rs` | limits on users, recordings and training |
//! | `http.rs` | connections, TLS, limits on requests |
//! | `file.rs` | the settings file; where each value comes from |
//! | `origins.rs` | web pages that may call the API |
//! | `live.rs` | settings that change while the server runs |

mod database;
mod file;
mod http;
mod live;
mod origins;
mod service;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches};
pub use database::DatabaseAddress;
pub use file::{File, Setting, Source, effective, nearest};
pub use http::{ConnectionSettings, HttpSettings};
pub use live::Live;
pub use origins::CorsOrigins;
pub use service::ServiceSettings;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The flag that names the settings file.
#[derive(clap::Args, Clone, Debug)]
pub struct ConfigFile {
    /// TOML file with settings, named like the flags. Flags override variables, and variables override
    /// the file
    #[arg(long, env = "BIPEDALNET_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

/// All settings of the server.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address and port to listen on
    #[arg(
        long,
        env = "BIPEDALNET_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,
    /// SQLite database file, which is created if it does not exist; or PostgreSQL database that several
    /// servers can share: postgres://USER@HOST/NAME, with the password in PGPASSWORD or in the URL
    #[arg(
        long,
        env = "BIPEDALNET_DATABASE",
        default_value = "bipedalnet.db",
        value_name = "FILE|URL",
        hide_env_values = true
    )]
    pub database: DatabaseAddress,
    /// File with the master key, which encrypts biometric data: 32 bytes, or 64 hexadecimal digits
    /// [default: the systemd credential master-key, the variable BIPEDALNET_MASTER_KEY, or a file
    /// beside the database, which is made for a new database]
    #[arg(long, env = "BIPEDALNET_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// Model file to register [default: the shipped model]. It becomes active if the database has no
    /// active model
    #[arg(long, env = "BIPEDALNET_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Address and port for metrics and health checks; "" turns them off. They use no TLS, so only the
    /// operator's network should reach them
    #[arg(
        long,
        env = "BIPEDALNET_METRICS_LISTEN",
        default_value = "127.0.0.1:9464",
        value_name = "ADDRESS:PORT",
        value_parser = address_or_none
    )]
    pub metrics_listen: OptionalAddress,
    /// File with a secret that requests for metrics must send as `Authorization: Bearer`. Health checks
    /// need none
    #[arg(long, env = "BIPEDALNET_METRICS_KEY_FILE", value_name = "FILE")]
    pub metrics_key_file: Option<PathBuf>,
    /// Format of log lines
    #[arg(long, env = "BIPEDALNET_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// URL of a collector that gets a span for each request and each of its stages (OTLP over HTTP,
    /// protobuf), such as http://localhost:4318/v1/traces
    #[arg(long, env = "BIPEDALNET_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Allow any address without API keys: anybody who reaches the server has full access
    #[arg(
        long,
        env = "BIPEDALNET_ALLOW_ANONYMOUS",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub allow_anonymous: bool,
    /// What to log: error, warn, info, debug or trace. Parts of the program can have their own level:
    /// info,bipedalnet::access=debug adds a line for each request
    #[arg(
        long,
        env = "BIPEDALNET_LOG_LEVEL",
        default_value = "info",
        value_parser = log_level,
        value_name = "LEVEL"
    )]
    pub log_level: Targets,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connections: ConnectionSettings,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub service: ServiceSettings,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub http: HttpSettings,
}

/// Format of log lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people
    Human,
    /// One JSON object per line
    Json,
}

/// An address or none. With a plain `Option`, clap would make the flag itself optional.
pub type OptionalAddress = Option<SocketAddr>;

fn address_or_none(text: &str) -> Result<OptionalAddress, std::net::AddrParseError> {
    (!text.is_empty()).then(|| text.parse()).transpose()
}

impl Config {
    /// Default settings for a temporary server: a free local port, no metrics, no variables.
    pub fn throwaway(database: &Path) -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            config: Config,
        }
        let command = Defaults::command().mut_args(|argument| argument.env(None::<&str>));
        let arguments =
            ["", "--listen", "127.0.0.1:0", "--metrics-listen", "", "--database"].map(OsStr::new);
        let matches = command.get_matches_from(arguments.into_iter().chain([database.as_os_str()]));
        Defaults::from_arg_matches(&matches).expect("the defaults are settings").config
    }

    /// Whether the setting can change while the server runs. A mistake in these two would delete what
    /// cannot be restored.
    pub fn is_live(key: &str) -> bool {
        if ["erase-inactive-days", "keep-audit-days"].contains(&key) {
            return false;
        }
        let live =
            HttpSettings::augment_args(ServiceSettings::augment_args(clap::Command::new("")));
        key == "log-level" || live.get_arguments().any(|argument| argument.get_long() == Some(key))
    }
}

/// Parses levels. A misspelt level is an error here; `Targets` would read it as a part of the program,
/// and log nothing else.
fn log_level(text: &str) -> Result<Targets, String> {
    let is_known = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    if let Some(unknown) = text.split(',').find(|part| !is_known(part.trim())) {
        return Err(format!("{unknown:?} is none of off, error, warn, info, debug and trace"));
    }
    text.parse().map_err(|error| format!("{error}"))
}
