//! A server with a settings file, and a log that tests read.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};

use tempfile::TempDir;

use crate::support::{self, Signal, program, signal};

/// A running server with a readable log.
pub struct Serving {
    process: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// The log up to the line with `serving`.
    pub seen: Vec<String>,
    pub address: String,
    metrics: Option<String>,
    pub folder: TempDir,
}

impl Serving {
    pub fn start(folder: TempDir, file: &str, variables: &[(&str, &str)]) -> Self {
        fs::write(folder.path().join("b.toml"), file).unwrap();
        let mut command = program();
        command.args(["serve", "--config", "b.toml", "--listen", "127.0.0.1:0"]);
        command.current_dir(folder.path()).envs(variables.iter().copied());
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (seen, address) = (vec![], String::new());
        let mut serving = Self { process, lines, seen, address, metrics: None, folder };
        let mut seen = Vec::new();
        let line = serving.until(" serving ", &mut seen);
        serving.address = support::field(&line, "address=").unwrap();
        serving.metrics = support::field(&line, "metrics=");
        serving.seen = seen;
        serving
    }

    /// Reads the log up to a line with this text.
    pub fn until(&mut self, text: &str, seen: &mut Vec<String>) -> String {
        loop {
            let Some(line) = self.lines.next() else { panic!("no {text:?}: {seen:#?}") };
            let line = line.unwrap();
            seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Replaces the settings file, sends SIGHUP, and waits for a log line with this text.
    pub fn reload(&mut self, file: &str, text: &str) -> String {
        fs::write(self.folder.path().join("b.toml"), file).unwrap();
        self.hang_up();
        self.until(text, &mut Vec::new())
    }

    pub fn hang_up(&self) {
        signal(&self.process, Signal::HUP);
    }

    /// A metric by its name and labels, if the variable `BIPEDALNET_METRICS_LISTEN` gave it a port.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let url = format!("http://{}/metrics", self.metrics.as_ref().unwrap());
        let response = support::client().get(url).send().await.unwrap();
        support::samples(&response.text().await.unwrap()).remove(name)
    }

    pub async fn answer(&self, path: &str) -> reqwest::Response {
        let request = support::client().get(format!("http://{}{path}", self.address));
        request.send().await.unwrap()
    }

    pub async fn put_user(&self, user: &str) -> u16 {
        let url = format!("http://{}/v1/users/{user}", self.address);
        support::client().put(url).send().await.unwrap().status().as_u16()
    }

    pub fn stop(self) {
        drop(self.stop_and_keep());
    }

    /// Stops the server and returns its folder.
    pub fn stop_and_keep(mut self) -> TempDir {
        signal(&self.process, Signal::TERM);
        assert!(self.process.wait().unwrap().success());
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Most tests have ended it already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
