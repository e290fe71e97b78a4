//! How urgent a response is to its client (RFC 9218), by the field `Priority` of the request and of the
//! response: pure.
//!
//! What is more urgent is sent first, as far as it is there; what is equally urgent takes turns, of which
//! those that can be used in part come after the others. Whoever asks decides about responses of its own
//! connection only. Not here: frames that change a priority later (PRIORITY_UPDATE), which are passed over.

/// What a response's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Priority {
    /// From 0, the most urgent, to 7 (section 4.1).
    urgency: u8,
    /// Parts of it are of use before the rest (section 4.2).
    is_incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            urgency: 3,
            is_incremental: false,
        }
    }
}

impl Priority {
    /// Takes what a field's value says; what it does not say, or not in a way that is understood, stays.
    pub(super) fn take(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',') {
            // Parameters mean nothing.
            let end = member.iter().position(|byte| *byte == b';');
            match member[..end.unwrap_or(member.len())].trim_ascii() {
                [b'u', b'=', urgency @ b'0'..=b'7'] => self.urgency = urgency - b'0',
                b"i" | b"i=?1" => self.is_incremental = true,
                b"i=?0" => self.is_incremental = false,
                _ => {}
            }
        }
    }

    /// The same as QUIC has it: what is higher goes first, and 0 is what nobody has said anything of.
    pub(super) fn level(self) -> i32 {
        2 * (3 - i32::from(self.urgency)) - i32::from(self.is_incremental)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_taken() {
        for (values, urgency, is_incremental) in [
            (&[][..], 3, false),
            (&["u=5, i"], 5, true),
            (&["i=?1,u=0"], 0, true),
            (&["u=7;x=1 , i;y"], 7, true),
            (&["u=1, i", "i=?0"], 1, false),
            (&["u=1, u=2"], 2, false),
            (&["u=8", "u=-1, u=10, u", "i=1, I, x, =, ;,"], 3, false),
        ] {
            let mut priority = Priority::default();
            for value in values {
                priority.take(value.as_bytes());
            }
            let expected = Priority {
                urgency,
                is_incremental,
            };
            assert_eq!(priority, expected, "{values:?}");
        }
    }

    #[test]
    fn the_more_urgent_goes_first() {
        let level = |value: &str| {
            let mut priority = Priority::default();
            priority.take(value.as_bytes());
            priority.level()
        };
        assert_eq!(level(""), 0);
        let order = [
            "u=0", "u=0, i", "u=2, i", "u=3", "i", "u=4", "u=7", "u=7, i",
        ];
        let levels = order.map(level);
        assert!(levels.is_sorted_by(|one, next| one > next), "{levels:?}");
    }
}
