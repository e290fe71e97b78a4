//! Rules that fit, maps that allow, and what is said of files that are wrong.

use std::net::IpAddr;

use super::*;
use crate::login::demand::{CertificateDemand, CertificateNames, Method};
use crate::login::facts::{Replication, Source, Tls};

fn none(name: &str) -> Result<String, String> {
    Err(format!("there is no {name}"))
}

fn rules(text: &str) -> Hba {
    Hba::parse(text, "pg_hba.conf", &Maps::default(), &mut none).unwrap_or_else(|problems| {
        panic!("{problems:?}");
    })
}

/// `DATABASE USER SOURCE`, where the source is an address or `local`, and further `tls`,
/// `replication` (physical) or `logical`.
fn find(hba: &Hba, line: &str, interfaces: &[Interface]) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let facts = Facts {
        database: words[0],
        user: words[1],
        source: match words[2] {
            "local" => Source::Local { peer: None },
            address => Source::Address(address.parse().unwrap()),
        },
        replication: match () {
            () if words[3..].contains(&"replication") => Replication::Physical,
            () if words[3..].contains(&"logical") => Replication::Logical,
            () => Replication::None,
        },
        tls: words[3..].contains(&"tls").then(Tls::default),
    };
    hba.rule(&facts, interfaces).map(Rule::line)
}

/// Which line is the first to fit.
#[track_caller]
fn check(hba: &Hba, facts: &[(&str, Option<u32>)]) {
    for (line, expected) in facts {
        assert_eq!(find(hba, line, &[]), *expected, "{line}");
    }
}

#[test]
fn kinds_of_connections_are_told_apart() {
    let hba = rules(
        "local   shop   all                          peer\n\
         hostssl all    all  10.0.0.0/8              cert\n\
         hostnossl all  all  11.0.0.0/8              md5\n\
         host    all    all  127.0.0.0 255.255.255.0 password\n\
         hostnogssenc all all 12.0.0.1/32            trust\n",
    );
    check(
        &hba,
        &[
            ("shop ann local", Some(1)),
            ("shop ann local tls", Some(1)),
            ("news ann local", None),
            ("shop ann 10.1.1.1 tls", Some(2)),
            ("shop ann 10.1.1.1", None),
            ("shop ann 11.1.1.1", Some(3)),
            ("shop ann 11.1.1.1 tls", None),
            ("shop ann 127.0.0.3", Some(4)),
            ("shop ann 127.0.0.3 tls", Some(4)),
            ("shop ann 127.0.1.3", None),
            ("shop ann 12.0.0.1", Some(5)),
            ("shop ann 13.0.0.1", None),
            ("shop ann ::1", None),
        ],
    );
}

#[test]
fn names_are_lists_quoted_or_patterns() {
    let hba = rules(
        "local shop ann trust # the first one\n\
         local \"all\" \"all\" trust\n\
         local \"q1\"\"q2\" \"a , b\" trust\n\
         local a,b , c  ann,\"bob\" , eve  trust\n\
         local sameuser all trust\n\
         local \"/^db\\d{1,2}$\" /_ro$ trust\n\
         local /x \"/^[[:alpha:]]+$\",u1 trust\n\
         local \"sameuser\" \"+group\" trust\n\
         local all last,\"/never\" trust\n",
    );
    check(
        &hba,
        &[
            ("shop ann local", Some(1)),
            ("shop bob local", None),
            ("all all local", Some(2)),
            ("a ann local", Some(4)),
            ("b bob local", Some(4)),
            ("c eve local", Some(4)),
            ("d eve local", None),
            ("dan dan local", Some(5)),
            ("dan eve local", None),
            ("db12 shop_ro local", Some(6)),
            ("db123 shop_ro local", None),
            ("db12 shop_rw local", None),
            ("axb abc local", Some(7)),
            ("axb ab1 local", None),
            ("axb u1 local", Some(7)),
            ("sameuser +group local", Some(8)),
            ("whatever last local", Some(9)),
            ("whatever nevermore local", Some(9)),
        ],
    );
    let facts = Facts {
        database: "q1\"q2",
        user: "a , b",
        replication: Replication::None,
        source: Source::Local { peer: None },
        tls: None,
    };
    assert_eq!(hba.rule(&facts, &[]).map(Rule::line), Some(3));
    // Patterns do not look at what no name can be.
    let long = "x".repeat(2_000);
    assert_eq!(
        hba.rule(
            &Facts {
                database: &long,
                ..facts
            },
            &[]
        ),
        None
    );
}

