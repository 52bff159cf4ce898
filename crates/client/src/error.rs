use std::error::Error;

use crate::api::Problem;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's URL is invalid.
    #[error("{url:?} is not a server URL: {reason}; an example is http://127.0.0.1:8080")]
    Url {
        /// The URL that was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The API key contains a character that an HTTP header cannot carry.
    #[error(
        "the API key contains a character that cannot be sent; keys are bpn_, letters and digits"
    )]
    Key,
    /// The id of a user or a model cannot be part of a URL.
    #[error("{0:?} cannot be an id")]
    Id(String),
    /// The HTTP client did not start, for example because the system has no trusted certificates.
    #[error("the HTTP client does not start: {}", root_cause(.0))]
    Start(#[source] reqwest::Error),
    /// The system gave no random bytes for an idempotency key.
    #[error("the system gave no random numbers: {0}")]
    Randomness(getrandom::Error),
    /// Every try failed to reach the server or lost the connection.
    #[error("no response from {url}: {}", root_cause(.source))]
    Transport {
        /// URL of the server.
        url: String,
        /// Error of the last try.
        source: reqwest::Error,
    },
    /// The server refused the request. A temporary problem persisted through every try.
    #[error("{}: {}", .0.title, .0.detail)]
    Problem(Box<Problem>),
    /// The response is not from this API: the server is another one, or another version.
    #[error("{url} answered {status}, but not as bipedalnet does: {reason}; is the URL correct?")]
    Answer {
        /// URL of the server.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with the response.
        reason: String,
    },
}

fn root_cause(error: &reqwest::Error) -> &dyn Error {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}
