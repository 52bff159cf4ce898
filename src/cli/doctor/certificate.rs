use super::super::serve;
use super::report::Report;
use crate::config::Config;
use crate::store::{DAY_SECONDS, unix_seconds};

const AREA: &str = "certificate";

/// As the alerts.
const SOON_DAYS: i64 = 14;

pub fn check(report: &mut Report, config: &Config) {
    let files = match serve::tls_files(config) {
        Ok(Some(files)) => files,
        Ok(None) => return report.ok(AREA, "TLS is off"),
        Err(error) => return report.problem(AREA, error.to_string(), "set both, or none"),
    };
    let certificate = match files.read() {
        Ok((_, certificate)) => certificate,
        Err(error) => {
            return report.problem(
                AREA,
                error.to_string(),
                "until then, the server does not start",
            );
        }
    };
    let names = certificate.names.join(", ");
    let days = (certificate.not_after.timestamp() - unix_seconds()).div_euclid(DAY_SECONDS);
    let renew = "renew it; a running server takes the new files within seconds";
    if !certificate.is_valid() {
        report.problem(
            AREA,
            format!(
                "it is valid only from {} to {}",
                certificate.not_before, certificate.not_after
            ),
            renew,
        );
    } else if days < SOON_DAYS {
        report.warning(AREA, format!("it expires in {days} days ({names})"), renew);
    } else {
        report.ok(AREA, format!("the key belongs to it, and it expires in {days} days ({names})"));
    }
}