#[test]
fn many_names_and_white_space_in_odd_places() {
    let names: Vec<String> = (0..500).map(|number| format!("u{number}")).collect();
    let text = format!(
        " \t \n# only a comment\n\t\t\t# another\n \t host\t\"d\"  {}  10.0.0.0/8 trust\t\n\
         host d \\\n  eve \\\n 10.0.0.0/8 md5\n\u{a0}\n",
        names.join(" ,")
    );
    let hba = rules(&text);
    check(
        &hba,
        &[
            ("d u0 10.0.0.1", Some(4)),
            ("d u499 10.0.0.1", Some(4)),
            ("d u500 10.0.0.1", None),
            ("d eve 10.0.0.1", Some(5)),
        ],
    );
    assert_eq!(rules("\u{feff}local all all trust\r\n").rules().len(), 1);
}

#[test]
fn networks_are_compared_by_their_bits() {
    let mut text = String::from("host exact all 199.199.199.199/32 trust\n");
    for prefix in (1..=9).rev() {
        text.push_str(&format!("host bits all 128.0.0.0/{prefix} trust\n"));
    }
    text.push_str(
        "host six all ff11::0/16 trust\n\
         host six all ff20::/12 trust\n\
         host six all ::1/128 trust\n\
         host six all fe80::1 ffff:ffff:: trust\n\
         host odd all 10.1.2.3/8 trust\n\
         host any all all trust\n\
         host zero all 0.0.0.0/0 trust\n\
         host zero all ::/0 md5\n",
    );
    let hba = rules(&text);
    check(
        &hba,
        &[
            ("exact u 199.199.199.199", Some(1)),
            ("exact u 199.199.199.198", None),
            ("exact u 199.199.199.200", None),
            ("exact u ::ffff:199.199.199.199", Some(1)),
            ("bits u 128.1.1.1", Some(2)),
            ("bits u 128.128.1.1", Some(3)),
            ("bits u 129.1.1.1", Some(4)),
            ("bits u 130.1.1.1", Some(5)),
            ("bits u 254.1.1.1", Some(10)),
            ("bits u 127.1.1.1", None),
            ("six u ff11:2::1", Some(11)),
            ("six u ff22:3::1", Some(12)),
            ("six u ::1", Some(13)),
            ("six u ::2", None),
            ("six u fe80:0:2::9", Some(14)),
            ("six u fe80:1::1", None),
            // Bits beyond the mask do not count, as in Postgres.
            ("odd u 10.200.0.1", Some(15)),
            ("any u 1.2.3.4", Some(16)),
            ("any u face::1", Some(16)),
            ("any u local", None),
            ("zero u 1.2.3.4", Some(17)),
            ("zero u face::1", Some(18)),
        ],
    );
}

#[test]
fn own_addresses_are_an_argument() {
    let hba = rules("host a all samehost trust\nhost b all samenet trust\n");
    let interface = |address: &str, prefix| Interface {
        address: address.parse::<IpAddr>().unwrap(),
        prefix,
    };
    let own = [interface("10.1.2.3", 24), interface("fe80::1", 64)];
    let check = |line: &str, expected| assert_eq!(find(&hba, line, &own), expected, "{line}");
    check("a u 10.1.2.3", Some(1));
    check("a u 10.1.2.4", None);
    check("a u fe80::1", Some(1));
    check("b u 10.1.2.4", Some(2));
    check("b u 10.1.3.4", None);
    check("b u fe80::9", Some(2));
    check("b u 10.1.2.4 tls", Some(2));
    assert_eq!(find(&hba, "b u 10.1.2.4", &[]), None);
}

#[test]
fn replication_is_no_database() {
    let hba = rules(
        "host replication admin ::1/128 trust\n\
         host shop,replication both ::1/128 trust\n\
         host all all ::1/128 md5\n\
         host \"replication\" quoted ::2/128 trust\n",
    );
    check(
        &hba,
        &[
            ("shop admin ::1 replication", Some(1)),
            ("replication admin ::1 replication", Some(1)),
            ("shop admin ::1", Some(3)),
            ("replication admin ::1", Some(3)),
            ("shop both ::1 replication", Some(2)),
            ("shop both ::1", Some(2)),
            ("news both ::1", Some(3)),
            // `all` is not replication.
            ("shop other ::1 replication", None),
            // Logical replication is a session of its database.
            ("shop both ::1 logical", Some(2)),
            ("shop other ::1 logical", Some(3)),
            ("replication quoted ::2", Some(4)),
            ("replication quoted ::2 replication", None),
        ],
    );
}

