//! Changes of one user by several servers take turns.

use std::collections::BTreeSet;

use bipedalnet_core::identity::UserId;

use super::sql::query;
use super::{Engine, StoreError, Transaction};

impl Transaction {
    /// Keeps other servers from writing to these users until the transaction ends, so that what it reads
    /// of them stays true. To be called before anything else: transactions that lock in different orders
    /// could wait for each other. SQLite has one transaction that writes at a time anyway.
    ///
    /// # Errors
    /// If the statement fails, or another server takes too long.
    pub async fn lock_users(&mut self, users: &BTreeSet<&UserId>) -> Result<(), StoreError> {
        let Engine::Postgres(_) = &self.store.engine else { return Ok(()) };
        let ids: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
        query(
            "SELECT 1 FROM users WHERE id IN (SELECT jsonb_array_elements_text($1::jsonb))
             ORDER BY id FOR NO KEY UPDATE",
        )
        .bind(serde_json::Value::from(ids).to_string())
        .execute(&mut self.inner)
        .await?;
        Ok(())
    }
}
