//! Templates that leaked: what they are good for, and how they are revoked.

use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Server, features, printed, program, run_sql, simulated};

fn renew(folder: &Path) -> Result<String, String> {
    let database = folder.join("test.db");
    printed(program().args(["renew-templates", "--database"]).arg(database))
}

fn vector(values: &Value) -> Vec<f64> {
    let values = values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
    let values: Vec<f64> = values.collect();
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    values.iter().map(|value| value / length).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A user's only template, with a length of 1.
async fn leaked(server: &Server, user: &str) -> Vec<f64> {
    let export = server.get(&format!("/v1/users/{user}/export")).await.body;
    vector(&export["walks"][0]["templates"][0]["template"])
}

/// Features that vary like those of an own walk, but around a vector.
fn features_around(own: &Value, centre: &[f64]) -> Value {
    let mut document = own.clone();
    let windows = document["features"].as_array_mut().unwrap();
    let units: Vec<Vec<f64>> = windows.iter().map(vector).collect();
    let mean = |at: usize| units.iter().map(|unit| unit[at]).sum::<f64>() / units.len() as f64;
    let means: Vec<f64> = (0..centre.len()).map(mean).collect();
    let length = means.iter().map(|mean| mean * mean).sum::<f64>().sqrt();
    for (window, unit) in windows.iter_mut().zip(&units) {
        let at = |at: usize| unit[at] - means[at] + centre[at] * length;
        *window = json!((0..centre.len()).map(at).collect::<Vec<f64>>());
    }
    document
}

async fn decision(server: &Server, user: &str, document: &Value) -> String {
    let created = server.send(Method::POST, &format!("/v1/users/{user}/challenges"), "").await.body;
    let challenge = created["challenge"].as_str().unwrap();
    let path = format!("/v1/users/{user}/verify?challenge={challenge}");
    let answer = server.send(Method::POST, &path, document.to_string()).await;
    answer.body["decision"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[tokio::test]
async fn a_leaked_template_opens_no_account() {
    let users = [("ann", 11), ("bob", 12), ("cem", 13)];
    let server = Server::with_users(&[], &users).await;
    let (genuine, own) = (features(&simulated(11, 2)), features(&simulated(19, 2)));
    assert_eq!(decision(&server, "ann", &genuine).await, "accept");
    // What the template would be without its transform does open the account.
    let windows = features(&simulated(11, 1))["features"].as_array().unwrap().clone();
    let units: Vec<Vec<f64>> = windows.iter().map(vector).collect();
    let sum: Vec<f64> =
        (0..units[0].len()).map(|at| units.iter().map(|unit| unit[at]).sum()).collect();
    let plain = vector(&json!(sum));
    assert_eq!(decision(&server, "ann", &features_around(&own, &plain)).await, "accept");
    let template = leaked(&server, "ann").await;
    assert_ne!(decision(&server, "ann", &features_around(&own, &template)).await, "accept");
    assert!(cosine(&template, &plain).abs() < 0.2);
    // Another server's templates of the same walk have nothing in common with it.
    let other = Server::with_users(&[], &users).await;
    assert!(cosine(&template, &leaked(&other, "ann").await).abs() < 0.2);
}

#[tokio::test]
async fn templates_are_renewed_and_nobody_enrolls_again() {
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12), ("cem", 13)]).await;
    let template = leaked(&server, "ann").await;
    let refused = renew(server.folder.path()).unwrap_err();
    assert!(refused.contains("stop it first"), "{refused}");
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
    let walk = support::json(&simulated(19, 2));
    server.send(Method::POST, "/v1/users/ann/verify?session=s", walk).await;

    let folder = server.kill();
    let database = folder.path().join("test.db");
    let session_walks = || run_sql(&database, "SELECT count(*) FROM session_walks");
    assert_eq!(session_walks(), "1");
    // Cem's template is damaged before the first renewal and whole again after it.
    let template_of_cem = "(SELECT template FROM templates WHERE enrollment_id = 3)";
    let whole = run_sql(&database, &format!("SELECT hex({template_of_cem})"));
    run_sql(&database, "UPDATE templates SET template = zeroblob(808) WHERE enrollment_id = 3");
    let before = fs::read(&database).unwrap();
    for _ in 0..3 {
        let said = renew(folder.path()).unwrap();
        assert!(said.starts_with("renewed 2 templates"), "{said}");
    }
    run_sql(
        &database,
        &format!("UPDATE templates SET template = x'{whole}' WHERE enrollment_id = 3"),
    );
    // Nobody can add walks that were transformed with two secrets.
    assert_eq!(session_walks(), "0");
    let server = Server::start_in(folder);
    assert!(cosine(&template, &leaked(&server, "ann").await).abs() < 0.2);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(decision(&server, "bob", &features(&simulated(12, 2))).await, "accept");
    // It is of an earlier generation, so it is not taken for one of this.
    assert_eq!(server.get("/v1/users/cem").await.body["windows"], 0);
    assert_eq!(server.scrape().await["bipedalnet_damaged_rows"], 1.0);
    let renewals = "SELECT count(*) FROM audit
                    WHERE action = 'templates_renewed' AND actor = 'command_line'";
    assert_eq!(run_sql(&server.database(), renewals), "3");

    // A backup from before still works: the keyring knows the earlier secrets.
    let folder = server.kill();
    for name in ["test.db-wal", "test.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    fs::write(&database, before).unwrap();
    let server = Server::start_in(folder);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}
