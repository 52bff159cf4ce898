//! Statements that run on SQLite and on PostgreSQL: what the store needs of sqlx's interface, over both.
//! sqlx's own `Any` copies each row with the names of its columns, and takes no options of SQLite.
//!
//! Statements use the language that both have in common: `$1` for parameters, `TRUE` for truth, and a
//! column for each `ON CONFLICT`. [`either`] is for what they say differently. Write `LIMIT +$1`: SQLite plans
//! for the value of a bare parameter there, and so prepares the statement again for each use.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{
    Arguments, AssertSqlSafe, ColumnIndex, ConnectOptions, Decode, Encode, FromRow, SqlSafeStr,
    SqlStr, Type,
};

/// How long PostgreSQL may take for a statement before its connection counts as broken. A network that
/// fails in one direction says nothing.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool, Statements),
}

/// How a connection to PostgreSQL prepares statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statements {
    /// Once, under a name that belongs to the session.
    Named,
    /// Each time, in a transaction. Behind a pooler, each transaction may have another session.
    Unnamed,
}

/// A transaction. Dropped, it is rolled back.
pub(super) enum Tx {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres {
        transaction: sqlx::Transaction<'static, Postgres>,
        statements: Statements,
        /// Whether a statement failed. PostgreSQL would answer COMMIT with success, and roll back.
        has_failed: bool,
    },
}

/// What runs a statement.
pub(super) enum Target<'c> {
    Sqlite(&'c SqlitePool),
    SqliteConnection(&'c mut SqliteConnection),
    Postgres(&'c PgPool, Statements),
    PostgresTransaction(&'c mut PgConnection, Statements, &'c mut bool),
}

impl<'c> From<&'c Pool> for Target<'c> {
    fn from(pool: &'c Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Self::Sqlite(pool),
            Pool::Postgres(pool, statements) => Self::Postgres(pool, *statements),
        }
    }
}

impl<'c> From<&'c mut Tx> for Target<'c> {
    fn from(transaction: &'c mut Tx) -> Self {
        match transaction {
            Tx::Sqlite(transaction) => Self::SqliteConnection(transaction),
            Tx::Postgres { transaction, statements, has_failed } => {
                Self::PostgresTransaction(transaction, *statements, has_failed)
            }
        }
    }
}

impl<'c> From<&'c mut SqliteConnection> for Target<'c> {
    fn from(connection: &'c mut SqliteConnection) -> Self {
        Self::SqliteConnection(connection)
    }
}

impl Tx {
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres { has_failed: true, .. } => Err(sqlx::Error::Protocol(
                "a statement of the transaction failed, so it was rolled back".to_owned(),
            )),
            Self::Postgres { transaction, .. } => in_time(transaction.commit()).await,
        }
    }
}

impl Statements {
    /// What an address asks for, by the name that sqlx gives it: `?statement-cache-capacity=0`.
    pub fn of(address: &PgConnectOptions) -> Self {
        let url = address.to_url_lossy();
        let is_unnamed = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
            name == "statement-cache-capacity" && value == "0"
        };
        if url.query_pairs().any(is_unnamed) { Self::Unnamed } else { Self::Named }
    }

    fn have_names(self) -> bool {
        self == Self::Named
    }
}

impl Pool {
    /// Begins a transaction with a statement of the database at hand.
    pub async fn begin_with(
        &self,
        sqlite: &'static str,
        postgres: &'static str,
    ) -> Result<Tx, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin_with(sqlite).await?),
            Self::Postgres(pool, statements) => {
                let transaction = in_time(pool.begin_with(postgres)).await?;
                Tx::Postgres { transaction, statements: *statements, has_failed: false }
            }
        })
    }

    pub fn size(&self) -> u32 {
        match self {
            Self::Sqlite(pool) => pool.size(),
            Self::Postgres(pool, _) => pool.size(),
        }
    }

    pub fn num_idle(&self) -> usize {
        match self {
            Self::Sqlite(pool) => pool.num_idle(),
            Self::Postgres(pool, _) => pool.num_idle(),
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool, _) => pool.close().await,
        }
    }
}

