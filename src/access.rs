//! API keys, user tokens, their scopes and collections. No I/O except the system's random numbers.
//!
//! A key is `bpn_<id>_<secret>`. The id finds the key, the secret proves it. The secret has 256 random
//! bits and cannot be guessed, so its plain SHA-256 may be stored.

mod binding;
mod user_token;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use binding::{Binding, WrongCollection};
use bipedalnet_core::identity::{CollectionId, UserId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
pub use user_token::{SentToken, UserToken};

const PREFIX: &str = "bpn";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// Keys of earlier versions may have this scope. It never allowed anything.
const RETIRED_SCOPE: &str = "metrics";

/// Something that an API key may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Identify and verify walkers.
    Identify,
    /// Create and read users, and enroll walks until they are ready.
    Enroll,
    /// Enroll walks of users who are ready already. A wrong one would open their account.
    Extend,
    /// Send features instead of recordings. They can be made up, and nothing shows a replay.
    Features,
    /// Download a user's templates, to verify them on their own device. Templates can be sent as
    /// features.
    Template,
    /// Train, activate and delete models.
    Train,
    /// Delete users.
    Erase,
    /// List, export and delete users, delete enrollments, and confirm walks that are unlike the
    /// earlier ones.
    Admin,
    /// See scores. They would help an attacker to approach a match step by step.
    Scores,
}

impl Scope {
    /// All scopes, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Identify,
        Self::Enroll,
        Self::Extend,
        Self::Features,
        Self::Template,
        Self::Train,
        Self::Erase,
        Self::Admin,
        Self::Scores,
    ];

    /// The name in options, databases and OpenAPI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Enroll => "enroll",
            Self::Extend => "extend",
            Self::Features => "features",
            Self::Template => "template",
            Self::Train => "train",
            Self::Erase => "erase",
            Self::Admin => "admin",
            Self::Scores => "scores",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A name that is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {0:?}; use one of {known}", known = known_scopes())]
pub struct ScopeError(String);

fn known_scopes() -> String {
    Scope::ALL.map(Scope::name).join(", ")
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| ScopeError(text.to_owned()))
    }
}

/// A set of scopes, written with spaces between them. One bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u16);

impl Scopes {
    /// The set of all scopes.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// A scope of this set that another set lacks.
    pub fn beyond(self, other: Self) -> Option<Scope> {
        self.iter().find(|scope| !other.contains(*scope))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// Whether the set allows what a scope does. An admin may erase.
    pub fn contains(self, scope: Scope) -> bool {
        let allowing = match scope {
            Scope::Erase => scope.bit() | Scope::Admin.bit(),
            _ => scope.bit(),
        };
        self.0 & allowing != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope.bit()))
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        text.split_whitespace().filter(|name| *name != RETIRED_SCOPE).map(str::parse).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(" "))
    }
}

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Id of the API key, or empty if the service requires none. With a token, also a digest of its user:
    /// tokens of one user are one sender.
    pub id: String,
    /// Id of the API key, or of the one that made the token, or empty.
    pub key: String,
    /// The only user whom the sender's token is for. `None` with an API key.
    pub user: Option<UserId>,
    /// What the sender may do.
    pub scopes: Scopes,
    /// The collections that the sender may use. `None` for all.
    pub binding: Option<Binding>,
    /// The address, or with IPv6 the /64 network, that the request came from, if it is known.
    pub network: Option<IpAddr>,
}

impl Principal {
    /// Anybody, if the service requires no API key.
    pub fn anonymous() -> Self {
        Self {
            id: String::new(),
            key: String::new(),
            user: None,
            scopes: Scopes::all(),
            binding: None,
            network: None,
        }
    }

    /// The service itself, for work that nobody requested.
    pub fn server() -> Self {
        let id = "server".to_owned();
        Self { key: id.clone(), id, ..Self::anonymous() }
    }

    /// The collection that a request is about. If it names none: that of the token's user, the only one
    /// that the key is bound to, or the default one.
    ///
    /// # Errors
    /// If the sender may not use it.
    pub fn collection(&self, named: Option<CollectionId>) -> Result<CollectionId, WrongCollection> {
        let own = match (&self.user, &self.binding) {
            (Some(user), _) => Some(user.collection()),
            (None, Some(binding)) => binding.only().cloned(),
            (None, None) => None,
        };
        let collection = named.or_else(|| own.clone()).unwrap_or_default();
        match (&self.user, &self.binding) {
            (Some(_), _) if own.as_ref() != Some(&collection) => Err(WrongCollection::OfToken),
            (None, Some(binding)) if !binding.contains(&collection) => {
                Err(WrongCollection::OfKey(binding.clone()))
            }
            _ => Ok(collection),
        }
    }

