//! `[acme]` and what listeners want of it.

use super::*;

/// Checks the table, with a listener that wants a certificate for this; line 6 is the first of `table`.
#[track_caller]
fn check_table(certificate: &str, table: &str, expected: &[&str]) {
    let before = format!(
        "[listener.s]\naddress = \"[::1]:443\"\n[listener.s.tls]\nacme = [{certificate}]\n"
    );
    check(&format!("{before}[acme]\n{table}"), expected);
}

const AGREED: &str = "terms_agreed = true\n";

#[test]
fn what_an_authority_needs_is_told() {
    let one = "{ names = [\"a.example\"] }";
    check_table(one, AGREED, &[]);
    check_table(one, "", &["5:acme: `terms_agreed` is missing"]);
    check_table(
        one,
        "terms_agreed = false\n",
        &[
            "6:acme.terms_agreed: nothing is ordered before you agree to the authority's terms of service | read them at https://letsencrypt.org",
        ],
    );
    check_table(
        one,
        &format!("{AGREED}directory = \"http://ca.example/\"\n"),
        &["7:acme.directory: \"http://ca.example/\" is not letsencrypt, "],
    );
    check_table(
        one,
        &format!("{AGREED}contact = [\"nobody\"]\n"),
        &["7:acme.contact.0: \"nobody\" is not a mail address: it has one @"],
    );
    check_table(
        one,
        &format!("{AGREED}external_account = {{ id = \"a\", key = \"b c\" }}\n"),
        &["7:acme.external_account.key: this is no key in base64url"],
    );
    check_table(
        "{ names = [\"*.a.example\"] }",
        AGREED,
        &[
            "4:listener.s.tls.acme: *.a.example is proven by a TXT record | write [acme] dns_present",
        ],
    );
    check_table(
        "{ names = [\"*.a.example\"] }",
        &format!("{AGREED}dns_present = \"./add\"\n"),
        &[],
    );
    check_table(
        "{ names = [\"*.a.example\"], challenge = \"http-01\" }",
        AGREED,
        &["4:listener.s.tls.acme.0.challenge: authorities prove *.a.example by dns-01 only"],
    );
    check_table(
        "{ names = [] }",
        AGREED,
        &["4:listener.s.tls.acme.0.names: a certificate is for at least one name"],
    );
    check_table(
        "{ names = [\"a.example\", \"A.example.\"] }",
        AGREED,
        &["4:listener.s.tls.acme.0.names: a.example is in it twice"],
    );
    check_table(
        "{ names = [\"10.0.0.1\"] }",
        AGREED,
        &[
            "4:listener.s.tls.acme.0.names.0: \"10.0.0.1\" is not a host's name: certificates for IP addresses are not got here",
        ],
    );
    check_table(
        "",
        AGREED,
        &["3:listener.s.tls.certificates: TLS needs at least one certificate"],
    );
}

#[test]
fn certificates_and_authority_belong_together() {
    let tls = "[listener.s]\naddress = \"[::1]:443\"\n[listener.s.tls]\n\
               acme = [{ names = [\"a.example\"] }]\n";
    check(
        tls,
        &["4:listener.s.tls.acme: there is no authority to get them from | add [acme]"],
    );
    check(
        &format!("[acme]\n{AGREED}"),
        &["1:acme: warning: no listener wants a certificate of it"],
    );
}
