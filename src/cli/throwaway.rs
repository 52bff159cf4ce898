//! A server that lives no longer than a command.

use super::Failure;
use super::serve::Server;
use crate::config::Config;
use crate::service::Service;

/// A server on a free port of this machine.
pub(super) struct Throwaway {
    pub url: String,
    pub service: Service,
}

/// Starts a server with an empty database and the default settings but for what `change` sets, and
/// stops it when `work` is done or at Ctrl-C.
pub(super) async fn with_server<T>(
    change: impl FnOnce(&mut Config),
    work: impl AsyncFnOnce(&Throwaway) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Removed with all it holds when it goes out of scope, after Ctrl-C too.
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
