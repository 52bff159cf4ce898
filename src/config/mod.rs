//! Settings of the service: each with its flag, its environment variable, its default and its unit.
//! The flag's name is its key in a file, too.

mod file;
mod live;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches};
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use file::{File, FileError, FileProblem, Setting, Source, effective, nearest};
pub use live::Live;

/// A file of settings.
#[derive(clap::Args, Clone, Debug)]
pub struct ConfigFile {
    /// TOML file with settings: keys are named as flags. Flags come before variables, variables
    /// before the file
    #[arg(long, env = "BIPEDALNET_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

/// Where the service listens, and what it works on.
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
    /// SQLite database, made where it does not exist
    #[arg(long, env = "BIPEDALNET_DATABASE", default_value = "bipedalnet.db", value_name = "FILE")]
    pub database: PathBuf,
    /// Model file to register, the one shipped in this program where not given; it serves where none
    /// does by the database
    #[arg(long, env = "BIPEDALNET_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Address and port to serve metrics and health on, over plain HTTP, without a key: for the
    /// operator's network alone; "" serves them nowhere
    #[arg(
        long,
        env = "BIPEDALNET_METRICS_LISTEN",
        default_value = "127.0.0.1:9464",
        value_name = "ADDRESS:PORT",
        value_parser = address_or_none
    )]
    pub metrics_listen: OptionalAddress,
    /// How it is logged
    #[arg(long, env = "BIPEDALNET_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Where a span for each request goes (OTLP over HTTP, protobuf), such as
    /// http://localhost:4318/v1/traces
    #[cfg(feature = "otlp")]
    #[arg(long, env = "BIPEDALNET_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Serve without API keys on any address: everybody who reaches it may do everything
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
    /// What is logged: error, warn, info, debug or trace, also for parts of the program, as in
    /// info,bipedalnet::access=debug, which adds a line for each request
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

/// How lines of the log are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    Human,
    /// A JSON object a line
    Json,
}

/// An address, or none. The name keeps clap from taking it for a flag that may be left out.
pub type OptionalAddress = Option<SocketAddr>;

fn address_or_none(text: &str) -> Result<OptionalAddress, std::net::AddrParseError> {
    (!text.is_empty()).then(|| text.parse()).transpose()
}

impl Config {
    /// All defaults, whatever the environment says, on a free port of this machine, unwatched.
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

    /// Whether a setting, named by its key, may change while the program runs.
    pub fn is_live(key: &str) -> bool {
        let live =
            HttpSettings::augment_args(ServiceSettings::augment_args(clap::Command::new("")));
        key == "log-level" || live.get_arguments().any(|argument| argument.get_long() == Some(key))
    }
}

/// Levels, of all or of a part each. A word that is no level would name a part, and silence all
/// others.
fn log_level(text: &str) -> Result<Targets, String> {
    let is_known = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    if let Some(unknown) = text.split(',').find(|part| !is_known(part.trim())) {
        return Err(format!("{unknown:?} is none of off, error, warn, info, debug and trace"));
    }
    text.parse().map_err(|error| format!("{error}"))
}

/// What the service does with walks. All of it may change while the program runs.
#[derive(clap::Args, Clone, Debug)]
pub struct ServiceSettings {
    /// Keep recordings, for training, for so many days; 0 keeps none
    #[arg(long, env = "BIPEDALNET_KEEP_RECORDINGS_DAYS", default_value_t = 0, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub keep_recordings_days: u32,
    /// Verify only against a challenge
    #[arg(
        long,
        env = "BIPEDALNET_REQUIRE_CHALLENGE",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub require_challenge: bool,
    /// Learn from verifications: a walk that is accepted beyond doubt counts as one of the user's
    /// from then on, one a day and four in all
    #[arg(
        long,
        env = "BIPEDALNET_UPDATE_TEMPLATES",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub update_templates: bool,
    /// Users that there may be
    #[arg(long, env = "BIPEDALNET_MAX_USERS", default_value_t = 100_000, value_name = "USERS")]
    pub max_users: u64,
    /// Walks that a user may have
    #[arg(
        long,
        env = "BIPEDALNET_MAX_ENROLLMENTS_PER_USER",
        default_value_t = 1000,
        value_name = "WALKS"
    )]
    pub max_enrollments_per_user: u64,
    /// Models that are kept; one more drops the oldest that neither serves nor ships with the program
    #[arg(long, env = "BIPEDALNET_MAX_MODELS", default_value_t = 16, value_name = "MODELS",
        value_parser = clap::value_parser!(u32).range(3..))]
    pub max_models: u32,
    /// Threads that train, at the lowest priority; 0 takes half of the processors
    #[arg(long, env = "BIPEDALNET_TRAINING_THREADS", default_value_t = 0, value_name = "THREADS",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=1024))]
    pub training_threads: usize,
    /// Memory that a training may take; where walks need more, the longest users' are shortened
    #[arg(long, env = "BIPEDALNET_TRAINING_MEMORY_MIB", default_value_t = 256, value_name = "MIB",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(32..=1 << 20))]
    pub training_memory_mib: usize,
    /// Longest recording that is taken
    #[arg(
        long,
        env = "BIPEDALNET_MAX_RECORDING_SECONDS",
        default_value_t = 900,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(10..=3600)
    )]
    pub max_recording_seconds: u32,
}

