//! The real router over a throwaway database with two users.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bipedalnet::{Browsers, Config, GivenModel, Live, Service, Store};
use bipedalnet_client::Body as Walk;
use bipedalnet_core::cbor;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Larger than each response.
const MOST_BYTES: usize = 16 << 20;

/// A service and its API.
pub struct Server {
    runtime: Runtime,
    router: Router,
    problem_types: BTreeMap<String, u64>,
    _folder: TempDir,
}

/// A checked response.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, from JSON or CBOR. Null for other formats.
    pub body: Value,
    bytes: Bytes,
}

impl Server {
    /// Starts a service with the user `ann`, who is ready, and the user `bob`, who is not.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        // In memory, if the system has a folder for that.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("there is a disk");
        let mut config = Config::throwaway(&folder.path().join("fuzz.db"));
        config.service.max_users = 16;
        config.service.max_enrollments_per_user = 16;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("there are resources");
        let model = include_bytes!("../../models/bipedalnet-openset.safetensors");
        let router = runtime.block_on(async {
            let store = Store::open(&config.database, None).await.expect("the database is new");
            let given = GivenModel { file: model.to_vec(), shipped: true };
            let service = Service::start(given, store, Live::new(config.service)).await;
            let service = service.expect("it starts").into();
            bipedalnet::router(service, Live::new(config.http), Browsers::default())
        });
        let mut server = Self { runtime, router, problem_types: BTreeMap::new(), _folder: folder };
        let description = server.send(request(Method::GET, "/openapi.json", Body::empty()));
        server.problem_types = problem_types(&description.body);
        assert!(!server.problem_types.is_empty());
        for (number, user, seconds) in [(1, "ann", 20.0), (2, "bob", 5.0)] {
            let path = format!("/v1/users/{user}");
            let put = server.send(request(Method::PUT, &path, Body::empty()));
            assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
            let walk =
                Walker::new(number).walk(1, &Conditions { seconds, ..Conditions::default() });
            let Walk { bytes, zstd } = Walk::of_recording(&walk);
            let mut enroll = request(Method::POST, &(path + "/enrollments"), bytes.into());
            let encoding = if zstd { "zstd" } else { "identity" };
            enroll.headers_mut().insert(header::CONTENT_ENCODING, encoding.parse().expect("ASCII"));
            enroll
                .headers_mut()
                .insert(header::CONTENT_TYPE, "application/cbor".parse().expect("ASCII"));
            let enrolled = server.send(enroll);
            assert_eq!(enrolled.status, StatusCode::CREATED, "{enrolled:?}");
        }
        server
    }

    /// Sends a request to the router.
    ///
    /// # Panics
    /// If the response is not as promised.
    pub fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(self.answer(request))
    }

    /// Runs a future that uses the router.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Sends a request to the router.
    ///
    /// # Panics
    /// If the response is not as promised.
    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let head = request.method() == Method::HEAD;
        let response = self.router.clone().oneshot(request).await;
        let (parts, body) = response.expect("the router is infallible").into_parts();
        let bytes = to_bytes(body, MOST_BYTES).await.expect("responses are whole");
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.map_or("", |value| value.to_str().expect("ASCII"));
        let is_plain = !head && !parts.headers.contains_key(header::CONTENT_ENCODING);
        let body = match content_type {
            "application/json" | "application/problem+json" if is_plain => {
                serde_json::from_slice(&bytes).expect("it is JSON")
            }
            "application/cbor" if is_plain => cbor::from_slice(&bytes).expect("it is CBOR"),
            _ => Value::Null,
        };
        let status = parts.status;
        if status.is_client_error() || status.is_server_error() {
            assert_eq!(content_type, "application/problem+json", "{status} {bytes:?}");
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
            if is_plain {
                let kind = body["type"].as_str().unwrap_or_default();
                let of_kind = self.problem_types.get(kind);
                let of_kind = of_kind.unwrap_or_else(|| panic!("the type is unknown: {body}"));
                assert!([0, status.as_u16().into()].contains(of_kind), "{status} {body}");
                assert_eq!(body["status"], status.as_u16(), "{body}");
                assert_ne!(body["detail"], "", "{body}");
            }
        }
        Answer { status, headers: parts.headers, body, bytes }
    }
}

impl Answer {
    /// The response, to send it on.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.bytes));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A request with an id, so that equal requests have equal responses.
pub fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", "localhost").header("x-request-id", "fuzz");
    request.body(body).expect("the path is one")
}

/// The status of each problem type, from the description of the API. 0 stands for any status.
fn problem_types(description: &Value) -> BTreeMap<String, u64> {
    let types = description["components"]["schemas"]["Problem"]["x-types"].as_array();
    let entry = |row: &Value| Some((row["type"].as_str()?.to_owned(), row["status"].as_u64()));
    let types = types.expect("the description lists them").iter().filter_map(entry);
    types.map(|(name, status)| (name, status.unwrap_or(0))).collect()
}
