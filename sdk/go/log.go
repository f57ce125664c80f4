package task

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
)

// lines passes the lines of log/slog on to the run's log.
type lines struct {
	prefix     string
	attributes string
}

func init() {
	slog.SetDefault(slog.New(lines{}))
	// Lines of the older package log go to stderr, as they always did.
	log.SetOutput(os.Stderr)
	log.SetFlags(0)
}

func (lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, record slog.Record) error {
	text := strings.Builder{}
	text.WriteString(record.Message)
	text.WriteString(l.attributes)
	record.Attrs(func(attribute slog.Attr) bool {
		fmt.Fprintf(&text, " %s%s=%v", l.prefix, attribute.Key, attribute.Value)
		return true
	})
	level := 0
	for i, least := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if record.Level >= least {
			level = i + 1
		}
	}
	hostLog(level, text.String())
	return nil
}

func (l lines) WithAttrs(attributes []slog.Attr) slog.Handler {
	for _, attribute := range attributes {
		l.attributes += fmt.Sprintf(" %s%s=%v", l.prefix, attribute.Key, attribute.Value)
	}
	return l
}

func (l lines) WithGroup(name string) slog.Handler {
	l.prefix += name + "."
	return l
}
