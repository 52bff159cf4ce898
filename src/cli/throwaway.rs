//! A temporary server for one command.

use std::sync::Arc;

use super::Failure;
use super::serve::Server;
use crate::config::Config;
use crate::service::Service;

pub(super) struct Throwaway {
    pub url: String,
    pub service: Arc<Service>,
}

/// Starts a server on a free local port with an empty database, and stops it when `work` is done or at
/// Ctrl-C. `change` adjusts the default settings.
pub(super) async fn with_server<T>(
    change: impl FnOnce(&mut Config),
    work: impl AsyncFnOnce(&Throwaway) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Deleted when it goes out of scope, also after Ctrl-C.
    let folder = tempfile::tempdir()?;
    let mut config = Config::throwaway(&folder.path().join("throwaway.db"));
    change(&mut config);
    let server = Server::start(&config).await?;
    let url = format!("http://{}", server.address);
    let throwaway = Throwaway { url, service: server.service.clone() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let result = tokio::select! {
        result = work(&throwaway) => result,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            Err("interrupted".into())
        }
    };
    let _ = stop.send(());
    running.await?;
    result
}
