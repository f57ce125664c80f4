package task

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"
	"unsafe"
)

// The component model's canonical ABI, written out for this one world.

// The host passes its values in memory that is not Go's. The host asks for this memory before Go's runtime is
// ready. While the host asks, no function may be called that the garbage collector might call. The memory is
// never released: each run has its own instance.
var handedOver struct{ next, end uintptr }

const pageBytes = 64 << 10

//go:linkname sbrk runtime.sbrk
func sbrk(size uintptr) unsafe.Pointer

//go:wasmexport cabi_realloc
func cabiRealloc(_, _, _, size uint32) uint32 {
	start := (handedOver.next + 7) &^ 7
	if start+uintptr(size) > handedOver.end {
		pages := (uintptr(size) + pageBytes) / pageBytes
		memory := sbrk(pages * pageBytes)
		if memory == nil {
			panic("out of memory")
		}
		start = uintptr(memory)
		handedOver.end = start + pages*pageBytes
	}
	handedOver.next = start + uintptr(size)
	return uint32(start)
}

// view is memory that the host has filled.
func view(address, length uint32) []byte {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(nil, address)), length)
}

func address[T any](value *T) uint32 { return uint32(uintptr(unsafe.Pointer(value))) }

// answer is the memory that the host writes its answer into. Its numbers lie where the canonical ABI puts
// them.
type answer [32]byte

func (a *answer) pointer() unsafe.Pointer   { return unsafe.Pointer(a) }
func (a *answer) number(at int) uint32      { return binary.LittleEndian.Uint32(a[at:]) }
func (a *answer) bytes(at int) []byte       { return view(a.number(at), a.number(at+4)) }
func (a *answer) set(at int, number uint32) { binary.LittleEndian.PutUint32(a[at:], number) }

// returned is a result<string, failure>, and its field text is the string that it points to.
var returned struct {
	answer
	text string
}

//go:wasmexport run
func exportedRun(params, length uint32) uint32 {
	output, err := call(view(params, length))
	set := func(at int, text string) {
		returned.text = valid(text)
		returned.set(at, address(unsafe.StringData(returned.text)))
		returned.set(at+4, uint32(len(returned.text)))
	}
	var rejected *rejection
	var later *delayed
	switch {
	case err == nil:
		set(4, string(output))
		return address(&returned.answer)
	case errors.As(err, &rejected):
		returned.answer[4] = 2
		set(8, err.Error())
	case errors.As(err, &later):
		returned.answer[4] = 1
		returned.set(8, wholeSeconds(later.after))
		set(12, err.Error())
	default:
		set(8, err.Error())
	}
	returned.answer[0] = 1
	return address(&returned.answer)
}

// valid replaces bytes that are not UTF-8 by U+FFFD: the host accepts only UTF-8.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// wholeSeconds rounds up to whole seconds, so that nothing starts sooner than asked.
func wholeSeconds(duration time.Duration) uint32 {
	return uint32(min(max(math.Ceil(duration.Seconds()), 0), math.MaxUint32))
}

//go:wasmimport wasq:task/context@0.1.2 id
func importedID(result unsafe.Pointer)

//go:wasmimport wasq:task/context@0.1.2 task
func importedTask(result unsafe.Pointer)

//go:wasmimport wasq:task/context@0.1.2 root
func importedRoot(result unsafe.Pointer)

//go:wasmimport wasq:task/context@0.1.2 parent
func importedParent(result unsafe.Pointer)

//go:wasmimport wasq:task/context@0.1.2 traceparent
func importedTraceparent(result unsafe.Pointer)

//go:wasmimport wasq:task/context@0.1.2 attempt
func hostAttempt() uint32

//go:wasmimport wasq:task/context@0.1.2 max-attempts
func hostMaxAttempts() uint32

//go:wasmimport wasq:task/context@0.1.2 depth
func hostDepth() uint32

//go:wasmimport wasq:task/context@0.1.2 deadline
func hostDeadline() uint64

func hostID() string                    { return text(importedID) }
func hostTask() string                  { return text(importedTask) }
func hostRoot() string                  { return text(importedRoot) }
func hostParent() (string, bool)      { return optional(importedParent) }
func hostTraceparent() (string, bool) { return optional(importedTraceparent) }

func text(imported func(unsafe.Pointer)) string {
	result := new(answer)
	imported(result.pointer())
	return string(result.bytes(0))
}

func optional(imported func(unsafe.Pointer)) (string, bool) {
	result := new(answer)
	imported(result.pointer())
	if result[0] == 0 {
		return "", false
	}
	return string(result.bytes(4)), true
}

