package task

import "time"

// ID is the message's id, the same in every attempt: the key for work that must not be done twice.
func ID() string { return hostID() }

// Name is the name under which this task was called.
func Name() string { return hostTask() }

// Root is the id of the message at the top of the chain of parents.
func Root() string { return hostRoot() }

// Attempt is the number of this attempt; the first is 1.
func Attempt() int { return int(hostAttempt()) }

// MaxAttempts is the number of attempts that the task's settings allow.
func MaxAttempts() int { return int(hostMaxAttempts()) }

// Depth is the number of parents above this message.
func Depth() int { return int(hostDepth()) }

// Deadline is the time at which wasq ends this run.
func Deadline() time.Time { return time.UnixMilli(int64(hostDeadline())) }

// Parent is the id of the message whose task enqueued this one, if one did.
func Parent() (id string, ok bool) { return hostParent() }

// Traceparent is the W3C trace context that came with the message, if one did.
func Traceparent() (value string, ok bool) { return hostTraceparent() }
