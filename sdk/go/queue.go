package task

import (
	"encoding/json"
	"fmt"
	"time"
)

// Child is a message that is to be sent.
type Child struct {
	Task string
	// Params are the message's params; {} if they are left out.
	Params any
	// Delay is the shortest time from now until the child runs; up to 366 days.
	Delay time.Duration
	// ID is the child's id. If it is left out, it is derived from the parent's id, so that a parent that runs
	// twice sends the same id.
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
