//! User ids.

use std::fmt;
use std::str::FromStr;

const MAX_BYTES: usize = 64;

/// The id of a user: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`, which need no escaping in a URL.
///
/// The caller chooses the id. Prefer a pseudonym: ids are stored in plain text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

/// Why a text is not a user id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// The id is empty or too long.
    #[error("the id has {0} bytes; 1 to {MAX_BYTES} are allowed")]
    Length(usize),
    /// A character would need escaping in a URL.
    #[error("the id contains {0:?}; use only A-Z, a-z, 0-9 and . _ ~ -")]
    Character(char),
    /// Clients and proxies remove `.` and `..` from a path.
    #[error("the id cannot be . or .., which have another meaning in a URL")]
    Dots,
}

impl UserId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        if text.is_empty() || text.len() > MAX_BYTES {
            Err(UserIdError::Length(text.len()))
        } else if let Some(character) = text.chars().find(|&c| !allowed(c)) {
            Err(UserIdError::Character(character))
        } else if text == "." || text == ".." {
            Err(UserIdError::Dots)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_need_no_escaping_in_urls() {
        for good in ["a", "Ann-1_2.3~4", &"x".repeat(64)] {
            assert_eq!(good.parse::<UserId>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<UserId>(), Err(UserIdError::Length(0)));
        assert_eq!("x".repeat(65).parse::<UserId>(), Err(UserIdError::Length(65)));
        assert_eq!("..".parse::<UserId>(), Err(UserIdError::Dots));
        for bad in ['/', ' ', 'é', '%', '\0', '?'] {
            assert_eq!(format!("a{bad}").parse::<UserId>(), Err(UserIdError::Character(bad)));
        }
    }
}
