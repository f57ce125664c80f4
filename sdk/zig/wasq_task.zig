//! Write tasks for wasq in Zig: a function with params in and a result out.
//!
//!     const wasq = @import("wasq_task");
//!
//!     comptime {
//!         wasq.task(repositories);
//!     }
//!
//!     const Params = struct { user: []const u8 };
//!     const User = struct { public_repos: u64 };
//!
//!     fn repositories(params: Params) !User {
//!         const url = wasq.format("https://api.github.com/users/{s}", .{params.user});
//!         return (try (try wasq.http.get(url)).success()).json(User);
//!     }
//!
//! `wasq build` makes a component of a `task.zig` with that in it. Params and result are of any type that `std.json` reads and
//! writes; params that do not fit are rejected, with the field.
//!
//! After any error the message gets another attempt by the task's retry policy, with the error's name as the
//! reason. `return wasq.retry(...)`, `retryAfter` and `reject` say more. A panic is a trap: the message gets
//! another attempt as well.
//!
//! Every run has its own memory, which is dropped after the run: `wasq.allocator` never frees.

const std = @import("std");

/// For everything that lives as long as the run.
pub const allocator = arena.allocator();
var arena = std.heap.ArenaAllocator.init(std.heap.page_allocator);

/// Like `std.fmt.allocPrint`, into memory of the run. Bytes that are not UTF-8 become U+FFFD: the host
/// accepts only UTF-8.
pub fn format(comptime text: []const u8, arguments: anytype) []const u8 {
    return printable(std.fmt.allocPrint(allocator, text, arguments) catch @panic("out of memory"));
}

fn printable(bytes: []const u8) []const u8 {
    if (std.unicode.utf8ValidateSlice(bytes)) return bytes;
    const made = allocator.alloc(u8, bytes.len * 3) catch @panic("out of memory");
    var len: usize = 0;
    var at: usize = 0;
    while (at < bytes.len) {
        const size = std.unicode.utf8ByteSequenceLength(bytes[at]) catch 1;
        const end = @min(at + size, bytes.len);
        if (std.unicode.utf8ValidateSlice(bytes[at..end])) {
            @memcpy(made[len..][0 .. end - at], bytes[at..end]);
            len += end - at;
            at = end;
        } else {
            @memcpy(made[len..][0..3], "\u{FFFD}");
            len += 3;
            at += 1;
        }
    }
    return made[0..len];
}

// ---- The task ----

/// The errors that the functions below return, so that a task can return them.
pub const Failure = error{ Retry, RetryAfter, Reject };

var failure_reason: []const u8 = "";
var failure_seconds: u32 = 0;

/// A temporary error: another attempt by the task's retry policy, until its attempts are used up.
pub fn retry(comptime text: []const u8, arguments: anytype) error{Retry} {
    failure_reason = format(text, arguments);
    return error.Retry;
}

/// A temporary error with a known end, such as a rate limit: the message gets another attempt, no sooner than
/// after this number of seconds.
pub fn retryAfter(seconds: u32, comptime text: []const u8, arguments: anytype) error{RetryAfter} {
    failure_reason = format(text, arguments);
    failure_seconds = seconds;
    return error.RetryAfter;
}

/// This message can never succeed: wasq moves it to the dead-letter queue, with this reason.
pub fn reject(comptime text: []const u8, arguments: anytype) error{Reject} {
    failure_reason = format(text, arguments);
    return error.Reject;
}

/// The reason of the last failure that one of the functions here returned.
pub fn reason() []const u8 {
    return failure_reason;
}