/// A parameter. `None` is NULL of its type.
pub(super) enum Value<'q> {
    Bool(Option<bool>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Text(Option<Cow<'q, str>>),
    Bytes(Option<Cow<'q, [u8]>>),
    /// For PostgreSQL only.
    List(Vec<Vec<u8>>),
}

/// Implements conversions of a type and of its options to a parameter.
macro_rules! values {
    ($($type:ty => $variant:ident($value:ident) $converted:expr;)*) => {$(
        impl<'q> From<$type> for Value<'q> {
            fn from($value: $type) -> Self {
                Self::$variant(Some($converted))
            }
        }

        impl<'q> From<Option<$type>> for Value<'q> {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map(|$value| $converted))
            }
        }
    )*};
}

values! {
    bool => Bool(value) value;
    i64 => Integer(value) value;
    u32 => Integer(value) value.into();
    u16 => Integer(value) value.into();
    f64 => Real(value) value;
    f32 => Real(value) value.into();
    &'q str => Text(value) value.into();
    String => Text(value) value.into();
    &'q String => Text(value) value.as_str().into();
    &'q [u8] => Bytes(value) value.into();
    Vec<u8> => Bytes(value) value.into();
    &'q Vec<u8> => Bytes(value) value.as_slice().into();
}

impl From<Vec<Vec<u8>>> for Value<'_> {
    fn from(values: Vec<Vec<u8>>) -> Self {
        Self::List(values)
    }
}

impl<'q> From<&'q Option<String>> for Value<'q> {
    fn from(value: &'q Option<String>) -> Self {
        value.as_deref().into()
    }
}

impl<'q> From<&i64> for Value<'q> {
    fn from(value: &i64) -> Self {
        (*value).into()
    }
}

/// A row of either database.
pub(super) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{}

/// A row as the database returned it.
enum AnyRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for AnyRow {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<PgRow> for AnyRow {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl AnyRow {
    fn read<O: Row>(&self) -> Result<O, sqlx::Error> {
        match self {
            Self::Sqlite(row) => O::from_row(row),
            Self::Postgres(row) => O::from_row(row),
        }
    }
}

/// The first column of a row.
pub(super) struct First<T>(T);

impl<'r, R: sqlx::Row, T> FromRow<'r, R> for First<T>
where
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        row.try_get(0).map(Self)
    }
}

/// The text of a statement in the language of either database.
pub(super) struct Text {
    sqlite: SqlStr,
    postgres: SqlStr,
}

/// A statement that the two databases say differently.
pub(super) fn either(sqlite: impl SqlSafeStr, postgres: impl SqlSafeStr) -> Text {
    Text { sqlite: sqlite.into_sql_str(), postgres: postgres.into_sql_str() }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        either(text, text)
    }
}

impl From<AssertSqlSafe<String>> for Text {
    fn from(AssertSqlSafe(text): AssertSqlSafe<String>) -> Self {
        either(AssertSqlSafe(text.clone()), AssertSqlSafe(text))
    }
}

/// A statement with its parameters.
pub(super) struct Query<'q> {
    text: Text,
    values: Vec<Value<'q>>,
}

/// A statement that returns rows.
pub(super) struct QueryAs<'q, O> {
    query: Query<'q>,
    row: std::marker::PhantomData<O>,
}

/// A statement that returns the first column of its rows.
pub(super) struct QueryScalar<'q, O>(QueryAs<'q, First<O>>);

pub(super) fn query<'q>(text: impl Into<Text>) -> Query<'q> {
    Query { text: text.into(), values: Vec::new() }
}

pub(super) fn query_as<'q, O>(text: impl Into<Text>) -> QueryAs<'q, O> {
    QueryAs { query: query(text), row: std::marker::PhantomData }
}

