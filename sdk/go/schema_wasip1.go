package task

import "reflect"

// describe does nothing in a component: `wasq build` asks a task that is built for this machine.
func describe(_, _ reflect.Type) {}
