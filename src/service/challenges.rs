//! Nonces that make each verification unique: a recorded request has none that is still valid.
//!
//! A nonce is signed with a secret of its user and stored nowhere, so any server accepts it. The database
//! has those that were used.

use bipedalnet_core::identity::UserId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ServiceError;
use super::active_model::ActiveModel;
use crate::access::Principal;
use crate::store::{SecretKey, Store, Transaction, unix_seconds};

/// How long a challenge is valid: time to walk, and to send the walk over a bad network.
const VALID_SECONDS: u32 = 120;

/// Keeps a signature from being taken for another digest with the same secret.
const SIGNED: &[u8] = b"bipedalnet challenge ";

/// Creates challenges, and says which are valid.
#[derive(Clone)]
pub struct Challenges {
    store: Store,
    active: ActiveModel,
}

/// Who may use a challenge: it is for a user, and for the API key that created it and its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub user: UserId,
    /// Id of the API key, or empty.
    pub key: String,
}

/// A nonce for one verification of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The client sends it with the verification.
    pub nonce: String,
    /// How long it is valid.
    pub valid_seconds: u32,
    /// Id of the active model, which features must be from.
    pub model: String,
}

/// Twelve random bytes, four of the expiry in seconds since 1970, and the signature of both. Clients may
/// take its digits for a session's name, so it may not be longer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Nonce {
    head: [u8; 16],
    signature: [u8; 16],
}

impl Nonce {
    fn new(secret: &SecretKey, owner: &Owner, now_unix_seconds: i64) -> Result<Self, ServiceError> {
        let mut head = [0; 16];
        getrandom::fill(&mut head[..12])?;
        let expiry = now_unix_seconds + i64::from(VALID_SECONDS);
        // Until 2106.
        head[12..].copy_from_slice(&u32::try_from(expiry).unwrap_or(u32::MAX).to_be_bytes());
        Ok(Self { signature: signature(secret, owner, &head), head })
    }

    /// `None` if the text does not look like a nonce.
    fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = const_hex::decode_to_array(text).ok()?;
        let (head, signature) = bytes.split_first_chunk()?;
        Some(Self { head: *head, signature: signature.try_into().ok()? })
    }

    fn text(&self) -> String {
        const_hex::encode([self.head, self.signature].concat())
    }

    fn expires_at_unix_seconds(&self) -> i64 {
        let [.., a, b, c, d] = self.head;
        u32::from_be_bytes([a, b, c, d]).into()
    }

    /// Whether the service made it for this owner, and it has not expired. Compares in constant time.
    fn is_valid(&self, secret: &SecretKey, owner: &Owner, now_unix_seconds: i64) -> bool {
        let is_signed = signature(secret, owner, &self.head).ct_eq(&self.signature);
        bool::from(is_signed) && now_unix_seconds <= self.expires_at_unix_seconds()
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.head).chain_update(self.signature).finalize().into()
    }
}

fn signature(secret: &SecretKey, owner: &Owner, head: &[u8; 16]) -> [u8; 16] {
    // No key has a zero byte.
    let signed =
        [SIGNED, head, owner.key.as_bytes(), &[0], owner.user.as_str().as_bytes()].concat();
    let digest = secret.digest(&signed);
    *digest.first_chunk().expect("a digest has 32 bytes")
}

impl Challenges {
    pub(super) fn new(store: Store, active: ActiveModel) -> Self {
        Self { store, active }
    }

    /// Creates a challenge for a verification of a user with the same API key.
    ///
    /// # Errors
    /// If the user does not exist or their key is missing, or the database fails.
    pub async fn create(
        &self,
        user: UserId,
        principal: &Principal,
    ) -> Result<Challenge, ServiceError> {
        let secret = self.store.challenge_secret(&user).await?;
        let owner = Owner { user, key: principal.key.clone() };
        let nonce = Nonce::new(&secret, &owner, unix_seconds())?;
        let model = self.active.get().id().to_owned();
        Ok(Challenge { nonce: nonce.text(), valid_seconds: VALID_SECONDS, model })
    }

    /// Checks a challenge before anything is computed.
    ///
    /// # Errors
    /// If it is not valid for its owner, the user does not exist, or the database fails.
    pub(super) async fn check(&self, nonce: &str, owner: &Owner) -> Result<(), ServiceError> {
        let nonce = Nonce::parse(nonce).ok_or(ServiceError::BadChallenge)?;
        let secret = self.store.challenge_secret(&owner.user).await?;
        if !nonce.is_valid(&secret, owner, unix_seconds())
            || self.store.is_challenge_used(&nonce.digest()).await?
        {
            return Err(ServiceError::BadChallenge);
        }
        Ok(())
    }
}

