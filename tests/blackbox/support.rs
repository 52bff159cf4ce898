//! Starts the real program on a real port with a real database, and talks to it. The database is a file of
//! SQLite, or with BIPEDALNET_TEST_POSTGRES a database of PostgreSQL: see `tests/postgres.sh`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Recipe, Recording, RecordingDocument, cut_windows};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, StatusCode};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program under test, without this process's settings for it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipedalnet"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BIPEDALNET_")) {
        command.env_remove(name);
    }
    // Many servers run at once here. `Server` gets a free port for metrics.
    command.env("BIPEDALNET_METRICS_LISTEN", "").stdin(Stdio::null());
    if postgres().is_some() {
        // Servers that share a database need the same.
        command.env("BIPEDALNET_MASTER_KEY", "7".repeat(64));
    }
    command
}

/// Runs a command to its end. Returns what it printed, or its error output if it failed.
pub fn printed(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The value after `name` in a log line, up to the next space.
pub fn field(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(name)?;
    Some(rest.split_whitespace().next()?.to_owned())
}

pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}

/// URL of the PostgreSQL server to test on.
pub fn postgres() -> Option<String> {
    std::env::var("BIPEDALNET_TEST_POSTGRES").ok()
}

/// The database of a server in a folder: its file, or the URL of one that is made for the folder.
pub fn database_in(folder: &Path) -> PathBuf {
    let Some(server) = postgres() else { return folder.join("test.db") };
    let url = folder.join("database-url");
    if !url.exists() {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{count}", std::process::id());
        psql(&server, &format!("CREATE DATABASE {name}"));
        let (server, _) = server.rsplit_once('/').unwrap();
        let database = format!("{server}/{name}");
        psql(&database, LIKE_SQLITE);
        fs::write(&url, database).unwrap();
    }
    fs::read_to_string(url).unwrap().into()
}

/// What tests ask either database for.
const LIKE_SQLITE: &str = "CREATE FUNCTION unixepoch() RETURNS BIGINT LANGUAGE sql
    AS 'SELECT extract(epoch FROM clock_timestamp())::bigint'";

fn psql(url: &str, statements: &str) -> String {
    let mut command = Command::new("psql");
    command.args([url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statements]);
    printed(&mut command).unwrap().trim_end().to_owned()
}

/// Creates an API key with these comma-separated scopes and returns its text.
pub fn create_key(database: &Path, scopes: &str) -> String {
    let mut command = program();
    command.args(["keys", "create", "--name", "test", "--scopes", scopes, "--database"]);
    printed(command.arg(database)).unwrap().trim().to_owned()
}

/// Whether curl is on the `PATH`. If not, prints what the calling test skips.
pub fn has_curl(skipped: &str) -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {skipped}. This needs curl, which is not on the PATH.");
    }
    found
}

/// Writes a self-signed certificate for 127.0.0.1 and its key. Returns the two paths.
pub fn certificate(folder: &Path, name: &str) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = |extension: &str, pem: String| {
        let path = folder.join(format!("{name}.{extension}"));
        fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    [file("crt", made.cert.pem()), file("key", made.signing_key.serialize_pem())]
}

/// Opens a database without foreign keys, so that tests can damage it.
pub fn open_database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    connection
}

/// Runs SQL statements. Returns their rows, one a line, with `|` between columns.
pub fn run_sql(database: &Path, statements: &str) -> String {
    if let Some(url) = database.to_str().filter(|path| path.starts_with("postgres://")) {
        return psql(url, statements);
    }
    let connection = open_database(database);
    let mut lines = Vec::new();
    let mut batch = Batch::new(&connection, statements);
    while let Some(mut statement) = batch.next().unwrap() {
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns).map(|column| match row.get_ref(column).unwrap() {
                ValueRef::Null => String::new(),
                ValueRef::Integer(value) => value.to_string(),
                ValueRef::Real(value) => value.to_string(),
                ValueRef::Text(value) | ValueRef::Blob(value) => {
                    String::from_utf8_lossy(value).into_owned()
                }
            });
            lines.push(values.collect::<Vec<_>>().join("|"));
        }
    }
    lines.join("\n")
}

/// Longer than any wait for a byte should take. A test fails if it has to wait so long.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until a search no longer finds what was deleted. A statement that reads at that moment delays the
/// emptying of the write-ahead log by a second.
pub fn wait_until_erased<Found: IntoIterator<Item = String>>(search: impl Fn() -> Found) {
    let begin = Instant::now();
    while let Some(found) = search().into_iter().next() {
        assert!(begin.elapsed() < READ_TIMEOUT, "{found}");
    }
}

