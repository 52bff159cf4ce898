//! `bipedalnet serve`

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::bnn::{MAX_FILE_BYTES, Model};
use crate::http::{self, ConnectionLimits};
use crate::service::Service;
use crate::store::Store;

/// Serve the REST API
#[derive(clap::Args)]
pub struct Arguments {
    /// Address and port to listen on
    #[arg(
        long,
        env = "BIPEDALNET_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    listen: SocketAddr,
    /// SQLite database, made where it does not exist
    #[arg(long, env = "BIPEDALNET_DATABASE", default_value = "bipedalnet.db", value_name = "FILE")]
    database: PathBuf,
    /// Model file; the one shipped in this program where not given
    #[arg(long, env = "BIPEDALNET_MODEL", value_name = "FILE")]
    model: Option<PathBuf>,
    /// Certificate chain (PEM) to speak TLS with; without it, put a TLS proxy before the server
    #[arg(long, env = "BIPEDALNET_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key (PEM, without a passphrase) of the certificate
    #[arg(long, env = "BIPEDALNET_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Connections from one address; more than one proxy needs
    #[arg(
        long,
        env = "BIPEDALNET_CONNECTIONS_PER_ADDRESS",
        default_value_t = ConnectionLimits::default().connections_per_address,
        value_name = "NUMBER"
    )]
    connections_per_address: usize,
    /// Time for a client to send a request's headers, and to use an open HTTP/1.1 connection again
    #[arg(
        long,
        env = "BIPEDALNET_HEADER_TIMEOUT_SECONDS",
        default_value_t = ConnectionLimits::default().header_timeout.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=3600),
        value_name = "SECONDS"
    )]
    header_timeout_seconds: u64,
}

impl Arguments {
    fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections_per_address: self.connections_per_address,
            header_timeout: Duration::from_secs(self.header_timeout_seconds),
            ..ConnectionLimits::default()
        }
    }
}

const SHIPPED_MODEL: &[u8] = include_bytes!("../../models/bipedalnet.safetensors");

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::builder()
                .with_default_directive(tracing::Level::INFO.into())
                .from_env_lossy(),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(http::tls_config(certificate, key)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server =
            Server::start(arguments.listen, &arguments.database, arguments.model.as_deref())
                .await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %server.address,
            database = %arguments.database.display(),
            model = server.model_id,
            users = server.service.gallery_len(),
            "serving"
        );
        let stop = stop_signal()?;
        server.run(arguments.connection_limits(), tls, stop).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// A server that is bound to its port but does not yet answer.
pub(super) struct Server {
    pub address: SocketAddr,
    pub model_id: String,
    service: Service,
    listener: TcpListener,
}

impl Server {
    pub async fn start(
        listen: SocketAddr,
        database: &Path,
        model: Option<&Path>,
    ) -> Result<Self, Failure> {
        let model = match model {
            Some(path) => load(path)?,
            None => Model::from_bytes(SHIPPED_MODEL)?,
        };
        let model_id = model.id().to_owned();
        let service = Service::new(model, Store::open(database).await?).await?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            format!("cannot listen on {listen}: {error}; choose another with --listen")
        })?;
        Ok(Self { address: listener.local_addr()?, model_id, service, listener })
    }

    /// Answers until `stop` is done and open requests are finished.
    pub async fn run(
        self,
        limits: ConnectionLimits,
        tls: Option<Arc<rustls::ServerConfig>>,
        stop: impl Future<Output = ()>,
    ) {
        let router = http::router(self.service.clone());
        http::serve(self.listener, router, limits, tls, stop).await;
        self.service.close().await;
    }
}

fn load(path: &Path) -> Result<Model, Failure> {
    let explain = |reason: &dyn std::fmt::Display| format!("model {}: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| explain(&error))?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(explain(&format!("{size} bytes; at most {MAX_FILE_BYTES} are read")).into());
    }
    let bytes = std::fs::read(path).map_err(|error| explain(&error))?;
    Ok(Model::from_bytes(&bytes).map_err(|error| explain(&error))?)
}

/// Done at the first Ctrl-C or SIGTERM; a second one ends the program at once.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    ctrlc::set_handler(move || match sender.take() {
        Some(sender) => {
            // The receiver lives as long as the server runs.
            let _ = sender.send(());
        }
        None => std::process::exit(130),
    })?;
    Ok(async {
        let _ = receiver.await;
        tracing::info!("stopping: open requests finish first");
    })
}
