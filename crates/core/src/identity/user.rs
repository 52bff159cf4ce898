//! Names of users.

use std::fmt;
use std::str::FromStr;

/// Longest user id, in bytes.
const MAX_LENGTH: usize = 64;

/// Name of a user, chosen by the caller: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, so that it stands in
/// a URL as it is. A pseudonym serves best: ids are stored in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

/// Why a text is not a user id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// Empty, or too long.
    #[error("the id has {0} bytes; 1 to {MAX_LENGTH} are allowed")]
    Length(usize),
    /// A character that would need escaping in a URL.
    #[error("the id holds {0:?}; letters A-Z a-z, digits and . _ ~ - are allowed")]
    Character(char),
    /// A path segment that clients and proxies resolve away.
    #[error("the id cannot be . or ..: URLs give them another meaning")]
    Dots,
}

impl UserId {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        if text.is_empty() || text.len() > MAX_LENGTH {
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
    fn ids_stand_in_urls_as_they_are() {
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
