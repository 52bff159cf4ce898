//! The real program on a real port, with a real database file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Recipe, Recording, RecordingDocument, cut_windows};
use reqwest::{Client, ClientBuilder, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program, ready for arguments.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipedalnet"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BIPEDALNET_")) {
        command.env_remove(name);
    }
    // Many servers run at once here; `Server` has a port of its own for metrics.
    command.env("BIPEDALNET_METRICS_LISTEN", "").stdin(Stdio::null());
    command
}

/// A running server; killed when it goes out of scope.
pub struct Server {
    process: Child,
    pub address: String,
    /// Of metrics and probes.
    pub metrics: String,
    pub folder: TempDir,
    client: Client,
}

/// Status and body of an answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Value,
}

impl Server {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Over the database that an earlier server left in the folder.
    pub fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    /// With further arguments.
    pub fn start_with(folder: TempDir, arguments: &[&str]) -> Self {
        Self::start_as(program(), folder, arguments)
    }

    /// By a command that ends as the program does.
    pub fn start_as(mut program: Command, folder: TempDir, arguments: &[&str]) -> Self {
        let mut process = program
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .arg("--database")
            .arg(folder.path().join("test.db"))
            .args(arguments)
            // Tests of limits set their own.
            .env("BIPEDALNET_ADDRESS_REQUESTS_PER_SECOND", "0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let (address, metrics) = loop {
            let Some(line) = lines.next() else { panic!("the server ended: {seen:#?}") };
            let line = line.unwrap();
            let field = |name: &str| {
                let (_, rest) = line.split_once(name)?;
                Some(rest.split_whitespace().next().unwrap().to_owned())
            };
            if let (Some(address), Some(metrics)) = (field("address="), field("metrics=")) {
                break (address, metrics);
            }
            seen.push(line);
        };
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, metrics, folder, client: client() }
    }

    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.client.request(method, self.url(path));
        let response = request.header("content-type", "application/json").body(body).send().await;
        answer(response.unwrap()).await
    }

    pub async fn put_user(&self, user: &str) -> Answer {
        self.send(Method::PUT, &format!("/v1/users/{user}"), "").await
    }

    pub async fn enroll(&self, user: &str, recording: &Recording) -> Answer {
        self.send(Method::POST, &format!("/v1/users/{user}/enrollments"), json(recording)).await
    }

    pub async fn identify(&self, recording: &Recording) -> Answer {
        self.send(Method::POST, "/v1/identify", json(recording)).await
    }

    /// Whom the server takes the walker for.
    pub async fn named(&self, recording: &Recording) -> Option<String> {
        let answer = self.identify(recording).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body["user"].as_str().map(str::to_owned)
    }

    /// Ends the server at once, as `kill -9` does, and gives back its folder.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits until the server ends by itself, and gives back its folder.
    pub fn ended(mut self) -> (ExitStatus, TempDir) {
        let status = self.process.wait().unwrap();
        (status, std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }

    /// Asks the server to stop.
    pub fn terminate(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone in some tests.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn client() -> Client {
    client_builder().build().unwrap()
}

/// For a client unlike others.
pub fn client_builder() -> ClientBuilder {
    // The client wants a provider of TLS; it is there from the second time on.
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
        // Of each request alone, and so in no snapshot.
        let said = body.as_object_mut().unwrap().remove("request_id");
        assert_eq!(said, Some(request_id.into()), "{body}");
    }
    Answer { status, content_type: content_type.unwrap_or_default(), body }
}

pub fn json(recording: &Recording) -> String {
    serde_json::to_string(&RecordingDocument::from(recording)).unwrap()
}

/// Values of a window's feature, as the shipped network makes it.
pub const FEATURE_LEN: usize = 768;

/// A walk as a phone sends it that runs the shipped network itself.
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

/// Walk number `walk` of a simulated person.
pub fn simulated(person: u64, walk: u64) -> Recording {
    Walker::new(person).walk(walk, &Conditions::default())
}

/// A data set of simulated people with two sessions each.
pub fn data_set(folder: &Path, people: Range<u64>, seconds: f64) {
    let mut manifest = String::from("subject,session,file\n");
    for person in people {
        for session in ["day_1", "day_2"] {
            let file = format!("p{person}-{session}.json");
            let seed = u64::from(session == "day_2");
            let conditions = Conditions { seconds, ..Conditions::default() };
            let walk = Walker::new(person).walk(seed, &conditions);
            fs::write(folder.join(&file), json(&walk)).unwrap();
            manifest += &format!("p{person},{session},{file}\n");
        }
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
}

/// The real recordings, where they are; says so where they are not.
pub fn real_data(set: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(set);
    if folder.exists() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings at {}", folder.display());
    None
}
