//! `bipedalnet confirm-clock`

use super::Failure;
use super::server_database::ServerDatabase;
use crate::store::{DAY_SECONDS, Database, date_and_time};

/// Confirm that the clock is right after a leap
///
/// After a leap of more than a day, no data past its time is deleted. Without --date, this command prints
/// what the clock showed before and shows now. With today's date, it confirms the clock. A running server
/// notices that within a second, and deletes what is past its time.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
    /// Today's date (UTC), from another clock than this machine's
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Database::open(arguments.database.existing()?).await?;
        let result = confirm(&store, arguments.date.as_deref()).await;
        store.close().await;
        result
    })
}

async fn confirm(store: &Database, date: Option<&str>) -> Result<(), Failure> {
    let Some((from, to)) = store.clock_leap().await? else {
        println!("the clock has not leapt; there is nothing to confirm");
        return Ok(());
    };
    let (before, now) = (date_and_time(from), date_and_time(to));
    let days = (to - from) as f64 / DAY_SECONDS as f64;
    println!("before: {before}\nnow:    {now} ({days:+.1} days)");
    let (today, _) = now.split_once(' ').unwrap_or((&now, ""));
    match date {
        None => Err(format!(
            "the clock is not confirmed; if now is the right time, check it with another clock, and \
             repeat the command with --date {today}; otherwise set the clock"
        )
        .into()),
        Some(date) if date == today => {
            store.confirm_clock((from, to)).await?;
            println!("confirmed; data that is past its time by this clock will be deleted");
            Ok(())
        }
        Some(date) => Err(format!(
            "the clock is not confirmed: it shows {today}, not {date}; set the clock if it is wrong"
        )
        .into()),
    }
}
