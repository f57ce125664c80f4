//! Log lines. The fields of an event's spans are fields of its line, as the event's own fields are.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// One JSON object a line: `timestamp`, `level`, `message`, the fields, and `target`. Use it with [`JsonFields`].
#[derive(Debug)]
pub struct JsonLines;

/// One line of text: time, level, target, message, and the fields as `key=value`. Use it with [`JsonFields`].
#[derive(Debug)]
pub struct TextLines;

/// What one line says.
struct Line {
    message: String,
    /// From the outermost span to the event; an inner field replaces an outer one of its name.
    fields: Map<String, Value>,
}

impl Line {
    fn of<S>(context: &FmtContext<'_, S, JsonFields>, event: &Event<'_>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<JsonFields>>();
            if let Some(Ok(span)) = formatted.map(|text| serde_json::from_str::<Map<_, _>>(text)) {
                fields.extend(span);
            }
        }
        let mut own = Own(Map::new());
        event.record(&mut own);
        fields.extend(own.0);
        let message = match fields.remove("message") {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Self { message, fields }
    }
}

/// The fields of an event.
struct Own(Map<String, Value>);

impl Own {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Own {
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

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Line { message, fields } = Line::of(context, event);
        write!(writer, "{{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", event.metadata().level())?;
        write!(writer, ",\"message\":{}", Value::from(message))?;
        for (name, value) in fields {
            write!(writer, ",{}:{value}", Value::from(name))?;
        }
        writeln!(writer, ",\"target\":{}}}", Value::from(event.metadata().target()))
    }
}

impl<S> FormatEvent<S, JsonFields> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
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
        write!(writer, "{dim}")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "{plain} {colour}{level:>5}{plain} {dim}{target}:{plain} {message}")?;
        for (name, value) in fields {
            write!(writer, " {dim}{name}={plain}{value}")?;
        }
        writeln!(writer)
    }
}
