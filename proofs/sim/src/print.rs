//! Tables.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

use wasq_sim::{Architecture, Campaigned, Counted, Kind, Prices, TASKS_A_WORLD, Way};

/// Prints the progress for people who wait: one line, which is overwritten each time.
pub(crate) fn progress(what: &str, done: &Campaigned, tasks: u64) {
    if std::io::stderr().is_terminal() {
        let sent = done.worlds * u64::from(TASKS_A_WORLD);
        eprint!("\r\x1b[K{what}: {sent} of {tasks} messages, {} crashes", done.report.crashes());
        let _ = std::io::stderr().flush();
        if sent >= tasks {
            eprint!("\r\x1b[K");
        }
    }
}

/// Prints the totals of the worlds, one column for each protocol.
pub(crate) fn worlds(columns: &[(&str, &Campaigned)]) {
    let row = |name: &str, value: &dyn Fn(&Campaigned) -> String| {
        print!("{name:<34}");
        columns.iter().for_each(|(_, column)| print!("{:>24}", value(column)));
        println!();
    };
    print!("{:<34}", "");
    columns.iter().for_each(|(name, _)| print!("{name:>24}"));
    println!();
    row("messages accepted", &|c| grouped(c.report.totals.accepted));
    row("  of these, children", &|c| grouped(c.report.totals.children));
    row("ended in success", &|c| grouped(c.report.totals.succeeded));
    row("ended in the dead-letter queue", &|c| grouped(c.report.totals.dead));
    row("cancelled", &|c| grouped(c.report.totals.cancelled));
    row("LOST", &|c| grouped(c.report.totals.lost));
    row("never ended, still in the queue", &|c| grouped(c.report.looping));
    print!("{:<34}", "worlds with a broken promise");
    // The reference has promised nothing.
    columns.iter().enumerate().for_each(|(i, (_, column))| {
        print!("{:>24}", if i == 0 { grouped(column.failed.len() as u64) } else { "-".to_owned() });
    });
    println!();
    row("runs", &|c| grouped(c.report.totals.runs));
    row("  attempts for each message", &|c| {
        format!("{:.3}", c.report.totals.runs as f64 / c.report.totals.accepted.max(1) as f64)
    });
    row("  cut off by a crash", &|c| grouped(c.report.totals.cut_off));
    row("  duplicates", &|c| grouped(c.report.totals.duplicates));
    row("  failed beyond the limit", &|c| grouped(c.report.totals.beyond_limit));
    row("steps executed", &|c| grouped(c.report.totals.steps));
    row("  known from an earlier run", &|c| grouped(c.report.totals.steps_spared));
    row("firings of schedules", &|c| grouped(c.report.totals.fired));
    for (name, kind) in
        [("consumer", Kind::Consumer), ("worker", Kind::Worker), ("publisher", Kind::Publisher)]
    {
        row(&format!("crashes: {name}"), &|c| grouped(c.report.crashes.get(&kind).copied().unwrap_or(0)));
    }
    row("virtual time, in days", &|c| format!("{:.1}", c.report.lasted.as_secs_f64() / 86_400.0));
}

/// Prints the cost of a million tasks, one column for each way.
pub(crate) fn cost(title: &str, columns: &[(Way, Counted)], prices: &Prices, message_bytes: u64) {
    println!("{title}");
    let row = |name: &str, value: &dyn Fn(&Counted) -> String| {
        print!("  {name:<32}");
        columns.iter().for_each(|(_, column)| print!("{:>15}", value(column)));
        println!();
    };
    print!("  {:<32}", "");
    columns.iter().for_each(|(way, _)| print!("{:>15}", way.name()));
    println!();
    row("sent", &|c| grouped(u64::from(c.sent)));
    row("lost", &|c| grouped(c.report.totals.lost + c.report.looping));
    row("slowest start, in seconds", &|c| format!("{:.1}", c.report.slowest_start.as_secs_f64()));
    let names: BTreeSet<_> = columns.iter().flat_map(|(_, c)| c.report.calls.keys().copied()).collect();
    for name in names {
        let calls = |c: &Counted| c.calls_per_million().get(name).copied().unwrap_or(0.0);
        row(name, &|c| grouped(calls(c).round() as u64));
    }
    let dollars = |c: &Counted, architecture| c.dollars(prices, architecture, message_bytes);
    if columns.iter().any(|(_, c)| dollars(c, Architecture::Arm64).runs > 0.0) {
        row("dollars: table of runs", &|c| format!("{:.2}", dollars(c, Architecture::Arm64).runs));
    }
    row("dollars: SQS", &|c| format!("{:.2}", dollars(c, Architecture::Arm64).sqs));
    for (name, architecture) in [("arm64", Architecture::Arm64), ("x86_64", Architecture::X86_64)] {
        row(&format!("dollars: worker, {name}"), &|c| format!("{:.2}", dollars(c, architecture).worker));
        row(&format!("dollars: consumer, {name}"), &|c| format!("{:.2}", dollars(c, architecture).consumer));
        row(&format!("dollars for a million, {name}"), &|c| {
            format!("{:.2}", dollars(c, architecture).total())
        });
    }
    println!();
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
