//! The screen of `wasq top`.

use anyhow::Result;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Words};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};
use wasq_page::Span;
use wasq_protocol::{MessageCounts, Overview, Quantiles, TaskLoad};

/// The state of the screen.
pub(super) struct Screen {
    name: String,
    pub(super) span: Span,
    overview: Overview,
    /// Why the last look failed.
    problem: Option<String>,
    table: TableState,
}

impl Screen {
    pub(super) fn new(name: String, span: Span, overview: Overview) -> Self {
        Self { name, span, overview, problem: None, table: TableState::default() }
    }

    /// Shows what was seen. If that failed, the last state stays, with the reason.
    pub(super) fn show(&mut self, seen: Result<Overview>) {
        match seen {
            Ok(overview) => (self.overview, self.problem) = (overview, None),
            Err(e) => self.problem = Some(format!("{e:#}")),
        }
    }

    pub(super) fn scroll(&mut self, rows: i32) {
        let last = self.overview.tasks.len().saturating_sub(1);
        let to = self.table.offset().saturating_add_signed(rows as isize).min(last);
        *self.table.offset_mut() = to;
    }
}

const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
/// Eighths of a block, from the lowest to the highest.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Slices that are put together into one character of a task's line.
const SLICES: usize = 4;

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let rows = [
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ];
    let [head, title, picture, failures, tasks, foot] = Layout::vertical(rows).areas(frame.area());
    let Screen { name, span, overview, problem, table } = screen;
    let note = match (&*problem, &overview.note) {
        (Some(problem), _) => Line::styled(one_line(problem), BAD),
        (None, _) if overview.paused == Some(true) => Line::styled(Overview::PAUSED, BAD),
        (None, Some(note)) => Line::raw(one_line(note)),
        (None, None) => Line::default(),
    };
    frame.render_widget(
        Paragraph::new(vec![Line::styled(one_line(name), HEAD), counts(overview.counts), note]),
        head,
    );
    pictures(frame, [title, picture], *span, overview);
    frame.render_widget(kinds(overview), failures);
    let widths = [
        Constraint::Min(16),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(16),
    ];
    let header = Row::new(["TASK", "SUCCEEDED", "FAILED", "RUN 50 %", "99 %", "RUNS OVER TIME"]).style(HEAD);
    let list = Table::new(overview.tasks.iter().map(row), widths).header(header);
    frame.render_stateful_widget(list, tasks, table);
    frame.render_widget(Paragraph::new("q ends   h last hour   d last day   up and down scroll"), foot);
}

fn counts(counts: MessageCounts) -> Line<'static> {
    let MessageCounts { waiting, in_flight, dead, delayed: _, delayed_or_more: _ } = counts;
    let delayed = counts.delayed_text();
    let words = format!("{waiting} waiting   {in_flight} in flight or retrying   {delayed} delayed   ");
    let style = if dead > 0 { BAD } else { Style::new() };
    Line::from(vec![Words::raw(words), Words::styled(format!("{dead} dead letters"), style)])
}

/// The runs over time, and below them those that failed.
fn pictures(frame: &mut Frame<'_>, [title, picture]: [Rect; 2], span: Span, overview: &Overview) {
    let (mut succeeded, mut failed) = (0, 0);
    for slice in &overview.slices {
        succeeded += slice.succeeded;
        failed += slice.failed;
    }
    let words = format!("runs in the last {}: {succeeded} succeeded, {failed} failed", span.as_str());
    frame.render_widget(Paragraph::new(Line::styled(words, HEAD)), title);
    let [runs, failures] = Layout::vertical([Constraint::Length(3), Constraint::Length(1)]).areas(picture);
    let all = overview.slices.iter().map(|slice| slice.succeeded + slice.failed);
    frame.render_widget(Sparkline::default().data(all).style(GOOD), runs);
    let failed = overview.slices.iter().map(|slice| slice.failed);
    frame.render_widget(Sparkline::default().data(failed).style(BAD), failures);
}

fn kinds(overview: &Overview) -> Paragraph<'static> {
    let kinds: Vec<_> =
        overview.failures.iter().map(|(kind, number)| format!("{} {number}", kind.as_str())).collect();
    let words =
        if kinds.is_empty() { String::new() } else { format!("failed by kind: {}", kinds.join(", ")) };
    Paragraph::new(words)
}

fn row(load: &TaskLoad) -> Row<'static> {
    let [task, succeeded, failed, p50, p99] = cells(load);
    let failed = Cell::from(failed).style(if load.failed > 0 { BAD } else { Style::new() });
    Row::new([task.into(), succeeded.into(), failed, p50.into(), p99.into(), spark(&load.by_slice).into()])
}

