//! The master key, which encrypts the keyring. It is a file, a credential of systemd or a variable.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::{StoreError, beside};
use super::SecretKey;

/// Holds the master key as 64 hexadecimal digits.
pub const MASTER_KEY_VARIABLE: &str = "BIPEDALNET_MASTER_KEY";

/// The name of systemd's credential.
const CREDENTIAL: &str = "master-key";

/// 64 digits and white space.
const MAX_FILE_BYTES: u64 = 128;

/// A master key, and where it came from.
pub struct MasterKey {
    pub key: SecretKey,
    pub place: String,
}

/// Where the master key of a database is looked for: in `file`, the setting; without it, in the
/// credential of systemd, the variable, and the file beside the database, in this order.
#[derive(Clone, Copy)]
pub struct MasterKeyPlace<'a> {
    pub file: Option<&'a Path>,
    pub database: &'a Path,
}

/// Where the master key is.
enum Source {
    File(PathBuf),
    Variable(OsString),
    /// The file that the program makes by itself.
    BesideDatabase(PathBuf),
}

impl MasterKey {
    /// Reads the master key of a database.
    ///
    /// # Errors
    /// If there is none, or it cannot be read, is malformed, or everybody can read it.
    pub fn find(place: MasterKeyPlace<'_>) -> Result<Self, StoreError> {
        let beside = || own_key_file(place.database);
        Self::at(source_of(place.file).unwrap_or_else(|| Source::BesideDatabase(beside())))
    }

    /// Reads the master key of a PostgreSQL database, which is not made by itself: all its servers need the
    /// same.
    ///
    /// # Errors
    /// As [`MasterKey::find`].
    pub fn find_shared(file: Option<&Path>) -> Result<Self, StoreError> {
        let reason = "it is not set; all servers of a PostgreSQL database need the same master key: set it, or \
                      pass --master-key-file";
        Self::at(source_of(file).ok_or_else(|| wrong(MASTER_KEY_VARIABLE, reason))?)
    }

    fn at(source: Source) -> Result<Self, StoreError> {
        match source {
            Source::File(path) | Source::BesideDatabase(path) => Self::read(&path),
            Source::Variable(value) => {
                let value = Zeroizing::new(value.into_encoded_bytes());
                let key = parse(&value)
                    .ok_or_else(|| wrong(MASTER_KEY_VARIABLE, "it is not 64 hexadecimal digits"))?;
                Ok(Self { key, place: MASTER_KEY_VARIABLE.to_owned() })
            }
        }
    }

    /// As [`MasterKey::find`], for a database that has no keyring yet: the file beside the database is
    /// made if it is missing.
    ///
    /// # Errors
    /// As [`MasterKey::find`], or if the file cannot be written.
    pub fn find_or_make(place: MasterKeyPlace<'_>) -> Result<Self, StoreError> {
        let path = own_key_file(place.database);
        if source_of(place.file).is_none() && !path.exists() {
            let made = Self::make(&path)?;
            tracing::warn!(
                file = %path.display(),
                "made a master key; without it, the database and its backups cannot be read: keep a \
                 copy in another place than the backups"
            );
            return Ok(made);
        }
        Self::find(place)
    }

    /// The new key of a rotation that ended before the file beside the database was replaced, if `old`
    /// is from that file.
    ///
    /// # Errors
    /// As [`MasterKey::read`].
    pub fn unfinished(old: &Self, database: &Path) -> Result<Option<Self>, StoreError> {
        let next = own_next_key_file(database);
        let is_own = old.place == own_key_file(database).display().to_string();
        if is_own && next.exists() { Self::read(&next).map(Some) } else { Ok(None) }
    }

    /// Reads a key file: 32 bytes, or 64 hexadecimal digits.
    ///
    /// # Errors
    /// As [`MasterKey::find`].
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let failed = |error: io::Error| wrong(&place, &error.to_string());
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(wrong(&place, "it is not a file of 32 bytes or 64 hexadecimal digits"));
        }
        if metadata.permissions().mode() & 0o007 != 0 {
            return Err(wrong(&place, "everybody on this machine can use it; run chmod 600 on it"));
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
        let key = parse(&bytes)
            .ok_or_else(|| wrong(&place, "it is neither 32 bytes nor 64 hexadecimal digits"))?;
        Ok(Self { key, place })
    }

    /// Writes a new random key to a new file. Once this returns, it survives a power loss.
    ///
    /// # Errors
    /// If the file exists or cannot be written, or the system gives no random bytes.
    pub fn make(path: &Path) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let key = SecretKey::random()?;
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            let mut text = Zeroizing::new(const_hex::encode(key.bytes()));
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::File::open(super::super::folder_of(path))?.sync_all()
        };
        write().map_err(|error| wrong(&place, &error.to_string()))?;
        Ok(Self { key, place })
    }
}

/// The key file that the program makes if there is no other key.
pub fn own_key_file(database: &Path) -> PathBuf {
    beside(database, "-master-key")
}

/// What that file will be replaced with in a rotation.
pub fn own_next_key_file(database: &Path) -> PathBuf {
    beside(database, "-master-key.new")
}

/// Replaces the file beside the database with the new one.
pub(super) fn finish(database: &Path) -> Result<(), StoreError> {
    let own = own_key_file(database);
    fs::rename(own_next_key_file(database), &own)
        .and_then(|()| fs::File::open(super::super::folder_of(&own))?.sync_all())
        .map_err(|error| wrong(&own.display().to_string(), &error.to_string()))
}

/// Where the master key is, unless it is beside the database.
fn source_of(file: Option<&Path>) -> Option<Source> {
    let credential = || {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        Some(Path::new(&folder).join(CREDENTIAL)).filter(|path| path.exists())
    };
    match file.map(Path::to_owned).or_else(credential) {
        Some(path) => Some(Source::File(path)),
        None => std::env::var_os(MASTER_KEY_VARIABLE).map(Source::Variable),
    }
}

fn parse(bytes: &[u8]) -> Option<SecretKey> {
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        return Some(SecretKey::new(key));
    }
    let mut key = Zeroizing::new([0; 32]);
    const_hex::decode_to_slice(bytes.trim_ascii(), &mut key[..]).ok()?;
    Some(SecretKey::new(*key))
}

fn wrong(place: &str, reason: &str) -> StoreError {
    StoreError::MasterKey { place: place.to_owned(), reason: reason.to_owned() }
}