//go:wasmimport wasq:task/log@0.1.2 log
func importedLog(level uint32, message string)

func hostLog(level int, message string) {
	importedLog(uint32(level), valid(message))
}

//go:wasmimport wasq:task/queue@0.1.2 enqueue
func importedEnqueue(task, params string, hasDelay bool, delay uint32, hasID bool, id string, result unsafe.Pointer)

func hostEnqueue(child Child, params []byte) (string, error) {
	delay := wholeSeconds(child.Delay)
	result := new(answer)
	task, id := valid(child.Task), valid(child.ID)
	importedEnqueue(task, string(params), delay > 0, delay, id != "", id, result.pointer())
	if result[0] == 0 {
		return string(result.bytes(4)), nil
	}
	switch result[4] {
	case 0:
		return "", errors.New(string(result.bytes(8)))
	case 1:
		return "", fmt.Errorf("this run has sent %d, and may send no more", result.number(8))
	default:
		return "", fmt.Errorf("it would have more than %d parents above it", result.number(8))
	}
}

//go:wasmimport wasq:task/steps@0.1.2 load
func importedLoad(name string, result unsafe.Pointer)

//go:wasmimport wasq:task/steps@0.1.2 save
func importedSave(name, value string, result unsafe.Pointer)

//go:wasmimport wasq:task/steps@0.1.2 abandon
func importedAbandon(name string)

// hostLoad returns the value of a step that was saved, or nil.
func hostLoad(name string) ([]byte, error) {
	result := new(answer)
	importedLoad(valid(name), result.pointer())
	if result[0] == 1 {
		return nil, stepError(name, result)
	}
	if result[4] == 0 {
		return nil, nil
	}
	return result.bytes(8), nil
}

func hostSave(name string, value []byte) error {
	result := new(answer)
	importedSave(valid(name), string(value), result.pointer())
	if result[0] == 1 {
		return stepError(name, result)
	}
	return nil
}

func hostAbandon(name string) { importedAbandon(valid(name)) }

func stepError(name string, result *answer) error {
	switch result[4] {
	case 0:
		return Reject("%s", result.bytes(8))
	case 1:
		return Reject("step %q: this message has saved %d steps, and may save no more", name, result.number(8))
	default:
		return errors.New(string(result.bytes(8)))
	}
}

//go:wasmimport wasq:task/http@0.1.2 send
func importedSend(method, url string, headers unsafe.Pointer, headerCount uint32, hasBody bool, body string, hasTimeout bool, timeoutMS uint32, result unsafe.Pointer)

func hostSend(request Request) (*Response, error) {
	// For each header an address, a length, an address and a length. One element more, because the first
	// element of an empty slice has no address.
	headers := make([]uint32, len(request.Headers)*4+1)
	kept := make([]string, 0, len(request.Headers)*2)
	for i, header := range request.Headers {
		for at, text := range []string{valid(header.Name), valid(header.Value)} {
			kept = append(kept, text)
			headers[i*4+at*2] = address(unsafe.StringData(text))
			headers[i*4+at*2+1] = uint32(len(text))
		}
	}
	timeout := uint32(min(max(request.Timeout.Milliseconds(), 0), math.MaxUint32))
	result := new(answer)
	importedSend(valid(request.Method), valid(request.URL), unsafe.Pointer(&headers[0]), uint32(len(request.Headers)),
		request.Body != nil, string(request.Body), timeout > 0, timeout, result.pointer())
	runtime.KeepAlive(kept)
	if result[0] == 1 {
		switch result[8] {
		case 0:
			return nil, fmt.Errorf("denied: %s", result.bytes(16))
		case 1:
			return nil, fmt.Errorf("%w: %s", errInvalid, result.bytes(16))
		case 2:
			return nil, errors.New("no answer in time")
		case 3:
			return nil, fmt.Errorf("the answer has more than %d bytes", binary.LittleEndian.Uint64(result[16:]))
		default:
			return nil, errors.New(string(result.bytes(16)))
		}
	}
	response := &Response{
		Status: int(binary.LittleEndian.Uint16(result[8:])),
		Body:   result.bytes(20),
	}
	list := view(result.number(12), result.number(16)*16)
	for at := 0; at < len(list); at += 16 {
		number := func(i int) uint32 { return binary.LittleEndian.Uint32(list[at+i*4:]) }
		header := Header{string(view(number(0), number(1))), string(view(number(2), number(3)))}
		response.Headers = append(response.Headers, header)
	}
	return response, nil
}
