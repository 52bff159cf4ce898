//! Makes tokens for users' phones.

use bipedalnet_core::identity::UserId;

use super::ServiceError;
use super::idempotency::Reservation;
use super::keys::token_id;
use super::write::Writes;
use crate::access::{Principal, Scopes, UserToken};
use crate::store::{AuditEvent, Store, unix_seconds};

/// Makes tokens.
pub struct UserTokens {
    pub(super) store: Store,
    pub(super) writes: Writes,
}

impl UserTokens {
    /// Makes a token of a user, and adds that to the audit trail. Returns its text.
    ///
    /// # Errors
    /// If the maker lacks one of the scopes or has no key, the user does not exist, or the database fails.
    pub async fn create(
        &self,
        maker: Principal,
        user: UserId,
        scopes: Scopes,
        lifetime_seconds: u32,
    ) -> Result<(String, UserToken), ServiceError> {
        if maker.is_anonymous() {
            return Err(ServiceError::NoKeyForToken);
        }
        if let Some(missing) = scopes.beyond(maker.scopes) {
            return Err(ServiceError::MissingScope(missing));
        }
        let secret = self.store.token_secret(&user).await?;
        let token = UserToken {
            key: maker.key.clone(),
            user,
            scopes,
            expires_at_unix_seconds: unix_seconds() + i64::from(lifetime_seconds),
        };
        let id = token_id(&token.key, &secret);
        let mut write = self.writes.begin(Reservation::of(maker)).await?;
        let created = AuditEvent::TokenCreated(&token.user, &id, &token.scopes.to_string());
        write.transaction.audit(created).await?;
        write.commit().await?;
        Ok((token.sign(secret.bytes()), token))
    }
}
