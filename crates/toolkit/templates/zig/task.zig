//! The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}.

const wasq = @import("wasq_task");

comptime {
    wasq.task(greet);
}

const Params = struct { name: []const u8 };
const Output = struct { greeting: []const u8 };

fn greet(params: Params) !Output {
    if (params.name.len == 0) return wasq.reject("params.name is empty", .{});
    wasq.log.info("greeting {s}", .{params.name});
    return .{ .greeting = wasq.format("Hello, {s}!", .{params.name}) };
}
