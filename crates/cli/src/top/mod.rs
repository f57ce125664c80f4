//! `wasq top`: the overview of the page, in a terminal.

mod screen;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use tokio::sync::mpsc;
use tokio::time::Instant;
#[cfg(feature = "aws")]
use wasq_page::Data;
use wasq_page::Span;
use wasq_protocol::Overview;

use crate::output::{self, Ended};
use crate::runs::Endpoint;
use crate::target::{Target, TargetArgs};
use crate::top::screen::{Screen, draw, plain};
#[cfg(feature = "aws")]
use crate::ui::DeployedPage;

#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// The span of time of the numbers: hour or day
    #[arg(long, default_value = "hour", value_name = "SPAN")]
    pub(crate) span: Span,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Where the numbers come from.
enum Source {
    Here(Box<Endpoint>),
    #[cfg(feature = "aws")]
    Aws(Box<DeployedPage>),
}

/// The intervals between two looks.
const EVERY_HERE: Duration = Duration::from_secs(1);
#[cfg(feature = "aws")]
const EVERY_AWS: Duration = Duration::from_secs(10);
/// How long the thread of the keys waits for one, before it looks whether the command has ended.
const KEY: Duration = Duration::from_millis(200);

/// Something that the reader wants.
enum Wish {
    Span(Span),
    /// Rows further down, or up.
    Scroll(i32),
    /// The terminal has another size.
    Redraw,
    End,
}

pub(crate) async fn top(args: Top, json: bool) -> Result<Ended> {
    let Top { span, target } = args;
    let (source, name) = match target.target().await? {
        Target::Local(data) => {
            (Source::Here(Box::new(Endpoint::of(&data)?)), format!("wasq dev, data in {}", data.display()))
        }
        #[cfg(feature = "aws")]
        Target::Aws(deployment) => {
            let name = format!("{} in {}", deployment.name, deployment.session.region);
            (Source::Aws(Box::new(DeployedPage::of(*deployment)?)), name)
        }
        #[cfg(not(feature = "aws"))]
        Target::Aws(deployment) => deployment.never(),
    };
    let first = source.overview(span).await?;
    if json {
        output::value(&first);
    } else if std::io::stdout().is_terminal() {
        watch(&source, Screen::new(name, span, first)).await?;
    } else {
        output::text(&plain(&first));
    }
    Ok(Ended::Well)
}

impl Source {
    async fn overview(&self, span: Span) -> Result<Overview> {
        match self {
            Self::Here(endpoint) => endpoint.overview(span).await,
            #[cfg(feature = "aws")]
            Self::Aws(page) => page.overview(span).await,
        }
    }

    fn every(&self) -> Duration {
        match self {
            Self::Here(_) => EVERY_HERE,
            #[cfg(feature = "aws")]
            Self::Aws(_) => EVERY_AWS,
        }
    }
}

/// Shows the state again and again, until the reader ends it. The terminal is as before afterwards, also after a panic.
async fn watch(source: &Source, mut screen: Screen) -> Result<()> {
    let mut terminal = ratatui::try_init().context("use the terminal")?;
    let (sender, mut wishes) = mpsc::unbounded_channel();
    let keys = std::thread::spawn(move || keys(&sender));
    let mut next = Instant::now() + source.every();
    let shown = loop {
        if let Err(e) = terminal.draw(|frame| draw(frame, &mut screen)) {
            break Err(e).context("write to the terminal");
        }
        let look = async {
            tokio::time::sleep_until(next).await;
            source.overview(screen.span).await
        };
        tokio::select! {
            seen = look => {
                next = Instant::now() + source.every();
                screen.show(seen);
            }
            wish = wishes.recv() => match wish {
                Some(Wish::Span(span)) => {
                    screen.span = span;
                    next = Instant::now();
                }
                Some(Wish::Scroll(rows)) => screen.scroll(rows),
                Some(Wish::Redraw) => {}
                Some(Wish::End) | None => break Ok(()),
            },
        }
    };
    drop(wishes);
    ratatui::restore();
    let _ = keys.join();
    shown
}

/// Reads keys until nobody wants them any more.
fn keys(wishes: &mpsc::UnboundedSender<Wish>) {
    while !wishes.is_closed() {
        match poll(KEY).and_then(|there| there.then(read).transpose()) {
            Ok(None) => {}
            Ok(Some(event)) => {
                // The command may have ended just now.
                let _ = wish(&event).map(|wish| wishes.send(wish));
            }
            // There is no terminal any more.
            Err(_) => {
                let _ = wishes.send(Wish::End);
                return;
            }
        }
    }
}

fn wish(event: &Event) -> Option<Wish> {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Some(Wish::Redraw),
        _ => return None,
    };
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
        KeyCode::Char('h') => Some(Wish::Span(Span::Hour)),
        KeyCode::Char('d') => Some(Wish::Span(Span::Day)),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Scroll(-1)),
        KeyCode::PageDown => Some(Wish::Scroll(10)),
        KeyCode::PageUp => Some(Wish::Scroll(-10)),
        _ => None,
    }
}
