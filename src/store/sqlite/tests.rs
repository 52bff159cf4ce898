//! Tests of opening old files.

use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::UserId;

use super::*;
use crate::store::StoredTemplate;

#[tokio::test]
async fn walks_of_before_there_were_models_keep_their_templates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let old = SqlitePool::connect_with(options).await.unwrap();
    let migrations: Vec<_> = MIGRATIONS.iter().take(5).cloned().collect();
    Migrator { migrations: migrations.into(), ..Migrator::DEFAULT }.run(&old).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO users VALUES ('ann', 1);
         INSERT INTO enrollments VALUES (7, 'ann', 'fedcba9876543210', x'0000803f00000040', 9, 2);
         INSERT INTO recordings VALUES (7, x'00', 2);
         INSERT INTO fingerprints VALUES (1, 'ann', 7, x'00');",
    )
    .execute(&old)
    .await
    .unwrap();
    old.close().await;

    let store = Store::open(&path, None).await.unwrap();
    let ann: UserId = "ann".parse().unwrap();
    let walks = store.begin().await.unwrap().templates("fedcba9876543210", 2).await.unwrap();
    let [StoredTemplate { enrollment: 7, template, .. }] = &walks[..] else { panic!("{walks:?}") };
    let square: f32 = template.values().iter().map(|it| it * it).sum();
    assert!((square - 5.0).abs() < 0.1 && template.windows() == 9, "{template:?}");
    assert!(store.recording_of(&ann, 7).await.unwrap().is_some());
    let [walk] = &store.enrollments_of(&ann).await.unwrap()[..] else { panic!() };
    assert_eq!(walk.source, WalkSource::Enrollment);
    let mut writing = store.begin().await.unwrap();
    assert!(writing.refuse_other_models("fedcba9876543210").await.is_ok());
    let refused = writing.refuse_other_models("0123456789abcdef").await;
    assert!(matches!(refused, Err(StoreError::OtherModel { .. })), "{refused:?}");
    // The walk goes with all that was made of it.
    writing.erase_user(&ann).await.unwrap();
    writing.commit().await.unwrap();
    for table in [
        "SELECT count(*) FROM templates",
        "SELECT count(*) FROM recordings",
        "SELECT count(*) FROM fingerprints",
    ] {
        let count = query_scalar(table).fetch_one(&store.readers);
        let count: i64 = count.await.unwrap();
        assert_eq!(count, 0, "{table}");
    }
}
