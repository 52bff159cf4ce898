//! Sessions: walks of a user that several verifications sent, for as long as they count together.

use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::{Template, UserId};

use super::sealed::Context;
use super::sql::{Target, query, query_as, query_scalar};
use super::{Store, StoreError, Transaction, unix_seconds};

/// A session ends when it was quiet for this long: someone else may carry the phone by then.
const QUIET_SECONDS: i64 = 300;

/// Sessions of one user with one principal. The one that was quiet longest makes room.
const MAX_SESSIONS: i64 = 32;

/// Walks of a session. The oldest makes room.
pub const MAX_SESSION_WALKS: usize = 16;

/// Identifies a session. Principals do not share sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Id of the API key, or empty.
    pub principal: String,
    pub user: UserId,
    /// Chosen by the client.
    pub name: String,
    /// Whether its walks are sent as features. They do not add up with recordings, as the decision would
    /// say more than one about features may.
    pub of_features: bool,
}

/// A walk of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionWalk {
    pub template: Template,
    pub fingerprints: Vec<Fingerprint>,
}

impl Store {
    /// The walks of a session that a model read, each with its number, oldest first. None if the session
    /// has ended.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn session_walks(
        &self,
        key: &SessionKey,
        model: &str,
    ) -> Result<Vec<(i64, SessionWalk)>, StoreError> {
        session_walks(self, key, model, 0, &self.readers).await
    }

    /// Deletes sessions that have ended.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn delete_ended_sessions(&self) -> Result<(), StoreError> {
        let [from, to] = open_between();
        let ended: i64 = query_scalar(
            "SELECT count(*) FROM sessions
             WHERE used_at_unix_seconds < $1 OR used_at_unix_seconds > $2",
        )
        .bind(from)
        .bind(to)
        .fetch_one(&self.readers)
        .await?;
        if ended > 0 {
            let deleted = query(
                "DELETE FROM sessions WHERE used_at_unix_seconds < $1 OR used_at_unix_seconds > $2",
            );
            self.write(deleted.bind(from).bind(to).execute(&self.writer)).await?;
        }
        Ok(())
    }
}

impl Transaction {
    /// Begins a session, or keeps it open. Walks of another model are forgotten.
    ///
    /// # Errors
    /// If the user does not exist, or a statement fails.
    pub async fn use_session(&mut self, key: &SessionKey, model: &str) -> Result<(), StoreError> {
        let [from, to] = open_between();
        query(
            "DELETE FROM sessions WHERE user_id = $1 AND principal = $2
             AND NOT (name = $5 AND of_features = $6 AND model = $7
                      AND used_at_unix_seconds BETWEEN $3 AND $4)
             AND id NOT IN
             (SELECT id FROM sessions WHERE user_id = $1 AND principal = $2
              AND NOT (name = $5 AND of_features = $6)
              AND used_at_unix_seconds BETWEEN $3 AND $4
              ORDER BY used_at_unix_seconds DESC, id DESC LIMIT +$8)",
        )
        .bind(key.user.as_str())
        .bind(&key.principal)
        .bind(from)
        .bind(to)
        .bind(&key.name)
        .bind(key.of_features)
        .bind(model)
        .bind(MAX_SESSIONS - 1)
        .execute(&mut self.inner)
        .await?;
        // From here on, no other server writes to this session until the transaction ends.
        query(
            "INSERT INTO sessions
             (user_id, principal, name, of_features, model, used_at_unix_seconds)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (user_id, principal, name, of_features)
             DO UPDATE SET used_at_unix_seconds = excluded.used_at_unix_seconds",
        )
        .bind(key.user.as_str())
        .bind(&key.principal)
        .bind(&key.name)
        .bind(key.of_features)
        .bind(model)
        .bind(unix_seconds())
        .execute(&mut self.inner)
        .await
        .map_err(|error| super::no_such_user(error, &key.user))?;
        Ok(())
    }

