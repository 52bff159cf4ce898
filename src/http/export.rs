//! The export of a user, walk by walk: all recordings together may take more memory than there is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use bipedalnet_client::api;
use futures_util::stream;
use serde::Serialize;

use super::body::Format;
use super::users::enrollment_answer;
use super::walk::user_answer;
use crate::service::{
    self, Admission, Export, ExportedTemplate, ExportedWalk, Sender, Service, ServiceError,
};

/// How long a walk may wait until it is read and encoded. Then the connection breaks.
const WALK_TIMEOUT: Duration = Duration::from_secs(30);

/// The fields of `api::ExportAnswer` before its walks.
#[derive(Serialize)]
struct Head {
    #[serde(flatten)]
    user: api::UserAnswer,
}

struct Encoder {
    export: Export,
    format: Format,
    service: Arc<Service>,
    sender: Sender,
    next: Part,
}

#[derive(Clone, Copy)]
enum Part {
    Head,
    Walk { is_first: bool },
    End,
}

/// The body of a response with an `api::ExportAnswer`. If a walk cannot be read, the body breaks off, so
/// that the client does not take it for the whole.
pub(super) fn body(export: Export, format: Format, service: Arc<Service>) -> Body {
    let sender = service::sender();
    let encoder = Encoder { export, format, service, sender, next: Part::Head };
    Body::from_stream(stream::try_unfold(encoder, async |mut encoder| {
        let part = encoder.part().await.inspect_err(|error| {
            tracing::error!(%error, "an export broke off");
        })?;
        Ok::<_, ServiceError>(part.map(|part| (Bytes::from(part), encoder)))
    }))
}

impl Encoder {
    async fn part(&mut self) -> Result<Option<Vec<u8>>, ServiceError> {
        Ok(Some(match self.next {
            Part::Head => {
                self.next = Part::Walk { is_first: true };
                self.head()
            }
            Part::Walk { is_first } => match self.walk().await? {
                Some(walk) => {
                    self.next = Part::Walk { is_first: false };
                    let comma = !is_first && self.format == Format::Json;
                    [if comma { &b","[..] } else { b"" }, &walk].concat()
                }
                None => {
                    self.next = Part::End;
                    self.tail()
                }
            },
            Part::End => return Ok(None),
        }))
    }

    fn head(&self) -> Vec<u8> {
        let mut head = self.format.encode(&Head { user: user_answer(self.export.status.clone()) });
        // The end of the map, which goes on.
        head.pop();
        match self.format {
            Format::Json => head.extend(br#","walks":["#),
            Format::Cbor => {
                head.extend(self.format.encode(&"walks"));
                head.push(CBOR_LIST);
            }
        }
        head
    }

    /// The next walk, on the pool in the name of the client.
    async fn walk(&mut self) -> Result<Option<Vec<u8>>, ServiceError> {
        let Self { export, format, service, sender, .. } = self;
        let (sender, format) = (Arc::clone(sender), *format);
        service::until(Instant::now() + WALK_TIMEOUT, async {
            service::sent_by(sender);
            let Some(walk) = export.next_walk().await? else { return Ok(None) };
            let encode = move |_: &mut _| format.encode(&exported(walk));
            Ok(Some(service.pool.run(Admission::Always, encode).await?))
        })
        .await
    }

    fn tail(&self) -> Vec<u8> {
        let marks = self.export.fingerprints.iter();
        let fingerprints: Vec<String> =
            marks.map(|mark| const_hex::encode(mark.to_bytes())).collect();
        let fingerprints = self.format.encode(&fingerprints);
        match self.format {
            Format::Json => [&br#"],"fingerprints":"#[..], &fingerprints, b"}"].concat(),
            Format::Cbor => {
                let name = self.format.encode(&"fingerprints");
                [&[CBOR_BREAK][..], &name, &fingerprints, &[CBOR_BREAK]].concat()
            }
        }
    }
}

/// Begins a list of any length.
const CBOR_LIST: u8 = 0x9f;
/// Ends a list or map of any length.
const CBOR_BREAK: u8 = 0xff;

fn exported(walk: ExportedWalk) -> api::ExportedWalk {
    let template = |template: ExportedTemplate| api::ExportedTemplate {
        model: template.model,
        windows: template.windows,
        template: template.values,
    };
    api::ExportedWalk {
        enrollment: enrollment_answer(walk.enrollment),
        templates: walk.templates.into_iter().map(template).collect(),
        recording: walk.recording,
    }
}