/// Uses a challenge up, if the transaction is committed.
///
/// # Errors
/// As [`Challenges::check`].
pub(super) async fn redeem(
    transaction: &mut Transaction,
    nonce: &str,
    owner: &Owner,
) -> Result<(), ServiceError> {
    let nonce = Nonce::parse(nonce).ok_or(ServiceError::BadChallenge)?;
    // Another user may have the id by now.
    let secret = transaction.challenge_secret(&owner.user).await?;
    if !nonce.is_valid(&secret, owner, unix_seconds())
        || !transaction.use_challenge(&nonce.digest(), nonce.expires_at_unix_seconds()).await?
    {
        return Err(ServiceError::BadChallenge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &str, key: &str) -> Owner {
        Owner { user: user.parse().unwrap(), key: key.to_owned() }
    }

    #[test]
    fn a_nonce_is_valid_as_it_was_signed_and_for_a_time() {
        let secret = SecretKey::new([7; 32]);
        let ann = owner("ann", "a");
        let nonce = Nonce::new(&secret, &ann, 1000).unwrap();
        assert_ne!(nonce, Nonce::new(&secret, &ann, 1000).unwrap());
        assert_eq!(Nonce::parse(&nonce.text()), Some(nonce.clone()));
        assert_eq!(nonce.expires_at_unix_seconds(), 1120);
        assert!(nonce.is_valid(&secret, &ann, 1000));
        assert!(nonce.is_valid(&secret, &ann, 1120));
        assert!(!nonce.is_valid(&secret, &ann, 1121), "expired");
        assert!(!nonce.is_valid(&SecretKey::new([8; 32]), &ann, 1000), "of an earlier user");
        for other in [owner("bob", "a"), owner("ann", "b"), owner("ann", ""), owner("nn", "a")] {
            assert!(!nonce.is_valid(&secret, &other, 1000), "{other:?}");
        }
        let text = nonce.text();
        assert!(text.parse::<UserId>().is_ok(), "a session may have its name");
        for digit in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[digit] ^= 1;
            let changed = Nonce::parse(str::from_utf8(&changed).unwrap());
            assert!(
                changed.is_none_or(|changed| !changed.is_valid(&secret, &ann, 1000)),
                "{digit}"
            );
            assert_eq!(Nonce::parse(&text[..digit]), None);
        }
    }

    #[tokio::test]
    async fn two_servers_with_one_database_accept_a_challenge_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let one = Store::open(&path, None).await.unwrap();
        let ann = owner("ann", "a");
        let mut write = one.begin().await.unwrap();
        write.put_user(&ann.user, 9).await.unwrap();
        write.commit().await.unwrap();
        let other = Store::open(&path, None).await.unwrap();

        let secret = one.challenge_secret(&ann.user).await.unwrap();
        let nonce = Nonce::new(&secret, &ann, unix_seconds()).unwrap().text();
        let redeem_on = async |store: &Store, nonce: &str, commits: bool| {
            let mut write = store.begin().await.unwrap();
            let redeemed = redeem(&mut write, nonce, &ann).await;
            if commits {
                write.commit().await.unwrap();
            }
            redeemed
        };
        redeem_on(&other, &nonce, false).await.unwrap();
        redeem_on(&other, &nonce, true).await.unwrap();
        for store in [&one, &other] {
            for nonce in [nonce.clone(), nonce.to_uppercase(), format!("0x{nonce}")] {
                let again = redeem_on(store, &nonce, true).await;
                assert!(matches!(again, Err(ServiceError::BadChallenge)), "{again:?}");
            }
        }
        // It has not expired, so it is not forgotten.
        one.forget_used_challenges().await.unwrap();
        assert!(redeem_on(&one, &nonce, true).await.is_err());

        let old = Nonce::new(&secret, &ann, unix_seconds() - 3721).unwrap();
        let mut write = one.begin().await.unwrap();
        for unused in [true, false] {
            let used = write.use_challenge(&old.digest(), old.expires_at_unix_seconds()).await;
            assert_eq!(used.unwrap(), unused);
        }
        write.commit().await.unwrap();
        assert!(one.is_challenge_used(&old.digest()).await.unwrap());
        one.forget_used_challenges().await.unwrap();
        assert!(!other.is_challenge_used(&old.digest()).await.unwrap());
    }

    #[tokio::test]
    async fn a_challenge_ends_with_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("test.db"), None).await.unwrap();
        let ann = owner("ann", "a");
        let mut write = store.begin().await.unwrap();
        write.put_user(&ann.user, 9).await.unwrap();
        write.commit().await.unwrap();
        let secret = store.challenge_secret(&ann.user).await.unwrap();
        let nonce = Nonce::new(&secret, &ann, unix_seconds()).unwrap().text();

        let mut write = store.begin().await.unwrap();
        write.erase_user(&ann.user).await.unwrap();
        let erased = redeem(&mut write, &nonce, &ann).await;
        assert!(matches!(erased, Err(ServiceError::NoSuchUser(_))), "{erased:?}");
        write.put_user(&ann.user, 9).await.unwrap();
        let of_another = redeem(&mut write, &nonce, &ann).await;
        assert!(matches!(of_another, Err(ServiceError::BadChallenge)), "{of_another:?}");
    }
}
