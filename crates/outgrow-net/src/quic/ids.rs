//! Connection ids: one block of AES, in which lies whose connection it is. Without the key an id is as
//! good as random, two ids of one connection have nothing in common, and one that is made up leads
//! nowhere, but for one in four thousand million.
//!
//! `generation (4) | worker (1) | zeros (4) | random (7)`, encrypted.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::cipher::{
    AES_128, AES_128_KEY_LEN, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

/// The length of our ids.
pub(super) const LENGTH: usize = 16;
/// What is the same in all of them.
const MARK: [u8; 4] = [0; 4];

/// Who has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The data process, as the keeper counts them.
    pub generation: u32,
    /// Its worker.
    pub worker: u8,
}

/// Makes and reads connection ids.
pub struct Ids {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ids(..)")
    }
}

impl Ids {
    /// With a key that all processes share; none where the library refuses it.
    pub fn new(key: &[u8; AES_128_KEY_LEN]) -> Option<Arc<Self>> {
        let key = || UnboundCipherKey::new(&AES_128, key);
        Some(Arc::new(Self {
            encrypting: EncryptingKey::ecb(key().ok()?).ok()?,
            decrypting: DecryptingKey::ecb(key().ok()?).ok()?,
        }))
    }

    /// An id for `origin`.
    pub fn make(&self, origin: Origin, random: [u8; 7]) -> [u8; LENGTH] {
        let mut id = [0; LENGTH];
        id[..4].copy_from_slice(&origin.generation.to_be_bytes());
        id[4] = origin.worker;
        id[5..9].copy_from_slice(&MARK);
        id[9..].copy_from_slice(&random);
        // One block is what the mode takes: it cannot fail.
        let _ = self.encrypting.encrypt(&mut id);
        id
    }

    /// Whose an id is; none when it is not one of ours.
    pub fn read(&self, id: &[u8]) -> Option<Origin> {
        let mut block: [u8; LENGTH] = id.try_into().ok()?;
        self.decrypting
            .decrypt(&mut block, DecryptionContext::None)
            .ok()?;
        let (generation, rest) = block.split_first_chunk::<4>()?;
        (rest[1..5] == MARK).then(|| Origin {
            generation: u32::from_be_bytes(*generation),
            worker: rest[0],
        })
    }
}

/// Gives the connections of a worker their ids.
pub(super) struct Generator {
    pub(super) ids: Arc<Ids>,
    pub(super) origin: Origin,
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut random = [0; 7];
        // Without random bytes ids would repeat, which the endpoint notices.
        let _ = aws_lc_rs::rand::fill(&mut random);
        ConnectionId::new(&self.ids.make(self.origin, random))
    }

    /// Of whichever process and worker: of one that is gone its client is to hear that it is.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.ids.read(id).map(|_| ()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(key: u8) -> Arc<Ids> {
        Ids::new(&[key; 16]).expect("a key")
    }

    #[test]
    fn an_id_says_whose_it_is() {
        let ids = ids(7);
        for (generation, worker) in [(0, 0), (1, 255), (u32::MAX, 3)] {
            let origin = Origin { generation, worker };
            assert_eq!(ids.read(&ids.make(origin, [9; 7])), Some(origin));
        }
    }

    #[test]
    fn nothing_but_an_id_of_ours_is_read() {
        let (ids, other) = (ids(7), ids(8));
        let origin = Origin {
            generation: 5,
            worker: 1,
        };
        let id = ids.make(origin, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(other.read(&id), None);
        assert_eq!(ids.read(&id[..15]), None);
        assert_eq!(ids.read(&[0; 20]), None);
        for at in 0..id.len() * 8 {
            let mut forged = id;
            forged[at / 8] ^= 1 << (at % 8);
            assert_eq!(ids.read(&forged), None, "bit {at}");
        }
    }

    #[test]
    fn ids_of_one_connection_have_nothing_in_common() {
        let ids = ids(7);
        let origin = Origin {
            generation: 5,
            worker: 1,
        };
        let mut generator = Generator { ids, origin };
        let (one, other) = (generator.generate_cid(), generator.generate_cid());
        assert!(
            one.iter()
                .zip(other.iter())
                .filter(|(one, other)| one == other)
                .count()
                < 8
        );
        assert!(generator.validate(&one).is_ok());
        assert!(generator.validate(&ConnectionId::new(&[1; 16])).is_err());
    }
}
