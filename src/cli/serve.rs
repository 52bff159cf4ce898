//! `bipedalnet serve`

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::Failure;
use crate::bnn::MAX_FILE_BYTES;
use crate::config::{self, Config};
use crate::http::{self, ConnectionLimits};
use crate::service::{GivenModel, Service, StartError};
use crate::store::Store;
use crate::telemetry::{self, LogSettings};

/// Serve the REST API
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    config: Config,
}

const SHIPPED_MODEL: &[u8] = include_bytes!("../../models/bipedalnet.safetensors");

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config;
    let format = match config.log_format {
        config::LogFormat::Human => telemetry::LogFormat::Human,
        config::LogFormat::Json => telemetry::LogFormat::Json,
    };
    let _logs = telemetry::start_logs(LogSettings {
        format,
        filter: &config.log_level,
        #[cfg(feature = "otlp")]
        otlp_endpoint: config.otlp_endpoint.as_deref(),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start(&config).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %server.address,
            metrics = server.metrics.as_ref().map(|(address, _)| tracing::field::display(address)),
            tls = server.tls.is_some(),
            database = %config.database.display(),
            model = server.service.model_id(),
            users = server.service.gallery_len(),
            api_keys = !server.service.is_anonymous(),
            keep_recordings_days = config.service.keep_recordings_days,
            "serving"
        );
        let stop = stop_signal()?;
        server.run(stop).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// A server that is bound to its port but does not yet answer.
pub(super) struct Server {
    pub address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    config: Config,
    pub service: Service,
    listener: TcpListener,
    /// For metrics, with its address.
    metrics: Option<(SocketAddr, TcpListener)>,
}

impl Server {
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        let tls = match (&config.http.tls_certificate, &config.http.tls_key) {
            (Some(certificate), Some(key)) => Some(http::tls_config(certificate, key)?),
            _ => None,
        };
        let given = match &config.model {
            Some(path) => GivenModel { file: load(path)?, shipped: false },
            None => GivenModel { file: SHIPPED_MODEL.to_vec(), shipped: true },
        };
        let store = Store::open(&config.database).await?;
        let service = Service::new(given, store, config.service.clone()).await;
        let service = service.map_err(|error| match (&error, &config.model) {
            (StartError::File(_) | StartError::Unfit(_), Some(path)) => {
                format!("model {}: {error}", path.display()).into()
            }
            _ => Failure::from(error),
        })?;
        let listen = config.listen;
        if service.is_anonymous() && !listen.ip().is_loopback() && !config.allow_anonymous {
            return Err(format!(
                "there is no API key, so that everybody who reaches {listen} could do everything: \
                 make one with `bipedalnet keys create`, listen on 127.0.0.1, or allow it with \
                 --allow-anonymous"
            )
            .into());
        }
        let (address, listener) = bind(listen, "--listen").await?;
        let metrics = match config.metrics_listen {
            Some(listen) => Some(bind(listen, "--metrics-listen").await?),
            None => None,
        };
        Ok(Self { address, tls, config: config.clone(), service, listener, metrics })
    }

    /// Answers until `stop` is done and open requests are finished.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let limits = ConnectionLimits::from(&self.config.http);
        let router = http::router(self.service.clone(), self.config.http);
        let stop = async {
            stop.await;
            self.service.stop();
        };
        let metrics = async {
            let Some((_, listener)) = self.metrics else { return std::future::pending().await };
            let router = http::operator_router(self.service.clone());
            // To the end: an operator wants to see how the server stops.
            http::serve(listener, router, limits.clone(), None, std::future::pending()).await;
        };
        tokio::select! {
            () = http::serve(self.listener, router, limits.clone(), self.tls, stop) => {}
            () = metrics => {}
            () = self.service.maintain() => {}
        }
        self.service.close().await;
    }
}

async fn bind(listen: SocketAddr, flag: &str) -> Result<(SocketAddr, TcpListener), Failure> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another with {flag}")
    })?;
    Ok((listener.local_addr()?, listener))
}

fn load(path: &Path) -> Result<Vec<u8>, Failure> {
    let explain = |reason: &dyn std::fmt::Display| format!("model {}: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| explain(&error))?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(explain(&format!("{size} bytes; at most {MAX_FILE_BYTES} are read")).into());
    }
    Ok(std::fs::read(path).map_err(|error| explain(&error))?)
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
        tracing::info!("stopping: open requests finish first; a second signal stops at once");
    })
}