/// Makes a function the task: `fn (params: Params) !Output`.
pub fn task(comptime function: anytype) void {
    const Params = @typeInfo(@TypeOf(function)).@"fn".param_types[0].?;
    const exported = struct {
        fn run(params: [*]const u8, len: usize) callconv(.c) *const Returned {
            returned = outcome(params[0..len]);
            return &returned;
        }

        fn outcome(text: []const u8) Returned {
            const output = call(text) catch |e| return switch (@as(anyerror, e)) {
                error.Reject => .failure(.{ .kind = 2, .payload = .{ .reason = .of(failure_reason) } }),
                error.RetryAfter => .failure(.{
                    .kind = 1,
                    .payload = .{ .after = .{ .seconds = failure_seconds, .reason = .of(failure_reason) } },
                }),
                error.Retry => .failure(.{ .kind = 0, .payload = .{ .reason = .of(failure_reason) } }),
                else => .failure(.{ .kind = 0, .payload = .{ .reason = .of(@errorName(e)) } }),
            };
            return .{ .failed = 0, .payload = .{ .output = .of(output) } };
        }

        fn call(text: []const u8) anyerror![]const u8 {
            const value = json.parse(Params, text) catch |e| return rejected(Params, text, e);
            return json.write(try function(value));
        }
    };
    @export(&exported.run, .{ .name = "run" });
}

/// Names the param that does not fit: `std.json` itself says only that something does not fit.
fn rejected(comptime Params: type, text: []const u8, problem: anyerror) error{Reject} {
    const value = json.parse(std.json.Value, text) catch return reject("params: {s}", .{@errorName(problem)});
    if (@typeInfo(Params) != .@"struct") return reject("params: {s}", .{@errorName(problem)});
    if (value != .object) return reject("params: expected an object", .{});
    const fields = @typeInfo(Params).@"struct";
    inline for (fields.field_names, fields.field_types, fields.field_attrs) |name, Field, attributes| {
        if (value.object.get(name)) |member| {
            _ = std.json.parseFromValueLeaky(Field, allocator, member, .{ .ignore_unknown_fields = true }) catch |e|
                return reject("params.{s}: {s}", .{ name, @errorName(e) });
        } else if (attributes.default_value_ptr == null) {
            return reject("params.{s}: missing", .{name});
        }
    }
    return reject("params: {s}", .{@errorName(problem)});
}

/// JSON in memory of the run.
pub const json = struct {
    /// Reads a JSON text as a type. Fields that the type does not have are ignored.
    pub fn parse(comptime T: type, text: []const u8) !T {
        return std.json.parseFromSliceLeaky(T, allocator, text, .{ .ignore_unknown_fields = true });
    }

    /// Writes a value as JSON text.
    pub fn write(value: anytype) []const u8 {
        return std.json.Stringify.valueAlloc(allocator, value, .{}) catch @panic("out of memory");
    }
};

// ---- HTTP ----