/// Name, numbers and times of a task.
fn cells(load: &TaskLoad) -> [String; 5] {
    let TaskLoad { task, live, refused, succeeded, failed, run, by_slice: _ } = load;
    let state = match (live, refused) {
        (_, true) => " (refused upload)",
        (false, false) => " (not live)",
        (true, false) => "",
    };
    let time = |of: fn(&Quantiles) -> f64| run.as_ref().map_or("-".to_owned(), |run| ms(of(run)));
    [
        format!("{task}{state}"),
        succeeded.to_string(),
        failed.to_string(),
        time(|run| run.p50),
        time(|run| run.p99),
    ]
}

fn spark(by_slice: &[u64]) -> String {
    let numbers: Vec<u64> = by_slice.chunks(SLICES).map(|slices| slices.iter().sum()).collect();
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let block = |number: &u64| match number {
        0 => ' ',
        number => BLOCKS[((number * BLOCKS.len() as u64).div_ceil(most) as usize - 1).min(BLOCKS.len() - 1)],
    };
    numbers.iter().map(block).collect()
}

fn ms(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same as text, for what is no terminal.
pub(super) fn plain(overview: &Overview) -> String {
    let MessageCounts { waiting, in_flight, dead, delayed: _, delayed_or_more: _ } = overview.counts;
    let delayed = overview.counts.delayed_text();
    let mut text = format!(
        "{waiting} waiting, {in_flight} in flight or retrying, {delayed} delayed, {dead} dead letters\n"
    );
    if overview.paused == Some(true) {
        text += &format!("{}\n", Overview::PAUSED);
    }
    text.extend(overview.note.iter().map(|note| format!("{note}\n")));
    for load in &overview.tasks {
        let [task, succeeded, failed, p50, p99] = cells(load);
        text += &format!("{task:<40} {succeeded:>9} succeeded {failed:>9} failed {p50:>10} {p99:>10}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use wasq_protocol::{FailureKind, OverviewSlice, Timestamp};

    use super::*;

    fn overview(tasks: usize) -> Overview {
        let slice = |number| OverviewSlice { succeeded: number, failed: number / 10, wait: None, run: None };
        let task = |number: usize| TaskLoad {
            task: format!("task-{number}").parse().expect("a name"),
            live: true,
            refused: false,
            succeeded: 7,
            failed: 0,
            run: Some(Quantiles { p50: 1.0, p95: 20.0, p99: 3000.0 }),
            by_slice: (0..60).collect(),
        };
        Overview {
            counts: MessageCounts { waiting: 3, in_flight: 2, delayed: 300, delayed_or_more: true, dead: 5 },
            since: Timestamp::from_ms(0),
            slices: (0..60).map(slice).collect(),
            failures: vec![(FailureKind::Trap, 4)],
            tasks: (0..tasks).map(task).collect(),
            paused: None,
            note: None,
        }
    }

    fn shown(screen: &mut Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(frame, screen)).expect("it can be drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn the_whole_is_shown() {
        let mut screen = Screen::new("wasq dev".to_owned(), Span::Hour, overview(2));
        let text = shown(&mut screen, 100, 24);
        for part in [
            "wasq dev",
            "3 waiting",
            "300 or more delayed",
            "5 dead letters",
            "1770 succeeded",
            "trap 4",
            "task-1",
            "1.00 ms",
            "3.0 s",
            "▁▂",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_problem_stands_above_the_last_state() {
        let mut screen = Screen::new("wasq dev".to_owned(), Span::Hour, overview(1));
        screen.show(Err(anyhow::anyhow!("it does not\x1b[31m answer")));
        let text = shown(&mut screen, 100, 24);
        assert!(text.contains("it does not [31m answer") && text.contains("task-0"), "{text}");
        screen.show(Ok(overview(1)));
        assert!(!shown(&mut screen, 100, 24).contains("answer"));
    }

    #[test]
    fn many_tasks_scroll_and_any_size_is_drawn() {
        let mut screen = Screen::new("wasq dev".to_owned(), Span::Day, overview(100));
        assert!(!shown(&mut screen, 100, 24).contains("task-50 "));
        screen.scroll(45);
        assert!(shown(&mut screen, 100, 24).contains("task-50 "));
        screen.scroll(1000);
        screen.scroll(-2000);
        assert!(shown(&mut screen, 100, 24).contains("task-0 "));
        for (width, height) in [(1, 1), (5, 3), (40, 10), (300, 100)] {
            shown(&mut screen, width, height);
        }
    }
}
