//! A certificate that is renewed while the server runs, and metrics of what was reloaded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::tls::TlsInfo;
use reqwest::{Client, Version};

use crate::serving::Serving;
use crate::support;

const SETTINGS: &str = "tls-certificate = \"tls/tls.crt\"\ntls-key = \"tls/tls.key\"\n";

const RELOADED: &str = "bipedalnet_last_reload_successful{what=\"certificate\"}";
const NOT_AFTER: &str = "bipedalnet_tls_certificate_not_after_seconds";

/// A certificate with its key, and its DER form.
struct Pair {
    certificate: String,
    key: String,
    der: Vec<u8>,
}

/// Valid from one year to the other.
fn pair(name: &str, years: [i32; 2]) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    [parameters.not_before, parameters.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
    let made = parameters.self_signed(&key).unwrap();
    Pair { certificate: made.pem(), key: key.serialize_pem(), der: made.der().to_vec() }
}

impl Pair {
    fn write(&self, folder: &Path) {
        fs::write(folder.join("tls.crt"), &self.certificate).unwrap();
        fs::write(folder.join("tls.key"), &self.key).unwrap();
    }
}

fn start(folder: tempfile::TempDir) -> Serving {
    Serving::start(folder, SETTINGS, &[("BIPEDALNET_METRICS_LISTEN", "127.0.0.1:0")])
}

/// A client that has no connection yet, and trusts everybody.
fn client() -> Client {
    let builder = support::client_builder().tls_info(true).tls_danger_accept_invalid_certs(true);
    builder.build().unwrap()
}

/// The certificate of the client's connection.
async fn shown(client: &Client, server: &Serving) -> Vec<u8> {
    let response = client.get(format!("https://{}/livez", server.address)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    let info = response.extensions().get::<TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

#[tokio::test]
async fn sighup_exchanges_the_certificate_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("tls");
    fs::create_dir(&files).unwrap();
    let [old, new] = ["old.example", "new.example"].map(|name| pair(name, [2000, 2100]));
    old.write(&files);
    let mut server = start(folder);
    let early = client();
    assert!(shown(&early, &server).await == old.der);
    assert_eq!(server.metric(NOT_AFTER).await, Some(4_102_444_800.0));
    assert_eq!(server.metric(RELOADED).await, Some(1.0));

    new.write(&files);
    server.hang_up();
    let mut log = Vec::new();
    let line = server.until("certificate exchanged", &mut log);
    for part in ["names=\"new.example,127.0.0.1\"", "serial=", "not_after=", "old.example"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(shown(&client(), &server).await == new.der);
    // An open connection goes on.
    assert!(shown(&early, &server).await == old.der);

    let other = pair("other.example", [2000, 2100]);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let [expired, early] = [[2000, 2001], [2099, 2100]].map(|years| pair("bad.example", years));
    for (certificate, key, reason) in [
        (&"garbage".to_owned(), &new.key, "tls.crt has no certificate"),
        (&garbage.to_owned(), &new.key, "tls.crt"),
        (&new.certificate[..99].to_owned(), &new.key, "tls.crt is damaged"),
        (&other.certificate, &new.key, "the key in tls/tls.key does not belong"),
        (&new.certificate, &other.key, "the key in tls/tls.key does not belong"),
        (&new.certificate, &"garbage".to_owned(), "tls.key has no unencrypted private key"),
        (&expired.certificate, &expired.key, "is valid only from"),
        (&early.certificate, &early.key, "is valid only from"),
    ] {
        fs::write(files.join("tls.crt"), certificate).unwrap();
        fs::write(files.join("tls.key"), key).unwrap();
        server.hang_up();
        let line = server.until("certificate not reloaded", &mut log);
        assert!(line.contains("ERROR") && line.contains(reason), "{reason}: {line}");
        server.until("settings reloaded", &mut log);
        assert_eq!(server.metric(RELOADED).await, Some(0.0), "{reason}");
        assert!(shown(&client(), &server).await == new.der, "{reason}");
    }
    fs::remove_file(files.join("tls.crt")).unwrap();
    server.hang_up();
    let line = server.until("certificate not reloaded", &mut log);
    assert!(line.contains("tls.crt: No such file"), "{line}");

    new.write(&files);
    server.hang_up();
    server.until("certificate unchanged", &mut log);
    assert_eq!(server.metric(RELOADED).await, Some(1.0));
    let secret = new.key.lines().nth(1).unwrap();
    assert!(log.iter().all(|line| !line.contains(secret)), "{log:#?}");
    server.stop();
}

#[tokio::test]
async fn a_renewal_behind_symlinks_needs_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("tls");
    fs::create_dir(&files).unwrap();
    // As Kubernetes mounts a secret: one rename exchanges both files.
    let put = |name: &str, pair: &Pair| {
        fs::create_dir(files.join(name)).unwrap();
        pair.write(&files.join(name));
        symlink(name, files.join("..new")).unwrap();
        fs::rename(files.join("..new"), files.join("..data")).unwrap();
    };
    let [old, new, other] = [1, 2, 3].map(|at| pair(&format!("{at}.example"), [2000, 2100 + at]));
    put("..1", &old);
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), files.join(name)).unwrap();
    }
    let mut server = start(folder);
    put("..2", &new);
    server.until("certificate exchanged", &mut Vec::new());
    assert!(shown(&client(), &server).await == new.der);
    assert!(server.metric(NOT_AFTER).await > Some(4_102_444_800.0));

    put("..3", &Pair { key: new.key, ..other });
    let line = server.until("certificate not reloaded", &mut Vec::new());
    assert!(line.contains("does not belong to the first certificate"), "{line}");
    assert_eq!(server.metric(RELOADED).await, Some(0.0));
    assert!(shown(&client(), &server).await == new.der);
    server.stop();
}

#[tokio::test]
async fn an_expired_certificate_is_served_with_a_warning_until_there_is_a_better_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("tls");
    fs::create_dir(&files).unwrap();
    pair("a.example", [2000, 2001]).write(&files);
    let mut server = start(folder);
    assert!(server.seen.iter().any(|line| line.contains("is not valid now")), "{:?}", server.seen);
    // Another expired one is no worse.
    let second = pair("b.example", [2000, 2002]);
    second.write(&files);
    server.hang_up();
    server.until("certificate exchanged", &mut Vec::new());
    assert!(shown(&client(), &server).await == second.der);
    assert_eq!(server.metric(NOT_AFTER).await, Some(1_009_843_200.0));
    server.stop();
}

#[tokio::test]
async fn a_settings_file_that_is_refused_shows_in_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Serving::start(folder, "", &[("BIPEDALNET_METRICS_LISTEN", "127.0.0.1:0")]);
    let settings = "bipedalnet_last_reload_successful{what=\"settings\"}";
    let time = "bipedalnet_last_reload_success_timestamp_seconds{what=\"settings\"}";
    assert_eq!(server.metric(settings).await, Some(1.0));
    let start = server.metric(time).await.unwrap();
    assert_eq!([server.metric(RELOADED).await, server.metric(NOT_AFTER).await], [None, None]);
    // The log line comes after the metric.
    server.reload("max-user = 9\n", "settings not reloaded");
    assert_eq!(server.metric(settings).await, Some(0.0));
    assert_eq!(server.metric(time).await, Some(start));
    server.reload("max-users = 9\n", "settings reloaded");
    server.reload("max-users = 8\n", "settings reloaded");
    assert_eq!(server.metric(settings).await, Some(1.0));
    server.stop();
}