/// HTTP in one call, to the hosts that the task's `allow_hosts` names. The host connects, does TLS and keeps connections.
pub const http = struct {
    pub const Header = struct { name: []const u8, value: []const u8 };

    pub const Request = struct {
        url: []const u8,
        method: []const u8 = "GET",
        headers: []const Header = &.{},
        body: ?[]const u8 = null,
        /// How long to wait for the whole response; the run's own deadline holds as well.
        timeout_ms: ?u32 = null,
    };

    /// A response, whatever its status. Redirects are not followed.
    pub const Response = struct {
        /// The request's, without user and password.
        url: []const u8,
        status: u16,
        /// Names in lower case, in the order in which they came.
        headers: []const Header,
        body: []const u8,

        /// The first header of a name, in lower case.
        pub fn header(self: Response, name: []const u8) ?[]const u8 {
            for (self.headers) |found| {
                if (std.mem.eql(u8, found.name, name)) return found.value;
            }
            return null;
        }

        /// Returns the response itself if its status is 2xx. For a busy server (status 429 or 503) the error
        /// is `retryAfter`, with the seconds of its retry-after, or 60 if that names no time. For any other
        /// status the error is `retry`.
        pub fn success(self: Response) Failure!Response {
            switch (self.status) {
                200...299 => return self,
                429, 503 => {
                    const after = std.fmt.parseInt(u32, self.header("retry-after") orelse "", 10) catch 60;
                    return retryAfter(after, "{s}: status {d}", .{ self.url, self.status });
                },
                else => return retry("{s}: status {d}: {s}", .{
                    self.url,
                    self.status,
                    self.body[0..@min(self.body.len, 200)],
                }),
            }
        }

        /// The body, read as JSON. A byte order mark before it is skipped. Fields that the type does not have
        /// are ignored.
        pub fn json(self: Response, comptime T: type) Failure!T {
            const mark = "\xef\xbb\xbf";
            const body = if (std.mem.startsWith(u8, self.body, mark)) self.body[mark.len..] else self.body;
            return std.json.parseFromSliceLeaky(T, allocator, body, .{ .ignore_unknown_fields = true }) catch |e|
                return retry("{s}: the answer: {s}", .{ self.url, @errorName(e) });
        }
    };

    /// A GET of a URL.
    pub fn get(url: []const u8) Failure!Response {
        return send(.{ .url = url });
    }

    /// Sends a request and waits for the whole response. If there is none: `retry`, with the reason.
    pub fn send(request: Request) Failure!Response {
        // One element more than there are headers, so that there is always an address.
        const headers = allocator.alloc(host.Header, request.headers.len + 1) catch @panic("out of memory");
        for (request.headers, headers[0..request.headers.len]) |from, *to| {
            to.* = .{ .name = .of(printable(from.name)), .value = .of(printable(from.value)) };
        }
        const method = host.Span.of(printable(request.method));
        const url = host.Span.of(printable(request.url));
        const body = host.Span.of(request.body orelse "");
        var sent: host.Sent = undefined;
        host.send(
            method.data,
            method.len,
            url.data,
            url.len,
            headers.ptr,
            request.headers.len,
            @intFromBool(request.body != null),
            body.data,
            body.len,
            @intFromBool(request.timeout_ms != null),
            request.timeout_ms orelse 0,
            &sent,
        );
        const shown = withoutCredentials(request.url, true);
        if (sent.failed != 0) {
            const problem = sent.payload.problem;
            return switch (problem.kind) {
                0 => retry("{s}: denied: {s}", .{ shown, problem.payload.text.slice() }),
                1 => retry("{s}: not a valid request: {s}", .{ withoutCredentials(request.url, false), problem.payload.text.slice() }),
                2 => retry("{s}: no answer in time", .{shown}),
                3 => retry("{s}: the answer has more than {d} bytes", .{ shown, problem.payload.limit }),
                else => retry("{s}: {s}", .{ shown, problem.payload.text.slice() }),
            };
        }
        const response = sent.payload.response;
        const received = allocator.alloc(Header, response.header_count) catch @panic("out of memory");
        for (response.headers[0..response.header_count], received) |from, *to| {
            to.* = .{ .name = from.name.slice(), .value = from.value.slice() };
        }
        return .{ .url = shown, .status = response.status, .headers = received, .body = response.body.slice() };
    }

    /// A URL for messages: without the user and the password in it. In a text that is no URL, everything up to
    /// the last @ may be a password.
    fn withoutCredentials(url: []const u8, is_url: bool) []const u8 {
        var start = url.len - std.mem.trimStart(u8, url, " \t\r\n").len;
        if (std.ascii.startsWithIgnoreCase(url[start..], "https:")) {
            start += "https:".len;
        } else if (std.ascii.startsWithIgnoreCase(url[start..], "http:")) {
            start += "http:".len;
        } else return url;
        start = url.len - std.mem.trimStart(u8, url[start..], "/\\").len;
        const end = if (is_url) std.mem.indexOfAnyPos(u8, url, start, "/?#\\") orelse url.len else url.len;
        const at = std.mem.lastIndexOfScalar(u8, url[start..end], '@') orelse return url;
        return std.mem.concat(allocator, u8, &.{ url[0..start], url[start + at + 1 ..] }) catch @panic("out of memory");
    }
};

// ---- Child tasks ----