    /// As [`Store::session_walks`], after number `after`, those of this transaction included.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn session_walks_after(
        &mut self,
        key: &SessionKey,
        model: &str,
        after: i64,
    ) -> Result<Vec<(i64, SessionWalk)>, StoreError> {
        session_walks(&self.store, key, model, after, &mut self.inner).await
    }

    /// Adds a walk to a session in use, and returns its number. The newest 16 are kept.
    ///
    /// # Errors
    /// If the session is not in use, the user's key is missing, or a statement fails.
    pub async fn add_session_walk(
        &mut self,
        key: &SessionKey,
        model: &str,
        walk: &SessionWalk,
    ) -> Result<i64, StoreError> {
        let owner = self.owner(key.user.as_str()).await?;
        let owner = owner.ok_or_else(|| StoreError::NoSuchUser(key.user.clone()))?;
        let context = context(&self.store, key, model);
        let (id, session): (i64, i64) = query_as(
            "INSERT INTO session_walks (session_id, walk)
             SELECT id, $1 FROM sessions
             WHERE user_id = $2 AND principal = $3 AND name = $4 AND of_features = $5
             RETURNING id, session_id",
        )
        .bind(owner.key.seal_row(&context, &to_bytes(walk))?)
        .bind(key.user.as_str())
        .bind(&key.principal)
        .bind(&key.name)
        .bind(key.of_features)
        .fetch_one(&mut self.inner)
        .await?;
        query(
            "DELETE FROM session_walks WHERE session_id = $1 AND id NOT IN
             (SELECT id FROM session_walks WHERE session_id = $1 ORDER BY id DESC LIMIT +$2)",
        )
        .bind(session)
        .bind(MAX_SESSION_WALKS as i64)
        .execute(&mut self.inner)
        .await?;
        Ok(id)
    }

    /// Ends a user's sessions.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn forget_sessions(&mut self, user: &UserId) -> Result<(), StoreError> {
        let forgotten = query("DELETE FROM sessions WHERE user_id = $1").bind(user.as_str());
        forgotten.execute(&mut self.inner).await?;
        Ok(())
    }

    /// Ends all sessions.
    pub(super) async fn forget_all_sessions(&mut self) -> Result<(), StoreError> {
        query("DELETE FROM sessions").execute(&mut self.inner).await?;
        Ok(())
    }
}

/// A session is open if it was last used between these times, both included. A clock that is set back
/// ends sessions.
fn open_between() -> [i64; 2] {
    let now = unix_seconds();
    [now - QUIET_SECONDS + 1, now + QUIET_SECONDS - 1]
}

async fn session_walks<'c>(
    store: &Store,
    key: &SessionKey,
    model: &str,
    after: i64,
    connection: impl Into<Target<'c>>,
) -> Result<Vec<(i64, SessionWalk)>, StoreError> {
    let [from, to] = open_between();
    let rows: Vec<(i64, Option<Vec<u8>>, Vec<u8>)> = query_as(
        "SELECT session_walks.id, key_id, walk
         FROM sessions JOIN session_walks ON session_id = sessions.id
         JOIN users ON users.id = user_id
         WHERE user_id = $1 AND principal = $2 AND name = $3 AND of_features = $4 AND model = $5
         AND used_at_unix_seconds BETWEEN $6 AND $7 AND session_walks.id > $8
         ORDER BY session_walks.id",
    )
    .bind(key.user.as_str())
    .bind(&key.principal)
    .bind(&key.name)
    .bind(key.of_features)
    .bind(model)
    .bind(from)
    .bind(to)
    .bind(after)
    .fetch_all(connection)
    .await?;
    store.keyring.learn(rows.iter().map(|(_, key_id, _)| key_id.as_deref())).await?;
    let context = context(store, key, model);
    // A damaged walk does not count. It is gone in minutes.
    let open = |(id, key_id, walk): (i64, Option<Vec<u8>>, Vec<u8>)| {
        let opened = store.keyring.open_row(key_id.as_deref(), &context, &walk)?;
        Some((id, from_bytes(&opened)?))
    };
    Ok(rows.into_iter().filter_map(open).collect())
}

fn context(store: &Store, key: &SessionKey, model: &str) -> Context {
    let SessionKey { principal, user, name, of_features } = key;
    let session = [principal, name].map(String::as_bytes);
    Context::session_walk(store.template_generation, user.as_str(), session, *of_features, model)
}

/// Windows, scale, and the number of values; the values; each fingerprint after its length.
fn to_bytes(SessionWalk { template, fingerprints }: &SessionWalk) -> Vec<u8> {
    let (scale, steps) = template.pack();
    let mut bytes = Vec::with_capacity(12 + steps.len());
    bytes.extend_from_slice(&template.windows().to_le_bytes());
    bytes.extend_from_slice(&scale.to_le_bytes());
    let mut add = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    add(&steps);
    fingerprints.iter().for_each(|fingerprint| add(&fingerprint.to_bytes()));
    bytes
}

