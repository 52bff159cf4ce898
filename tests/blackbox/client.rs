//! The Rust client against the real server, over good and bad connections.

use std::sync::{Arc, Mutex};

use bipedalnet_client::api::{
    BatchDocument, BatchItem, CollectionDocument, Consent, EnrollItem, Identified, IdentifyItem,
    UserState, Verified, VerifyItem,
};
use bipedalnet_client::{Body, Client, ClientError, VerifyOptions, walk};
use bipedalnet_core::bnn::Model;
use bipedalnet_core::{
    cbor,
    gait::{Recording, RecordingDocument},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Server, create_key, simulated};

fn client(server: &Server) -> Client {
    Client::new(&server.url(""), None).unwrap()
}

#[track_caller]
fn problem<T>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Problem(problem)) => (problem.status, problem.r#type),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("no error"),
    }
}

fn urn(code: &str) -> String {
    format!("urn:bipedalnet:problem:{code}")
}

#[tokio::test]
async fn every_method_works() {
    let server = Server::start();
    let client = client(&server);
    let new = client.put_user("ann").await.unwrap();
    assert_eq!((new.status, new.enrollments), (UserState::Collecting, 0));
    assert_eq!(client.put_user("ann").await.unwrap(), new);

    let first = client.enroll("ann", &simulated(11, 1)).await.unwrap();
    let second = client.enroll("ann", &simulated(11, 2)).await.unwrap();
    assert!(first.windows_accepted > 0 && first.windows_refused.is_empty(), "{first:?}");
    let numbers: Vec<i64> = client
        .enrollments("ann")
        .await
        .unwrap()
        .enrollments
        .iter()
        .map(|walk| walk.enrollment)
        .collect();
    assert_eq!(numbers, [first.enrollment, second.enrollment]);
    assert_eq!(client.user("ann").await.unwrap(), second.user);
    let consent = Consent { reference: "release 4711".to_owned(), given_at_unix_seconds: Some(1) };
    let given = client.record_consent("ann", consent.clone()).await.unwrap();
    assert_eq!(given.consent, Some(consent));

    let named = client.identify(&simulated(11, 3), None).await.unwrap();
    assert_eq!((named.decision, named.user.as_deref()), (Identified::Identified, Some("ann")));
    let few = client.identify(&simulated(11, 3), Some(&["ann"])).await;
    assert_eq!(problem(few), (422, urn("too-few-users")));

    let challenge = Some(client.challenge("ann").await.unwrap().challenge);
    let session = Some("door-1".to_owned());
    let options = VerifyOptions { fmr: Some(0.1), session, challenge };
    let accepted = client.verify("ann", &simulated(11, 4), &options).await.unwrap();
    assert_eq!((accepted.decision, accepted.fmr), (Verified::Accept, 0.1));
    let again = VerifyOptions { challenge: None, ..options.clone() };
    let both = client.verify("ann", &simulated(11, 5), &again).await.unwrap();
    assert!(both.windows > accepted.windows, "the windows of a session are not added up: {both:?}");
    let used = client.verify("ann", &simulated(11, 6), &options).await;
    assert_eq!(problem(used), (409, urn("bad-challenge")));
    let usual = VerifyOptions::default();
    let rejected = client.verify("ann", &simulated(12, 1), &usual).await.unwrap();
    assert_eq!(rejected.decision, Verified::Reject);
    let replayed = client.verify("ann", &simulated(11, 1), &usual).await.unwrap();
    assert_eq!(replayed.decision, Verified::SuspectedReplay);

    let models = client.models().await.unwrap().models;
    assert_eq!([&models[0].model], [&named.model]);
    let file = client.model_file(&named.model).await.unwrap();
    assert_eq!(Model::from_bytes(&file).unwrap().id(), named.model);
    let activated = client.activate(&named.model, false).await.unwrap();
    assert_eq!((activated.previous_model, activated.comparison), (named.model, None));
    let unknown = client.activate("0123456789abcdef", true).await;
    assert_eq!(problem(unknown), (404, urn("unknown-model")));
    let unknown = client.model_file("0123456789abcdef").await;
    assert_eq!(problem(unknown), (404, urn("unknown-model")));

    client.put_user("bob").await.unwrap();
    let (user, fmr) = ("ann".to_owned(), Some(0.01));
    let items = vec![
        BatchItem::Enroll(EnrollItem { user: "bob".to_owned(), walk: walk(&simulated(12, 1)) }),
        BatchItem::Identify(IdentifyItem { among: None, walk: walk(&simulated(11, 7)) }),
        BatchItem::Verify(VerifyItem {
            user,
            fmr,
            session: None,
            challenge: None,
            walk: walk(&simulated(11, 8)),
        }),
        BatchItem::Enroll(EnrollItem { user: "carl".to_owned(), walk: walk(&simulated(13, 1)) }),
    ];
    let outcomes = client.batch(&BatchDocument { items }).await.unwrap().outcomes;
    assert_eq!(outcomes[0].enrolled.as_ref().unwrap().user.user, "bob");
    assert_eq!(outcomes[1].identified.as_ref().unwrap().user.as_deref(), Some("ann"));
    assert_eq!(outcomes[2].verified.as_ref().unwrap().decision, Verified::Accept);
    assert_eq!(outcomes[3].problem.as_ref().unwrap().r#type, urn("unknown-user"));

    let page = client.users(None).await.unwrap();
    let names: Vec<&str> = page.users.iter().map(|user| user.user.as_str()).collect();
    assert_eq!((names, page.next), (vec!["ann", "bob"], None));
    let page = client.users(Some("ann")).await.unwrap();
    assert_eq!(page.users.len(), 1);

    client.delete_enrollment("ann", first.enrollment).await.unwrap();
    let export = client.export("ann").await.unwrap();
    assert_eq!(export.walks.len(), 1);
    assert_eq!(export.walks[0].enrollment.enrollment, second.enrollment);
    client.delete_user("ann").await.unwrap();
    assert_eq!(problem(client.user("ann").await), (404, urn("unknown-user")));
}

/// What the stub does with a request.
#[derive(Clone)]
enum Fate {
    /// The connection breaks before the request reaches the server.
    Lost,
    /// The connection breaks after the request reached the server.
    Unanswered,
    /// The stub sends this response itself.
    Answered(String),
    /// The client gets the server's response.
    Passed,
}

/// A proxy in front of a server. Each connection carries one request.
struct Stub {
    url: String,
    /// The bytes of each request.
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Stub {
    async fn start(server: &Server, fates: Vec<Fate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (server, requests) = (server.address.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            for fate in fates {
                let (mut client, _) = listener.accept().await.unwrap();
                let request = request(&mut client).await;
                requests.lock().unwrap().push(request.clone());
                let answer = match &fate {
                    Fate::Lost => continue,
                    Fate::Answered(answer) => answer.as_bytes().to_vec(),
                    Fate::Unanswered | Fate::Passed => pass_on(&server, &request).await,
                };
                if !matches!(fate, Fate::Unanswered) {
                    client.write_all(&answer).await.unwrap();
                }
            }
        });
        Self { url, seen }
    }

    /// The value of a header in each request. It is empty if the request lacks the header.
    fn header(&self, name: &str) -> Vec<String> {
        let value = |request: &Vec<u8>| {
            let text = String::from_utf8_lossy(request).into_owned();
            let lines = text.split("\r\n").take_while(|line| !line.is_empty());
            let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.next().unwrap_or_default().to_owned()
        };
        self.seen.lock().unwrap().iter().map(value).collect()
    }
}

/// Reads one request with its whole body.
async fn request(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        if bytes.len() >= head + 4 + length.map_or(0, |length| length.parse().unwrap()) {
            return bytes;
        }
    }
}

