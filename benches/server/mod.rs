//! Runs the real server as a process, with a lightweight client, and draws plots.

#![allow(dead_code, reason = "each bench uses only a part")]

pub mod load;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bipedalnet_client::Body;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A running server. It is stopped when dropped.
pub struct Server {
    process: Child,
    pub address: String,
    /// Address of the metrics, or empty if the program has none.
    metrics: String,
    pub folder: TempDir,
    /// Time from the start of the program until it listened.
    pub start_seconds: f64,
}

impl Server {
    /// Starts a server with the database in this folder. Set `BIPEDALNET_PROGRAM` to run another build.
    pub fn start(folder: TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    pub fn start_with(folder: TempDir, arguments: &[&str]) -> Self {
        let program = std::env::var("BIPEDALNET_PROGRAM");
        let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_bipedalnet"));
        Self::start_program(program, folder, arguments)
    }

    pub fn start_program(program: &str, folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(["--address-requests-per-second", "0", "--connections-per-address", "1024"])
            .arg("--database")
            .arg(folder.path().join("bench.db"))
            .args(arguments);
        Self::run(command, folder)
    }

    /// Starts any program that writes ` address=ADDRESS` to its standard error when it listens.
    pub fn run(mut command: Command, folder: TempDir) -> Self {
        let begin = Instant::now();
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let (address, metrics) = loop {
            let line = lines.next().expect("the server ended").expect("the log is text");
            let field = |name: &str| {
                let (_, rest) = line.split_once(name)?;
                Some(rest.split_whitespace().next()?.to_owned())
            };
            if let Some(address) = field(" address=") {
                break (address, field(" metrics=").unwrap_or_default());
            }
        };
        let start_seconds = begin.elapsed().as_secs_f64();
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, metrics, folder, start_seconds }
    }

    /// Resident memory of the process.
    pub fn resident_mebibytes(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        kibibytes.map_or(f64::NAN, |kibibytes: f64| kibibytes / 1024.0)
    }

    pub fn processor_seconds(&self) -> f64 {
        processor_seconds(self.process.id())
    }

    /// The current value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.metrics).await.expect("it listens");
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("it listens");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("metrics are text");
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or(f64::NAN)
    }

    /// Stops the server and returns its folder.
    pub fn stop(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("there is a disk"))
    }

    fn end(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// User and kernel time of a process so far.
pub fn processor_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    // utime and stime, in hundredths of a second.
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Pins this process, and those that it starts later, to one processor. Returns whether that worked.
pub fn pin(processor: usize) -> bool {
    let [processor, id] = [processor as u32, std::process::id()].map(|number| number.to_string());
    let taskset = Command::new("taskset")
        .args(["--pid", "--cpu-list", &processor, &id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    taskset.is_ok_and(|status| status.success())
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, body: Option<&Body>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    let bytes = body.map_or(&[][..], |body| &body.bytes);
    if let Some(body) = body {
        head += "content-type: application/cbor\r\n";
        if body.zstd {
            head += "content-encoding: zstd\r\n";
        }
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", bytes.len());
    [head.as_bytes(), bytes].concat()
}

/// Ten seconds of a simulated person, encoded as phones send it.
pub fn walk(person: u64, number: u64) -> Body {
    let recording = Walker::new(person).walk(number, &Conditions::default());
    Body::of_recording(&recording.part(0.0, 10.0).expect("walks are longer"))
}

/// An HTTP/1.1 connection for one request at a time.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and returns the status of the response.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(status) = answered(&self.buffer) {
                return Ok(status);
            }
        }
    }
}

/// The status of a response, if it is complete.
fn answered(buffer: &[u8]) -> Option<u16> {
    let head = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(Some(0), |length| length.parse().ok())?;
    (buffer.len() >= head + 4 + length).then(|| text.get(9..12)?.parse().ok())?
}

/// The quantile of a sorted list, such as the median for a `share` of 0.5.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = (sorted.len() as f64 * share) as usize;
    sorted.get(position.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A line of a plot.
pub struct Line<'a> {
    pub name: &'a str,
    pub colour: &'a str,
    pub points: &'a [(f64, f64)],
}

/// Writes a plot as SVG. Both axes start at zero.
pub fn plot(path: &Path, title: &str, axes: [&str; 2], lines: &[Line]) -> io::Result<()> {
    const SIZE: [f64; 2] = [720.0, 360.0];
    const MARGIN: [f64; 2] = [70.0, 50.0];
    let largest = |axis: fn(&(f64, f64)) -> f64| {
        let values = lines.iter().flat_map(|line| line.points.iter().map(axis));
        round_up(values.fold(f64::MIN_POSITIVE, f64::max))
    };
    let most = [largest(|point| point.0), largest(|point| point.1)];
    let [inner_x, inner_y] = [SIZE[0] - 2.0 * MARGIN[0], SIZE[1] - 2.0 * MARGIN[1]];
    let x = |value: f64| MARGIN[0] + value / most[0] * inner_x;
    let y = |value: f64| SIZE[1] - MARGIN[1] - value / most[1] * inner_y;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"22\" font-size=\"15\">{title}</text>\n",
        SIZE[0], SIZE[1], MARGIN[0]
    );
    for step in 0..=5 {
        let [along, up] = most.map(|most| most * f64::from(step) / 5.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{} {:.1}h{inner_x}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            MARGIN[0],
            y(up),
            MARGIN[0] - 6.0,
            y(up) + 4.0,
            rounded(up),
            x(along),
            SIZE[1] - MARGIN[1] + 18.0,
            rounded(along),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        SIZE[0] / 2.0,
        SIZE[1] - 12.0,
        axes[0],
        SIZE[1] / 2.0,
        axes[1],
    );
    let mut key = VecDeque::from([40.0, 56.0, 72.0, 88.0]);
    for Line { name, colour, points } in lines {
        let points: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let at = key.pop_front().unwrap_or(104.0);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{at}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
            SIZE[0] - 10.0,
        );
    }
    std::fs::write(path, svg + "</svg>\n")
}

/// The next round number.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|most| *most >= value).unwrap_or(value)
}

fn rounded(value: f64) -> String {
    let digits = if value == 0.0 || value >= 10.0 { 0 } else { 2 };
    format!("{value:.digits$}")
}
