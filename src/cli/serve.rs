//! `bipedalnet serve`

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloading;
use super::{Failure, descriptors, model_file, settings, watchdog};
use crate::access::BearerSecret;
use crate::config::{Config, ConfigFile, HttpSettings, Live, LogFormat, ServiceSettings, Setting};
use crate::http::{self, Browsers, ConnectionLimits, Tls, TlsFiles};
use crate::service::{GivenModel, Service, StartError};
use crate::store::Store;
use crate::telemetry::{self, ConnectionMetrics, LogSettings};

/// Start the server
///
/// Settings come from flags, variables and a TOML file, in this order. SIGHUP reloads the file. The
/// first Ctrl-C or SIGTERM lets open requests finish; a second one stops at once.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    pub(super) config: Config,
}

const SHIPPED_MODEL: &[u8] = include_bytes!("../../models/bipedalnet-openset.safetensors");

pub fn run(arguments: Arguments, settings: Vec<Setting>) -> Result<(), Failure> {
    let Arguments { file, config } = arguments;
    let logs = telemetry::start_logs(LogSettings {
        json: config.log_format == LogFormat::Json,
        filter: config.log_level.clone(),
        otlp_endpoint: config.otlp_endpoint.clone(),
    })?;
    for warning in settings::unknown_variables() {
        tracing::warn!("{warning}");
    }
    forbid_core_dumps();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the slow start: without a handler, SIGHUP would end the program.
        let hangups = signal(SignalKind::hangup())?;
        let server = Server::start(&config).await?;
        // Before the log says "serving": from then on a signal must end the server cleanly.
        let stop = stop_signal()?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %server.address,
            metrics = server.metrics.as_ref().map(|(address, _)| tracing::field::display(address)),
            tls = server.tls.is_some(),
            database = %config.database,
            model = server.service.model_id(),
            users = server.service.gallery_len(),
            api_keys = !server.service.keys.is_anonymous(),
            config = file.config.map(|path| path.display().to_string()),
            keep_recordings_days = config.service.keep_recordings_days,
            erase_inactive_days = config.service.erase_inactive_days,
            keep_audit_days = config.service.keep_audit_days,
            max_users = config.service.max_users,
            max_enrollments_per_user = config.service.max_enrollments_per_user,
            max_body_bytes = config.http.max_body_bytes,
            max_connections = server.connections.connections,
            request_timeout_seconds = config.http.request_timeout_seconds,
            key_requests_per_second = config.http.key_requests_per_second,
            address_requests_per_second = config.http.address_requests_per_second,
            "serving"
        );
        let (http, service) = (server.http.clone(), server.settings.clone());
        let (tls, metrics) = (server.tls.clone(), Arc::clone(&server.service.metrics));
        let reloading = Reloading { settings, http, service, logs, tls, metrics };
        tokio::spawn(reloading.follow(hangups));
        notify_systemd(NotifyState::Ready);
        tokio::spawn(watchdog::reassure(Arc::clone(&server.service)));
        server.run(stop).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// A server that has its port and does not answer requests yet.
pub(super) struct Server {
    pub address: SocketAddr,
    tls: Option<Arc<Tls>>,
    connections: ConnectionLimits,
    http: Live<HttpSettings>,
    browsers: Browsers,
    settings: Live<ServiceSettings>,
    pub service: Arc<Service>,
    listener: TcpListener,
    metrics: Option<(SocketAddr, TcpListener)>,
    metrics_key: Option<BearerSecret>,
}