pub const EnqueueOptions = struct {
    /// The shortest time from now until the child runs; up to 366 days.
    delay_seconds: ?u32 = null,
    /// Without an id, one is derived from the parent's, so that a parent that runs twice sends the same id.
    id: ?[]const u8 = null,
};

/// Enqueues a message for a task, and returns its id. Children are sent when this run has succeeded, and dropped if it does not.
/// If wasq does not accept a child, the error is `reject`, with the reason.
pub fn enqueue(name: []const u8, params: anytype, options: EnqueueOptions) error{Reject}![]const u8 {
    const child = host.Span.of(printable(name));
    const body = host.Span.of(printable(json.write(params)));
    const id = host.Span.of(printable(options.id orelse ""));
    var result: host.Enqueued = undefined;
    host.enqueue(
        child.data,
        child.len,
        body.data,
        body.len,
        @intFromBool(options.delay_seconds != null),
        options.delay_seconds orelse 0,
        @intFromBool(options.id != null),
        id.data,
        id.len,
        &result,
    );
    if (result.failed == 0) return result.payload.id.slice();
    const problem = result.payload.problem;
    return switch (problem.kind) {
        0 => reject("enqueue a child: {s}", .{problem.payload.text.slice()}),
        1 => reject("enqueue a child: this run has sent {d}, and may send no more", .{problem.payload.limit}),
        else => reject("enqueue a child: it would have more than {d} parents above it", .{problem.payload.limit}),
    };
}

// ---- Steps ----

/// Executes a step, `function` with these arguments, unless an earlier attempt of this message has saved it: then it returns the
/// saved value.
///
///     const receipt = try wasq.step("charge", charge, .{order});
///
/// The value is what JSON makes of it, in every attempt, and it is stored before this returns. A step that fails is not saved, and may be executed again. Steps run one after the other,
/// and a name is used once in a run. The run can end between the effect of a step and the moment in which its value is stored. So let
/// a step do one thing that is safe to repeat: the header `idempotency-key` of its requests is the same in every attempt.
///
/// The error is `reject` if the step breaks a limit or its saved value does not fit the type, and otherwise the function's own.
pub fn step(name: []const u8, comptime function: anytype, arguments: anytype) anyerror!StepValue(@TypeOf(function)) {
    const Value = StepValue(@TypeOf(function));
    const shown = host.Span.of(printable(name));
    var result: host.Stepped = undefined;
    host.load(shown.data, shown.len, &result);
    if (result.failed != 0) return stepFailure(name, result);
    if (result.payload.value.some != 0) {
        return stepRead(Value, result.payload.value.value.slice()) catch |e|
            reject("step \"{s}\": the saved value does not fit: {s}", .{ name, @errorName(e) });
    }
    errdefer host.abandon(shown.data, shown.len);
    // A function that cannot fail becomes one that can.
    const returned_value: anyerror!Value = @call(.auto, function, arguments);
    const value = try returned_value;
    const written = if (Value == void) "null" else json.write(value);
    // A later attempt reads this value.
    const read = stepRead(Value, written) catch |e|
        return reject("step \"{s}\": its value cannot be read again: {s}", .{ name, @errorName(e) });
    const text = host.Span.of(written);
    host.save(shown.data, shown.len, text.data, text.len, &result);
    if (result.failed != 0) return stepFailure(name, result);
    return read;
}

fn stepRead(comptime Value: type, text: []const u8) !Value {
    return if (Value == void) {} else json.parse(Value, text);
}

fn StepValue(comptime Function: type) type {
    const Return = @typeInfo(Function).@"fn".return_type.?;
    return switch (@typeInfo(Return)) {
        .error_union => |either| either.payload,
        else => Return,
    };
}

fn stepFailure(name: []const u8, result: host.Stepped) Failure {
    const problem = result.payload.problem;
    return switch (problem.kind) {
        0 => reject("{s}", .{problem.payload.text.slice()}),
        1 => reject("step \"{s}\": this message has saved {d} steps, and may save no more", .{ name, problem.payload.limit }),
        else => retry("{s}", .{problem.payload.text.slice()}),
    };
}

