//! The tables that a copy takes along, and how their rows get to the other database.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Column as _, ColumnIndex, Decode, FromRow, Type, TypeInfo};

use super::super::sql::{Tx, Value, either, query, query_as, query_scalar};
use super::super::{Progress, StoreError};

/// All tables with data, each after those that it refers to. The others belong to one database or to its
/// servers: `backup_times`, `changes`, `compatibility`, `keeper`, `next_model`, `servers` and
/// `training_lease`. `keyring` names the file of keys, which is made anew.
pub(super) const TABLES: [&str; 25] = [
    "collections",
    "users",
    "models",
    "enrollments",
    "templates",
    "recordings",
    "fingerprints",
    "erasures",
    "erased_keys",
    "replies",
    "reply_users",
    "api_keys",
    "training_jobs",
    "training_events",
    "training_checkpoints",
    "failed_verifications",
    "failing_clients",
    "used_challenges",
    "sessions",
    "session_walks",
    "audit_start",
    "audit",
    "audit_notes",
    "retention_clock",
    "template_generation",
];

/// Tables in which migrations put a row.
const WITH_A_ROW: [&str; 4] =
    ["collections", "audit_start", "retention_clock", "template_generation"];

/// Rows that one statement inserts, and about how many bytes.
const ROWS_AT_A_TIME: usize = 500;
const BYTES_AT_A_TIME: usize = 1 << 20;

#[derive(FromRow)]
struct Column {
    name: String,
    is_boolean: bool,
}

/// The values of a row.
struct Cells(Vec<Value<'static>>);

impl<'r, R: sqlx::Row> FromRow<'r, R> for Cells
where
    usize: ColumnIndex<R>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    f32: Decode<'r, R::Database> + Type<R::Database>,
    f64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let cell = |(index, column): (usize, &<R::Database as sqlx::Database>::Column)| {
            Ok(match column.type_info().name() {
                "BOOL" => Value::Bool(row.try_get(index)?),
                "INTEGER" | "INT8" => Value::Integer(row.try_get(index)?),
                "FLOAT4" => row.try_get::<Option<f32>, _>(index)?.into(),
                "REAL" | "FLOAT8" => Value::Real(row.try_get(index)?),
                "TEXT" => row.try_get::<Option<String>, _>(index)?.into(),
                "BLOB" | "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(index)?.into(),
                other => {
                    return Err(sqlx::Error::Decode(format!("a column of type {other}").into()));
                }
            })
        };
        row.columns().iter().enumerate().map(cell).collect::<Result<_, _>>().map(Self)
    }
}

/// The columns of a table, except those that only PostgreSQL names.
async fn columns(transaction: &mut Tx, table: &str) -> Result<Vec<Column>, StoreError> {
    let columns = query_as(either(
        "SELECT name, FALSE AS is_boolean FROM pragma_table_info($1) ORDER BY name",
        "SELECT column_name::text AS name, data_type = 'boolean' AS is_boolean
         FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name = $1
         AND column_name NOT IN ('one', 'rowid') ORDER BY column_name COLLATE \"C\"",
    ));
    Ok(columns.bind(table).fetch_all(transaction).await?)
}

/// The number of rows of a table, however long that takes.
pub(super) async fn count(transaction: &mut Tx, table: &str) -> Result<i64, StoreError> {
    let count = query_as(AssertSqlSafe(format!("SELECT count(*) FROM {table}")));
    let (rows,) = count.fetch(transaction).try_next().await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(rows)
}

/// A table in which there is more than migrations leave, with its number of rows.
pub(super) async fn filled(
    transaction: &mut Tx,
) -> Result<Option<(&'static str, i64)>, StoreError> {
    for table in TABLES {
        let rows = count(transaction, table).await?;
        if rows > i64::from(WITH_A_ROW.contains(&table)) {
            return Ok(Some((table, rows)));
        }
    }
    Ok(None)
}

