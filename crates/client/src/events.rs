//! Following a training job by its server-sent events.

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Method, Response, StatusCode};

use crate::api::TrainingJobAnswer;
use crate::client::Client;
use crate::error::ClientError;
use crate::exchange::{FIRST_WAIT, REQUEST_TIMEOUT};

const MAX_EVENT_BYTES: usize = 64 << 10;

impl Client {
    /// Follows a training job until it ends, and calls `report` a few times a second.
    ///
    /// Reconnects if the connection is lost. Fails if the server stays away for a minute.
    pub async fn follow_training_job(
        &self,
        job: i64,
        mut report: impl FnMut(&TrainingJobAnswer),
    ) -> Result<TrainingJobAnswer, ClientError> {
        let path = ["training-jobs", &job.to_string(), "events"];
        let mut last_event = None;
        loop {
            let mut request = self.request(Method::GET, &path, &[], None, 0)?;
            let headers = request.headers_mut();
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            if let Some(id) = last_event {
                headers.insert("last-event-id", HeaderValue::from(id));
            }
            let response = tokio::time::timeout(REQUEST_TIMEOUT, self.http.execute(request)).await;
            if let Ok(Ok(response)) = response
                && response.status() == StatusCode::OK
            {
                self.read_events(response, &mut last_event, &mut report).await?;
            }
            // The stream has ended or broken off. This request retries if the server is away.
            let answer = self.training_job(job).await?;
            if answer.state.is_over() {
                report(&answer);
                return Ok(answer);
            }
            tokio::time::sleep(FIRST_WAIT).await;
        }
    }

    /// Reads events until the stream ends or breaks off.
    async fn read_events(
        &self,
        mut response: Response,
        last_event: &mut Option<i64>,
        report: &mut impl FnMut(&TrainingJobAnswer),
    ) -> Result<(), ClientError> {
        let status = response.status();
        let mut buffer = Vec::new();
        while let Ok(Ok(Some(part))) = tokio::time::timeout(REQUEST_TIMEOUT, response.chunk()).await
        {
            buffer.extend_from_slice(&part);
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = buffer.drain(..end + 2).collect();
                for line in event.split(|byte| *byte == b'\n') {
                    if let Some(json) = line.strip_prefix(b"data: ") {
                        let answer = serde_json::from_slice(json)
                            .map_err(|error| self.unexpected_answer(status, error.to_string()))?;
                        report(&answer);
                    } else if let Some(id) = line.strip_prefix(b"id: ") {
                        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
                        *last_event = id.or(*last_event);
                    }
                }
            }
            if buffer.len() > MAX_EVENT_BYTES {
                let reason = format!("an event has more than {MAX_EVENT_BYTES} bytes");
                return Err(self.unexpected_answer(status, reason));
            }
        }
        Ok(())
    }
}