// ---- Information about this run ----

pub const context = struct {
    /// The message's id, the same in every attempt: the key for work that must not be done twice.
    pub fn id() []const u8 {
        return required(host.id);
    }
    /// The name under which this task was called.
    pub fn name() []const u8 {
        return required(host.task);
    }
    /// The number of this attempt; the first is 1.
    pub fn attempt() u32 {
        return host.attempt();
    }
    pub fn maxAttempts() u32 {
        return host.max_attempts();
    }
    /// The time at which wasq ends the run, in milliseconds since the Unix epoch.
    pub fn deadline() u64 {
        return host.deadline();
    }
    /// The id of the message whose task enqueued this one, if one did.
    pub fn parent() ?[]const u8 {
        return optional(host.parent);
    }
    /// The id at the top of the chain of parents.
    pub fn root() []const u8 {
        return required(host.root);
    }
    /// The number of parents above this message.
    pub fn depth() u32 {
        return host.depth();
    }
    /// The W3C trace context that came with the message, if one did.
    pub fn traceparent() ?[]const u8 {
        return optional(host.traceparent);
    }

    fn required(function: *const fn (*host.Span) callconv(.c) void) []const u8 {
        var result: host.Span = undefined;
        function(&result);
        return result.slice();
    }

    fn optional(function: *const fn (*host.OptionalSpan) callconv(.c) void) ?[]const u8 {
        var result: host.OptionalSpan = undefined;
        function(&result);
        return if (result.some == 0) null else result.value.slice();
    }
};

/// A value of the task's settings, from their table `[env]`.
pub fn env(name: []const u8) ?[]const u8 {
    var count: usize = 0;
    var bytes: usize = 0;
    if (std.os.wasi.environ_sizes_get(&count, &bytes) != .SUCCESS) return null;
    const lines = allocator.alloc([*:0]u8, count) catch @panic("out of memory");
    const buffer = allocator.alloc(u8, bytes) catch @panic("out of memory");
    if (std.os.wasi.environ_get(lines.ptr, buffer.ptr) != .SUCCESS) return null;
    for (lines) |line| {
        const pair = std.mem.span(line);
        const end = std.mem.indexOfScalar(u8, pair, '=') orelse continue;
        if (std.mem.eql(u8, pair[0..end], name)) return pair[end + 1 ..];
    }
    return null;
}

// ---- Log; printed lines arrive as well: stdout as info, stderr as warn ----

pub const log = struct {
    pub fn debug(comptime line: []const u8, arguments: anytype) void {
        write(1, format(line, arguments));
    }
    pub fn info(comptime line: []const u8, arguments: anytype) void {
        write(2, format(line, arguments));
    }
    pub fn warn(comptime line: []const u8, arguments: anytype) void {
        write(3, format(line, arguments));
    }
    pub fn err(comptime line: []const u8, arguments: anytype) void {
        write(4, format(line, arguments));
    }

    fn write(level: i32, line: []const u8) void {
        const message = host.Span.of(line);
        host.log(level, message.data, message.len);
    }
};

// ---- The component model's canonical ABI, written out for this one world ----

/// result<string, failure>
const Returned = extern struct {
    failed: u8,
    payload: extern union {
        output: host.Span,
        failure: FailureValue,
    },

    const FailureValue = extern struct {
        kind: u8,
        payload: extern union {
            reason: host.Span,
            after: extern struct { seconds: u32, reason: host.Span },
        },
    };

    fn failure(value: FailureValue) Returned {
        return .{ .failed = 1, .payload = .{ .failure = value } };
    }
};

var returned: Returned = undefined;

/// The host allocates the values that it passes to the task by this function.
export fn cabi_realloc(_: ?[*]u8, _: usize, alignment: usize, size: usize) [*]u8 {
    const most: std.mem.Alignment = .@"8";
    std.debug.assert(alignment <= most.toByteUnits());
    // An allocation of 0 bytes would have no address.
    const memory = allocator.alignedAlloc(u8, most, @max(size, 1)) catch @panic("out of memory");
    return memory.ptr;
}

