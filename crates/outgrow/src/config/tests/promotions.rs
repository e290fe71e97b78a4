//! `[service.NAME.promote]`: its own rules, and those between it and other tables.

use super::*;

/// Checks the table of a service of `[postgres]`; line 7 is the first of `table`.
#[track_caller]
fn check_table(table: &str, expected: &[&str]) {
    let before = "[postgres]\nlisten = [\"127.0.0.1:6432\"]\nservice = \"db\"\n[service.db]\n\
                  endpoints = [\"a:5432\", \"b:5432\"]\n[service.db.promote]\n";
    check(&format!("{before}{table}"), expected);
}

#[test]
fn who_promotes_says_how_the_old_primary_is_fenced() {
    check_table("user = \"outgrow\"\n", &[]);
    check_table("", &["6:service.db.promote: `user` is missing"]);
    check_table(
        "user = \"outgrow\"\nmode = \"automatic\"\n",
        &["8:service.db.promote.mode: a primary that is only out of our reach would go on"],
    );
    let alone = "8:service.db.promote.mode: warning: there is no [leader]";
    let automatic = "user = \"outgrow\"\nmode = \"automatic\"\n";
    check_table(&format!("{automatic}fence = \"./fence\"\n"), &[alone]);
    check_table(
        &format!("{automatic}fence = [\"fence\", \"--off\"]\n"),
        &[alone],
    );
    check_table(
        &format!("{automatic}fence = \"none\"\n"),
        &[
            alone,
            "9:service.db.promote.fence: warning: the old primary is not fenced",
        ],
    );
    check_table(
        &format!("{automatic}fence = \"./fence\"\n[leader.redis]\nserver = \"127.0.0.1:6379\"\n"),
        &[],
    );
    check_table(
        "user = \"outgrow\"\nfence = \"\"\n",
        &["8:service.db.promote.fence: the command is empty"],
    );
    check_table(
        "user = \"outgrow\"\nafter = \"0s\"\nfense = \"x\"\n",
        &[
            "8:service.db.promote.after: \"0s\" is outside of what is possible",
            "9:service.db.promote.fense: unknown key \"fense\" | did you mean `fence`?",
        ],
    );
}

#[test]
fn only_servers_of_the_pool_are_promoted() {
    check(
        "[service.web.promote]\nuser = \"outgrow\"\n",
        &["1:service.web.promote: no database of [postgres] leads to service web"],
    );
    check(
        "[postgres]\nlisten = [\"127.0.0.1:6432\"]\nservice = \"db\"\n[service.db]\n\
         endpoints = [\"a:5432\"]\n[service.db.promote]\nuser = \"outgrow\"\n",
        &["6:service.db.promote: warning: service db has no replica"],
    );
}
