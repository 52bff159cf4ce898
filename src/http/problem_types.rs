//! Every kind of problem, for the documentation. A test compares them with the sources.

/// The stable end of the `type`, the status of a request that fails so (0 for any), and what it means.
pub(super) const PROBLEM_TYPES: &[(&str, u16, &str)] = &[
    ("empty-body", 400, "The body is empty."),
    ("incomplete-body", 400, "The connection ended before the body did. Nothing was changed."),
    ("invalid-deadline", 400, "`Request-Deadline-Ms` is not a whole number from 1 on."),
    ("invalid-idempotency-key", 400, "`Idempotency-Key` is not 1 to 255 visible ASCII characters."),
    ("invalid-query", 400, "A query parameter is unknown, or its value cannot be read."),
    ("malformed-cbor", 400, "The body is not CBOR, or of a kind that is not read here."),
    ("malformed-encoding", 400, "The body is not compressed as `Content-Encoding` says."),
    ("malformed-json", 400, "The body is not JSON."),
    ("malformed-path", 400, "The path is not UTF-8."),
    ("bad-api-key", 401, "The key is unknown, wrong, expired or revoked."),
    ("no-api-key", 401, "The service asks for a key, and the request has none."),
    ("missing-scope", 403, "The key is good, but does not allow this."),
    ("no-such-resource", 404, "There is nothing at this path."),
    ("unknown-enrollment", 404, "The user has no enrollment of this number."),
    ("unknown-model", 404, "There is no such model."),
    ("unknown-training-job", 404, "There is no such training job, or it is not kept any more."),
    ("unknown-user", 404, "There is no such user: make it first."),
    ("method-not-allowed", 405, "The path has other methods: `Allow` names them."),
    ("timeout", 408, "The request was not whole and answered in the time that the server allows."),
    (
        "bad-challenge",
        409,
        "The challenge is unknown, used, expired or another user's: get a new one.",
    ),
    ("model-in-use", 409, "The model serves, or ships with the program: it stays."),
    ("nobody-to-train-on", 409, "No user has an enrolled walk."),
    ("not-enrolled", 409, "The user has no enrolled walk to compare with."),
    ("other-model", 409, "The features are of a model that the server does not use."),
    (
        "request-in-flight",
        409,
        "A request under this idempotency key is being carried out: try again.",
    ),
    (
        "too-little-data",
        409,
        "Users have too little walking in kept recordings to train on: the detail says whose.",
    ),
    ("too-many-enrollments", 409, "The user has as many walks as they may have: erase some."),
    ("too-many-users", 409, "The service has as many users as it may have."),
    ("training-job-over", 409, "The training job ended before: it cannot be called off."),
    ("unusable-model", 409, "The model cannot serve, or its file was altered."),
    (
        "walks-lost",
        409,
        "Walks would no longer count under the model, as their recordings are not kept.",
    ),
    ("worse-model", 409, "The model does worse than the one that serves, on the same recordings."),
    (
        "answer-erased",
        410,
        "The request was carried out before; its answer named somebody who was erased since.",
    ),
    ("body-too-large", 413, "The body is too large, as sent or decompressed."),
    ("unsupported-encoding", 415, "`Content-Encoding` is none of gzip, zstd, br and identity."),
    ("unsupported-media-type", 415, "`Content-Type` is neither JSON nor CBOR."),
    ("range-beyond-end", 416, "The file is shorter than where the `Range` begins."),
    ("ambiguous-time", 422, "Both or neither of `time_seconds` and `rate_hz` are there."),
    ("backward-time", 422, "Time stands still or runs backward."),
    ("bad-features", 422, "The features are none, too many, of another length or not finite."),
    ("batch-size", 422, "The batch has too few or too many items."),
    ("clipped-sensor", 422, "The sensor's range is too small for the movement."),
    ("empty-recording", 422, "The recording has no sample."),
    ("flat-sensor", 422, "An axis never changes: the sensor is stuck."),
    ("gravity-units", 422, "Gravity reads about 1: the acceleration is in g, and m/s² was said."),
    ("idempotency-key-reused", 422, "The key stands for a request with another path or body."),
    ("implausible-gravity", 422, "Gravity is missing, or far from 9.8 m/s²."),
    ("invalid-field", 422, "A field of the body is missing, unknown or of another type."),
    ("invalid-id", 422, "An id has other characters than `A-Z a-z 0-9 . _ ~ -`, or not 1 to 64."),
    ("invalid-rate", 422, "`rate_hz` is not a positive number."),
    ("invalid-scale", 422, "A scale is not a positive number."),
    ("length-mismatch", 422, "A list is longer or shorter than `acceleration`."),
    ("missing-samples", 422, "Samples are missing for too long."),
    ("no-steps", 422, "There is movement, but no steps."),
    ("non-finite-value", 422, "A value is NaN or infinite."),
    ("rate-too-low", 422, "The recording has too few samples a second to see a step."),
    ("shaking", 422, "The movement is too fast or too strong for a walk."),
    ("standing-still", 422, "There is hardly any movement."),
    ("too-long", 422, "The recording is longer than the service takes."),
    ("too-short", 422, "The recording is shorter than one window, 2 s."),
    ("unknown-false-match-rate", 422, "This `fmr` is not one of those offered."),
    ("challenge-needed", 428, "The service verifies only against a challenge: get one first."),
    (
        "too-many-requests",
        429,
        "The quota of the key or of the address is used up: `Retry-After` says until when.",
    ),
    (
        "too-many-training-jobs",
        429,
        "As many training jobs wait as may: `Retry-After` says when the one that runs is done.",
    ),
    ("internal", 500, "A defect or a broken machine. Nothing was changed."),
    ("database-busy", 503, "Another program holds the database: try again."),
    ("not-ready", 503, "The server is stopping: send requests elsewhere."),
    (
        "overloaded",
        503,
        "More work is waiting than there is room for, or than would be done in time: try again.",
    ),
    ("too-many-challenges", 503, "Too many challenges are open: try again."),
    ("deadline-passed", 504, "The `Request-Deadline-Ms` of the request has passed."),
    ("http", 0, "Refused before it reached the service; the status says why."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use axum::http::StatusCode;

    use super::*;

    /// What the files that make problems say, without their tests.
    fn sources() -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let in_http = fs::read_dir(root.join("http")).unwrap().map(|entry| entry.unwrap().path());
        let read = |path| fs::read_to_string(path).unwrap();
        in_http
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .filter(|path| !path.ends_with(Path::new(file!()).file_name().unwrap()))
            .chain([root.join("../crates/core/src/gait/error.rs")])
            .map(|path| read(path).split("#[cfg(test)]").next().unwrap().to_owned())
            .collect()
    }

    /// The text in quotes that follows each `start`.
    fn quoted_after(sources: &str, start: &str) -> BTreeSet<String> {
        let rest = sources.split(start).skip(1).map(str::trim_start);
        let text = rest.filter_map(|rest| rest.strip_prefix('"')?.split('"').next());
        text.map(str::to_owned).collect()
    }

    #[test]
    fn the_list_has_all_problems_that_the_sources_make_and_no_other() {
        let sources = sources();
        let mut made = BTreeSet::new();
        // `Problem::new(StatusCode::GONE, "code",` gives the status as well.
        for call in sources.split("::new(").skip(1).map(str::trim_start) {
            let Some((status, rest)) = call.split_once(',') else { continue };
            let status = match status.strip_prefix("StatusCode::") {
                Some(name) => Some(status_of(name)),
                None if status == "status" => None,
                None => continue,
            };
            if let Some(code) =
                rest.trim_start().strip_prefix('"').and_then(|c| c.split('"').next())
            {
                made.insert(code.to_owned());
                let listed = PROBLEM_TYPES.iter().find(|(listed, ..)| *listed == code);
                let (_, listed, _) = listed.unwrap_or_else(|| panic!("{code} is not listed"));
                assert!(status.is_none_or(|status| status == *listed), "{code}: {listed}");
            }
        }
        let (_, codes) = sources.split_once("pub fn code(&self)").unwrap();
        made.extend(quoted_after(codes.split("pub fn ").next().unwrap(), "=>"));
        let (_, codes) = sources.split_once("let code = match").unwrap();
        made.extend(quoted_after(codes.split(';').next().unwrap(), "=>"));
        made.extend(quoted_after(&sources, "unusable("));
        let listed = PROBLEM_TYPES.iter().map(|(code, ..)| (*code).to_owned());
        assert_eq!(made, listed.collect());
    }

    fn status_of(name: &str) -> u16 {
        let written = |status: &StatusCode| {
            let reason = status.canonical_reason().unwrap_or_default();
            reason.to_ascii_uppercase().replace([' ', '-'], "_")
        };
        let mut all = (400..600).filter_map(|code| StatusCode::from_u16(code).ok());
        all.find(|status| written(status) == name).unwrap_or_else(|| panic!("{name}")).as_u16()
    }
}