const host = struct {
    const Span = extern struct {
        data: [*]const u8,
        len: usize,

        fn of(bytes: []const u8) Span {
            // An empty slice may point anywhere, and the host wants an address within the memory.
            return .{ .data = if (bytes.len == 0) "" else bytes.ptr, .len = bytes.len };
        }

        fn slice(self: Span) []const u8 {
            return if (self.len == 0) "" else self.data[0..self.len];
        }
    };

    const OptionalSpan = extern struct { some: u8, value: Span };
    const Header = extern struct { name: Span, value: Span };

    /// result<response, http-error>
    const Sent = extern struct {
        failed: u8,
        payload: extern union {
            response: extern struct { status: u16, headers: [*]const host.Header, header_count: usize, body: Span },
            problem: extern struct { kind: u8, payload: extern union { text: Span, limit: u64 } },
        },
    };

    /// result<string, enqueue-error>
    const Enqueued = extern struct {
        failed: u8,
        payload: extern union {
            id: Span,
            problem: extern struct { kind: u8, payload: extern union { text: Span, limit: u32 } },
        },
    };

    /// result<option<string>, step-error>, and result<_, step-error>
    const Stepped = extern struct {
        failed: u8,
        payload: extern union {
            value: OptionalSpan,
            problem: extern struct { kind: u8, payload: extern union { text: Span, limit: u32 } },
        },
    };

    const of_context = "wasq:task/context@0.1.2";
    const id = @extern(*const fn (*Span) callconv(.c) void, .{ .name = "id", .library_name = of_context });
    const task = @extern(*const fn (*Span) callconv(.c) void, .{ .name = "task", .library_name = of_context });
    const attempt = @extern(*const fn () callconv(.c) u32, .{ .name = "attempt", .library_name = of_context });
    const max_attempts = @extern(*const fn () callconv(.c) u32, .{ .name = "max-attempts", .library_name = of_context });
    const deadline = @extern(*const fn () callconv(.c) u64, .{ .name = "deadline", .library_name = of_context });
    const parent = @extern(*const fn (*OptionalSpan) callconv(.c) void, .{ .name = "parent", .library_name = of_context });
    const root = @extern(*const fn (*Span) callconv(.c) void, .{ .name = "root", .library_name = of_context });
    const depth = @extern(*const fn () callconv(.c) u32, .{ .name = "depth", .library_name = of_context });
    const traceparent = @extern(*const fn (*OptionalSpan) callconv(.c) void, .{ .name = "traceparent", .library_name = of_context });
    const log = @extern(
        *const fn (i32, [*]const u8, usize) callconv(.c) void,
        .{ .name = "log", .library_name = "wasq:task/log@0.1.2" },
    );
    const enqueue = @extern(
        *const fn ([*]const u8, usize, [*]const u8, usize, i32, u32, i32, [*]const u8, usize, *Enqueued) callconv(.c) void,
        .{ .name = "enqueue", .library_name = "wasq:task/queue@0.1.2" },
    );
    const send = @extern(
        *const fn ([*]const u8, usize, [*]const u8, usize, [*]const host.Header, usize, i32, [*]const u8, usize, i32, u32, *Sent) callconv(.c) void,
        .{ .name = "send", .library_name = "wasq:task/http@0.1.2" },
    );
    const of_steps = "wasq:task/steps@0.1.2";
    const load = @extern(*const fn ([*]const u8, usize, *Stepped) callconv(.c) void, .{ .name = "load", .library_name = of_steps });
    const save = @extern(
        *const fn ([*]const u8, usize, [*]const u8, usize, *Stepped) callconv(.c) void,
        .{ .name = "save", .library_name = of_steps },
    );
    const abandon = @extern(*const fn ([*]const u8, usize) callconv(.c) void, .{ .name = "abandon", .library_name = of_steps });
};