#[test]
fn methods_and_options_are_read() {
    let maps = Maps::parse("m sys user\nother sys user\n", "pg_ident.conf").unwrap();
    let text = "local all all trust\nlocal all all reject\nlocal all all md5\n\
                local all all scram-sha-256\nlocal all all password\n\
                hostssl all all all cert map=m\nlocal all all peer map=\"other\"\n\
                local all all ident\nhost all all all cert\n\
                hostssl all all all md5 clientcert=verify-ca\n\
                hostssl all all all scram-sha-256 clientcert=verify-full clientname=CN\n\
                hostssl all all all cert clientcert=verify-full\n";
    let hba = Hba::parse(text, "pg_hba.conf", &maps, &mut none).unwrap();
    let demands: Vec<String> = hba
        .rules()
        .iter()
        .map(|rule| {
            let demand = rule.demand();
            let mut text = demand.method.name().to_owned();
            if let Some(map) = &demand.map {
                text.push_str(&format!(" {}", map.name()));
            }
            if demand.certificate != CertificateDemand::None {
                text.push_str(&format!(" {:?}", demand.certificate));
            }
            if demand.names == CertificateNames::CommonName {
                text.push_str(" CN");
            }
            text
        })
        .collect();
    assert_eq!(
        demands,
        [
            "trust",
            "reject",
            "md5",
            "scram-sha-256",
            "password",
            "cert m",
            "peer other",
            "peer",
            "cert",
            "md5 Trusted",
            "scram-sha-256 OfUser CN",
            "cert OfUser",
        ]
    );
    assert_eq!(hba.rules()[0].demand(), &Method::Trust.into());
}

#[track_caller]
fn check_wrong(text: &str, expected: &str) {
    let problems = Hba::parse(text, "hba", &Maps::default(), &mut none).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(text.join("\n"), expected);
}

