use std::fmt;

use serde::Serialize;

use super::super::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Problem,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    area: &'static str,
    finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        write!(f, "{level:<8} {:<12} {}", self.area, self.finding)?;
        match &self.cure {
            Some(cure) => write!(f, ": {cure}"),
            None => Ok(()),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub fn ok(&mut self, area: &'static str, finding: impl Into<String>) {
        self.findings.push(Finding { level: Level::Ok, area, finding: finding.into(), cure: None });
    }

    /// Something that works now, and should be changed.
    pub fn warning(
        &mut self,
        area: &'static str,
        finding: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.add(Level::Warning, area, finding.into(), cure.into());
    }

    /// Something that does not work, or loses or gives away data.
    pub fn problem(
        &mut self,
        area: &'static str,
        finding: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.add(Level::Problem, area, finding.into(), cure.into());
    }

    fn add(&mut self, level: Level, area: &'static str, finding: String, cure: String) {
        self.findings.push(Finding { level, area, finding, cure: Some(cure) });
    }

    pub fn has_problem(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Problem)
    }

    /// Whether nothing in this area is to be mended.
    pub fn is_clean(&self, area: &str) -> bool {
        self.findings.iter().all(|finding| finding.area != area || finding.level == Level::Ok)
    }

    pub fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.findings)?);
            return Ok(());
        }
        for finding in &self.findings {
            println!("{finding}");
        }
        Ok(())
    }
}
