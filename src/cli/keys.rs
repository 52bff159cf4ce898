//! `bipedalnet keys`

use bipedalnet_core::identity::CollectionId;
use clap::Subcommand;

use super::Failure;
use super::server_database::ServerDatabase;
use crate::access::{ApiKey, Binding, Scope};
use crate::store::{Database, unix_seconds};

/// Create, list and revoke API keys
///
/// A running server picks up changes within a second. As soon as there is a key, every request needs
/// one.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Create a key and print it once; only its digest is stored
    Create {
        /// Person or program that uses the key
        #[arg(long)]
        name: String,
        /// Scopes of the key: identify, enroll, extend, features, template, train, erase, admin, scores
        #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE,...")]
        scopes: Vec<Scope>,
        /// Collections that the key is for; it may do nothing in others, and nothing that concerns all
        /// [default: all]
        #[arg(long, value_delimiter = ',', value_name = "ID,...")]
        collections: Vec<CollectionId>,
        /// Days until the key expires [default: never]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=36_500))]
        expires_days: Option<i64>,
    },
    /// List all keys, including revoked ones
    List,
    /// Revoke a key permanently
    Revoke {
        /// Id of the key, as shown by `list`
        id: String,
    },
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let Arguments { database, action } = arguments;
        let is_missing = database.address.file().is_some_and(|path| !path.exists());
        if matches!(action, Action::Create { .. }) && is_missing {
            eprintln!("created {}; start the server with it", database.address);
        } else {
            database.existing()?;
        }
        let store = Database::open(&database.address).await?;
        let result = act(&store, action).await;
        store.close().await;
        result
    })
}

async fn act(store: &Database, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { name, scopes, collections, expires_days } => {
            let now = unix_seconds();
            let expires = expires_days.map(|days| now + days * 24 * 60 * 60);
            let (key, text) = ApiKey::generate(
                name,
                scopes.into_iter().collect(),
                Binding::new(collections),
                now,
                expires,
            )?;
            store.add_api_key(&key).await?;
            let known = store.collection_ids().await?;
            let named = key.binding.iter().flat_map(Binding::iter);
            for id in named.filter(|id| !known.contains(id)) {
                eprintln!(
                    "warning: there is no collection {id} yet; an admin creates it with \
                     PUT /v1/collections/{id}"
                );
            }
            println!("{text}");
        }
        Action::List => {
            println!(
                "{:<12}  {:<8}  {:<10}  {:<32}  {:<11}  name",
                "id", "state", "last used", "scopes", "collections"
            );
            let now = unix_seconds();
            for key in store.api_keys().await? {
                let expired = key.expires_at_unix_seconds.is_some_and(|end| end <= now);
                let state = match (key.revoked, expired) {
                    (true, _) => "revoked",
                    (false, true) => "expired",
                    (false, false) => "valid",
                };
                let used = key.last_used_at_unix_seconds.map_or("never".to_owned(), |used| {
                    format!("{} d ago", (now - used) / (24 * 60 * 60))
                });
                let scopes = key.scopes.to_string();
                let collections = key.binding.map_or("all".to_owned(), |it| it.to_string());
                println!(
                    "{:<12}  {state:<8}  {used:<10}  {scopes:<32}  {collections:<11}  {}",
                    key.id, key.name
                );
            }
        }
        Action::Revoke { id } => {
            store.revoke_api_key(&id).await?;
            println!("revoked key {id}");
        }
    }
    Ok(())
}
