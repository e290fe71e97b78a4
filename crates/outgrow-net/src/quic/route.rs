//! Where a datagram belongs, by what may be read of it without its keys (RFC 8999): pure.

use super::ids::{Ids, LENGTH, Origin};

/// The id that a datagram's first packet is addressed to, if there is one of the length of ours.
pub(super) fn addressed_to(datagram: &[u8]) -> Option<&[u8; LENGTH]> {
    let first = *datagram.first()?;
    let id = if first & 0x80 == 0 {
        // A short header: the id follows at once, of the length that we have given.
        datagram.get(1..)?
    } else {
        // A long one: a version, the id's length, the id.
        let length = usize::from(*datagram.get(5)?);
        if length != LENGTH {
            return None;
        }
        datagram.get(6..)?
    };
    id.first_chunk()
}

/// Who is to have a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The worker that has received it: it is its connection, or a new one.
    Own,
    /// Another worker of this process.
    Worker(u8),
    /// Another process.
    Process(Origin),
}

/// Who is to have datagrams, as `own` sees it.
#[derive(Debug)]
pub(super) struct Router<'a> {
    ids: &'a Ids,
    own: Origin,
    /// The last one: those that come together are mostly of one connection.
    last: Option<([u8; LENGTH], Whose)>,
}

impl<'a> Router<'a> {
    pub(super) fn new(ids: &'a Ids, own: Origin) -> Self {
        Self {
            ids,
            own,
            last: None,
        }
    }

    pub(super) fn whose(&mut self, datagram: &[u8]) -> Whose {
        let Some(id) = addressed_to(datagram) else {
            return Whose::Own;
        };
        if let Some((last, whose)) = &self.last
            && last == id
        {
            return *whose;
        }
        let whose = match self.ids.read(id) {
            // Chosen by the client, for its first packets.
            None => Whose::Own,
            Some(origin) if origin == self.own => Whose::Own,
            Some(origin) if origin.generation == self.own.generation => {
                Whose::Worker(origin.worker)
            }
            Some(origin) => Whose::Process(origin),
        };
        self.last = Some((*id, whose));
        whose
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(id: &[u8]) -> Vec<u8> {
        [&[0x41], id, &[0; 30]].concat()
    }

    fn long(id: &[u8]) -> Vec<u8> {
        [&[0xc3, 0, 0, 0, 1, id.len() as u8], id, &[0; 30]].concat()
    }

    #[test]
    fn a_datagram_belongs_to_who_gave_its_id() {
        let ids = Ids::new(&[1; 16]).expect("a key");
        let origin = |generation, worker| Origin { generation, worker };
        let own = origin(4, 2);
        let mut router = Router::new(&ids, own);
        for (of, expected) in [
            (own, Whose::Own),
            (origin(4, 0), Whose::Worker(0)),
            (origin(3, 2), Whose::Process(origin(3, 2))),
            (origin(5, 0), Whose::Process(origin(5, 0))),
        ] {
            let id = ids.make(of, [5; 7]);
            for _ in 0..2 {
                assert_eq!(router.whose(&short(&id)), expected);
                assert_eq!(router.whose(&long(&id)), expected);
            }
        }
    }

    #[test]
    fn what_is_nobodys_stays() {
        let ids = Ids::new(&[1; 16]).expect("a key");
        let own = Origin {
            generation: 4,
            worker: 2,
        };
        let other = Origin {
            generation: 4,
            worker: 3,
        };
        let id = ids.make(other, [5; 7]);
        let mut router = Router::new(&ids, own);
        let cut = &long(&id)[..21];
        for datagram in [
            &b""[..],
            &[0x41],
            &[0xc0, 0, 0, 0, 1],
            &short(&[7; 16]),
            &long(&[7; 16]),
            // Of another length, although it begins as one of ours.
            &long(&[&id[..], &[0]].concat()),
            &long(&id[..8]),
            cut,
            &short(&id)[..16],
        ] {
            assert_eq!(router.whose(datagram), Whose::Own, "{datagram:x?}");
        }
    }
}