pub(super) fn query_scalar<'q, O>(text: impl Into<Text>) -> QueryScalar<'q, O> {
    QueryScalar(query_as(text))
}

/// Runs a query on any target: `$run` names the query of the database at hand, and what it runs on.
macro_rules! run {
    ($self:expr, $target:expr, |$query:ident, $on:ident| $run:expr) => {{
        let Query { text, values } = $self;
        match $target {
            Target::Sqlite($on) => {
                let $query = sqlx::query_with(text.sqlite, sqlite(values)?);
                $run.await
            }
            Target::SqliteConnection($on) => {
                let $query = sqlx::query_with(text.sqlite, sqlite(values)?);
                $run.await
            }
            Target::Postgres($on, Statements::Named) => {
                let $query = sqlx::query_with(text.postgres, postgres(values)?);
                in_time($run).await
            }
            Target::Postgres(pool, Statements::Unnamed) => {
                let $query = sqlx::query_with(text.postgres, postgres(values)?).persistent(false);
                let in_transaction = async {
                    let mut transaction = pool.begin().await?;
                    let $on = &mut *transaction;
                    let done = $run.await?;
                    transaction.commit().await?;
                    Ok(done)
                };
                in_time(in_transaction).await
            }
            Target::PostgresTransaction($on, statements, has_failed) => {
                let $query = sqlx::query_with(text.postgres, postgres(values)?);
                let $query = $query.persistent(statements.have_names());
                let done = in_time($run).await;
                *has_failed |= done.is_err();
                done
            }
        }
    }};
}

/// What takes the rows of a statement one by one.
type TakeRow<'t> = &'t mut (dyn FnMut(AnyRow) -> Result<(), sqlx::Error> + Send);

impl<'q> Query<'q> {
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Returns the number of rows that were changed.
    pub async fn execute<'c>(self, target: impl Into<Target<'c>>) -> Result<u64, sqlx::Error> {
        self.changed_rows(target.into()).boxed().await
    }

    // These are compiled once, and not for each type of row. They are boxed, because each takes kilobytes of the
    // task that waits for it, and a request moves its task a few times.

    async fn changed_rows(self, target: Target<'_>) -> Result<u64, sqlx::Error> {
        run!(self, target, |query, on| query.execute(on).map_ok(|done| done.rows_affected()))
    }

    async fn row(self, target: Target<'_>) -> Result<Option<AnyRow>, sqlx::Error> {
        run!(self, target, |query, on| query.fetch_optional(on).map_ok(|row| row.map(AnyRow::from)))
    }

    /// One by one, because rows of SQLite are copies and may be many.
    async fn rows(self, target: Target<'_>, take: TakeRow<'_>) -> Result<(), sqlx::Error> {
        run!(self, target, |query, on| each(query.fetch(on), take))
    }

    fn stream<'c>(self, transaction: &'c mut Tx) -> BoxStream<'c, Result<AnyRow, sqlx::Error>> {
        let Query { text, values } = self;
        let failed = |error| futures_util::stream::once(async { Err(error) }).boxed();
        match transaction {
            Tx::Sqlite(connection) => match sqlite(values) {
                Ok(values) => {
                    let rows = sqlx::query_with(text.sqlite, values).fetch(&mut **connection);
                    rows.map_ok(AnyRow::from).boxed()
                }
                Err(error) => failed(error),
            },
            Tx::Postgres { transaction, statements, .. } => match postgres(values) {
                Ok(values) => {
                    let query = sqlx::query_with(text.postgres, values);
                    let query = query.persistent(statements.have_names());
                    query.fetch(&mut **transaction).map_ok(AnyRow::from).boxed()
                }
                Err(error) => failed(error),
            },
        }
    }
}

async fn each<R: Into<AnyRow>>(
    mut rows: BoxStream<'_, Result<R, sqlx::Error>>,
    take: TakeRow<'_>,
) -> Result<(), sqlx::Error> {
    while let Some(row) = rows.try_next().await? {
        take(row.into())?;
    }
    Ok(())
}

