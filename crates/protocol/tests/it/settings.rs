//! Settings files: the valid ones, and the refused ones.

use std::time::Duration;

use expect_test::{Expect, expect};
use wasq_protocol::{AllowedHost, Backoff, ByteCount, Caps, Missed, Settings};

#[track_caller]
fn refused(toml: &str, expected: Expect) {
    let error = Settings::from_toml(toml).expect_err("the settings are not valid");
    expected.assert_eq(&error.to_string());
}

#[test]
fn all_keys() {
    let settings = Settings::from_toml(
        r#"
        timeout = "1m 30s"
        memory = "256MiB"
        max_attempts = 3
        backoff = { base = "500ms", cap = "1h" }
        allow_hosts = ["https://api.github.com", "http://*.example.com:8080"]
        [env]
        GITHUB_API = "https://api.github.com"
        "#,
    )
    .expect("valid");
    assert_eq!(settings.timeout, Duration::from_secs(90));
    assert_eq!(settings.memory, ByteCount::mib(256));
    assert_eq!(
        settings.backoff,
        Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(3600) }
    );
    assert_eq!(settings.allow_hosts.len(), 2);
}

#[test]
fn everything_has_a_default() {
    assert_eq!(Settings::from_toml("").expect("valid"), Settings::default());
}

#[test]
fn typo() {
    refused(
        "timeout = \"1s\"\nmemroy = \"1MiB\"\n",
        expect![[r#"
            TOML parse error at line 2, column 1
              |
            2 | memroy = "1MiB"
              | ^^^^^^
            unknown field `memroy`, expected one of `timeout`, `memory`, `max_attempts`, `backoff`, `allow_hosts`, `keep`, `once`, `idempotency_key`, `env`, `secrets`, `compatible`, `schedule`"#]],
    );
}

#[test]
fn wrong_values() {
    refused(
        "timeout = 30",
        expect![[r#"
            TOML parse error at line 1, column 11
              |
            1 | timeout = 30
              |           ^^
            invalid type: integer `30`, expected a string"#]],
    );
    refused(
        "timeout = \"soon\"",
        expect![[r#"
            TOML parse error at line 1, column 11
              |
            1 | timeout = "soon"
              |           ^^^^^^
            "soon" is no duration such as "30s", "15m" or "500ms""#]],
    );
    refused(
        "allow_hosts = [\"api.github.com\"]",
        expect![[r#"
            TOML parse error at line 1, column 15
              |
            1 | allow_hosts = ["api.github.com"]
              |               ^^^^^^^^^^^^^^^^^^
            "api.github.com" has no scheme; write a host like "https://api.example.com" or "http://*.example.com:8080""#]],
    );
}

#[test]
fn out_of_range() {
    refused(
        "timeout = \"1h\"",
        expect![[r#"timeout = "1h" is out of range: timeout lies between 100ms and 14m"#]],
    );
    refused(
        "max_attempts = 0",
        expect![[r#"max_attempts = "0" is out of range: max_attempts lies between 1 and 100"#]],
    );
    refused(
        "memory = \"1KiB\"",
        expect![[r#"memory = "1KiB" is out of range: memory lies between 1MiB and 4GiB"#]],
    );
    refused(
        "backoff = { base = \"1m\", cap = \"1s\" }",
        expect![[r#"backoff.cap = "1s" is out of range: backoff.cap lies between 1m and 12h"#]],
    );
    refused("keep = \"31d\"", expect![[r#"keep = "744h" is out of range: keep lies between 1m and 720h"#]]);
    refused(
        "[env]\n\"A=B\" = \"c\"",
        expect![[
            r#"env: "A=B" is no name for an environment variable: it must not be empty nor contain '=' or NUL"#
        ]],
    );
    refused(
        "[secrets]\n\"1ST\" = \"ssm:/wasq/first\"",
        expect![[
            r#"secrets: "1ST" is no name for a secret: letters, digits and _ (no digit first), at most 64"#
        ]],
    );
    refused(
        "[env]\nTOKEN = \"a\"\n[secrets]\nTOKEN = \"ssm:/wasq/token\"",
        expect![[
            r#"TOKEN is in [env] and in [secrets]: the task sees one environment, so give one of them another name"#
        ]],
    );
    refused(
        "[secrets]\nTOKEN = { from = \"ssm:/wasq/token\", hosts = [\"api.github.com\"] }",
        expect![[r#"
        TOML parse error at line 2, column 45
          |
        2 | TOKEN = { from = "ssm:/wasq/token", hosts = ["api.github.com"] }
          |                                             ^^^^^^^^^^^^^^^^^^
        "api.github.com" has no scheme; write a host like "https://api.example.com" or "http://*.example.com:8080""#]],
    );
}

#[test]
fn caps_only_narrow() {
    let caps = Caps {
        timeout: Duration::from_secs(10),
        memory: ByteCount::mib(64),
        max_attempts: 2,
        keep: Duration::from_secs(3600),
    };
    let settings = Settings::default().capped(&caps);
    assert_eq!(settings.keep, caps.keep);
    assert_eq!((settings.timeout, settings.memory, settings.max_attempts), (caps.timeout, caps.memory, 2));
    let narrow = Settings { timeout: Duration::from_secs(1), ..Settings::default() };
    assert_eq!(narrow.capped(&caps).timeout, Duration::from_secs(1));
}

#[track_caller]
fn allows(entry: &str, https: bool, host: &str, port: u16) -> bool {
    entry.parse::<AllowedHost>().expect("a valid entry").allows(https, host, port)
}

#[test]
fn allowed_hosts() {
    assert!(allows("https://api.github.com", true, "api.github.com", 443));
    assert!(allows("https://API.github.com", true, "Api.GitHub.com", 443));
    assert!(!allows("https://api.github.com", false, "api.github.com", 443), "another scheme");
    assert!(!allows("https://api.github.com", true, "api.github.com", 8443), "another port");
    assert!(!allows("https://api.github.com", true, "xapi.github.com", 443), "another host");
    assert!(allows("http://*.example.com:8080", false, "a.b.example.com", 8080));
    assert!(!allows("http://*.example.com", false, "example.com", 80), "the domain itself is no subdomain");
    assert!(!allows("http://*.example.com", false, "badexample.com", 80));
    assert!(!allows("http://*.example.com", false, ".example.com", 80));
    assert!(allows("http://[::1]:9000", false, "::1", 9000));
    assert!(allows("http://[0:0::1]", false, "0:0:0:0:0:0:0:1", 80), "one address, two notations");
}

#[test]
fn allowed_hosts_that_are_none() {
    for entry in [
        "ftp://a",
        "https://",
        "https://*",
        "https://*.",
        "https://a.*.b",
        "https://a/b",
        "https://u@a",
        "https://a:x",
        "https://a:1:2",
        "https://[::1",
        "https://[a]",
        "https://::1",
        "https://bücher.example",
    ] {
        assert!(entry.parse::<AllowedHost>().is_err(), "{entry}");
    }
}

#[test]
fn backoff_doubles_up_to_its_cap() {
    let backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(15) };
    let ceilings: Vec<_> = [1, 2, 3, 4, 100].map(|attempt| backoff.ceiling(attempt).as_secs()).into();
    assert_eq!(ceilings, [2, 4, 8, 15, 15]);
}

#[test]
fn schedules() {
    let settings = Settings::from_toml(
        r#"
        [[schedule]]
        cron = "0 7 * * *"

        [[schedule]]
        name = "often"
        every = "90m"
        missed = "run"
        params = { user = "javimb", tags = ["a"] }
        "#,
    )
    .expect("valid");
    let [daily, often] = &settings.schedule[..] else { panic!("two schedules") };
    assert_eq!((daily.when.to_string(), &daily.name), ("0 7 * * * (UTC)".to_owned(), &None));
    assert_eq!((often.when.to_string(), often.missed), ("every 1h 30m".to_owned(), Missed::Run));
    let task = "hello".parse().expect("a name");
    assert_eq!(
        daily.body(&task, "2026-11-26T07:00:00Z"),
        r#"{"task":"hello","params":{},"id":"hello@2026-11-26T07:00:00Z"}"#
    );
    assert_eq!(
        often.body(&task, "<time>"),
        r#"{"task":"hello","params":{"tags":["a"],"user":"javimb"},"id":"hello/often@<time>"}"#
    );
}

#[test]
fn schedules_that_are_none() {
    let said = |toml: &str| {
        let error = Settings::from_toml(&format!("[[schedule]]\n{toml}")).expect_err("refused").to_string();
        error.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(
        said(""),
        "a schedule needs cron, such as cron = \"0 7 * * *\", or every, such as every = \"15m\""
    );
    assert_eq!(
        said("cron = '@daily'\nevery = '1h'"),
        "a schedule has either cron or every, and this one has both"
    );
    assert_eq!(
        said("every = '90s'"),
        "every = \"90s\": a whole number of minutes is needed, from 1m to 365d"
    );
    assert_eq!(
        said("every = '366d'"),
        "every = \"366d\": a whole number of minutes is needed, from 1m to 365d"
    );
    assert_eq!(
        said("every = 'often'"),
        "every: \"often\" is no duration such as \"30s\", \"15m\" or \"500ms\""
    );
    assert_eq!(
        said("every = '1h'\ntimezone = 'Europe/Berlin'"),
        "a schedule with every has no timezone: it fires at multiples of that time since 1970 in UTC"
    );
    assert_eq!(
        said("cron = '@daily'\nname = 'a b'"),
        "the name of a schedule has 1 to 32 characters of a-z A-Z 0-9 _ -, and this is \"a b\""
    );
    assert_eq!(
        said("cron = '@daily'\nparams = { day = 2026-11-26 }"),
        "params of a schedule: JSON has no dates; write the date in quotes"
    );
    assert!(said("cron = '@daily'\nmisssed = 'run'").starts_with("unknown field `misssed`"));
    assert!(said("cron = '61 * * * *'").contains("\"61\" is not a number from 0 to 59"));
    assert_eq!(
        said("every = '1h'\n[[schedule]]\nevery = '2h'"),
        "schedule: two have no name; if a task has several schedules, each has a name of its own"
    );
    assert_eq!(
        said("every = '1h'\nname = 'a'\n[[schedule]]\nname = 'a'\nevery = '2h'"),
        "schedule: two have the name \"a\"; if a task has several schedules, each has a name of its own"
    );
}
