//! Field lines as spans of one byte buffer, with removals marked and additions appended.

use crate::claims;
use crate::names::Known;

/// A part of a head's byte buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The span from `start` up to, not including, `end`.
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            len: end.saturating_sub(start) as u32,
        }
    }

    /// The bytes it stands for in `bytes`.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..(self.start + self.len) as usize]
    }

    /// Where it ends.
    #[inline]
    pub fn end(self) -> usize {
        (self.start + self.len) as usize
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, in the case it came in.
    pub name: Span,
    /// The value without surrounding whitespace.
    pub value: Span,
    /// The name's number.
    pub known: Known,
    /// Whether it has been removed.
    pub removed: bool,
}

/// The field lines of a head or of a trailer section, with the bytes they lie in.
///
/// Reused from request to request: [`Fields::clear`] keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(crate) bytes: Vec<u8>,
    entries: Vec<Field>,
    present: u64,
}

/// The bit of `present` for names that may be claims ([`claims::is_claim`]) and are none of ours.
const CLAIMS: u64 = 1 << 63;

impl Fields {
    /// Forgets everything and keeps the memory, unless there is an unusual amount of it.
    pub fn clear(&mut self) {
        const KEEP_BYTES: usize = 32 * 1024;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::new();
        }
        self.entries.clear();
        self.present = 0;
    }

    /// The bytes that the spans point into.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Field>()
    }

    /// Appends raw bytes for spans to point into; returns where they are.
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span::new(start, self.bytes.len())
    }

    /// Adds a line whose name and value lie in the buffer already.
    #[inline]
    pub fn push_spans(&mut self, name: Span, value: Span) -> Known {
        let known = Known::of(name.of(&self.bytes));
        self.push_entry(known, name, value);
        known
    }

    #[inline]
    fn push_entry(&mut self, known: Known, name: Span, value: Span) {
        self.present |= 1 << known as u8;
        if known == Known::Other && claims::may_be_claim(name.of(&self.bytes)) {
            self.present |= CLAIMS;
        }
        self.entries.push(Field {
            name,
            value,
            known,
            removed: false,
        });
    }

    /// Adds a line. Its bytes lie in the buffer as they do on the wire, see [`Fields::runs`].
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_as(Known::of(name), name, value);
    }

    /// The same for a name whose number is known already.
    #[inline]
    pub fn push_as(&mut self, known: Known, name: &[u8], value: &[u8]) {
        debug_assert_eq!(known, Known::of(name));
        let name = self.push_bytes(name);
        self.bytes.extend_from_slice(b": ");
        let value = self.push_bytes(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.push_entry(known, name, value);
    }

    /// Appends a member to a list field: its lines become one, at the end.
    pub fn append_to_list(&mut self, known: Known, name: &[u8], member: &[u8]) {
        if !self.may_have(known) {
            self.push_as(known, name, member);
            return;
        }
        let name = self.push_bytes(name);
        self.bytes.extend_from_slice(b": ");
        let start = self.bytes.len();
        for field in &mut self.entries {
            if field.known == known && !field.removed {
                field.removed = true;
                self.bytes
                    .extend_from_within(field.value.start as usize..field.value.end());
                self.bytes.extend_from_slice(b", ");
            }
        }
        self.bytes.extend_from_slice(member);
        let value = Span::new(start, self.bytes.len());
        self.bytes.extend_from_slice(b"\r\n");
        self.push_entry(known, name, value);
    }

    /// Adds a line whose value lies in the buffer already; it is copied, so that the line lies there
    /// as on the wire.
    pub fn push_within(&mut self, known: Known, name: &[u8], value: Span) {
        debug_assert_eq!(known, Known::of(name));
        let name = self.push_bytes(name);
        self.bytes.extend_from_slice(b": ");
        let start = self.bytes.len();
        self.bytes
            .extend_from_within(value.start as usize..value.end());
        let value = Span::new(start, self.bytes.len());
        self.bytes.extend_from_slice(b"\r\n");
        self.push_entry(known, name, value);
    }

    /// Gives the lines that are left, but those of `known` names for which `skip` says so, as they
    /// are written on an HTTP/1 wire: `Name: value CR LF`. Lines that lie behind one another in
    /// that form already come in one piece.
    #[inline]
    pub fn runs(&self, skip: impl Fn(Known) -> bool, mut put: impl FnMut(&[u8])) {
        let mut run = 0..0;
        for field in &self.entries {
            if field.removed || skip(field.known) {
                continue;
            }
            let (start, end) = (field.name.start as usize, field.value.end());
            let wire = field.value.start as usize == field.name.end() + 2
                && self.bytes.get(field.name.end() + 1) == Some(&b' ')
                && self.bytes.get(field.name.end()) == Some(&b':')
                && self.bytes.get(end..end + 2) == Some(b"\r\n");
            if wire && run.end == start {
                run.end = end + 2;
                continue;
            }
            if !run.is_empty() {
                put(&self.bytes[run]);
            }
            run = start..start;
            if wire {
                run.end = end + 2;
            } else {
                put(field.name.of(&self.bytes));
                put(b": ");
                put(field.value.of(&self.bytes));
                put(b"\r\n");
            }
        }
        if !run.is_empty() {
            put(&self.bytes[run]);
        }
    }

    /// How many lines there are, removed ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a line of that name may be there: false is certain, true may have been removed.
    #[inline]
    pub fn may_have(&self, known: Known) -> bool {
        self.present & (1 << known as u8) != 0
    }

    /// Whether a line may be there that says who the client is and is no [`Known`] one; see
    /// [`claims::is_claim`].
    #[inline]
    pub fn may_have_claims(&self) -> bool {
        self.present & CLAIMS != 0
    }

    /// Whether any of the names in `mask` (bits by number) may be there.
    #[inline]
    pub fn may_have_any(&self, mask: u64) -> bool {
        self.present & mask != 0
    }

    /// The lines that are left, in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.entries
            .iter()
            .filter(|field| !field.removed)
            .map(|field| {
                (
                    field.known,
                    field.name.of(&self.bytes),
                    field.value.of(&self.bytes),
                )
            })
    }

    /// The values of all lines of that name, in order.
    #[inline]
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let present = self.may_have(known);
        self.entries
            .iter()
            .filter(move |field| present && field.known == known && !field.removed)
            .map(|field| field.value.of(&self.bytes))
    }

    /// The value of the first line of that name.
    #[inline]
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        self.values(known).next()
    }

    /// The value of the first line of a name in any case.
    pub fn get_named(&self, name: &[u8]) -> Option<&[u8]> {
        match Known::of(name) {
            Known::Other => self
                .iter()
                .find(|line| line.1.eq_ignore_ascii_case(name))
                .map(|line| line.2),
            known => self.get(known),
        }
    }

    /// Where the value of the first line of that name lies.
    pub fn span_of(&self, known: Known) -> Option<Span> {
        self.entries
            .iter()
            .find(|field| field.known == known && !field.removed)
            .map(|field| field.value)
    }

    /// Removes all lines of that name.
    #[inline]
    pub fn remove(&mut self, known: Known) {
        if self.may_have(known) {
            for field in &mut self.entries {
                field.removed |= field.known == known;
            }
            self.present &= !(1 << known as u8);
        }
    }

    /// Removes all lines of a name in any case.
    pub fn remove_named(&mut self, name: &[u8]) {
        match Known::of(name) {
            Known::Other => {
                for field in &mut self.entries {
                    if field.known == Known::Other
                        && field.name.of(&self.bytes).eq_ignore_ascii_case(name)
                    {
                        field.removed = true;
                    }
                }
            }
            known => self.remove(known),
        }
    }

    /// Replaces all lines of a name by one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove_named(name);
        self.push(name, value);
    }

    /// Removes the lines for which `drop` says so.
    pub fn remove_where(&mut self, mut drop: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let bytes = &self.bytes;
        for field in &mut self.entries {
            if !field.removed && drop(field.known, field.name.of(bytes), field.value.of(bytes)) {
                field.removed = true;
            }
        }
    }

    /// Removes what speaks of one connection only: the hop-by-hop names and every field that a
    /// `Connection` line nominates (RFC 9110 section 7.6.1), except `keep` ones.
    pub fn remove_hop_by_hop(&mut self) {
        const MASK: u64 = 1 << Known::Connection as u8
            | 1 << Known::KeepAlive as u8
            | 1 << Known::ProxyConnection as u8
            | 1 << Known::ProxyAuthenticate as u8
            | 1 << Known::ProxyAuthorization as u8
            | 1 << Known::Te as u8
            | 1 << Known::Trailer as u8
            | 1 << Known::TransferEncoding as u8
            | 1 << Known::Upgrade as u8
            | 1 << Known::Http2Settings as u8;
        if !self.may_have_any(MASK) {
            return;
        }
        if self.may_have(Known::Connection) {
            self.remove_nominated();
        }
        for field in &mut self.entries {
            field.removed |= field.known.is_hop_by_hop();
        }
        self.present &= !MASK;
    }

    /// Removes the fields that `Connection` lines name. Names that would change what the message
    /// means (RFC 9110: not for all recipients) are never nominated away: framing, Host, and what
    /// Outgrow itself tells the endpoint.
    fn remove_nominated(&mut self) {
        for index in 0..self.entries.len() {
            let field = self.entries[index];
            if field.known != Known::Connection || field.removed {
                continue;
            }
            let mut at = field.value.start as usize;
            let end = field.value.end();
            while at < end {
                let stop = self.bytes[at..end]
                    .iter()
                    .position(|&byte| byte == b',')
                    .map_or(end, |offset| at + offset);
                let token = self.bytes[at..stop].trim_ascii();
                let usual = token.eq_ignore_ascii_case(b"keep-alive")
                    || token.eq_ignore_ascii_case(b"close")
                    || token.is_empty();
                if !usual && !is_protected(Known::of(token)) {
                    let bytes = &self.bytes;
                    for other in &mut self.entries {
                        other.removed |= other.name.of(bytes).eq_ignore_ascii_case(token);
                    }
                }
                at = stop + 1;
            }
        }
    }
}