    /// Name in the audit trail.
    pub fn actor(&self) -> &str {
        if self.is_anonymous() { "anonymous" } else { &self.id }
    }

    /// Whether the service requires no API key. Then limits on guessing would protect nothing:
    /// everybody may export templates.
    pub fn is_anonymous(&self) -> bool {
        self.key.is_empty()
    }
}

/// A stored API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Identifies the key. It is not secret.
    pub id: String,
    /// SHA-256 of the secret.
    pub secret_digest: [u8; 32],
    /// The operator's name for the user of the key.
    pub name: String,
    /// What the key allows.
    pub scopes: Scopes,
    /// The collections that it is for. `None` for all.
    pub binding: Option<Binding>,
    /// When the key was created.
    pub created_at_unix_seconds: i64,
    /// When the key expires. `None` for never.
    pub expires_at_unix_seconds: Option<i64>,
    /// Whether the key was revoked.
    pub revoked: bool,
    /// When the key was last used, to the minute.
    pub last_used_at_unix_seconds: Option<i64>,
}

impl ApiKey {
    /// Creates a key. The text, which its holder sends, is stored nowhere.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate(
        name: String,
        scopes: Scopes,
        binding: Option<Binding>,
        now_unix_seconds: i64,
        expires_at_unix_seconds: Option<i64>,
    ) -> Result<(Self, String), getrandom::Error> {
        let (id, secret) = (random_hex::<ID_BYTES>()?, random_hex::<SECRET_BYTES>()?);
        let text = format!("{PREFIX}_{id}_{secret}");
        let key = Self {
            id,
            secret_digest: Sha256::digest(secret).into(),
            name,
            scopes,
            binding,
            created_at_unix_seconds: now_unix_seconds,
            expires_at_unix_seconds,
            revoked: false,
            last_used_at_unix_seconds: None,
        };
        Ok((key, text))
    }

    /// The id in a key's text. `None` if it does not look like a key.
    pub fn id_in(text: &str) -> Option<&str> {
        let (id, secret) = text.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES).then_some(id)
    }

    /// Whether a text is this key, and the key is valid at that time. Compares secrets in constant
    /// time.
    pub fn accepts(&self, text: &str, now_unix_seconds: i64) -> bool {
        let secret = text.rsplit('_').next().unwrap_or_default();
        let same = Sha256::digest(secret).ct_eq(&self.secret_digest);
        bool::from(same) && self.is_live(now_unix_seconds)
    }

    /// Whether the key is neither revoked nor expired at that time.
    pub fn is_live(&self, now_unix_seconds: i64) -> bool {
        !self.revoked && self.expires_at_unix_seconds.is_none_or(|end| now_unix_seconds < end)
    }
}

/// A secret that the operator chose. Only its digest is kept.
#[derive(Clone)]
pub struct BearerSecret([u8; 32]);

impl BearerSecret {
    /// Longest text of a secret.
    pub const MAX_BYTES: usize = 1024;

    /// `None` if the text has fewer than 16 characters, is too long, or cannot stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let is_good = (16..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether a text is the secret. Compares digests in constant time.
    pub fn accepts(&self, text: &str) -> bool {
        Sha256::digest(text).ct_eq(&self.0).into()
    }
}

/// Random bytes as hexadecimal digits.
///
/// # Errors
/// If the system has no random numbers.
pub fn random_hex<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(const_hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_text_of_a_live_key_is_accepted() {
        let scopes: Scopes = "identify enroll".parse().unwrap();
        let (key, text) = ApiKey::generate("phones".into(), scopes, None, 100, Some(200)).unwrap();
        assert_eq!(ApiKey::id_in(&text), Some(&key.id[..]));
        assert!(key.accepts(&text, 199));
        assert!(!key.accepts(&text, 200), "expired");
        assert!(!ApiKey { revoked: true, ..key.clone() }.accepts(&text, 150));
        let (other, other_text) =
            ApiKey::generate("phones".into(), key.scopes, None, 100, None).unwrap();
        assert!(!key.accepts(&other_text, 150));
        assert_ne!(key.id, other.id);
        for cut in [0, 3, 4, 16, text.len() - 1] {
            assert!(!key.accepts(&text[..cut], 150));
            assert_eq!(ApiKey::id_in(&text[..cut]), None);
        }
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        let all = Scopes::all();
        assert_eq!(all.to_string().parse(), Ok(all));
        assert_eq!("enroll  identify".parse::<Scopes>().unwrap().to_string(), "identify enroll");
        assert_eq!("identify metrics".parse::<Scopes>().unwrap().to_string(), "identify");
        assert_eq!("enrol".parse::<Scopes>(), Err(ScopeError("enrol".to_owned())));
    }
}
