//! The server that a request names: `Host`, or the authority of its target (RFC 9112, section 3.2).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{Version, header};
use axum::response::{IntoResponse, Response};

use super::problem::{Problem, ProblemType};
use crate::service::Service;

/// Refuses requests that name no server, or two.
///
/// With `is_local`, refuses other names than this machine's own as long as there is no API key. A web page
/// could otherwise let its own name resolve to 127.0.0.1 and do everything here (DNS rebinding).
pub(super) async fn check(
    service: &Service,
    is_local: bool,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let is_foreign = match names_another(&request) {
        Ok(is_foreign) => is_foreign,
        Err(problem) => return problem.into_response(),
    };
    if is_local && is_foreign && service.keys.is_anonymous() {
        return Problem::new(
            ProblemType::WrongHost,
            "without API keys, the server answers only requests to localhost, 127.0.0.1 or [::1]; create a \
             key with `bipedalnet keys create`, or start the server with --allow-anonymous",
        )
        .at("host")
        .into_response();
    }
    next(request).await
}

/// Whether a request names a host that may be another machine. Only HTTP/1.0 need not name one.
fn names_another(request: &Request) -> Result<bool, Problem> {
    let bad = |detail: &'static str| Problem::new(ProblemType::BadHost, detail).at("host");
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("there are several Host headers; send one"));
    }
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(bad("there is no Host header; send one"));
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(!is_own(authority.host()));
    }
    let Some(host) = host else { return Ok(false) };
    if host.is_empty() {
        return Ok(true);
    }
    let authority = Authority::try_from(host.as_bytes());
    let authority = authority.map_err(|_| bad("it is no name or address with a port"))?;
    Ok(!is_own(authority.host()))
}

/// Whether only this machine resolves the name to itself, whatever a foreign name server says.
fn is_own(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_machine_itself_are_own() {
        for own in ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.2", "[::1]"] {
            assert!(is_own(own), "{own}");
        }
        for foreign in
            ["", "rebind.example", "localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]"]
        {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}
