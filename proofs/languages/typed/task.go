// Params of many types. The same as the other sources of this folder.
package main

import (
	"time"

	"wasq/task"
)

type Home struct {
	Street string  `json:"street"`
	Zip    *uint16 `json:"zip"`
}

type Params struct {
	// Who it is.
	User   string           `json:"user"`
	Count  int32            `json:"count,omitempty"`
	Ratio  float64          `json:"ratio,omitempty"`
	Note   *string          `json:"note"`
	Kind   *string          `json:"kind"`
	Home   *Home            `json:"home"`
	Tags   []string         `json:"tags,omitempty"`
	Scores map[string]int64 `json:"scores,omitempty"`
	Since  *time.Time       `json:"since"`
}

type Output struct {
	User string `json:"user"`
}

func init() { task.Handle(typed) }
func main() {}

func typed(params Params) (Output, error) {
	return Output{params.User}, nil
}
