package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Header is one header line.
type Header struct{ Name, Value string }

// Request is a request. A field that is left out has its default: GET, no headers, no body, the run's own
// deadline.
type Request struct {
	Method  string
	URL     string
	Headers []Header
	Body    []byte
	// Timeout is how long to wait for the whole response; the run's own deadline holds as well.
	Timeout time.Duration
}

// Response is a response, whatever its status. Redirects are not followed.
type Response struct {
	// URL is the request's, without user and password.
	URL    string
	Status int
	// Headers in the order in which they came, names in lower case.
	Headers []Header
	Body    []byte
}

// errInvalid says that a request was refused before it was sent.
var errInvalid = errors.New("not a valid request")

// Send sends a request, to a host that the task's allow_hosts names, and waits for the whole response.
func Send(request Request) (*Response, error) {
	if request.Method == "" {
		request.Method = "GET"
	}
	response, err := hostSend(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", withoutCredentials(request.URL, !errors.Is(err, errInvalid)), err)
	}
	response.URL = withoutCredentials(request.URL, true)
	return response, nil
}

// withoutCredentials is a URL for messages: without the user and the password in it. In a text that is no URL,
// everything up to the last @ may be a password.
func withoutCredentials(url string, isURL bool) string {
	rest := strings.TrimLeft(url, " \t\r\n")
	lower := strings.ToLower(rest)
	switch {
	case strings.HasPrefix(lower, "https:"):
		rest = rest[len("https:"):]
	case strings.HasPrefix(lower, "http:"):
		rest = rest[len("http:"):]
	default:
		return url
	}
	rest = strings.TrimLeft(rest, `/\`)
	authority := rest
	if end := strings.IndexAny(rest, `/?#\`); end >= 0 && isURL {
		authority = rest[:end]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return url[:len(url)-len(rest)] + rest[at+1:]
	}
	return url
}

// Get is a GET of a URL.
func Get(url string) (*Response, error) { return Send(Request{URL: url}) }

// GetJSON is a GET of a URL whose successful response is read as JSON.
func GetJSON(url string, value any) error {
	response, err := Get(url)
	if err != nil {
		return err
	}
	return response.JSON(value)
}

// Header is the first header of a name, in any case; "" if there is none.
func (r *Response) Header(name string) string {
	for _, header := range r.Headers {
		if strings.EqualFold(header.Name, name) {
			return header.Value
		}
	}
	return ""
}

// Err is nil if the status is 2xx. For a busy server (status 429 or 503) it is [RetryAfter], with the seconds
// of its retry-after, or 60 if that names no time. For any other status it is an error that names the
// status.
func (r *Response) Err() error {
	switch {
	case r.Status >= 200 && r.Status < 300:
		return nil
	case r.Status == 429 || r.Status == 503:
		seconds, err := strconv.ParseUint(r.Header("retry-after"), 10, 32)
		if err != nil {
			seconds = 60
		}
		return RetryAfter(time.Duration(seconds)*time.Second, "%s: status %d", r.URL, r.Status)
	}
	return fmt.Errorf("%s: status %d: %.200s", r.URL, r.Status, strings.ToValidUTF8(string(r.Body), "\uFFFD"))
}

// JSON reads the body of a successful response as JSON. A byte order mark before it is skipped.
func (r *Response) JSON(value any) error {
	if err := r.Err(); err != nil {
		return err
	}
	if err := json.Unmarshal(bytes.TrimPrefix(r.Body, []byte("\xef\xbb\xbf")), value); err != nil {
		return fmt.Errorf("%s: the answer: %w", r.URL, err)
	}
	return nil
}