impl<'q, O: Row> QueryAs<'q, O> {
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    pub async fn fetch_one<'c>(self, target: impl Into<Target<'c>>) -> Result<O, sqlx::Error> {
        self.fetch_optional(target).await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub async fn fetch_optional<'c>(
        self,
        target: impl Into<Target<'c>>,
    ) -> Result<Option<O>, sqlx::Error> {
        let row = self.query.row(target.into()).boxed().await?;
        row.map(|row| row.read()).transpose()
    }

    pub async fn fetch_all<'c>(self, target: impl Into<Target<'c>>) -> Result<Vec<O>, sqlx::Error> {
        let mut all = Vec::new();
        let mut take = |row: AnyRow| row.read().map(|row| all.push(row));
        self.query.rows(target.into(), &mut take).boxed().await?;
        Ok(all)
    }

    /// The rows one by one.
    pub fn fetch<'c>(self, transaction: &'c mut Tx) -> BoxStream<'c, Result<O, sqlx::Error>>
    where
        O: 'c,
    {
        self.query.stream(transaction).map(|row| row?.read()).boxed()
    }
}

impl<'q, O> QueryScalar<'q, O>
where
    First<O>: Row,
{
    pub fn bind(self, value: impl Into<Value<'q>>) -> Self {
        Self(self.0.bind(value))
    }

    pub async fn fetch_one<'c>(self, target: impl Into<Target<'c>>) -> Result<O, sqlx::Error> {
        self.0.fetch_one(target).await.map(|First(value)| value)
    }

    pub async fn fetch_optional<'c>(
        self,
        target: impl Into<Target<'c>>,
    ) -> Result<Option<O>, sqlx::Error> {
        Ok(self.0.fetch_optional(target).await?.map(|First(value)| value))
    }

    pub async fn fetch_all<'c>(self, target: impl Into<Target<'c>>) -> Result<Vec<O>, sqlx::Error> {
        Ok(self.0.fetch_all(target).await?.into_iter().map(|First(value)| value).collect())
    }
}

fn sqlite(values: Vec<Value<'_>>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    // Owned text and bytes are moved, borrowed ones are copied once.
    values.into_iter().try_for_each(|value| add(&mut arguments, value))?;
    Ok(arguments)
}

fn postgres(values: Vec<Value<'_>>) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::List(values) => arguments.add(values).map_err(sqlx::Error::Encode)?,
            value => add(&mut arguments, value)?,
        }
    }
    Ok(arguments)
}

fn add<A: Arguments>(arguments: &mut A, value: Value<'_>) -> Result<(), sqlx::Error>
where
    for<'t> Option<bool>: Encode<'t, A::Database> + Type<A::Database>,
    for<'t> Option<i64>: Encode<'t, A::Database> + Type<A::Database>,
    for<'t> Option<f64>: Encode<'t, A::Database> + Type<A::Database>,
    for<'t> Option<String>: Encode<'t, A::Database> + Type<A::Database>,
    for<'t> Option<Vec<u8>>: Encode<'t, A::Database> + Type<A::Database>,
{
    match value {
        Value::Bool(value) => arguments.add(value),
        Value::Integer(value) => arguments.add(value),
        Value::Real(value) => arguments.add(value),
        Value::Text(value) => arguments.add(value.map(Cow::into_owned)),
        Value::Bytes(value) => arguments.add(value.map(Cow::into_owned)),
        Value::List(_) => Err("SQLite has no lists".into()),
    }
    .map_err(sqlx::Error::Encode)
}

/// Ends a wait for PostgreSQL that takes too long.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = |_| {
        let late =
            std::io::Error::new(std::io::ErrorKind::TimedOut, "PostgreSQL did not answer in time");
        Err(sqlx::Error::Io(late))
    };
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(late)
}
