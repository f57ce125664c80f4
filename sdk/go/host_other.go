//go:build !wasip1

package task

// Outside of a component there is no host. Tests can call the task's own functions, but none that needs the
// host.
const nobody = "wasq/task: there is no host outside of a component; `wasq test` runs the task as a component"

func hostID() string                            { panic(nobody) }
func hostTask() string                          { panic(nobody) }
func hostRoot() string                          { panic(nobody) }
func hostParent() (string, bool)                { panic(nobody) }
func hostTraceparent() (string, bool)           { panic(nobody) }
func hostAttempt() uint32                       { panic(nobody) }
func hostMaxAttempts() uint32                   { panic(nobody) }
func hostDepth() uint32                         { panic(nobody) }
func hostDeadline() uint64                      { panic(nobody) }
func hostLog(_ int, message string)             { println(message) }
func hostEnqueue(Child, []byte) (string, error) { panic(nobody) }
func hostSend(Request) (*Response, error)       { panic(nobody) }
func hostLoad(string) ([]byte, error)           { panic(nobody) }
func hostSave(string, []byte) error             { panic(nobody) }
func hostAbandon(string)                        { panic(nobody) }
