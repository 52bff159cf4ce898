//! Ids of users and of the collections that they belong to.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

const MAX_BYTES: usize = 64;

/// The collection of users for whom none is named.
const DEFAULT: &str = "default";

/// Stands between a collection and a user's name in [`UserId::as_str`]. Neither may contain it.
const SEPARATOR: char = '/';

/// A user: a name of 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`, which need no escaping in a URL, and a
/// collection. Two users of the same name in different collections are two people.
///
/// The caller chooses the name. Prefer a pseudonym: names are stored in plain text.
///
/// [`CollectionId::user`] reads what a client sends, [`UserId::from_stored`] what a database holds.
/// [`FromStr`] reads the name of a user of the default collection. [`Display`](fmt::Display) shows the
/// name alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

/// The id of a collection, in the characters of a user's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionId(String);

/// Why a text is not the id of a user or a collection.
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
    /// The text that no other user has: the name, after the collection and a `/` if that is not the default
    /// one. Clients must not see it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a text of [`UserId::as_str`].
    ///
    /// # Errors
    /// If it is no such text.
    pub fn from_stored(text: &str) -> Result<Self, UserIdError> {
        match text.split_once(SEPARATOR) {
            None => text.parse(),
            Some((DEFAULT, _)) => Err(UserIdError::Character(SEPARATOR)),
            Some((collection, name)) => collection.parse::<CollectionId>()?.user(name),
        }
    }

    /// The name, which is unique within the collection.
    pub fn name(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or(&self.0, |(_, name)| name)
    }

    /// The collection that the user belongs to.
    pub fn collection(&self) -> CollectionId {
        let collection = self.0.split_once(SEPARATOR).map_or(DEFAULT, |(collection, _)| collection);
        CollectionId(collection.to_owned())
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(name: &str) -> Result<Self, UserIdError> {
        check(name)?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl CollectionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the collection of users for whom none is named.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The user of this collection with a name.
    ///
    /// # Errors
    /// If the text is not a name.
    pub fn user(&self, name: &str) -> Result<UserId, UserIdError> {
        check(name)?;
        Ok(UserId(if self.is_default() {
            name.to_owned()
        } else {
            format!("{}{SEPARATOR}{name}", self.0)
        }))
    }
}

impl Default for CollectionId {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl FromStr for CollectionId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CollectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for CollectionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check(text: &str) -> Result<(), UserIdError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    if text.is_empty() || text.len() > MAX_BYTES {
        Err(UserIdError::Length(text.len()))
    } else if let Some(character) = text.chars().find(|&c| !allowed(c)) {
        Err(UserIdError::Character(character))
    } else if text == "." || text == ".." {
        Err(UserIdError::Dots)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_need_no_escaping_in_urls() {
        for good in ["a", "Ann-1_2.3~4", &"x".repeat(64)] {
            assert_eq!(good.parse::<UserId>().unwrap().as_str(), good);
            assert_eq!(good.parse::<CollectionId>().unwrap().as_str(), good);
        }
        let refused = |text: &str, error: UserIdError| {
            assert_eq!(text.parse::<UserId>(), Err(error.clone()));
            assert_eq!(text.parse::<CollectionId>(), Err(error.clone()));
            assert_eq!(CollectionId("shop".to_owned()).user(text), Err(error));
        };
        refused("", UserIdError::Length(0));
        refused(&"x".repeat(65), UserIdError::Length(65));
        refused("..", UserIdError::Dots);
        for bad in ['/', ' ', 'é', '%', '\0', '?'] {
            refused(&format!("a{bad}"), UserIdError::Character(bad));
        }
    }

    #[test]
    fn the_stored_text_has_one_form() {
        for bad in ["default/ann", "/ann", "shop/", "shop/../ann", "a/b/c", "shop/.", ""] {
            assert!(UserId::from_stored(bad).is_err(), "{bad}");
        }
        let shop: CollectionId = "shop".parse().unwrap();
        assert_eq!(shop.user("ann").unwrap().as_str(), "shop/ann");
        assert_eq!(CollectionId::default().user("ann").unwrap().as_str(), "ann");
    }

    const ID: &str = "[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}";

    proptest! {
        #[test]
        fn a_user_is_read_as_written_and_shows_only_the_name(collection in ID, name in ID) {
            let collection: CollectionId = collection.parse().unwrap();
            let user = collection.user(&name).unwrap();
            prop_assert_eq!(UserId::from_stored(user.as_str()).unwrap(), user.clone());
            prop_assert_eq!(user.collection(), collection.clone());
            prop_assert_eq!(user.name(), &name);
            prop_assert_eq!(user.to_string(), name.clone());
            let same = user == name.parse().unwrap();
            prop_assert_eq!(same, collection.is_default());
        }

        #[test]
        fn two_users_never_have_one_text(a in ID, b in ID, c in ID, d in ID) {
            let user = |collection: &str, name: &str| {
                collection.parse::<CollectionId>().unwrap().user(name).unwrap()
            };
            let same = user(&a, &b).as_str() == user(&c, &d).as_str();
            prop_assert_eq!(same, (a, b) == (c, d));
        }

        #[test]
        fn no_name_of_a_client_reaches_another_collection(text in "(?s).{0,80}") {
            for collection in ["default", "shop"] {
                let collection: CollectionId = collection.parse().unwrap();
                if let Ok(user) = collection.user(&text) {
                    prop_assert_eq!(user.collection(), collection);
                }
            }
        }

        #[test]
        fn what_is_read_from_a_database_is_written_the_same(text in "[a-z./~]{0,12}|default/[a-z]") {
            if let Ok(user) = UserId::from_stored(&text) {
                prop_assert_eq!(user.as_str(), text);
            }
        }
    }
}
