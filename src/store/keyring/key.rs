//! One key: what is done with it.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Key, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::super::StoreError;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// By how much a sealed text is longer than the text.
pub(in crate::store) const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// A 256-bit key. Wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn random() -> Result<Self, StoreError> {
        let mut key = Self(Zeroizing::default());
        getrandom::fill(&mut key.0[..])?;
        Ok(key)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA256 of a text.
    pub fn digest(&self, text: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0[..]).expect("keys of any length do");
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    /// Encrypts a text with XChaCha20-Poly1305: nonce, ciphertext, tag. It can be opened only with the
    /// same `context`, which is not part of the result.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(in crate::store) fn seal(
        &self,
        context: &[u8],
        text: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(text.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let tag = self
            .cipher()
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                context,
                (&mut sealed[NONCE_BYTES..]).into(),
            )
            .expect("the text is shorter than 256 GiB");
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Decrypts what [`SecretKey::seal`] made. `None` if key or context differ, or a bit changed.
    pub(in crate::store) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (text, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut text = text.to_vec();
        self.cipher()
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                context,
                text.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        Some(text)
    }

    /// Wipes its own copy of the key when dropped.
    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(<&Key>::from(&*self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_as_it_was_sealed() {
        let key = SecretKey::random().unwrap();
        let sealed = key.seal(b"context", b"text").unwrap();
        assert_eq!(sealed.len(), 4 + OVERHEAD_BYTES);
        assert_eq!(key.open(b"context", &sealed).unwrap(), b"text");
        assert_eq!(key.open(b"contexu", &sealed), None);
        assert_eq!(SecretKey::random().unwrap().open(b"context", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(b"context", &flipped), None, "{bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(b"context", &sealed[..length]), None, "{length}");
        }
        assert_ne!(key.seal(b"context", b"text").unwrap(), sealed);
    }

    /// RFC 4231, test case 2, with the key filled up with zeros as HMAC does.
    #[test]
    fn a_digest_is_hmac_sha256() {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(b"Jefe");
        let digest = SecretKey::new(bytes).digest(b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(const_hex::encode(digest), expected);
    }
}