impl ServiceSettings {
    /// Whether recordings are kept at all.
    pub fn keeps_recordings(&self) -> bool {
        self.keep_recordings_days > 0
    }

    /// Threads that train: one at least.
    pub fn training_threads(&self) -> usize {
        match self.training_threads {
            0 => std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2)),
            threads => threads,
        }
    }

    /// Memory that a training may take.
    pub fn training_memory_bytes(&self) -> usize {
        self.training_memory_mib << 20
    }

    /// How long recordings are kept.
    pub fn kept_recordings(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_recordings_days) * 24 * 60 * 60)
    }
}

/// Bounds on connections, and their TLS.
#[derive(clap::Args, Clone, Debug)]
pub struct ConnectionSettings {
    /// Connections open at a time
    #[arg(long, env = "BIPEDALNET_MAX_CONNECTIONS", default_value_t = 1024, value_name = "NUMBER")]
    pub max_connections: usize,
    /// Connections from one address; a proxy before the server needs as many as there are in all
    #[arg(
        long,
        env = "BIPEDALNET_CONNECTIONS_PER_ADDRESS",
        default_value_t = 512,
        value_name = "NUMBER"
    )]
    pub connections_per_address: usize,
    /// Time for a client to send a request's headers, and to use an open HTTP/1.1 connection again
    #[arg(
        long,
        env = "BIPEDALNET_HEADER_TIMEOUT_SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        value_name = "SECONDS"
    )]
    pub header_timeout_seconds: u64,
    /// Bytes of a request's line and headers
    #[arg(
        long,
        env = "BIPEDALNET_MAX_HEADER_BYTES",
        default_value_t = 16 << 10,
        value_parser = clap::value_parser!(u32).range(8 << 10..=1 << 20),
        value_name = "BYTES"
    )]
    pub max_header_bytes: u32,
    /// Certificate chain (PEM) to speak TLS with; without it, put a TLS proxy before the server
    #[arg(long, env = "BIPEDALNET_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key (PEM, without a passphrase) of the certificate
    #[arg(long, env = "BIPEDALNET_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// Bounds on requests. All of them may change while the program runs.
#[derive(clap::Args, Clone, Debug)]
pub struct HttpSettings {
    /// Largest body, as it is sent and after decompression
    #[arg(
        long,
        env = "BIPEDALNET_MAX_BODY_BYTES",
        default_value_t = 2 << 20,
        value_name = "BYTES",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1024..=64 << 20)
    )]
    pub max_body_bytes: usize,
    /// Items of one batch
    #[arg(
        long,
        env = "BIPEDALNET_MAX_BATCH",
        default_value_t = 64,
        value_name = "ITEMS",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64)
    )]
    pub max_batch: usize,
    /// Time for a request, from its last header to its answer, a slowly sent body included
    #[arg(
        long,
        env = "BIPEDALNET_REQUEST_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub request_timeout_seconds: u32,
    /// Requests of one API key, on average; ten seconds' worth may come at once; 0 sets no limit
    #[arg(
        long,
        env = "BIPEDALNET_KEY_REQUESTS_PER_SECOND",
        default_value_t = 200,
        value_name = "REQUESTS"
    )]
    pub key_requests_per_second: u32,
    /// The same of one address (of one /64 network with IPv6), with whatever keys
    #[arg(
        long,
        env = "BIPEDALNET_ADDRESS_REQUESTS_PER_SECOND",
        default_value_t = 200,
        value_name = "REQUESTS"
    )]
    pub address_requests_per_second: u32,
}
