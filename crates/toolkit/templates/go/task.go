// The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}.
package main

import (
	"log/slog"

	"wasq/task"
)

type Params struct {
	// Who is greeted.
	Name string `json:"name"`
}

type Output struct {
	Greeting string `json:"greeting"`
}

func init() { task.Handle(greet) }
func main() {}

func greet(params Params) (Output, error) {
	if params.Name == "" {
		return Output{}, task.Reject("params.name is empty")
	}
	slog.Info("greeting " + params.Name)
	return Output{"Hello, " + params.Name + "!"}, nil
}
