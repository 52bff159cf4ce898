//! Tokens: what a phone sends instead of an API key. A token is for one user and expires soon.
//!
//! A token is `bpu_<key>_<scopes>_<expiry>_<signature>_<user>`. It is signed with a secret of its user and
//! stored nowhere. The user is [`UserId::as_str`], so that a token is for one user of one collection.

use bipedalnet_core::identity::UserId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Scopes;

const PREFIX: &str = "bpu_";

/// Keeps a signature from being taken for another digest with the same secret.
const SIGNED: &str = "bipedalnet user token ";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserToken {
    /// Id of the API key that made it. It ends with that key.
    pub key: String,
    /// The only user that it is for.
    pub user: UserId,
    /// What it allows.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at_unix_seconds: i64,
}

/// A token as it was sent. Nothing proves yet that the service made it.
pub struct SentToken {
    claims: UserToken,
    signature: [u8; 32],
}

impl UserToken {
    /// The longest life of a token.
    pub const LONGEST_SECONDS: u32 = 3600;

    /// The text that a phone sends.
    pub fn sign(&self, secret: &[u8; 32]) -> String {
        let Self { key, expires_at_unix_seconds, .. } = self;
        let user = self.user.as_str();
        let signature = const_hex::encode(self.mac(secret).finalize().into_bytes());
        format!("{PREFIX}{key}_{}_{expires_at_unix_seconds}_{signature}_{user}", self.scopes_text())
    }

    /// All scopes, in characters that a bearer token may have (RFC 6750, section 2.1).
    fn scopes_text(&self) -> String {
        self.scopes.to_string().replace(' ', ".")
    }

    fn mac(&self, secret: &[u8; 32]) -> Hmac<Sha256> {
        let Self { key, expires_at_unix_seconds, .. } = self;
        let user = self.user.as_str();
        let signed =
            format!("{SIGNED}{key}_{}_{expires_at_unix_seconds}_{user}", self.scopes_text());
        let mut mac = Hmac::new_from_slice(secret).expect("keys of any length do");
        mac.update(signed.as_bytes());
        mac
    }
}

impl SentToken {
    /// `None` if the text does not look like a token.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.splitn(5, '_');
        let mut part = || parts.next();
        let (key, scopes, expiry, signature, user) = (part()?, part()?, part()?, part()?, part()?);
        let claims = UserToken {
            key: key.to_owned(),
            user: UserId::from_stored(user).ok()?,
            scopes: scopes.replace('.', " ").parse().ok()?,
            expires_at_unix_seconds: expiry.parse().ok()?,
        };
        Some(Self { claims, signature: const_hex::decode_to_array(signature).ok()? })
    }

    /// Id of the API key that it claims to be from.
    pub fn key(&self) -> &str {
        &self.claims.key
    }

    /// The user that it claims to be for.
    pub fn user(&self) -> &UserId {
        &self.claims.user
    }

    /// What the token says, if it was signed with this secret. Compares in constant time.
    pub fn proven(self, secret: &[u8; 32]) -> Option<UserToken> {
        self.claims.mac(secret).verify_slice(&self.signature).ok()?;
        Some(self.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_user_of_one_collection() {
        let token = |user: &str| UserToken {
            key: "0123456789ab".to_owned(),
            user: UserId::from_stored(user).unwrap(),
            scopes: "identify".parse().unwrap(),
            expires_at_unix_seconds: 1_795_814_831,
        };
        let (secret, shop) = ([7; 32], token("shop/ann"));
        let text = shop.sign(&secret);
        // RFC 6750 allows these characters in a bearer token.
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c)), "{text}");
        assert_eq!(SentToken::parse(&text).unwrap().proven(&secret), Some(shop));
        for other in ["ann", "lab/ann", "default/ann"] {
            let moved = text.replace("shop/ann", other);
            let proven = SentToken::parse(&moved).and_then(|sent| sent.proven(&secret));
            assert_eq!(proven, None, "{moved}");
        }
    }

    #[test]
    fn a_token_says_what_was_signed_and_nothing_else() {
        let token = UserToken {
            key: "0123456789ab".to_owned(),
            user: "ann_of.ancona~1".parse().unwrap(),
            scopes: "identify enroll".parse().unwrap(),
            expires_at_unix_seconds: 1_795_814_831,
        };
        let secret = [7; 32];
        let text = token.sign(&secret);
        let proven = |text: &str, secret| SentToken::parse(text)?.proven(secret);
        assert_eq!(proven(&text, &secret), Some(token));
        assert_eq!(proven(&text, &[8; 32]), None);
        for (from, to) in [
            ("_identify.", "_extend."),
            (".enroll_", "_"),
            ("1795814831", "1795814832"),
            ("ancona", "bologna"),
            ("0123456789ab", "0123456789ac"),
            ("bpu_", "bpn_"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert_eq!(proven(&changed, &secret), None, "{changed}");
        }
        for cut in 0..text.len() {
            assert_eq!(proven(&text[..cut], &secret), None);
        }
    }
}
