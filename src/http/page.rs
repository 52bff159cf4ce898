//! Lists that are read page by page.

use super::problem::{Problem, ProblemType};

/// The number of entries of a page: at most `most`, which is the default.
pub(super) fn limit(asked: Option<u32>, most: u32) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(most);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit is {limit}; expected 1 to {most}");
    Err(Problem::new(ProblemType::InvalidQuery, detail).at("limit"))
}