/// Sends a request to the server on its own connection and returns the response.
async fn pass_on(server: &str, request: &[u8]) -> Vec<u8> {
    let mut server = TcpStream::connect(server).await.unwrap();
    let head = request.windows(2).position(|two| two == b"\r\n").unwrap();
    server.write_all(&request[..head]).await.unwrap();
    server.write_all(b"\r\nconnection: close").await.unwrap();
    server.write_all(&request[head..]).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    answer
}

/// A response of the stub itself, with one header.
fn answered(status: &str, header: &str, body: &str) -> Fate {
    let length = body.len();
    Fate::Answered(format!(
        "HTTP/1.1 {status}\r\n{header}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

fn busy() -> Fate {
    answered("503 Service Unavailable", "retry-after: 0", "")
}

#[tokio::test]
async fn a_retried_write_counts_once() {
    let in_flight = r#"{"type":"urn:bipedalnet:problem:request-in-flight","title":"","status":409,"detail":""}"#;
    let in_flight = answered("409 Conflict", "retry-after: 1", in_flight);
    let fates = vec![Fate::Lost, Fate::Unanswered, busy(), in_flight, Fate::Passed];
    let server = Server::start();
    client(&server).put_user("ann").await.unwrap();
    let stub = Stub::start(&server, fates).await;
    let bad = Client::new(&stub.url, None).unwrap();
    let enrolled = bad.enroll("ann", &simulated(11, 1)).await.unwrap();
    let kept = client(&server).enrollments("ann").await.unwrap().enrollments;
    assert_eq!(kept.iter().map(|walk| walk.enrollment).collect::<Vec<_>>(), [enrolled.enrollment]);
    let keys = stub.header("idempotency-key");
    assert_eq!((keys.len(), keys[0].len()), (5, 32));
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(stub.header("request-deadline-ms").iter().all(|time| time.parse::<u32>().is_ok()));
    assert_eq!(stub.header("content-type")[0], "application/cbor");
}

#[tokio::test]
async fn the_client_stops_retrying() {
    let server = Server::start();
    // No client waits so long.
    let wait = format!("retry-after: {}", u64::MAX);
    for (fate, tries, expected) in [
        (busy(), 5, "answered 503"),
        (answered("429 Too Many Requests", &wait, ""), 1, "answered 429"),
        (answered("302 Found", "location: /elsewhere", ""), 1, "answered 302"),
        // The client does not retry after a problem.
        (Fate::Passed, 1, "The user does not exist: create the user first"),
    ] {
        let stub = Stub::start(&server, vec![fate; 9]).await;
        let error = Client::new(&stub.url, None).unwrap().user("ann").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(stub.seen.lock().unwrap().len(), tries, "{error}");
        assert_eq!(stub.header("idempotency-key")[0], "", "a read has an idempotency key");
    }
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::new(&format!("http://{closed}"), None).unwrap().user("ann").await;
    let shown = error.unwrap_err().to_string();
    assert!(
        shown.contains(&format!("no response from http://{closed}/: Connection refused")),
        "{shown}"
    );
    for (url, expected) in [
        ("localhost:8080", "neither http nor https"),
        ("127.0.0.1", "is not a server URL"),
        ("ftp://example.com", "neither http nor https"),
        ("http://example.com/?x=1", "it has a query or a fragment"),
    ] {
        let shown = Client::new(url, None).unwrap_err().to_string();
        assert!(shown.contains(url) && shown.contains(expected), "{shown}");
    }
    let server = Server::start();
    let key = Client::new(&server.url(""), Some("bpn_\n".to_owned()));
    assert!(matches!(key, Err(ClientError::Key)), "{key:?}");
    for dots in ["", ".", ".."] {
        let error = client(&server).export(dots).await.unwrap_err();
        assert!(matches!(error, ClientError::Id(_)), "{error}");
    }
    assert_eq!(problem(client(&server).delete_user("../users").await), (422, urn("invalid-id")));
    let below = Client::new(&server.url("/gait/"), None).unwrap().user("ann").await;
    assert_eq!(problem(below), (404, urn("no-such-resource")));
}

#[tokio::test]
async fn the_key_is_sent_but_not_printed() {
    let server = Server::start();
    let key = create_key(&server.database(), "enroll");
    let folder = server.kill();
    let server = Server::start_in(folder);
    assert_eq!(problem(client(&server).user("ann").await), (401, urn("no-api-key")));
    let with_key = Client::new(&server.url(""), Some(key.clone())).unwrap();
    assert!(!format!("{with_key:?}").contains(&key));
    with_key.put_user("ann").await.unwrap();
    let identified = with_key.identify(&simulated(11, 1), None).await;
    assert_eq!(problem(identified), (403, urn("missing-scope")));
}

#[test]
fn recordings_are_compressed_and_gaps_are_kept() {
    let recording = simulated(11, 1);
    let body = Body::of_recording(&recording);
    assert!(body.zstd && body.bytes.len() < 20 * recording.time_seconds().len());
    let plain = zstd::decode_all(&body.bytes[..]).unwrap();
    let document: RecordingDocument = cbor::from_slice(&plain).unwrap();
    assert!(document.rate_hz.is_some());

    let times: Vec<f64> = (0..200).map(|n| f64::from(n) * 0.02 + f64::from(n / 100)).collect();
    let acceleration: Vec<[f32; 3]> = (0..200).map(|n| [(n as f32).sin(), 0.5, 9.8]).collect();
    let with_gap = Recording::new(times, acceleration, None).unwrap();
    let body = Body::of_recording(&with_gap);
    let plain = match body.zstd {
        true => zstd::decode_all(&body.bytes[..]).unwrap(),
        false => body.bytes,
    };
    let document: RecordingDocument = cbor::from_slice(&plain).unwrap();
    assert_eq!(Recording::try_from(document).unwrap(), with_gap);
}

#[tokio::test]
async fn a_client_of_a_collection_knows_only_its_users() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let all = Client::new(&server.url(""), None).unwrap();
    let limits = CollectionDocument { max_users: Some(2), ..CollectionDocument::default() };
    let created = all.put_collection("shop", &limits).await.unwrap();
    assert_eq!((created.users, created.max_users), (0, Some(2)));
    let shop = all.in_collection("shop");
    shop.put_user("ann").await.unwrap();
    shop.enroll("ann", &simulated(12, 1)).await.unwrap();
    assert_eq!(shop.user("ann").await.unwrap().collection.as_deref(), Some("shop"));
    assert_eq!(all.user("ann").await.unwrap().collection, None);
    let found = shop.identify(&simulated(12, 2), None).await.unwrap();
    assert_eq!(found.user.as_deref(), Some("ann"));
    assert_eq!(all.identify(&simulated(12, 2), None).await.unwrap().user, None);
    let item = BatchItem::Verify(VerifyItem {
        user: "ann".to_owned(),
        fmr: None,
        session: None,
        challenge: None,
        walk: walk(&simulated(12, 3)),
    });
    let answer = shop.batch(&BatchDocument { items: vec![item] }).await.unwrap();
    let verified = answer.outcomes[0].verified.as_ref().unwrap();
    assert_eq!(verified.decision, Verified::Accept);
    assert_eq!(all.collection("shop").await.unwrap().users, 1);
    let listed = all.collections(Some("default")).await.unwrap();
    assert_eq!(listed.collections.len(), 1);
    shop.delete_user("ann").await.unwrap();
    all.delete_collection("shop").await.unwrap();
    assert!(all.user("ann").await.is_ok());
    // Models belong to no collection.
    assert_eq!(shop.models().await.unwrap().models.len(), 1);
}
