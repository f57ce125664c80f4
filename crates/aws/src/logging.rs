//! Log lines. The fields of an event's spans are fields of its line, as the event's own fields are.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use wasq_protocol::Printable;

/// Keeps the fields of spans for [`JsonLines`] and [`TextLines`]. It writes nothing: most spans end without a line.
#[derive(Debug)]
pub struct SpanFields;

/// The fields of one span, as they were recorded.
struct Fields(Vec<(&'static str, Value)>);

impl<S> Layer<S> for SpanFields
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields(Vec::with_capacity(attributes.metadata().fields().len()));
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }
}

/// Formats no fields of spans: [`SpanFields`] has them.
#[derive(Debug)]
pub struct Unformatted;

impl<'writer> FormatFields<'writer> for Unformatted {
    fn format_fields<R: RecordFields>(&self, _: Writer<'writer>, _: R) -> fmt::Result {
        Ok(())
    }
}

/// One JSON object a line: `timestamp`, `level`, `message`, the fields, and `target`. Use it with [`SpanFields`] and [`Unformatted`].
#[derive(Debug)]
pub struct JsonLines;

/// One line of text: time, level, target, message, and the fields as `key=value`. Use it with [`SpanFields`] and [`Unformatted`].
#[derive(Debug)]
pub struct TextLines;

/// A further line of a message is indented, so that it cannot pass for another message.
const NEXT_LINE: &str = "\n    ";

/// The message and the fields of one line.
struct Line {
    message: String,
    /// In the order of their names. An inner field replaces an outer one of its name.
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    fn of<S>(context: &FmtContext<'_, S, Unformatted>, event: &Event<'_>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // From the event to the outermost span.
        let mut own = Fields(Vec::with_capacity(16));
        event.record(&mut own);
        let Fields(mut fields) = own;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(Fields(of_span)) = span.extensions().get() {
                for (name, value) in of_span.iter().rev() {
                    if !fields.iter().any(|(inner, _)| inner == name) {
                        fields.push((name, value.clone()));
                    }
                }
            }
        }
        fields.sort_by_key(|(name, _)| *name);
        let message = fields.iter().position(|(name, _)| *name == "message").map(|at| fields.remove(at).1);
        let message = match message {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Self { message, fields }
    }
}

/// The bytes of most lines.
const LINE_BYTES: usize = 512;

/// Adds a value as JSON.
fn push_json(line: &mut String, value: &impl serde::Serialize) {
    line.push_str(&serde_json::to_string(value).unwrap_or_default());
}

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}

impl<S> FormatEvent<S, Unformatted> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Unformatted>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Line { message, fields } = Line::of(context, event);
        let mut line = String::with_capacity(LINE_BYTES);
        line.push_str("{\"timestamp\":\"");
        SystemTime.format_time(&mut Writer::new(&mut line))?;
        line.push_str("\",\"level\":\"");
        line.push_str(event.metadata().level().as_str());
        line.push_str("\",\"message\":");
        push_json(&mut line, &message);
        for (name, value) in &fields {
            line.push(',');
            push_json(&mut line, name);
            line.push(':');
            push_json(&mut line, value);
        }
        line.push_str(",\"target\":");
        push_json(&mut line, &event.metadata().target());
        line.push_str("}\n");
        writer.write_str(&line)
    }
}

impl<S> FormatEvent<S, Unformatted> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Unformatted>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Line { message, fields } = Line::of(context, event);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let ansi = writer.has_ansi_escapes();
        let (dim, plain) = if ansi { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let colour = match *level {
            _ if !ansi => "",
            tracing::Level::ERROR => "\x1b[31m",
            tracing::Level::WARN => "\x1b[33m",
            tracing::Level::INFO => "\x1b[32m",
            tracing::Level::DEBUG => "\x1b[34m",
            tracing::Level::TRACE => "\x1b[35m",
        };
        let mut line = String::with_capacity(LINE_BYTES);
        line.push_str(dim);
        SystemTime.format_time(&mut Writer::new(&mut line))?;
        write!(line, "{plain} {colour}{level:>5}{plain} {dim}{target}:{plain} ")?;
        write!(line, "{}", Printable(&message.replace('\n', NEXT_LINE)))?;
        for (name, value) in &fields {
            for part in [" ", dim, name, "=", plain] {
                line.push_str(part);
            }
            write!(line, "{}", Printable(&value.to_string()))?;
        }
        line.push('\n');
        writer.write_str(&line)
    }
}