#[test]
fn what_is_not_understood_is_refused_in_words() {
    let check = |line: &str, expected: &str| check_wrong(line, &format!("hba line 1: {expected}"));
    check(
        "hostgssenc all all all trust",
        "encryption by GSSAPI is not spoken here: use hostssl",
    );
    check(
        "tcp all all all trust",
        "\"tcp\" is no kind of connection: write local, host, hostssl or hostnossl",
    );
    check(
        "host,local all all all trust",
        "begins with a list: write local, host, hostssl or hostnossl",
    );
    check(
        "include other.conf",
        "include is not supported: write the rules here, in their order",
    );
    check("local", "the databases or the users are missing");
    check("local all", "the databases or the users are missing");
    check("local all all", "the method is missing");
    check("host all all", "the address is missing");
    check("host all all all", "the method is missing");
    check(
        "local all all trust x",
        "\"x\" is no option: write NAME=VALUE",
    );
    check("local all all a,b", "has a list where one word is expected");
    check(
        "local samerole all trust",
        "\"samerole\" needs the server's roles, which are not known here: write the databases and \
         users themselves",
    );
    check(
        "local all +staff trust",
        "\"+staff\" needs the server's roles, which are not known here: write the users \
         themselves, or a file of them (@file)",
    );
    check(
        "local all /( trust",
        "the pattern \"(\" cannot be used: found open group without closing ')'",
    );
    check(
        "local all /(a)\\1 trust",
        "the pattern \"(a)\\1\" cannot be used: backreferences are not supported",
    );
    check(
        "host all all localhost trust",
        "\"localhost\" is no address: write `ADDRESS/PREFIX`, `ADDRESS MASK`, all, samehost or \
         samenet; host names are not looked up",
    );
    check(
        "host all all 10.0.0.1 trust",
        "10.0.0.1 has no mask: write 10.0.0.1/32",
    );
    check(
        "host all all 10.0.0.1",
        "\"10.0.0.1\" has no mask: write 10.0.0.1/32",
    );
    check(
        "host all all ::1/129 trust",
        "\"/129\" is no prefix of ::1: write 0 to 128",
    );
    check(
        "host all all 10.0.0.0/ trust",
        "\"/\" is no prefix of 10.0.0.0: write 0 to 32",
    );
    check(
        "host all all 10.0.0.0/+8 trust",
        "\"/+8\" is no prefix of 10.0.0.0: write 0 to 32",
    );
    check(
        "host all all 10.0.0.0 255.0.255.0 trust",
        "\"255.0.255.0\" is no mask for 10.0.0.0",
    );
    check(
        "host all all 10.0.0.0 ffff:: trust",
        "\"ffff::\" is no mask for 10.0.0.0",
    );
    check(
        "local all all ldap",
        "the method \"ldap\" is not spoken here; there are trust, reject, md5, scram-sha-256, \
         password, cert, peer",
    );
    check(
        "host all all all peer",
        "\"peer\" is for local only: others do not show their system's user",
    );
    check("local all all cert", "\"cert\" needs TLS: use hostssl");
    check(
        "hostnossl all all all cert",
        "\"cert\" needs TLS: use hostssl",
    );
    check(
        "local all all md5 map=x",
        "map is for the methods cert and peer only",
    );
    check(
        "local all all peer map=x",
        "the map \"x\" is not in pg_ident.conf",
    );
    check(
        "host all all all md5 clientcert=verify-ca",
        "clientcert is for hostssl only",
    );
    check(
        "hostssl all all all md5 clientcert=1",
        "clientcert cannot be \"1\": write verify-ca or verify-full",
    );
    check(
        "hostssl all all all cert clientcert=verify-ca",
        "with cert, clientcert can only be verify-full",
    );
    check(
        "hostssl all all all cert clientname=DN",
        "clientname=DN is not supported: use the common name (CN)",
    );
    check(
        "local all all trust radiusservers=x",
        "there is no option \"radiusservers\": there are map, clientcert and clientname",
    );
    check(
        "local \"all all trust",
        "has a quote (\") that is not closed",
    );
    check(", local all all trust", "begins with a comma");
    check("local all all trust,", "ends with a comma");
    check(
        "local @list all trust",
        "cannot read \"list\": there is no list",
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    check_wrong(
        "local all all trust\nhost samerole +x 10.0.0.0 trust\n\nlocal all all \\\nkerberos\nx\n",
        "hba line 2: \"samerole\" needs the server's roles, which are not known here: write the \
         databases and users themselves\n\
         hba line 2: \"+x\" needs the server's roles, which are not known here: write the users \
         themselves, or a file of them (@file)\n\
         hba line 2: 10.0.0.0 has no mask: write 10.0.0.0/32\n\
         hba line 4: the method \"kerberos\" is not spoken here; there are trust, reject, md5, \
         scram-sha-256, password, cert, peer\n\
         hba line 6: \"x\" is no kind of connection: write local, host, hostssl or hostnossl",
    );
}

#[test]
fn files_of_names_are_read_through_the_argument() {
    let mut asked = Vec::new();
    let mut files = |name: &str| {
        asked.push(name.to_owned());
        match name {
            "/etc/pg/admins" => Ok("ann, bob # two\n\n@lists/more\n\"all\"\n".to_owned()),
            "/etc/pg/lists/more" => Ok("eve\n/^robot\n".to_owned()),
            "/etc/pg/loop" => Ok("@loop".to_owned()),
            "/srv/databases" => Ok("shop sameuser".to_owned()),
            other => none(other),
        }
    };
    let maps = Maps::default();
    let text = "local @/srv/databases @admins trust\nlocal all \"@admins\" md5\n";
    let hba = Hba::parse(text, "/etc/pg/pg_hba.conf", &maps, &mut files).unwrap();
    check(
        &hba,
        &[
            ("shop ann local", Some(1)),
            ("shop eve local", Some(1)),
            ("eve eve local", Some(1)),
            ("shop robot7 local", Some(1)),
            ("shop all local", Some(1)),
            ("shop dan local", None),
            ("news ann local", None),
            ("news @admins local", Some(2)),
        ],
    );
    let looped = Hba::parse("local @loop all trust", "/etc/pg/hba", &maps, &mut files);
    let text = looped.unwrap_err()[0].text.clone();
    assert!(
        text.ends_with("\"/etc/pg/loop\" is named by 10 files in a row"),
        "{text}"
    );
    assert_eq!(
        asked[..3],
        ["/srv/databases", "/etc/pg/admins", "/etc/pg/lists/more"]
    );
    let mut large = |_: &str| Ok("x".repeat(LARGEST_FILE));
    let text = "local all @a trust\nlocal all @b trust";
    let problems = Hba::parse(text, "hba", &maps, &mut large).unwrap_err();
    // The first one has a word that is too long, the second one no room left.
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(problems[1].text, "\"b\" is too large");
}

fn maps(text: &str) -> Maps {
    Maps::parse(text, "pg_ident.conf").unwrap()
}

#[test]
fn maps_allow_by_name_pattern_and_group() {
    let maps = maps(
        "# MAP SYSTEM USER\n\
         test   shop.example.org  ann\n\
         test   shop.example.org  bob\n\
         any    \"shop\"          all\n\
         any    news              \"all\"\n\
         mail   /^(.*)@example\\.org$  \\1\n\
         mail   /^(.*)@test\\.org$     t_\\1_x\n\
         mail   /@other\\.org$         guest\n\
         mail   root                  \"/^admin\"\n\
         mail   /^(a)?b$              \\1\n\
         quoted \"a b\"               \"c d\"\n",
    );
    let check = |map: &str, system: &str, user: &str, expected: bool| {
        let map = maps.get(map).unwrap();
        assert_eq!(map.allows(system, user), expected, "{system} {user}");
    };
    check("test", "shop.example.org", "ann", true);
    check("test", "shop.example.org", "bob", true);
    check("test", "shop.example.org", "eve", false);
    check("test", "example.org", "ann", false);
    check("any", "shop", "whoever", true);
    check("any", "news", "whoever", false);
    check("any", "news", "all", true);
    check("mail", "ann@example.org", "ann", true);
    check("mail", "ann@example.org", "bob", false);
    check("mail", "ann@example.orgs", "ann", false);
    check("mail", "all@example.org", "bob", false);
    check("mail", "ann@test.org", "t_ann_x", true);
    check("mail", "ann@test.org", "ann", false);
    check("mail", "@test.org", "t__x", true);
    check("mail", "@test.org", "t_x", false);
    check("mail", "ann@other.org", "guest", true);
    check("mail", "root", "admin7", true);
    check("mail", "root", "root", false);
    check("mail", "b", "", false);
    check("mail", "ab", "a", true);
    check("quoted", "a b", "c d", true);
    assert_eq!(maps.get("none"), None);
}

#[test]
fn maps_that_are_wrong_are_told_at_once() {
    let text = "m a\nm a b c\nm a,b c\nm /( c\nm /a \\1\nm a +g\ninclude x\n\nm \"a";
    let problems = Maps::parse(text, "ident").unwrap_err();
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "ident line 1: write `MAP SYSTEM-USER USER`",
            "ident line 2: write `MAP SYSTEM-USER USER`",
            "ident line 3: has a list: write a line for each",
            "ident line 4: the pattern \"(\" cannot be used: found open group without closing ')'",
            "ident line 5: \"\\1\" refers to a group, and the pattern has none: put parentheses \
             around it",
            "ident line 6: \"+g\" needs the server's roles, which are not known here: write a line \
             for each user",
            "ident line 7: include is not supported: write the lines here",
            "ident line 9: has a quote (\") that is not closed",
        ]
    );
}

