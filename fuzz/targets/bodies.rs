//! Bodies of requests to the real router. The first byte chooses the route, the format and the
//! compression; the body follows.
#![no_main]

use std::io::{self, Read, Write};
use std::sync::LazyLock;

use axum::http::{HeaderValue, Method, StatusCode, header};
use bipedalnet_fuzz::{Answer, Server, request};
use flate2::Compression;
use libfuzzer_sys::fuzz_target;

/// The server's limit before and after decompression.
const MOST_BYTES: usize = 2 << 20;

const CODINGS: [&str; 3] = ["gzip", "zstd", "br"];

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let format = ["json", "cbor"][usize::from(choice & 1)];
    let coding = CODINGS[usize::from(choice >> 1) % CODINGS.len()];
    match choice >> 3 {
        0..8 => {
            let found = identify(body, format, Some(coding), "json");
            match decompressed(body, coding) {
                Ok(plain) if plain.len() > MOST_BYTES => {
                    assert!(matches!(found.status.as_u16(), 400 | 413), "{found:?}");
                }
                Ok(plain) => assert_same(&found, &identify(&plain, format, None, "json")),
                Err(_) => assert_eq!(found.status, StatusCode::BAD_REQUEST, "{found:?}"),
            }
        }
        8..16 => {
            let plain = identify(body, format, None, "json");
            let compressed = compressed(body, coding);
            if compressed.len() <= MOST_BYTES {
                assert_same(&identify(&compressed, format, Some(coding), "json"), &plain);
            }
            assert_same(&identify(body, format, None, "cbor"), &plain);
        }
        16..20 => send("/v1/batch", body, format),
        20..24 => send("/v1/users/ann/verify", body, format),
        24..28 => send("/v1/users/bob/enrollments", body, format),
        _ => send("/v1/training-jobs", body, format),
    }
});

fn identify(body: &[u8], format: &str, coding: Option<&str>, accepted: &str) -> Answer {
    let mut request = request(Method::POST, "/v1/identify", body.to_vec().into());
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, value(&format!("application/{format}")));
    headers.insert(header::ACCEPT, value(&format!("application/{accepted}")));
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, value(coding));
    }
    SERVER.send(request)
}

fn send(path: &str, body: &[u8], format: &str) {
    let mut request = request(Method::POST, path, body.to_vec().into());
    request.headers_mut().insert(header::CONTENT_TYPE, value(&format!("application/{format}")));
    SERVER.send(request);
}

fn value(text: &str) -> HeaderValue {
    text.parse().expect("it is ASCII")
}

fn assert_same(found: &Answer, expected: &Answer) {
    assert_eq!((found.status, &found.body), (expected.status, &expected.body));
}

fn decompressed(bytes: &[u8], coding: &str) -> io::Result<Vec<u8>> {
    let most = MOST_BYTES as u64 + 1;
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(bytes).take(most).read_to_end(&mut plain)?,
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
            // The server's limit.
            decoder.window_log_max(21)?;
            decoder.take(most).read_to_end(&mut plain)?
        }
        _ => brotli::Decompressor::new(bytes, 4096).take(most).read_to_end(&mut plain)?,
    };
    Ok(plain)
}

fn compressed(plain: &[u8], coding: &str) -> Vec<u8> {
    let written = "memory is all that is written to";
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).expect(written);
            encoder.finish().expect(written)
        }
        "zstd" => zstd::encode_all(plain, 1).expect(written),
        _ => {
            let mut bytes = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut bytes, 4096, 1, 18);
            encoder.write_all(plain).expect(written);
            drop(encoder);
            bytes
        }
    }
}
