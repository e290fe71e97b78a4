//! `Content-Length` and `Transfer-Encoding`: what two readers could understand differently.

use super::{Fate, Row};

const BAD: Fate = Fate::Head(400);
const NOT_HERE: Fate = Fate::Head(501);
const GOOD: Fate = Fate::Good;

/// Field lines of a message with a body of 5 bytes and more, without the last one's end.
pub(super) const LINES: &[Row] = &[
    ("length +5", b"Content-Length: +5", BAD),
    ("length -5", b"Content-Length: -5", BAD),
    ("length -0", b"Content-Length: -0", BAD),
    ("length 0x5", b"Content-Length: 0x5", BAD),
    ("length 5.0", b"Content-Length: 5.0", BAD),
    ("length 5e0", b"Content-Length: 5e0", BAD),
    ("length 5_0", b"Content-Length: 5_0", BAD),
    ("length 5a", b"Content-Length: 5a", BAD),
    ("length of letters", b"Content-Length: five", BAD),
    ("length in quotes", b"Content-Length: \"5\"", BAD),
    ("length in brackets", b"Content-Length: (5)", BAD),
    ("length with a semicolon", b"Content-Length: 5;", BAD),
    ("empty length", b"Content-Length:", BAD),
    ("length of spaces", b"Content-Length:   ", BAD),
    ("length 5 5", b"Content-Length: 5 5", BAD),
    ("length 1 tab 5", b"Content-Length: 1\t5", BAD),
    ("length 5, 5", b"Content-Length: 5, 5", BAD),
    ("length 5,5", b"Content-Length: 5,5", BAD),
    ("length 5, 6", b"Content-Length: 5, 6", BAD),
    ("length 0, 5", b"Content-Length: 0, 5", BAD),
    ("length with a comma behind", b"Content-Length: 5,", BAD),
    ("length with a comma before", b"Content-Length: ,5", BAD),
    ("length of a comma", b"Content-Length: ,", BAD),
    (
        "length of 2^63",
        b"Content-Length: 9223372036854775808",
        BAD,
    ),
    (
        "length of 2^64 - 1",
        b"Content-Length: 18446744073709551615",
        BAD,
    ),
    (
        "length of 2^64 + 5",
        b"Content-Length: 18446744073709551621",
        BAD,
    ),
    (
        "length of 2^32 + 5 with zeros",
        b"Content-Length: 000000000004294967301",
        BAD,
    ),
    (
        "length of 30 digits",
        b"Content-Length: 000000000000000000000000000005",
        BAD,
    ),
    ("length with a NUL", b"Content-Length: 5\0", BAD),
    ("length with a vertical tab", b"Content-Length: \x0b5", BAD),
    ("length with a form feed", b"Content-Length: 5\x0c", BAD),
    ("length with a CR", b"Content-Length: 5\r", BAD),
    ("length with a CR and more", b"Content-Length: 5\rX: 1", BAD),
    ("length with a bare LF", b"Content-Length: 5\nX: 1", BAD),
    (
        "length with a no-break space",
        b"Content-Length: \xa05",
        BAD,
    ),
    (
        "length in full-width digits",
        b"Content-Length: \xef\xbc\x95",
        BAD,
    ),
    ("folded length", b"Content-Length: 5\r\n 0", BAD),
    ("length folded at once", b"Content-Length:\r\n 5", BAD),
    (
        "length twice",
        b"Content-Length: 5\r\nContent-Length: 5",
        BAD,
    ),
    (
        "two lengths",
        b"Content-Length: 5\r\nContent-Length: 6",
        BAD,
    ),
    (
        "two lengths, 0 first",
        b"Content-Length: 0\r\ncontent-length: 5",
        BAD,
    ),
    (
        "two lengths, 0 last",
        b"Content-Length: 5\r\nCONTENT-LENGTH: 0",
        BAD,
    ),
    (
        "length, then an empty one",
        b"Content-Length: 5\r\nContent-Length:",
        BAD,
    ),
    (
        "length with a space before the colon",
        b"Content-Length : 5",
        BAD,
    ),
    (
        "length with a tab before the colon",
        b"Content-Length\t: 5",
        BAD,
    ),
    (
        "length with a vertical tab before the colon",
        b"Content-Length\x0b: 5",
        BAD,
    ),
    (
        "length with a NUL before the colon",
        b"Content-Length\0: 5",
        BAD,
    ),
    (
        "length with a CR before the colon",
        b"Content-Length\r: 5",
        BAD,
    ),
    ("length with a space before", b" Content-Length: 5", BAD),
    ("Content Length", b"Content Length: 5", BAD),
    (
        "Content_Length beside the length",
        b"Content-Length: 5\r\nContent_Length: 0",
        BAD,
    ),
    (
        "length, then chunked",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked, then length",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        BAD,
    ),
    (
        "chunked with a length of 0",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "length with identity",
        b"Content-Length: 5\r\nTransfer-Encoding: identity",
        BAD,
    ),
    (
        "length with an empty coding",
        b"Content-Length: 5\r\nTransfer-Encoding:",
        BAD,
    ),
    (
        "length with a coding nobody knows",
        b"Content-Length: 5\r\nTransfer-Encoding: x",
        BAD,
    ),
    (
        "bad length with chunked",
        b"Content-Length: x\r\nTransfer-Encoding: chunked",
        BAD,
    ),
    ("xchunked", b"Transfer-Encoding: xchunked", BAD),
    ("chunkedx", b"Transfer-Encoding: chunkedx", BAD),
    ("chunk", b"Transfer-Encoding: chunk", BAD),
    ("chun ked", b"Transfer-Encoding: chun ked", BAD),
    (
        "chunked, chunked",
        b"Transfer-Encoding: chunked, chunked",
        BAD,
    ),
    (
        "chunked,chunked",
        b"Transfer-Encoding: chunked,chunked",
        BAD,
    ),
    (
        "chunked chunked",
        b"Transfer-Encoding: chunked chunked",
        BAD,
    ),
    (
        "chunked tab chunked",
        b"Transfer-Encoding: chunked\tchunked",
        BAD,
    ),
    (
        "chunked, identity",
        b"Transfer-Encoding: chunked, identity",
        BAD,
    ),
    ("chunked, gzip", b"Transfer-Encoding: chunked, gzip", BAD),
    (
        "chunked, x, chunked",
        b"Transfer-Encoding: chunked, x, chunked",
        BAD,
    ),
    ("identity", b"Transfer-Encoding: identity", BAD),
    ("gzip", b"Transfer-Encoding: gzip", BAD),
    ("trailers", b"Transfer-Encoding: trailers", BAD),
    ("empty coding", b"Transfer-Encoding:", BAD),
    ("coding of a comma", b"Transfer-Encoding: ,", BAD),
    (
        "chunked with a parameter",
        b"Transfer-Encoding: chunked;q=1",
        BAD,
    ),
    (
        "chunked with a semicolon",
        b"Transfer-Encoding: chunked;",
        BAD,
    ),
    ("chunked in quotes", b"Transfer-Encoding: \"chunked\"", BAD),
    (
        "chunked in single quotes",
        b"Transfer-Encoding: 'chunked'",
        BAD,
    ),
    ("chunked with a NUL", b"Transfer-Encoding: chunked\0", BAD),
    (
        "chunked with a vertical tab before",
        b"Transfer-Encoding: \x0bchunked",
        BAD,
    ),
    (
        "chunked with a vertical tab behind",
        b"Transfer-Encoding: chunked\x0b",
        BAD,
    ),
    (
        "chunked with a form feed before",
        b"Transfer-Encoding: \x0cchunked",
        BAD,
    ),
    (
        "chunked with a CR before",
        b"Transfer-Encoding: \rchunked",
        BAD,
    ),
    (
        "chunked with a CR behind",
        b"Transfer-Encoding: chunked\r",
        BAD,
    ),
    (
        "chunked with a bare LF before",
        b"Transfer-Encoding:\nchunked",
        BAD,
    ),
    (
        "chunked with a bare LF behind",
        b"Transfer-Encoding: chunked\nX: 1",
        BAD,
    ),
    (
        "chunked with a no-break space",
        b"Transfer-Encoding: \xa0chunked",
        BAD,
    ),
    (
        "chunked with a next line",
        b"Transfer-Encoding: chunked\x85",
        BAD,
    ),
    (
        "chunked with a long s",
        b"Transfer-Encoding: chun\xe2\x84\xaaed",
        BAD,
    ),
    (
        "chunked with a backslash",
        b"Transfer-Encoding: \\chunked",
        BAD,
    ),
    ("chunked with a colon", b"Transfer-Encoding: : chunked", BAD),
    (
        "chunked twice",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked, then identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        BAD,
    ),
    (
        "identity, then chunked",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked, then nothing",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding:",
        BAD,
    ),
    (
        "chunked, then x",
        b"Transfer-Encoding: chunked\r\ntransfer-encoding: x",
        BAD,
    ),
    (
        "chunked folded at once",
        b"Transfer-Encoding:\r\n chunked",
        BAD,
    ),
    (
        "chunked folded to identity",
        b"Transfer-Encoding: chunked\r\n , identity",
        BAD,
    ),
    (
        "chunked with a space before the colon",
        b"Transfer-Encoding : chunked",
        BAD,
    ),
    (
        "chunked with a tab before the colon",
        b"Transfer-Encoding\t: chunked",
        BAD,
    ),
    (
        "chunked with a vertical tab there",
        b"Transfer-Encoding\x0b: chunked",
        BAD,
    ),
    (
        "chunked with a NUL there",
        b"Transfer-Encoding\0: chunked",
        BAD,
    ),
    (
        "chunked with a line end there",
        b"Transfer-Encoding\r\n: chunked",
        BAD,
    ),
    (
        "chunked with a no-break space there",
        b"Transfer-Encoding\xa0: chunked",
        BAD,
    ),
    (
        "chunked with a space before the name",
        b" Transfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked with a byte order mark",
        b"\xef\xbb\xbfTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked behind a bare LF",
        b"X: 1\nTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked behind a bare CR",
        b"X: 1\rTransfer-Encoding: chunked",
        BAD,
    ),
    (
        "chunked behind a NUL",
        b"X: 1\0\r\nTransfer-Encoding: chunked",
        BAD,
    ),
    ("Transfer Encoding", b"Transfer Encoding: chunked", BAD),
    (
        "Transfer_Encoding beside the length",
        b"Content-Length: 5\r\nTransfer_Encoding: chunked",
        BAD,
    ),
    ("no colon", b"Transfer-Encoding chunked", BAD),
    (
        "gzip, chunked",
        b"Transfer-Encoding: gzip, chunked",
        NOT_HERE,
    ),
    (
        "identity, chunked",
        b"Transfer-Encoding: identity, chunked",
        NOT_HERE,
    ),
    ("x, chunked", b"Transfer-Encoding: x, chunked", NOT_HERE),
    (
        "chunked with a comma before",
        b"Transfer-Encoding: , chunked",
        NOT_HERE,
    ),
    (
        "chunked with a comma behind",
        b"Transfer-Encoding: chunked,",
        NOT_HERE,
    ),
    ("a length", b"Content-Length: 5", GOOD),
    (
        "a length with zeros",
        b"Content-Length: 0000000000000000005",
        GOOD,
    ),
    ("a length between tabs", b"CONTENT-LENGTH:\t5\t", GOOD),
    (
        "a length that is nominated",
        b"Connection: Content-Length\r\nContent-Length: 5",
        GOOD,
    ),
    ("chunked", b"Transfer-Encoding: chunked", GOOD),
    ("CHUNKED", b"transfer-ENCODING:\tCHUNKED ", GOOD),
    (
        "chunked that is nominated",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
        GOOD,
    ),
    (
        "a coding that is none",
        b"Content-Length: 5\r\nX-Transfer-Encoding: chunked",
        GOOD,
    ),
    (
        "a length that is none",
        b"Transfer-Encoding: chunked\r\nX-Content-Length: 5",
        GOOD,
    ),
    (
        "a coding of one letter less",
        b"Content-Length: 5\r\nTransfer-Encodin: chunked",
        GOOD,
    ),
];

/// Whole requests.
pub(super) const REQUESTS: &[Row] = &[
    (
        "chunked in HTTP/1.0",
        b"POST /x HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD,
    ),
    (
        "chunked in HTTP/1.0 with a length",
        b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        BAD,
    ),
    (
        "chunked in HTTP/1.0 kept alive",
        b"POST /x HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD,
    ),
    (
        "a GET with a length",
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
        GOOD,
    ),
    (
        "a GET with chunks",
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GOOD,
    ),
    (
        "a HEAD with a length",
        b"HEAD /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
        GOOD,
    ),
    (
        "a POST without a length",
        b"POST /x HTTP/1.1\r\nHost: a.example\r\n\r\n",
        GOOD,
    ),
    (
        "a length in HTTP/1.0",
        b"POST /x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        GOOD,
    ),
];