impl Server {
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        let files = tls_files(config)?;
        if let Some(files) = &files {
            // A mistake here must not wait for the database.
            files.read()?;
        }
        let given = match &config.model {
            Some(path) => GivenModel { file: model_file::read(path)?, shipped: false },
            None => GivenModel { file: SHIPPED_MODEL.to_vec(), shipped: true },
        };
        let store = Store::open_alone(&config.database, config.master_key_file.as_deref()).await?;
        let settings = Live::new(config.service.clone());
        let service = Service::start(given, store, settings.clone()).await;
        let service = service.map(Arc::new).map_err(|error| match (&error, &config.model) {
            (StartError::File(_) | StartError::Unfit(_), Some(path)) => {
                format!("model {}: {error}", path.display()).into()
            }
            _ => Failure::from(error),
        })?;
        let tls = files.map(|files| Tls::start(files, service.metrics.tls())).transpose()?;
        let tls = tls.map(Arc::new);
        let listen = config.listen;
        if service.keys.is_anonymous() && !listen.ip().is_loopback() && !config.allow_anonymous {
            return Err(format!(
                "there is no API key, so anybody who reaches {listen} would have full access: \
                 create a key with `bipedalnet keys create`, listen on 127.0.0.1, or pass \
                 --allow-anonymous"
            )
            .into());
        }
        let (address, listener) = bind(listen, "--listen").await?;
        let metrics = match config.metrics_listen {
            Some(listen) => Some(bind(listen, "--metrics-listen").await?),
            None => None,
        };
        let metrics_key = config.metrics_key_file.as_deref().map(metrics_key).transpose()?;
        let mut connections = ConnectionLimits::from(&config.connections);
        descriptors::provide_for(&mut connections);
        let http = Live::new(config.http.clone());
        let browsers = Browsers {
            cors_origins: config.connections.cors_origins.clone(),
            phone_page: config.connections.phone_page,
            is_local: address.ip().is_loopback() && !config.allow_anonymous,
        };
        Ok(Self {
            address,
            tls,
            connections,
            http,
            browsers,
            settings,
            service,
            listener,
            metrics,
            metrics_key,
        })
    }

    /// Answers requests until `stop` is done, then finishes those that are open.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let router = http::router(self.service.clone(), self.http, self.browsers);
        let stop = async {
            stop.await;
            self.service.stop();
        };
        let metrics = async {
            let Some((_, listener)) = self.metrics else { return std::future::pending().await };
            let router = http::operator_router(self.service.clone(), self.metrics_key);
            let limits = self.connections.of_metrics();
            // Until the very end, so that an operator sees how the server stops.
            let uncounted = ConnectionMetrics::unregistered();
            http::serve(listener, router, limits, None, uncounted, std::future::pending()).await;
        };
        let tls = self.tls.clone();
        let certificate = async {
            match tls {
                Some(tls) => tls.follow_files().await,
                None => std::future::pending().await,
            }
        };
        let counted = self.service.metrics.connections.clone();
        let served =
            http::serve(self.listener, router, self.connections.clone(), self.tls, counted, stop);
        tokio::select! {
            () = served => {}
            () = metrics => {}
            () = certificate => {}
            () = self.service.work_in_background() => {}
        }
        self.service.close().await;
    }
}

/// The files of certificate and key, if the server speaks TLS.
pub(super) fn tls_files(config: &Config) -> Result<Option<TlsFiles>, Failure> {
    match (&config.connections.tls_certificate, &config.connections.tls_key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
        }
        (None, None) => Ok(None),
        _ => Err("--tls-certificate and --tls-key must be given together".into()),
    }
}

async fn bind(listen: SocketAddr, flag: &str) -> Result<(SocketAddr, TcpListener), Failure> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another address with {flag}")
    })?;
    Ok((listener.local_addr()?, listener))
}

/// A dump of this program's memory would hold keys and templates. Other programs of the same user cannot
/// read its memory either.
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let forbidden = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    let forbidden = forbidden.and_then(|()| {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
    });
    if let Err(error) = forbidden {
        tracing::warn!(%error, "a crash may write keys and templates to a core dump");
    }
}

fn metrics_key(path: &Path) -> Result<BearerSecret, Failure> {
    let explain =
        |reason: &dyn std::fmt::Display| format!("metrics key {}: {reason}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(|error| explain(&error))?;
    let most = BearerSecret::MAX_BYTES as u64 + 2;
    file.take(most).read_to_string(&mut text).map_err(|error| explain(&error))?;
    BearerSecret::new(text.trim()).ok_or_else(|| {
        explain(&"it must have 16 to 1024 visible ASCII characters; make one with `openssl rand -hex 32`")
            .into()
    })
}

/// Completes at the first Ctrl-C or SIGTERM. A second one ends the program at once.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    async fn either(interrupts: &mut Signal, terminations: &mut Signal) {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
    }
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        either(&mut interrupts, &mut terminations).await;
        // The receiver lives as long as the server runs.
        let _ = sender.send(());
        either(&mut interrupts, &mut terminations).await;
        std::process::exit(130);
    });
    Ok(async {
        let _ = receiver.await;
        notify_systemd(NotifyState::Stopping);
        tracing::info!("stopping after open requests; a second signal stops at once");
    })
}

/// Tells systemd, if it started this program with `Type=notify`.
pub(super) fn notify_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not notified");
    }
}
