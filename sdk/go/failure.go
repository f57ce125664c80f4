package task

import (
	"fmt"
	"time"
)

// rejection is an error after which no attempt can succeed.
type rejection struct{ reason string }

func (r *rejection) Error() string { return r.reason }

// delayed is a temporary error with a known end.
type delayed struct {
	after  time.Duration
	reason string
}

func (d *delayed) Error() string { return d.reason }

// Reject is an error that means: this message can never succeed. It goes to the dead-letter queue, with this reason.
func Reject(format string, arguments ...any) error {
	return &rejection{fmt.Sprintf(format, arguments...)}
}

// RetryAfter is an error that means: another attempt, no sooner than after this time.
func RetryAfter(after time.Duration, format string, arguments ...any) error {
	return &delayed{after, fmt.Sprintf(format, arguments...)}
}
