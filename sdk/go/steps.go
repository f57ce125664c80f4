package task

import "encoding/json"

// Step executes a step, unless an earlier attempt of this message has saved it: then it returns the saved value.
//
//	receipt, err := task.Step("charge", func() (Receipt, error) { return charge(order) })
//
// The value is what JSON makes of it, in every attempt, and it is stored before Step returns. A step that fails is not saved, and may be executed again. Steps run one after the other,
// and a name is used once in a run. The run can end between the effect of a step and the moment in which its value is stored. So let a
// step do one thing that is safe to repeat: the header idempotency-key of its requests is the same in every attempt.
//
// The error is that of [Reject] if the step breaks a limit or its saved value does not fit the type, and otherwise the function's own.
func Step[T any](name string, execute func() (T, error)) (value T, err error) {
	saved, err := hostLoad(name)
	if err != nil {
		return value, err
	}
	if saved != nil {
		if err := json.Unmarshal(saved, &value); err != nil {
			return value, Reject("step %q: the saved value does not fit: %s", name, err)
		}
		return value, nil
	}
	ended := false
	defer func() {
		// Also after a panic, which the task may recover from.
		if !ended {
			hostAbandon(name)
		}
	}()
	made, err := execute()
	if err != nil {
		return made, err
	}
	text, err := json.Marshal(made)
	if err != nil {
		return made, Reject("step %q: its value is no JSON: %s", name, err)
	}
	// A later attempt reads this value.
	if err := json.Unmarshal(text, &value); err != nil {
		return made, Reject("step %q: its value cannot be read again: %s", name, err)
	}
	if err := hostSave(name, text); err != nil {
		return made, err
	}
	ended = true
	return value, nil
}
