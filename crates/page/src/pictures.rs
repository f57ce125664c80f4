//! Pictures of numbers over time, as SVG. The style sheet has their colours.

use std::fmt::Write;

use maud::{Markup, html};
use wasq_protocol::{OverviewSlice, Quantiles, RunItem, Timestamp};

use crate::data::Span;
use crate::text::{count, duration, ms};

/// The size of a picture, in units of its own.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// The runs of each slice: those that succeeded, and above them those that failed.
pub(crate) fn runs(slices: &[OverviewSlice], span: Span) -> Markup {
    let most = slices.iter().map(|slice| slice.succeeded + slice.failed).max().unwrap_or(0);
    let all: u64 = slices.iter().map(|slice| slice.succeeded + slice.failed).sum();
    let failed: u64 = slices.iter().map(|slice| slice.failed).sum();
    let said = format!("{} runs in the last {}, of these {} failed", count(all), name(span), count(failed));
    let step = WIDTH / slices.len().max(1) as f64;
    let height = |runs: u64| if most == 0 { 0.0 } else { runs as f64 / most as f64 * (HEIGHT - 4.0) };
    let per_second = most as f64 / span.slice().as_secs_f64();
    html! {
        figure {
            figcaption {
                b { "Runs" } " "
                span.note { "top of the picture: " (rate(per_second)) " a second" }

                div.keys { span.key.good { "succeeded" } span.key.bad { "failed" } }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(said) preserveAspectRatio="none" {
                @for (i, slice) in slices.iter().enumerate() {
                    @let (good, bad) = (height(slice.succeeded), height(slice.failed));
                    @let x = i as f64 * step + 0.5;
                    g {
                        title { (slice_title(slices.len() - i, span, slice)) }
                        rect.touch x=(num(x)) y="0" width=(num(step - 1.0)) height=(HEIGHT) {}
                        rect.good x=(num(x)) y=(num(HEIGHT - good)) width=(num(step - 1.0)) height=(num(good)) {}
                        @if slice.failed > 0 {
                            rect.bad x=(num(x)) y=(num(HEIGHT - good - bad.max(2.0))) width=(num(step - 1.0)) height=(num(bad.max(2.0))) {}
                        }
                    }
                }
            }
            (axis(span))
        }
    }
}

fn slice_title(ago: usize, span: Span, slice: &OverviewSlice) -> String {
    let minutes = ago as u64 * span.slice().as_secs() / 60;
    let mut text = format!("{minutes} min ago: {} succeeded, {} failed", slice.succeeded, slice.failed);
    for (what, quantiles) in [("wait", slice.wait), ("run", slice.run)] {
        if let Some(Quantiles { p50, p95, p99 }) = quantiles {
            let _ = write!(text, "; {what} {} / {} / {}", ms(p50), ms(p95), ms(p99));
        }
    }
    text
}

/// The quantiles of a duration in each slice, on a logarithmic scale.
pub(crate) fn durations(
    title: &str,
    slices: &[OverviewSlice],
    span: Span,
    of: impl Fn(&OverviewSlice) -> Option<Quantiles>,
) -> Markup {
    let points: Vec<(usize, Quantiles)> =
        slices.iter().enumerate().filter_map(|(i, slice)| Some((i, of(slice)?))).collect();
    let low = points.iter().map(|(_, q)| q.p50).fold(f64::INFINITY, f64::min).clamp(0.01, 1e7);
    let high = points.iter().map(|(_, q)| q.p99).fold(0.0, f64::max).max(low * 10.0);
    let y = |value: f64| {
        let part = (value.max(low) / low).ln() / (high / low).ln();
        HEIGHT - 4.0 - part.clamp(0.0, 1.0) * (HEIGHT - 8.0)
    };
    let step = WIDTH / slices.len().max(1) as f64;
    let path = |value: &dyn Fn(&Quantiles) -> f64| {
        let mut path = String::new();
        let mut last = None;
        for (i, quantiles) in &points {
            // A line only between neighbours; a point alone is a short line.
            let x = (*i as f64 + 0.5) * step;
            let begins = last.is_none_or(|last: usize| last + 1 != *i);
            let _ =
                write!(path, "{}{} {} ", if begins { "M" } else { "L" }, num(x), num(y(value(quantiles))));
            if begins {
                let _ = write!(path, "h 0.01 ");
            }
            last = Some(*i);
        }
        path
    };
    let newest = points.last().map(|(_, quantiles)| *quantiles);
    let said = match newest {
        Some(Quantiles { p50, p95, p99 }) => {
            format!("{title}: last {}, {}, {} for 50, 95 and 99 % of the runs", ms(p50), ms(p95), ms(p99))
        }
        None => format!("{title}: no runs"),
    };
    html! {
        figure {
            figcaption {
                b { (title) } " "
                @if points.is_empty() { span.note { "no runs" } }
                @else { span.note { (ms(low)) " to " (ms(high)) ", logarithmic" } }
                div.keys { span.key.p50 { "50 %" } span.key.p95 { "95 %" } span.key.p99 { "99 %" } }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(said) preserveAspectRatio="none" {
                path.line.p99 d=(path(&|q| q.p99)) {}
                path.line.p95 d=(path(&|q| q.p95)) {}
                path.line.p50 d=(path(&|q| q.p50)) {}
                @for (i, slice) in slices.iter().enumerate() {
                    g { title { (slice_title(slices.len() - i, span, slice)) }
                        rect.touch x=(num(i as f64 * step)) y="0" width=(num(step)) height=(HEIGHT) {} }
                }
            }
            (axis(span))
        }
    }
}

/// The times below a picture.
fn axis(span: Span) -> Markup {
    let [from, middle] = match span {
        Span::Hour => ["60 min ago", "30 min"],
        Span::Day => ["24 h ago", "12 h"],
    };
    html! { div.axis aria-hidden="true" { span { (from) } span { (middle) } span { "now" } } }
}

fn name(span: Span) -> &'static str {
    match span {
        Span::Hour => "hour",
        Span::Day => "day",
    }
}

/// The runs of a task, very small.
pub(crate) fn spark(by_slice: &[u64]) -> Markup {
    let most = by_slice.iter().copied().max().unwrap_or(0).max(1);
    let mut path = String::from("M0 20 ");
    for (i, runs) in by_slice.iter().enumerate() {
        let _ = write!(path, "L{i} {} ", num(20.0 - *runs as f64 / most as f64 * 18.0));
    }
    let _ = write!(path, "L{} 20 Z", by_slice.len().saturating_sub(1));
    html! {
        svg.spark viewBox=(format!("0 0 {} 20", by_slice.len().max(2) - 1)) preserveAspectRatio="none" aria-hidden="true" {
            path d=(path) {}
        }
    }
}

/// When the attempts of a run were under way, from its send to its end.
pub(crate) fn timeline(run: &RunItem, now: Timestamp) -> Option<Markup> {
    let from = run.sent.or(run.started)?;
    let until = run.ended.unwrap_or(now).max(from);
    let whole = until.since(from).as_secs_f64().max(0.001);
    let x = |at: Timestamp| (at.since(from).as_secs_f64() / whole).min(1.0) * WIDTH;
    let bars: Vec<(f64, f64, &str, String)> = run
        .history
        .iter()
        .map(|end| {
            let ended = x(end.ended);
            let width = (end.run_ms / 1000.0 / whole * WIDTH).clamp(2.0, WIDTH);
            let class = if end.kind.is_some() { "bad" } else { "good" };
            let how = end.kind.map_or("success", |kind| kind.as_str());
            (
                (ended - width).max(0.0),
                width,
                class,
                format!("attempt {}: {how}, {}", end.attempt, ms(end.run_ms)),
            )
        })
        .collect();
    let said = format!("{} attempts in {}", run.history.len(), duration(until.since(from)));
    Some(html! {
        figure.timeline {
            svg viewBox=(format!("0 0 {WIDTH} 24")) role="img" aria-label=(said) preserveAspectRatio="none" {
                rect.wait x="0" y="10" width=(WIDTH) height="4" {}
                @for (x, width, class, title) in &bars {
                    rect class=(class) x=(num(*x)) y="2" width=(num(*width)) height="20" { title { (title) } }
                }
                @for step in &run.steps {
                    rect.step x=(num(x(step.saved) - 1.0)) y="0" width="2" height="24" { title { "step " (crate::text::line(&step.name, 100)) } }
                }
            }
            div.axis aria-hidden="true" { span { "sent" } span { (duration(until.since(from))) } span { @if run.ended.is_some() { "ended" } @else { "now" } } }
        }
    })
}

fn num(value: f64) -> String {
    format!("{value:.1}")
}

fn rate(per_second: f64) -> String {
    match per_second {
        _ if per_second == 0.0 => "0".to_owned(),
        _ if per_second < 10.0 => format!("{per_second:.2}"),
        _ => count(per_second.round() as u64),
    }
}
