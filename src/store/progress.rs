//! Progress of work on many rows.

/// Tells the log how far the work on a table is.
pub(in crate::store) struct Progress {
    work: &'static str,
    table: &'static str,
    pub rows: usize,
}

impl Progress {
    pub fn new(work: &'static str, table: &'static str, rows: usize) -> Self {
        if rows > 0 {
            tracing::info!(table, rows, "{work}");
        }
        Self { work, table, rows }
    }

    pub fn report(&self, row: usize) {
        if row > 0 && row.is_multiple_of(10_000) {
            tracing::info!(table = self.table, row, rows = self.rows, "{}", self.work);
        }
    }
}
