use std::net::TcpStream;
use std::time::Duration;

use super::super::healthcheck;
use super::report::Report;
use crate::config::Config;
use crate::store::lock_holder;

const AREA: &str = "server";

const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the process of the server that uses the database.
pub fn check(report: &mut Report, config: &Config) -> Option<u32> {
    // Servers of PostgreSQL lock nothing, and may run elsewhere.
    let Some((process, holder)) = lock_holder(config.database.file()?) else {
        report.ok(AREA, "no server uses the database, as far as this user can see");
        return None;
    };
    // The server chose the port by itself.
    if config.listen.port() != 0 {
        match healthcheck::check(config) {
            Ok(None) => {}
            Ok(Some(warning)) => report.warning(
                AREA,
                format!("{holder} answers, but {warning}"),
                "see BipedalnetReloadFailed in docs/runbook.md",
            ),
            Err(error) => report.problem(
                AREA,
                format!("{holder} uses the database, but does not answer: {error}"),
                "compare `listen` with the server's log; if it hangs, restart it",
            ),
        }
    }
    if let Some(metrics) = config.metrics_listen
        && metrics.port() != 0
    {
        let address = healthcheck::on_this_machine(metrics);
        if let Err(error) = TcpStream::connect_timeout(&address, TIMEOUT) {
            report.warning(
                AREA,
                format!("nothing answers on metrics-listen, {metrics}: {error}"),
                "restart the server if the setting changed since its start; no alert fires without metrics",
            );
        }
    }
    if report.is_clean(AREA) {
        report.ok(AREA, format!("{holder} uses the database"));
    }
    Some(process)
}