/// The number of requests that are left, from the header `ratelimit`.
pub fn requests_left(limit: &str) -> f64 {
    limit.split(['=', ';']).nth(2).unwrap().parse().unwrap()
}

/// A running server. It is killed when dropped.
pub struct Server {
    process: Child,
    pub address: String,
    /// Address of the metrics and health checks.
    pub metrics: String,
    pub folder: TempDir,
    client: Client,
    /// Lines of the log since the start that were not looked at yet.
    log: Mutex<Receiver<String>>,
}

/// A response with its body as JSON, or as a JSON string if it is no JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Value,
}

impl Answer {
    /// Status and problem type, without the prefix that all types share.
    #[track_caller]
    pub fn problem(&self) -> (u16, &str) {
        let kind = self.body["type"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        (self.status, kind.strip_prefix("urn:bipedalnet:problem:").unwrap())
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Starts a server with the database that an earlier server left in the folder.
    pub fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    pub fn start_with(folder: TempDir, arguments: &[&str]) -> Self {
        Self::start_as(program(), folder, arguments)
    }

    /// Starts a server with a new database and these arguments.
    pub fn with_arguments(arguments: &[&str]) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), arguments)
    }

    /// Starts a server with a command that takes the program's arguments.
    pub fn start_as(command: Command, folder: TempDir, arguments: &[&str]) -> Self {
        Self::started(command, folder, arguments).unwrap_or_else(|seen| panic!("{seen:#?}"))
    }

    /// Starts a server with the database in the folder. `None` if the server refuses it.
    pub fn try_start(folder: TempDir) -> Option<Self> {
        Self::started(program(), folder, &[]).ok()
    }

    /// The lines of a server that ended are the error.
    fn started(
        mut command: Command,
        folder: TempDir,
        arguments: &[&str],
    ) -> Result<Self, Vec<String>> {
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .arg("--database")
            .arg(database_in(folder.path()))
            .args(arguments)
            // Tests of limits set their own.
            .env("BIPEDALNET_ADDRESS_REQUESTS_PER_SECOND", "0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let (address, metrics) = loop {
            let Some(line) = lines.next() else {
                process.wait().unwrap();
                return Err(seen);
            };
            let line = line.unwrap();
            if let (Some(address), Some(metrics)) =
                (field(&line, "address="), field(&line, "metrics="))
            {
                break (address, metrics);
            }
            seen.push(line);
        };
        let (sender, log) = channel();
        // A full pipe would stop the server. The test may be over.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(sender.send(line)))
        });
        Ok(Self { process, address, metrics, folder, client: client(), log: Mutex::new(log) })
    }

    /// Starts a server with users. Each has one walk, of the simulated person with this number.
    pub async fn with_users(arguments: &[&str], users: &[(&str, u64)]) -> Self {
        let server = Self::with_arguments(arguments);
        for (user, person) in users {
            server.add_user(user, &[simulated(*person, 1)]).await;
        }
        server
    }

    /// Starts another server with the same database. `None` with SQLite, where there can be only one.
    pub fn beside(&self, arguments: &[&str]) -> Option<Self> {
        postgres()?;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("database-url"), self.database().to_str().unwrap()).unwrap();
        Some(Self::start_with(folder, arguments))
    }

    /// Waits for a line of the log that contains a text. Forgets the lines before it.
    pub fn logged(&self, text: &str) -> String {
        let log = self.log.lock().unwrap();
        let mut lines = std::iter::from_fn(|| log.recv_timeout(READ_TIMEOUT).ok());
        lines.find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}"))
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub fn database(&self) -> PathBuf {
        database_in(self.folder.path())
    }

    /// A bare connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        stream
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request that says its body is JSON.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        request.header("content-type", "application/json").body(body)
    }

    pub async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request(method, path, body).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub async fn put_user(&self, user: &str) -> Answer {
        self.send(Method::PUT, &format!("/v1/users/{user}"), "").await
    }

    pub async fn enroll(&self, user: &str, recording: &Recording) -> Answer {
        self.send(Method::POST, &format!("/v1/users/{user}/enrollments"), json(recording)).await
    }

    /// Creates a user and enrolls their walks.
    pub async fn add_user(&self, user: &str, walks: &[Recording]) {
        assert_eq!(self.put_user(user).await.status, StatusCode::CREATED);
        for walk in walks {
            let answer = self.enroll(user, walk).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        }
    }

    pub async fn identify(&self, recording: &Recording) -> Answer {
        self.send(Method::POST, "/v1/identify", json(recording)).await
    }

    /// The user that the server identifies, if any.
    pub async fn identified(&self, recording: &Recording) -> Option<String> {
        let answer = self.identify(recording).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body["user"].as_str().map(str::to_owned)
    }

    /// Status and text of a path on the metrics address.
    pub async fn operator(&self, path: &str) -> (StatusCode, String) {
        let response = self.client.get(format!("http://{}{path}", self.metrics)).send().await;
        let response = response.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// All metrics, by name and labels.
    pub async fn scrape(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.operator("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        samples(&text)
    }

    /// Ends the server at once, as `kill -9` does, and returns its folder.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits until the server ends by itself. Returns its exit status and folder.
    pub fn ended(mut self) -> (ExitStatus, TempDir) {
        let status = self.process.wait().unwrap();
        (status, std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }

    /// Asks the server to stop.
    pub fn terminate(&self) {
        signal(&self.process, Signal::TERM);
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Some tests have ended it already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The metrics in a scrape, by name and labels.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

pub fn client() -> Client {
    client_builder().build().unwrap()
}

/// For clients with other settings than [`client`].
pub fn client_builder() -> ClientBuilder {
    // reqwest needs a TLS provider. Installing it fails from the second time on.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
}

pub async fn answer(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type");
    let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    let mut body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if content_type.as_deref() == Some("application/problem+json") {
        // It differs for each request, so snapshots must not have it.
        let said = body.as_object_mut().unwrap().remove("request_id");
        assert_eq!(said, Some(request_id.into()), "{body}");
    }
    Answer { status, content_type: content_type.unwrap_or_default(), body }
}

/// Replaces what differs between models and between runs, after checking that it is plausible.
pub fn stable(mut body: Value) -> Value {
    match &mut body {
        Value::Array(list) => list.iter_mut().for_each(|value| *value = stable(value.take())),
        Value::Object(fields) => {
            for (name, value) in fields {
                *value = match &name[..] {
                    "model" => {
                        assert_eq!(value.as_str().unwrap().len(), 16);
                        json!("(model)")
                    }
                    "score" => {
                        assert!((-1.0..=1.0).contains(&value.as_f64().unwrap()));
                        json!("(score)")
                    }
                    // The thresholds follow the gallery within a second.
                    "calibration" => {
                        assert!(["model", "gallery"].contains(&value.as_str().unwrap()));
                        json!("(calibration)")
                    }
                    "estimated_fmr" => {
                        assert!((1e-6..=1.0).contains(&value.as_f64().unwrap()));
                        json!("(rate)")
                    }
                    "created_at_unix_seconds" | "last_active_at_unix_seconds" => {
                        assert!(value.as_i64().unwrap() > 1_700_000_000);
                        json!("(time)")
                    }
                    "template" => {
                        assert_eq!(value.as_array().unwrap().len(), FEATURE_LEN);
                        json!("(template)")
                    }
                    "fingerprints" => json!("(fingerprints)"),
                    _ => stable(value.take()),
                };
            }
        }
        _ => {}
    }
    body
}

pub fn json(recording: &Recording) -> String {
    serde_json::to_string(&RecordingDocument::from(recording)).unwrap()
}

/// Length of the shipped model's feature vectors.
pub const FEATURE_LEN: usize = 768;

/// A walk as sent by a phone that runs the shipped model itself.
pub fn features(recording: &Recording) -> Value {
    let bytes = include_bytes!("../../models/bipedalnet-openset.safetensors");
    let model = Model::from_bytes(bytes).unwrap();
    let recipe = Recipe::OPENSET;
    let cut = cut_windows(recording, &recipe, recipe.samples / 2).unwrap();
    let mut scratch = Scratch::default();
    let windows = cut
        .windows
        .iter()
        .map(|window| model.network.run(&window.values, &mut scratch).unwrap().feature.to_vec());
    json!({"model": model.id(), "features": windows.collect::<Vec<_>>()})
}

/// Walk number `walk` of a simulated person. It lasts 20 s.
pub fn simulated(person: u64, walk: u64) -> Recording {
    simulated_for(person, walk, 20.0)
}

pub fn simulated_for(person: u64, walk: u64, seconds: f64) -> Recording {
    Walker::new(person).walk(walk, &Conditions { seconds, ..Conditions::default() })
}

/// Writes a data set of simulated people with two sessions each.
pub fn data_set(folder: &Path, people: Range<u64>, seconds: f64) {
    let mut manifest = String::from("subject,session,file\n");
    for person in people {
        for (walk, session) in ["day_1", "day_2"].into_iter().enumerate() {
            let file = format!("p{person}-{session}.json");
            fs::write(folder.join(&file), json(&simulated_for(person, walk as u64, seconds)))
                .unwrap();
            manifest += &format!("p{person},{session},{file}\n");
        }
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
}

/// The folder of a set of real recordings. If it is missing, prints that the test is skipped.
pub fn real_data(set: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(set);
    if folder.exists() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings at {}", folder.display());
    None
}
