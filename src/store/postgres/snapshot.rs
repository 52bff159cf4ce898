//! What a reader of PostgreSQL has seen: its snapshot. Transactions commit in another order than that of
//! their numbers, so no single number tells what was seen.
//!
//! A snapshot is `xmin:xmax:xip`: all transactions before `xmin` have ended, none from `xmax` on has begun to
//! commit, and of those between, `xip` are open (PostgreSQL, "pg_snapshot Components").

use std::fmt;
use std::str::FromStr;

/// A snapshot of one timeline. A standby that is promoted begins another timeline, and may lack the last
/// transactions of the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    timeline: i64,
    /// As PostgreSQL writes it.
    text: String,
    xmin: u64,
    xmax: u64,
    open: Vec<u64>,
}

/// Names a committed transaction, for clients: `TIMELINE-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeToken {
    timeline: i64,
    transaction: u64,
}

/// A text that is no token of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not one that an answer had")]
pub struct TokenError;

impl Snapshot {
    /// `None` if the text is no snapshot.
    pub(super) fn parse(timeline: i64, text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let open = parts.next()?.split(',').filter(|number| !number.is_empty());
        let open = open.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { timeline, text: text.to_owned(), xmin, xmax, open })
    }

    pub(super) fn timeline(&self) -> i64 {
        self.timeline
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a transaction that was committed is in the snapshot. One of an earlier timeline is, as far as
    /// the new one has it at all.
    pub fn has(&self, change: ChangeToken) -> bool {
        let ChangeToken { timeline, transaction } = change;
        timeline < self.timeline
            || timeline == self.timeline
                && (transaction < self.xmin
                    || transaction < self.xmax && !self.open.contains(&transaction))
    }
}

impl ChangeToken {
    pub(super) fn new(timeline: i64, transaction: u64) -> Self {
        Self { timeline, transaction }
    }
}

impl fmt::Display for ChangeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.timeline, self.transaction)
    }
}

impl FromStr for ChangeToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (timeline, transaction) = text.split_once('-').ok_or(TokenError)?;
        let number = |text: &str| text.parse().map_err(|_| TokenError);
        Ok(Self {
            timeline: timeline.parse().map_err(|_| TokenError)?,
            transaction: number(transaction)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_what_was_committed_before_it() {
        let snapshot = Snapshot::parse(2, "10:20:10,14,15").unwrap();
        let has = |transaction| snapshot.has(ChangeToken { timeline: 2, transaction });
        let seen: Vec<u64> = (8..22).filter(|number| has(*number)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert!(snapshot.has(ChangeToken { timeline: 1, transaction: 99 }));
        assert!(!snapshot.has(ChangeToken { timeline: 3, transaction: 1 }));
        assert!(Snapshot::parse(1, "10:10:").unwrap().open.is_empty());
        for wrong in ["", "10", "10:20", "10:20:x", "a:20:"] {
            assert_eq!(Snapshot::parse(1, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_survives_its_way_to_a_client() {
        let token = ChangeToken { timeline: 3, transaction: u64::MAX };
        assert_eq!(token.to_string().parse(), Ok(token));
        for wrong in ["", "1", "1-", "-1", "1-2-3", "x-1"] {
            assert_eq!(wrong.parse::<ChangeToken>(), Err(TokenError), "{wrong}");
        }
    }
}
