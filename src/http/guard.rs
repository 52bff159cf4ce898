//! Who may send requests, and how many: API keys, scopes and rate limits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::OpenApiRouter;

use super::App;
use super::problem::Problem;
use super::rate_limit::{Allowance, RATE_LIMIT, RateLimit};
use super::server::Peer;
use crate::access::{Principal, Scope};
use crate::config::{HttpSettings, Live};
use crate::service::{self, Sender, Service};

/// Name of the security scheme in OpenAPI.
pub(super) const SECURITY_SCHEME: &str = "api_key";

pub(super) struct Guard {
    service: Arc<Service>,
    settings: Live<HttpSettings>,
    addresses: RateLimit<IpAddr>,
    keys: RateLimit<String>,
}

/// What routes require of an API key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Requires {
    /// Any valid key.
    Key,
    Scope(Scope),
}

impl Guard {
    pub fn new(service: Arc<Service>, settings: Live<HttpSettings>) -> Arc<Self> {
        Arc::new(Self {
            service,
            settings,
            addresses: RateLimit::new("address"),
            keys: RateLimit::new("key"),
        })
    }

    /// Requires an API key for these routes, and documents it.
    pub fn protect(
        self: &Arc<Self>,
        requires: Requires,
        routes: OpenApiRouter<App>,
    ) -> OpenApiRouter<App> {
        let mut routes =
            routes.route_layer(from_fn_with_state((Arc::clone(self), requires), authorize));
        let scope = match requires {
            Requires::Key => None,
            Requires::Scope(scope) => Some(scope.name()),
        };
        for path in routes.get_openapi_mut().paths.paths.values_mut() {
            let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
            for operation in operations.into_iter().flatten() {
                let requirement = SecurityRequirement::new(SECURITY_SCHEME, scope);
                operation.security = Some(vec![requirement]);
            }
        }
        routes
    }

    /// The sender, and the smaller allowance of key and address.
    fn authorize(
        &self,
        request: &Request,
        requires: Requires,
    ) -> Result<(Principal, Option<Allowance>), Problem> {
        let key = request.headers().typed_get::<Authorization<Bearer>>();
        let mut principal = self.service.keys.authenticate(key.as_ref().map(|key| key.token()))?;
        principal.network = request.extensions().get::<Peer>().map(|peer| peer.network());
        let by_key = match principal.is_anonymous() {
            true => None,
            false => self.keys.take(&principal.id, self.settings.get().key_requests_per_second)?,
        };
        if let Requires::Scope(scope) = requires
            && !principal.scopes.contains(scope)
        {
            return Err(Problem::missing_scope(scope));
        }
        let by_address = request.extensions().get().copied();
        let smaller = by_key.into_iter().chain(by_address).min_by_key(|left| left.requests);
        Ok((principal, smaller))
    }

    /// Counts the items of a batch after the first, which was counted as the request.
    pub fn count_items(
        &self,
        principal: &Principal,
        items: usize,
    ) -> Result<Option<Allowance>, Problem> {
        let Some(more) = NonZeroU32::new(items.saturating_sub(1) as u32) else { return Ok(None) };
        let settings = self.settings.get();
        let by_key = match principal.is_anonymous() {
            true => None,
            false => self.keys.take_more(&principal.id, settings.key_requests_per_second, more)?,
        };
        let by_address = match principal.network {
            None => None,
            Some(network) => {
                self.addresses.take_more(&network, settings.address_requests_per_second, more)?
            }
        };
        Ok(by_key.into_iter().chain(by_address).min_by_key(|left| left.requests))
    }
}

async fn authorize(
    State((guard, requires)): State<(Arc<Guard>, Requires)>,
    mut request: Request,
    next: Next,
) -> Response {
    match guard.authorize(&request, requires) {
        Ok((principal, allowance)) => {
            service::sent_by(sender(&principal));
            request.extensions_mut().insert(principal);
            announce(allowance, next.run(request).await)
        }
        Err(problem) => problem.into_response(),
    }
}

/// Who shares compute and memory with others: a key, or an address if there are no keys.
fn sender(principal: &Principal) -> Sender {
    match principal.network {
        Some(network) if principal.is_anonymous() => network.to_string().into(),
        _ => principal.id.as_str().into(),
    }
}

/// Limits requests for each address, to paths that do not exist as well.
pub(super) async fn limit_by_address(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let allowance = match request.extensions().get::<Peer>() {
        None => Ok(None),
        Some(peer) => {
            let rate = guard.settings.get().address_requests_per_second;
            guard.addresses.take(&peer.network(), rate)
        }
    };
    match allowance {
        Ok(allowance) => {
            if let Some(allowance) = allowance {
                request.extensions_mut().insert(allowance);
            }
            announce(allowance, next.run(request).await)
        }
        Err(problem) => problem.into_response(),
    }
}

/// Adds headers, unless a smaller allowance was announced before.
pub(super) fn announce(allowance: Option<Allowance>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Some(allowance) = allowance
        && !headers.contains_key(RATE_LIMIT)
    {
        headers.extend(allowance.headers());
    }
    response
}
