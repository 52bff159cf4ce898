//! Who may send requests, and how many: API keys, user tokens, scopes and rate limits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::OpenApiRouter;

use super::App;
use super::problem::{Problem, ProblemType};
use super::rate_limit::{Allowance, RATE_LIMIT, RateLimit};
use super::server::Peer;
use crate::access::{Principal, Scope};
use crate::config::{HttpSettings, Live};
use crate::service::{self, Sender, Service};

/// Names of the security schemes in OpenAPI: a key in `Authorization`, one in [`API_KEY`], a token.
pub(super) const SECURITY_SCHEMES: [&str; 3] = ["api_key", "api_key_header", "user_token"];

/// Another place for an API key or a token, for clients that cannot set `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The tokens of one user may use this part of the quota of their key, so that a phone leaves the rest
/// to others.
const TOKEN_SHARE: u32 = 10;

pub(super) struct Guard {
    service: Arc<Service>,
    settings: Live<HttpSettings>,
    addresses: RateLimit<IpAddr>,
    keys: RateLimit<String>,
    tokens: RateLimit<String>,
}

/// What routes require of a sender.
#[derive(Clone, Copy, Debug)]
pub(super) enum Requires {
    /// Any valid API key.
    Key,
    /// An API key with a scope, which is bound to no collection: the routes concern all of them.
    WholeService(Scope),
    /// An API key with a scope.
    Scope(Scope),
    /// An API key with a scope, or a token with it for the user in the path.
    OwnScope(Scope),
    /// Any valid API key or token. The handler checks what it allows.
    KeyOrToken,
}

impl Requires {
    fn scope(self) -> Option<Scope> {
        match self {
            Self::Key | Self::KeyOrToken => None,
            Self::Scope(scope) | Self::OwnScope(scope) | Self::WholeService(scope) => Some(scope),
        }
    }

    /// Names of the security schemes, one of which a request needs.
    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Key | Self::Scope(_) | Self::WholeService(_) => &SECURITY_SCHEMES[..2],
            Self::OwnScope(_) | Self::KeyOrToken => &SECURITY_SCHEMES,
        }
    }
}

impl Guard {
    pub fn new(service: Arc<Service>, settings: Live<HttpSettings>) -> Arc<Self> {
        Arc::new(Self {
            service,
            settings,
            addresses: RateLimit::new("address"),
            keys: RateLimit::new("key"),
            tokens: RateLimit::new("token"),
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
        let scope = requires.scope().map(Scope::name);
        let requirement = |scheme: &&str| SecurityRequirement::new(*scheme, scope);
        for path in routes.get_openapi_mut().paths.paths.values_mut() {
            let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
            for operation in operations.into_iter().flatten() {
                operation.security = Some(requires.schemes().iter().map(requirement).collect());
            }
        }
        routes
    }

    /// The sender, and the smallest allowance of token, key and address.
    async fn authorize(
        &self,
        request: &mut Request,
        requires: Requires,
    ) -> Result<(Principal, Option<Allowance>), Problem> {
        let text = key_text(request.headers());
        let mut principal = self.service.keys.authenticate(text.as_deref()).await?;
        principal.network = request.extensions().get::<Peer>().map(|peer| peer.network());
        let by_key = self.take_quota(&principal, NonZeroU32::MIN)?;
        if let Some(user) = &principal.user {
            let is_own = match requires {
                Requires::Key | Requires::Scope(_) | Requires::WholeService(_) => false,
                Requires::KeyOrToken => true,
                Requires::OwnScope(_) => {
                    let path = request.extract_parts::<RawPathParams>().await;
                    let path = path.map_err(|error| {
                        Problem::new(ProblemType::MalformedPath, error.body_text()).at("user")
                    })?;
                    path.iter().any(|part| part == ("user", user.name()))
                }
            };
            if !is_own {
                return Err(Problem::beyond_token());
            }
        }
        if let Some(scope) = requires.scope()
            && !principal.scopes.contains(scope)
        {
            return Err(Problem::missing_scope(scope));
        }
        if let (Requires::WholeService(_), Some(binding)) = (requires, &principal.binding) {
            return Err(Problem::beyond_binding(binding));
        }
        let by_address = request.extensions().get().copied();
        Ok((principal, smallest(by_key.into_iter().chain(by_address))))
    }

    /// Counts requests of a key, or of a token and its key.
    fn take_quota(
        &self,
        principal: &Principal,
        requests: NonZeroU32,
    ) -> Result<Option<Allowance>, Problem> {
        if principal.is_anonymous() {
            return Ok(None);
        }
        let rate = self.settings.get().key_requests_per_second;
        let by_token = match principal.user {
            None => None,
            Some(_) => {
                self.tokens.take_more(&principal.id, rate.div_ceil(TOKEN_SHARE), requests)?
            }
        };
        let by_key = self.keys.take_more(&principal.key, rate, requests)?;
        Ok(smallest(by_token.into_iter().chain(by_key)))
    }

    /// Counts the items of a batch after the first, which was counted as the request.
    pub fn count_items(
        &self,
        principal: &Principal,
        items: usize,
    ) -> Result<Option<Allowance>, Problem> {
        let Some(more) = NonZeroU32::new(items.saturating_sub(1) as u32) else { return Ok(None) };
        let by_key = self.take_quota(principal, more)?;
        let by_address = match principal.network {
            None => None,
            Some(network) => {
                let rate = self.settings.get().address_requests_per_second;
                self.addresses.take_more(&network, rate, more)?
            }
        };
        Ok(smallest(by_key.into_iter().chain(by_address)))
    }
}

/// The key or token of a request.
fn key_text(headers: &HeaderMap) -> Option<String> {
    let bearer = headers.typed_get::<Authorization<Bearer>>();
    let bearer = bearer.map(|bearer| bearer.token().to_owned());
    bearer.or_else(|| Some(headers.get(API_KEY)?.to_str().ok()?.to_owned()))
}

fn smallest(allowances: impl Iterator<Item = Allowance>) -> Option<Allowance> {
    allowances.min_by_key(|left| left.requests)
}

async fn authorize(
    State((guard, requires)): State<(Arc<Guard>, Requires)>,
    mut request: Request,
    next: Next,
) -> Response {
    match guard.authorize(&mut request, requires).await {
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
        _ => principal.key.as_str().into(),
    }
}

/// Limits requests for each address, to paths that do not exist as well.
pub(super) async fn limit_by_address(
    guard: &Guard,
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
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
            announce(allowance, next(request).await)
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