/// `None` if the bytes are not those of a walk.
fn from_bytes(bytes: &[u8]) -> Option<SessionWalk> {
    fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        rest.split_at_checked(u32::from_le_bytes(*length) as usize)
    }
    let (windows, rest) = bytes.split_first_chunk()?;
    let (scale, rest) = rest.split_first_chunk()?;
    let (steps, mut rest) = part(rest)?;
    let values = Template::unpack(f32::from_le_bytes(*scale), steps);
    let template = Template::from_values(values, u32::from_le_bytes(*windows), steps.len()).ok()?;
    let mut fingerprints = Vec::new();
    while !rest.is_empty() {
        let (fingerprint, after) = part(rest)?;
        fingerprints.push(Fingerprint::from_bytes(fingerprint).ok()?);
        rest = after;
    }
    Some(SessionWalk { template, fingerprints })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::*;

    fn walk(value: f32) -> SessionWalk {
        let mut template = Template::empty(4);
        template.add_window(&[value, 1.0, -0.3, 0.1]);
        SessionWalk { template: template.rounded(), fingerprints: Vec::new() }
    }

    fn named(user: &str, name: &str) -> SessionKey {
        let (user, name) = (user.parse().unwrap(), name.to_owned());
        SessionKey { principal: String::new(), user, name, of_features: false }
    }

    async fn with_ann(path: &Path) -> Store {
        let store = Store::open(path, None).await.unwrap();
        let mut write = store.begin().await.unwrap();
        write.put_user(&"ann".parse().unwrap(), 9).await.unwrap();
        write.commit().await.unwrap();
        store
    }

    async fn add(store: &Store, key: &SessionKey, model: &str, walk: &SessionWalk) {
        let mut write = store.begin().await.unwrap();
        write.use_session(key, model).await.unwrap();
        write.add_session_walk(key, model, walk).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn walks(store: &Store, key: &SessionKey, model: &str) -> Vec<SessionWalk> {
        let walks = store.session_walks(key, model).await.unwrap();
        walks.into_iter().map(|(_, walk)| walk).collect()
    }

    async fn count(store: &Store, table: &str) -> i64 {
        let counts = query_as(
            "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM session_walks)",
        );
        let (sessions, walks) = counts.fetch_one(&store.readers).await.unwrap();
        if table == "sessions" { sessions } else { walks }
    }

    async fn run(store: &Store, statement: &'static str) {
        query(statement).execute(&store.writer).await.unwrap();
    }

    #[tokio::test]
    async fn a_walk_is_the_same_on_another_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let one = with_ann(&path).await;
        let other = Store::open(&path, None).await.unwrap();
        let recording = Walker::new(1).walk(1, &Conditions::default());
        let prints = [0.0, 9.0].map(|at| Fingerprint::of(&recording.part(at, 8.0).unwrap()));
        let key = named("ann", "one");
        let walk =
            SessionWalk { fingerprints: prints.into_iter().flatten().collect(), ..walk(2.0) };
        assert_eq!(walk.fingerprints.len(), 2);
        add(&one, &key, "m", &walk).await;
        assert_eq!(walks(&other, &key, "m").await, [walk]);
    }

    #[tokio::test]
    async fn sessions_differ_in_all_that_identifies_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = with_ann(&folder.path().join("test.db")).await;
        let mut write = store.begin().await.unwrap();
        write.put_user(&"bob".parse().unwrap(), 9).await.unwrap();
        write.commit().await.unwrap();
        let key = named("ann", "one");
        let keys = [
            key.clone(),
            named("bob", "one"),
            named("ann", "two"),
            SessionKey { principal: "key".into(), ..key.clone() },
            SessionKey { of_features: true, ..key.clone() },
        ];
        for (value, key) in keys.iter().enumerate() {
            add(&store, key, "m", &walk(value as f32)).await;
        }
        for (value, key) in keys.iter().enumerate() {
            assert_eq!(walks(&store, key, "m").await, [walk(value as f32)], "{key:?}");
        }
        // Another model cannot add them, and starts again.
        assert_eq!(walks(&store, &key, "n").await, []);
        add(&store, &key, "n", &walk(9.0)).await;
        assert_eq!(walks(&store, &key, "m").await, []);
        assert_eq!(walks(&store, &key, "n").await, [walk(9.0)]);

        let mut write = store.begin().await.unwrap();
        write.forget_sessions(&key.user).await.unwrap();
        write.erase_user(&"bob".parse().unwrap()).await.unwrap();
        write.commit().await.unwrap();
        assert_eq!((count(&store, "sessions").await, count(&store, "session_walks").await), (0, 0));
    }

    #[tokio::test]
    async fn a_quiet_session_ends_and_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = with_ann(&folder.path().join("test.db")).await;
        let key = named("ann", "one");
        add(&store, &key, "m", &walk(1.0)).await;
        let older = "UPDATE sessions SET used_at_unix_seconds = used_at_unix_seconds - 250";
        run(&store, older).await;
        store.delete_ended_sessions().await.unwrap();
        assert_eq!(walks(&store, &key, "m").await, [walk(1.0)]);
        // It is in use, so it stays open.
        let mut write = store.begin().await.unwrap();
        write.use_session(&key, "m").await.unwrap();
        write.commit().await.unwrap();
        run(&store, older).await;
        assert_eq!(walks(&store, &key, "m").await, [walk(1.0)]);
        run(&store, older).await;
        assert_eq!(walks(&store, &key, "m").await, []);
        add(&store, &key, "m", &walk(2.0)).await;
        assert_eq!(walks(&store, &key, "m").await, [walk(2.0)]);
        // Whichever way the clock moves.
        for moved in
            [older, "UPDATE sessions SET used_at_unix_seconds = used_at_unix_seconds + 800"]
        {
            add(&store, &key, "m", &walk(2.0)).await;
            run(&store, moved).await;
            run(&store, moved).await;
            assert_eq!(walks(&store, &key, "m").await, []);
            store.delete_ended_sessions().await.unwrap();
            assert_eq!(count(&store, "session_walks").await, 0);
        }
    }

    #[tokio::test]
    async fn nothing_grows_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let store = with_ann(&folder.path().join("test.db")).await;
        let first = named("ann", "0");
        let of_another_key = SessionKey { principal: "key".to_owned(), ..first.clone() };
        add(&store, &of_another_key, "m", &walk(1.0)).await;
        for number in 0..MAX_SESSIONS + 10 {
            run(&store, "UPDATE sessions SET used_at_unix_seconds = used_at_unix_seconds - 1")
                .await;
            add(&store, &named("ann", &number.to_string()), "m", &walk(1.0)).await;
            // In use, so the others make room.
            add(&store, &first, "m", &walk(number as f32)).await;
        }
        assert_eq!(count(&store, "sessions").await, MAX_SESSIONS + 1);
        assert_eq!(walks(&store, &of_another_key, "m").await.len(), 1);
        let newest = (26..42).map(|number| walk(number as f32));
        assert_eq!(walks(&store, &first, "m").await, newest.collect::<Vec<_>>());
        assert_eq!(walks(&store, &named("ann", "1"), "m").await, []);
    }

    #[tokio::test]
    async fn a_walk_that_does_not_open_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let store = with_ann(&folder.path().join("test.db")).await;
        let (key, other) = (named("ann", "one"), named("ann", "two"));
        for value in [1.0, 2.0, 3.0] {
            add(&store, &key, "m", &walk(value)).await;
        }
        add(&store, &other, "m", &walk(4.0)).await;
        run(&store, "UPDATE session_walks SET walk = zeroblob(70) WHERE id = 2").await;
        run(
            &store,
            "UPDATE session_walks SET session_id = (SELECT max(id) FROM sessions) WHERE id = 3",
        )
        .await;
        assert_eq!(walks(&store, &key, "m").await, [walk(1.0)]);
        assert_eq!(walks(&store, &other, "m").await, [walk(4.0)]);
    }

    #[test]
    fn bytes_that_are_no_walk_are_refused() {
        let recording = Walker::new(1).walk(1, &Conditions::default());
        let fingerprints = vec![Fingerprint::of(&recording.part(0.0, 8.0).unwrap()).unwrap()];
        let walk = SessionWalk { fingerprints, ..walk(2.0) };
        let bytes = to_bytes(&walk);
        assert_eq!(from_bytes(&bytes), Some(walk));
        let whole = 12 + 4;
        for cut in (0..bytes.len()).filter(|cut| *cut != whole) {
            assert_eq!(from_bytes(&bytes[..cut]), None, "{cut}");
        }
    }
}