#[test]
fn what_could_take_long_is_refused_or_quick() {
    let check = |pattern: &str| {
        let text = format!("local all \"/{pattern}\" trust");
        Hba::parse(&text, "hba", &Maps::default(), &mut none)
    };
    assert!(check("(((((x{50}){50}){50}){50}){50})").is_err());
    assert!(check(&"(".repeat(500)).is_err());
    assert!(check(&format!("{}x{}", "(".repeat(100), ")".repeat(100))).is_err());
    assert!(check(&"a".repeat(2_000)).is_err());
    // Exponential where a matcher goes back.
    let hba = check("^(a+)+$").unwrap();
    let name = format!("{}b", "a".repeat(1_000));
    assert_eq!(find(&hba, &format!("d {name} local"), &[]), None);
    let many = "local all all x\n".repeat(1_000);
    let problems = Hba::parse(&many, "hba", &Maps::default(), &mut none).unwrap_err();
    assert_eq!(problems.len(), 100);
    let huge = "#".repeat(LARGEST_FILE + 1);
    assert!(Hba::parse(&huge, "hba", &Maps::default(), &mut none).is_err());
}

#[test]
fn every_cut_and_changed_byte_is_read_or_refused() {
    let text = "host \"a\"\"b\",/^c(d)*$ , e ann 10.0.0.0/8 md5 # x\nlocal all all \\\n peer\n";
    for place in 0..text.len() {
        let _ = Hba::parse(&text[..place], "hba", &Maps::default(), &mut none);
        for by in [1, 2, 4, 32, 64, 127] {
            let mut changed = text.as_bytes().to_vec();
            changed[place] ^= by;
            let changed = String::from_utf8_lossy(&changed);
            let _ = Hba::parse(&changed, "hba", &Maps::default(), &mut none);
            let _ = Maps::parse(&changed, "ident");
        }
    }
}
