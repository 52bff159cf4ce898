//! Logs to stderr, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    Human,
    /// A JSON object a line.
    Json,
}

/// Why logs were not started or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error(
        "log level {filter:?}: {error}; give error, warn, info, debug or trace, also for parts, as \
         in info,bipedalnet::access=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// There are logs already.
    #[error(transparent)]
    Started(#[from] TryInitError),
    /// The logs are gone.
    #[error(transparent)]
    Gone(#[from] reload::Error),
}

/// Decides what is logged, for as long as the program runs.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// When the filter makes no sense: the old one stays then.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

/// Logs to stderr what passes the filter: a level, or levels of parts of the program, separated by
/// commas.
///
/// # Errors
/// When the filter makes no sense, or the program logs already.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<LogFilter, LogError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(LogFilter(handle))
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_exchanged_while_the_program_runs() {
        let filter = start_logs(LogFormat::Human, "off").unwrap();
        assert!(!tracing::enabled!(tracing::Level::ERROR));
        filter.set("bipedalnet=error").unwrap();
        assert!(tracing::enabled!(tracing::Level::ERROR));
        assert!(filter.set("bipedalnet=loud").is_err());
        assert!(tracing::enabled!(tracing::Level::ERROR));
        filter.set("off").unwrap();
        assert!(!tracing::enabled!(tracing::Level::ERROR));
        assert!(matches!(start_logs(LogFormat::Json, "off"), Err(LogError::Started(_))));
    }

    #[test]
    fn a_filter_is_a_level_or_levels_of_parts() {
        for good in ["info", "warn,bipedalnet::access=debug", "off", "bipedalnet=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["bipedalnet=loud", "info,=,"] {
            assert!(matches!(parse(bad), Err(LogError::Filter { .. })), "{bad}");
        }
    }
}
