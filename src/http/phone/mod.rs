//! `/phone`: a page on which people enroll and verify walks with their phone.
//!
//! `page.html`, `style.css`, `worker.js`, `manifest.json` and `icon.svg` are written by hand. `page.js` is
//! built from `clients/js/phone` by `npm run page`, and `tests/javascript.sh` checks that it is up to date.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderName, header};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Router};
use sha2::{Digest, Sha256};

use super::compression::FixedBody;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");
const MANIFEST: &str = include_str!("manifest.json");
const ICON: &str = include_str!("icon.svg");
const WORKER: &str = include_str!("worker.js");

/// The core, for verifications on the phone.
const CORE: &[u8] = include_bytes!("../../../clients/js/wasm/bipedalnet.wasm");

/// What the worker has in the place of the version of the page.
const VERSION: &str = "VERSION";

/// Everything comes from this server.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const PERMISSIONS: &str = "accelerometer=(self), gyroscope=(self), screen-wake-lock=(self), \
                           camera=(), geolocation=(), microphone=()";

/// Serves the page and its files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let worker = WORKER.replace(VERSION, &version());
    Router::new()
        .route("/phone", serve("text/html; charset=utf-8", HTML))
        .route("/phone/style.css", serve("text/css; charset=utf-8", STYLE))
        .route("/phone/page.js", serve("text/javascript; charset=utf-8", SCRIPT))
        .route("/phone/worker.js", serve("text/javascript; charset=utf-8", worker))
        .route("/phone/manifest.json", serve("application/manifest+json", MANIFEST))
        .route("/phone/bipedalnet.wasm", serve("application/wasm", CORE))
        .route("/phone/icon.svg", serve("image/svg+xml", ICON))
}

/// Changes with each file, so that browsers replace all files of an older page at once.
fn version() -> String {
    let files = [HTML, STYLE, SCRIPT, MANIFEST, ICON, WORKER].map(str::as_bytes);
    let digest =
        files.iter().fold(Sha256::new_with_prefix(CORE), |digest, file| digest.chain_update(file));
    const_hex::encode(&digest.finalize()[..8])
}

fn serve<S: Clone + Send + Sync + 'static>(
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> MethodRouter<S> {
    let body = FixedBody::new(body);
    get(move || async move {
        let headers = [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (HeaderName::from_static("permissions-policy"), PERMISSIONS),
            // The worker also serves the page, which is above its folder.
            (HeaderName::from_static("service-worker-allowed"), "/phone"),
        ];
        (headers, Extension(Arc::clone(&body)), body.plain())
    })
}
