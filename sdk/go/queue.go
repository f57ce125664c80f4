package task

import (
	"encoding/json"
	"fmt"
	"time"
)

// Child is a message that is to be sent.
type Child struct {
	Task string
	// Params are those of the message; {} if they are left out.
	Params any
	// Delay lets it run no sooner than this from now; up to 3 days.
	Delay time.Duration
	// ID, if it is left out, is derived from the parent's, so that a parent that runs twice sends the same.
	ID string
}

// Enqueue enqueues a message for a task, and returns its id. Children are sent when this run has succeeded, and dropped if it does
// not.
func Enqueue(child Child) (string, error) {
	if child.Params == nil {
		child.Params = struct{}{}
	}
	params, err := json.Marshal(child.Params)
	if err != nil {
		return "", fmt.Errorf("enqueue a child: params: %w", err)
	}
	id, err := hostEnqueue(child, params)
	if err != nil {
		return "", fmt.Errorf("enqueue a child: %w", err)
	}
	return id, nil
}
