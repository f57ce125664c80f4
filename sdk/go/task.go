// Package task is the library for wasq tasks in Go. A task is a function with params in and a result out.
//
//	package main
//
//	import "wasq/task"
//
//	type Params struct{ User string }
//	type Output struct{ Repositories int }
//
//	func init() { task.Handle(repositories) }
//	func main() {}
//
//	func repositories(params Params) (Output, error) {
//		var user struct {
//			PublicRepos int `json:"public_repos"`
//		}
//		err := task.GetJSON("https://api.github.com/users/"+params.User, &user)
//		return Output{user.PublicRepos}, err
//	}
//
// `wasq build` makes a component of it. Params and result are of any types that encoding/json reads and writes; params that do not
// fit are rejected, with the path. A param that the type does not name is ignored. A field is required unless it is a pointer, or its
// tag says omitempty or omitzero. `wasq build` makes the schema of the task of both types and their comments.
//
// After an error the message gets another attempt by the task's retry policy, with the error's text as the
// reason. The same holds for a panic, with its stack. [Reject] moves the message to the dead-letter queue.
// [RetryAfter] sets the shortest time before the next attempt. Exiting the process ends the run as a trap.
//
// Lines of log/slog and printed lines go to the run's log. os.Getenv returns the values of the settings'
// table [env].
package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime/debug"
	"strings"
)

var handler func(params []byte) ([]byte, error)

// Handle makes a function the task. Call it in init: main does not run.
func Handle[Params, Output any](function func(Params) (Output, error)) {
	describe(reflect.TypeFor[Params](), reflect.TypeFor[Output]())
	handler = func(text []byte) ([]byte, error) {
		var params Params
		decoder := json.NewDecoder(bytes.NewReader(text))
		if err := decoder.Decode(&params); err != nil {
			return nil, rejected(err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			return nil, Reject("params: more than one JSON value")
		}
		// A param that the type does not name may have any number.
		var value any
		decoder = json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			return nil, rejected(err)
		}
		if problem := check(value, reflect.TypeFor[Params](), "params"); problem != "" {
			return nil, Reject("%s", problem)
		}
		output, err := function(params)
		if err != nil {
			return nil, err
		}
		return json.Marshal(output)
	}
}

// rejected names the param that does not fit.
func rejected(err error) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		path := "params"
		if mismatch.Field != "" {
			path += "." + mismatch.Field
		}
		return Reject("%s: expected %s, found %s", path, mismatch.Type, mismatch.Value)
	}
	return Reject("params: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// call runs the task once; a panic becomes an error.
func call(params []byte) (output []byte, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	if handler == nil {
		return nil, errors.New("no task: call task.Handle in init")
	}
	output, err = handler(params)
	if err != nil {
		// Error is called here, where a panic in it is caught: an error may be a nil pointer of its type.
		_ = err.Error()
	}
	return output, err
}
