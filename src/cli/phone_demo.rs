//! `bipedalnet demo --phone`

use std::fs;
use std::io::{IsTerminal, stdout};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use bipedalnet_core::identity::UserId;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::serve::Server;
use crate::access::{ApiKey, Scope, Scopes};
use crate::config::Config;
use crate::config::DatabaseAddress;
use crate::store::{Store, unix_seconds};

const USER: &str = "me";

/// Serves `/phone` in the local network until Ctrl-C, and prints its address.
pub async fn run() -> Result<(), Failure> {
    // Deleted when it goes out of scope.
    let folder = tempfile::tempdir()?;
    let mut config = Config::throwaway(&folder.path().join("demo.db"));
    let address = local_address();
    let (certificate, key) = certificate(folder.path(), address)?;
    config.connections.tls_certificate = Some(certificate);
    config.connections.tls_key = Some(key);
    config.connections.phone_page = true;
    config.service.device_template_days = 1;
    // Phones connect from the local network.
    config.listen = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let key = prepare(&config.database).await?;
    // From before the link is printed, so that Ctrl-C always deletes the folder.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(&config).await?;
    let origin = format!("https://{}", SocketAddr::new(address, server.address.port()));
    let link = format!("{origin}/phone#user={USER}&token={key}");
    let code = QrCode::with_error_correction_level(&link, EcLevel::L)?;
    // Black on white, as cameras expect, whatever the terminal's colors are.
    let (begin, end) = match stdout().is_terminal() {
        true => ("\x1b[30;107m", "\x1b[0m"),
        false => ("", ""),
    };
    for line in code.render::<Dense1x2>().build().lines() {
        println!("{begin}{line}{end}");
    }
    println!("\n{link}\n");
    println!(
        "Open this with a phone in the same network. Its browser warns of the certificate, because this \
         program made it for itself: continue all the same, since browsers give motion sensors to HTTPS \
         pages only.\n\
         The link holds the key of this server. Ctrl-C stops the server and deletes its walks."
    );
    server
        .run(async move {
            interrupt.recv().await;
        })
        .await;
    Ok(())
}

/// Makes the user, and an API key for the page. Returns the key.
async fn prepare(database: &DatabaseAddress) -> Result<String, Failure> {
    let store = Store::open(database, None).await?;
    let user: UserId = USER.parse()?;
    let mut transaction = store.begin().await?;
    transaction.put_user(&user, 1).await?;
    transaction.commit().await?;
    let scopes: Scopes =
        [Scope::Identify, Scope::Enroll, Scope::Extend, Scope::Template, Scope::Erase]
            .into_iter()
            .collect();
    let (key, text) = ApiKey::generate("phone".to_owned(), scopes, None, unix_seconds(), None)?;
    store.add_api_key(&key).await?;
    store.close().await;
    Ok(text)
}

/// The address that other machines of the local network reach, or that of this machine alone.
fn local_address() -> IpAddr {
    // Nothing is sent: the system only chooses a route. The address is for documentation (RFC 5737).
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    route().map_or(Ipv4Addr::LOCALHOST.into(), |address: SocketAddr| address.ip())
}

/// Writes a self-signed certificate and its key. Returns their files.
fn certificate(folder: &Path, address: IpAddr) -> Result<(PathBuf, PathBuf), Failure> {
    let names = [address.to_string(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let (certificate, key) = (folder.join("demo.crt"), folder.join("demo.key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((certificate, key))
}