fn is_protected(known: Known) -> bool {
    matches!(
        known,
        Known::Host
            | Known::ContentLength
            | Known::ContentType
            | Known::ContentEncoding
            | Known::Connection
            | Known::TransferEncoding
            | Known::Forwarded
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XForwardedProto
            | Known::XRequestId
            | Known::Via
            | Known::Authorization
            | Known::Cookie
    )
}

/// The comma-separated members of all values, trimmed, empty ones left out
/// (RFC 9110 section 5.6.1).
pub fn list_members<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn names(fields: &Fields) -> Vec<String> {
        fields
            .iter()
            .map(|line| String::from_utf8_lossy(line.1).into_owned())
            .collect()
    }

    #[test]
    fn edits_are_seen_by_readers() {
        let mut fields = fields(&[("Host", "a"), ("X-A", "1"), ("x-a", "2"), ("Cookie", "c")]);
        fields.set(b"X-A", b"3");
        assert_eq!(fields.get_named(b"x-A"), Some(&b"3"[..]));
        fields.remove(Known::Host);
        assert_eq!(fields.get(Known::Host), None);
        assert_eq!(names(&fields), ["Cookie", "X-A"]);
        fields.clear();
        assert!(fields.is_empty() && !fields.may_have(Known::Cookie));
    }

    #[test]
    fn connection_options_are_removed_but_never_the_framing() {
        let mut fields = fields(&[
            (
                "Connection",
                "close, X-Hop , Content-Length,,X-Forwarded-For",
            ),
            ("X-Hop", "1"),
            ("Content-Length", "5"),
            ("X-Forwarded-For", "9.9.9.9"),
            ("TE", "trailers"),
            ("Keep-Alive", "timeout=5"),
            ("X-Kept", "1"),
        ]);
        fields.remove_hop_by_hop();
        assert_eq!(
            names(&fields),
            ["Content-Length", "X-Forwarded-For", "X-Kept"]
        );
    }

    #[test]
    fn runs_are_the_lines_as_on_the_wire() {
        let mut head = Fields::default();
        // As a parser leaves them: one line with two blanks, one with none.
        head.push_bytes(b"A: 1\r\nB:2\r\nC: 3 \r\nD: 4\r\nE: 5\r\n\r\n");
        for (name, value) in [(0, 3), (6, 8), (11, 14), (18, 21), (24, 27)] {
            head.push_spans(Span::new(name, name + 1), Span::new(value, value + 1));
        }
        head.push(b"Via", b"x");
        head.push(b"Cookie", b"");
        head.remove_named(b"D");
        let mut out = Vec::new();
        let mut pieces = 0;
        head.runs(
            |known| known == Known::Via,
            |bytes| {
                out.extend_from_slice(bytes);
                pieces += 1;
            },
        );
        let text = String::from_utf8(out).expect("ASCII");
        assert_eq!(text, "A: 1\r\nB: 2\r\nC: 3\r\nE: 5\r\nCookie: \r\n");
        assert_eq!(pieces, 1 + 4 + 4 + 1 + 1);
    }

    #[test]
    fn lines_of_a_list_become_one() {
        let mut fields = fields(&[("Via", "1.0 a"), ("X-A", "1"), ("via", "1.1 b")]);
        fields.append_to_list(Known::Via, b"Via", b"2 c");
        fields.append_to_list(Known::Forwarded, b"Forwarded", b"for=x");
        assert_eq!(names(&fields), ["X-A", "Via", "Forwarded"]);
        assert_eq!(fields.get(Known::Via), Some(&b"1.0 a, 1.1 b, 2 c"[..]));
        assert!(fields.may_have_claims());
    }

    #[test]
    fn members_of_lists() {
        let values = [&b"a, b"[..], b"", b" ,c ,, d"];
        let members: Vec<_> = list_members(values.into_iter()).collect();
        assert_eq!(members, [&b"a"[..], b"b", b"c", b"d"]);
    }
}
