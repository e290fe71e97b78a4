//! We log in to Postgres.

use outgrow_postgres::login::{Channel, Cleartext, Credential, Least, Policy};
use outgrow_testkit::databases;

use crate::database::{Database, password};
use crate::is_there;
use crate::wire::Wire;

fn open() -> Policy {
    Policy {
        cleartext: Cleartext::Anywhere,
        ..Policy::default()
    }
}

fn log_in(
    server: &Database,
    user: &str,
    database: &str,
    credential: Credential,
    policy: &Policy,
) -> String {
    let mut wire = Wire::connect(server.address()).unwrap();
    match wire.log_in(user, database, credential, Channel::Plain, policy) {
        Ok(()) => wire.query("SELECT current_user").concat(),
        Err(why) => why,
    }
}

#[test]
fn with_every_credential_at_every_kind_of_login() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let policy = open();
    let check = |user: &str, database: &str, credential: &Credential, expected: &str| {
        let said = log_in(&server, user, database, credential.clone(), &policy);
        assert_eq!(said, expected, "{user} {database} {credential:?}");
    };
    let apple = password("apple");
    for user in ["ann", "old"] {
        let failed = format!("28P01 password authentication failed for user \"{user}\"");
        check(user, "trusting", &Credential::None, user);
        for database in ["clear", "hashed", "postgres"] {
            let expected = match (user, database) {
                // No SCRAM with an MD5 verifier.
                ("old", "postgres") => &failed,
                _ => user,
            };
            check(user, database, &apple, expected);
            check(user, database, &password("pear"), &failed);
        }
    }
    // The server's own MD5 verifier is enough, its SCRAM verifier is not.
    let stored = |user: &str| Credential::of(server.stored(user).as_ref());
    check("old", "hashed", &stored("old"), "old");
    let locked = "user \"ann\": the server asks for SCRAM-SHA-256, and we have a SCRAM verifier \
                  without its keys";
    check("ann", "hashed", &stored("ann"), locked);
    check("ann", "postgres", &stored("ann"), locked);
    let none = "user \"ann\": the server asks for the password in clear text, and we have none";
    check("ann", "clear", &Credential::None, none);
    let missing = "3D000 database \"none\" does not exist";
    check("ann", "none", &apple, missing);
    let clear = "user \"ann\": the server asks for the password in clear text over a connection \
                 without TLS";
    let strict = Policy::default();
    assert_eq!(
        log_in(&server, "ann", "clear", apple.clone(), &strict),
        clear
    );
    let scram = Policy {
        least: Least::Scram,
        ..open()
    };
    let less = "user \"ann\": the server asks for nothing, less than the SCRAM-SHA-256 that is \
                required";
    assert_eq!(
        log_in(&server, "ann", "trusting", apple.clone(), &scram),
        less
    );
    assert_eq!(log_in(&server, "ann", "postgres", apple, &scram), "ann");
}

/// Passwords of which a server makes its verifier: prepared by the same steps, or nobody gets in.
#[test]
fn with_passwords_of_all_languages() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let mut superuser = server.superuser();
    for text in [
        "plain",
        " spaces at both ends ",
        "quote\" back\\slash",
        "tab\tand\u{7}bell",
        "pässwörd",
        // The same, decomposed.
        "pa\u{308}sswo\u{308}rd",
        "I\u{ad}X",
        "\u{ad}",
        "\u{2168}",
        "\u{aa}\u{a0}\u{2003}\u{200b}x",
        "пароль",
        "密码",
        "パスワード",
        // Half-width forms, which are normalised.
        "ﾊﾟｽﾜｰﾄﾞ",
        "🔑🔑",
        // Right to left, alone and mixed.
        "סיסמה",
        "\u{fb1d}",
        "כ1ק",
        "\u{627}1",
        "aא",
        // Prohibited, private, unassigned in Unicode 3.2.
        "\u{e001}é",
        "\u{340}a",
        "\u{1d2c}",
        "\u{213b}",
        "\u{32ff}",
        "\u{fffd}",
        "\u{2028}x",
        "\u{200e}x",
        "\u{e0041}x",
        "e\u{301}\u{323}",
        "\u{1100}\u{1161}\u{11a8}",
        "\u{fdfa}",
        "\u{3a9}\u{2126}",
    ] {
        let quoted = text.replace('\'', "''");
        superuser.query(&format!("ALTER ROLE ann PASSWORD '{quoted}'"));
        let said = log_in(
            &server,
            "ann",
            "postgres",
            password(text),
            &Policy::default(),
        );
        assert_eq!(said, "ann", "{text:?}");
    }
    let long = "x".repeat(900);
    superuser.query(&format!("ALTER ROLE ann PASSWORD '{long}'"));
    let said = log_in(
        &server,
        "ann",
        "postgres",
        password(&long),
        &Policy::default(),
    );
    assert_eq!(said, "ann");
}
