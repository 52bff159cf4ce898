//! `demo --phone`: a page for a phone in the local network.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::support::{self, Signal, program};

/// Killed if the test fails.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[tokio::test]
async fn the_phone_demo_leads_a_phone_to_its_page() {
    let demo = program().args(["demo", "--phone"]).stdout(Stdio::piped()).spawn();
    let mut demo = Demo(demo.unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let code: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let link = lines.next().unwrap();
    let drawn = QrCode::with_error_correction_level(&link, EcLevel::L).unwrap();
    assert_eq!(code.join("\n"), drawn.render::<Dense1x2>().build());

    let (page, account) = link.split_once("#user=me&token=").unwrap();
    // The certificate is one that no browser knows.
    let client = support::client_builder().danger_accept_invalid_certs(true).build().unwrap();
    let answer = client.get(page).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let user = page.replace("/phone", "/v1/users/me");
    assert_eq!(client.get(&user).send().await.unwrap().status(), 401);
    let mine = client.get(&user).bearer_auth(account).send().await.unwrap();
    assert_eq!(mine.status(), 200);
    support::signal(&demo.0, Signal::INT);
    assert!(demo.0.wait().unwrap().success());
}
