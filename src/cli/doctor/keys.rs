use super::report::Report;
use crate::access::{ApiKey, Scope};
use crate::config::Config;
use crate::store::{DAY_SECONDS, unix_seconds};

const AREA: &str = "API keys";

const SOON_DAYS: i64 = 14;

/// A key without a use for so long is forgotten.
const UNUSED_DAYS: i64 = 90;

/// Names of keys that are on phones.
const PHONES: [&str; 6] = ["phone", "mobile", "app", "android", "ios", "iphone"];

pub fn check(report: &mut Report, config: &Config, keys: &[ApiKey]) {
    let now = unix_seconds();
    if keys.is_empty() {
        let finding = "there is none, so everybody who reaches the server may do everything";
        let cure = "create one with `bipedalnet keys create`";
        let is_safe = config.listen.ip().is_loopback();
        return match is_safe || config.allow_anonymous {
            true => report.warning(AREA, finding, cure),
            false => report.problem(AREA, "there is none, so the server does not start", cure),
        };
    }
    let live: Vec<_> = keys.iter().filter(|key| key.is_live(now)).collect();
    if live.is_empty() {
        report.problem(
            AREA,
            "all are revoked or expired, so every request is refused",
            "create one with `bipedalnet keys create`",
        );
    }
    for key in &live {
        check_dates(report, key, now);
        check_scopes(report, key);
    }
    if report.is_clean(AREA) {
        report.ok(AREA, format!("{} valid of {}", live.len(), keys.len()));
    }
}

fn named(key: &ApiKey) -> String {
    format!("{} ({})", key.id, key.name)
}

fn check_dates(report: &mut Report, key: &ApiKey, now: i64) {
    let name = named(key);
    if let Some(days) = key.expires_at_unix_seconds.map(|end| (end - now) / DAY_SECONDS)
        && days < SOON_DAYS
    {
        report.warning(AREA, format!("{name} expires in {days} days"), "give its client a new one");
    }
    let last = key.last_used_at_unix_seconds.unwrap_or(key.created_at_unix_seconds);
    let unused_days = (now - last) / DAY_SECONDS;
    if unused_days >= UNUSED_DAYS {
        report.warning(
            AREA,
            format!("{name} was not used for {unused_days} days"),
            format!("run `bipedalnet keys revoke {}`", key.id),
        );
    }
}

fn check_scopes(report: &mut Report, key: &ApiKey) {
    let name = named(key);
    let has = |scope| key.scopes.contains(scope);
    if Scope::ALL.into_iter().all(has) {
        report.warning(
            AREA,
            format!("{name} has every scope"),
            "give each program a key with the scopes that it needs",
        );
        return;
    }
    if has(Scope::Features) && has(Scope::Scores) {
        report.warning(
            AREA,
            format!("{name} has features and scores, which lead made-up features to a template"),
            "make two keys of it",
        );
    }
    let key_name = key.name.to_lowercase();
    let is_on_phones = key_name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .any(|word| PHONES.contains(&word.trim_end_matches('s')) || PHONES.contains(&word));
    let wide =
        [Scope::Admin, Scope::Erase, Scope::Extend, Scope::Train, Scope::Features, Scope::Scores];
    let wide: Vec<_> = wide.into_iter().filter(|scope| has(*scope)).map(Scope::name).collect();
    if is_on_phones && !wide.is_empty() {
        report.warning(
            AREA,
            format!("{name} seems to be on phones, and has {}", wide.join(", ")),
            "give phones user tokens, or keys with identify and enroll at most",
        );
    } else if has(Scope::Admin) && has(Scope::Identify) {
        report.warning(
            AREA,
            format!("{name} has admin beside identify"),
            "keep admin in a key of its own, which daily work does not use",
        );
    }
}