/// Deletes what migrations put into tables.
pub(super) async fn clear(transaction: &mut Tx) -> Result<(), StoreError> {
    for table in WITH_A_ROW {
        query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Copies all rows of a table to one that is empty.
pub(super) async fn copy_rows(
    from: &mut Tx,
    to: &mut Tx,
    table: &'static str,
) -> Result<(), StoreError> {
    let columns = columns(to, table).await?;
    let mut batch = Batch::new(table, &columns);
    // Models are listed in the order in which they were stored.
    let order = if table == "models" { " ORDER BY rowid" } else { "" };
    let rows = query_as(AssertSqlSafe(format!("SELECT {} FROM {table}{order}", batch.names)));
    let progress = Progress::new("copying", table, count(from, table).await? as usize);
    let mut rows = rows.fetch(from);
    let mut copied = 0;
    while let Some(Cells(cells)) = rows.try_next().await? {
        batch.add(&columns, cells);
        if batch.is_full() {
            batch.insert(to).await?;
        }
        copied += 1;
        progress.report(copied);
    }
    batch.insert(to).await
}

/// Rows that are to be inserted.
struct Batch {
    table: &'static str,
    /// The names of the columns, separated by commas.
    names: String,
    columns: usize,
    values: Vec<Value<'static>>,
    bytes: usize,
}

impl Batch {
    fn new(table: &'static str, columns: &[Column]) -> Self {
        let names: Vec<&str> = columns.iter().map(|column| &column.name[..]).collect();
        let (names, columns) = (names.join(", "), columns.len());
        Self { table, names, columns, values: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, columns: &[Column], cells: Vec<Value<'static>>) {
        for (column, cell) in columns.iter().zip(cells) {
            let value = match cell {
                Value::Integer(value) if column.is_boolean => {
                    Value::Bool(value.map(|value| value != 0))
                }
                Value::Bool(value) if !column.is_boolean => Value::Integer(value.map(i64::from)),
                value => value,
            };
            self.bytes += match &value {
                Value::Text(Some(text)) => text.len(),
                Value::Bytes(Some(bytes)) => bytes.len(),
                _ => 0,
            };
            self.values.push(value);
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() == ROWS_AT_A_TIME * self.columns || self.bytes >= BYTES_AT_A_TIME
    }

    async fn insert(&mut self, to: &mut Tx) -> Result<(), StoreError> {
        if self.values.is_empty() {
            return Ok(());
        }
        let (table, names) = (self.table, &self.names);
        let parameters: Vec<String> =
            (1..=self.values.len()).map(|number| format!("${number}")).collect();
        let rows: Vec<String> =
            parameters.chunks(self.columns).map(|row| format!("({})", row.join(", "))).collect();
        let rows = rows.join(", ");
        let mut insert = query(either(
            AssertSqlSafe(format!("INSERT INTO {table} ({names}) VALUES {rows}")),
            AssertSqlSafe(format!(
                "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES {rows}"
            )),
        ));
        for value in self.values.drain(..) {
            insert = insert.bind(value);
        }
        self.bytes = 0;
        insert.execute(to).await?;
        Ok(())
    }
}

/// Numbers of new rows go on where the other database ended: none is used twice, not even that of a row
/// which was deleted.
pub(super) async fn copy_counters(from: &mut Tx, to: &mut Tx) -> Result<(), StoreError> {
    let counters: Vec<(String, i64)> = query_as(either(
        "SELECT name, seq FROM sqlite_sequence",
        "SELECT table_name::text, coalesce(pg_sequence_last_value(
             pg_get_serial_sequence(quote_ident(table_name), column_name)), 0)
         FROM information_schema.columns
         WHERE table_schema = current_schema() AND is_identity = 'YES'",
    ))
    .fetch_all(from)
    .await?;
    let counting: Vec<(String, String)> = query_as(either(
        "SELECT name, 'rowid' FROM sqlite_master
         WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'",
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = current_schema() AND is_identity = 'YES'",
    ))
    .fetch_all(&mut *to)
    .await?;
    for (table, column) in counting {
        let newest = format!("SELECT coalesce(max({column}), 0) FROM {table}");
        let newest: i64 = query_scalar(AssertSqlSafe(newest)).fetch_one(&mut *to).await?;
        let counter = counters.iter().find(|(counted, _)| *counted == table);
        let last = counter.map_or(0, |(_, last)| *last).max(newest);
        let statements = match to {
            Tx::Sqlite(_) => vec![
                format!("DELETE FROM sqlite_sequence WHERE name = '{table}'"),
                format!("INSERT INTO sqlite_sequence VALUES ('{table}', {last})"),
            ],
            Tx::Postgres { .. } if last == 0 => Vec::new(),
            // A sequence that gave no number yet does not tell which one comes next.
            Tx::Postgres { .. } => vec![
                format!("ALTER TABLE {table} ALTER COLUMN {column} RESTART WITH {last}"),
                format!("SELECT nextval(pg_get_serial_sequence('{table}', '{column}'))"),
            ],
        };
        for statement in statements {
            query(AssertSqlSafe(statement)).execute(&mut *to).await?;
        }
    }
    Ok(())
}
