//! Which collections an API key may use.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bipedalnet_core::identity::{CollectionId, UserIdError};

/// The collections that a key is bound to: at least one. Written with spaces between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding(BTreeSet<CollectionId>);

/// A collection that the sender may not use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongCollection {
    /// The token is for a user of another collection.
    #[error("the token is for a user of another collection")]
    OfToken,
    /// The API key is bound to others.
    #[error("the API key is bound to other collections: {}", .0.listed())]
    OfKey(Binding),
}

impl Binding {
    /// `None` if there are no collections.
    pub fn new(collections: impl IntoIterator<Item = CollectionId>) -> Option<Self> {
        let collections: BTreeSet<CollectionId> = collections.into_iter().collect();
        (!collections.is_empty()).then_some(Self(collections))
    }

    /// Whether it has a collection.
    pub fn contains(&self, collection: &CollectionId) -> bool {
        self.0.contains(collection)
    }

    /// The collection, if there is exactly one.
    pub fn only(&self) -> Option<&CollectionId> {
        self.0.first().filter(|_| self.0.len() == 1)
    }

    /// The collections in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &CollectionId> {
        self.0.iter()
    }

    /// The collections for people, with commas between them.
    pub fn listed(&self) -> String {
        self.to_string().replace(' ', ", ")
    }
}

impl FromStr for Binding {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        let ids: Result<Vec<CollectionId>, _> = text.split(' ').map(str::parse).collect();
        Self::new(ids?).ok_or(UserIdError::Length(0))
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.0.iter().map(CollectionId::as_str).collect();
        f.write_str(&ids.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Principal;

    fn id(text: &str) -> CollectionId {
        text.parse().unwrap()
    }

    #[test]
    fn a_binding_is_read_as_it_is_written_and_never_empty() {
        let binding = Binding::new([id("shop"), id("lab"), id("shop")]).unwrap();
        assert_eq!((&*binding.to_string(), &*binding.listed()), ("lab shop", "lab, shop"));
        assert_eq!("lab shop".parse(), Ok(binding));
        assert_eq!(Binding::new([]), None);
        for bad in ["", " ", "shop ", "a/b"] {
            assert!(bad.parse::<Binding>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_is_about_a_collection_that_its_sender_may_use() {
        let anybody = Principal::anonymous();
        let of_key = |collections: &str| Principal {
            binding: Some(collections.parse().unwrap()),
            ..anybody.clone()
        };
        let token = Principal { user: Some(id("shop").user("ann").unwrap()), ..of_key("lab shop") };
        let default = CollectionId::default();
        for (sender, named, expected) in [
            (&anybody, None, Some("default")),
            (&anybody, Some("shop"), Some("shop")),
            (&of_key("shop"), None, Some("shop")),
            (&of_key("shop"), Some("shop"), Some("shop")),
            (&of_key("shop"), Some("default"), None),
            (&of_key("lab shop"), None, None),
            (&of_key("lab shop"), Some("lab"), Some("lab")),
            (&of_key("default shop"), None, Some("default")),
            (&token, None, Some("shop")),
            (&token, Some("shop"), Some("shop")),
            (&token, Some("lab"), None),
            (&token, Some("default"), None),
        ] {
            let found = sender.collection(named.map(id)).ok();
            assert_eq!(found, expected.map(id), "{sender:?} {named:?}");
        }
        let of_default = Principal { user: Some(default.user("ann").unwrap()), ..anybody };
        assert_eq!(of_default.collection(None), Ok(default));
    }
}
