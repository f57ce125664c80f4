//! Results of the types that authors use. A row is chosen by its name.

const std = @import("std");
const wasq = @import("wasq_task");

comptime {
    wasq.task(rows);
}

const Params = struct { row: []const u8 };
const Raw = struct {
    text: []const u8,

    pub fn jsonStringify(self: Raw, stream: anytype) !void {
        try stream.print("{s}", .{self.text});
    }
};

fn raw(value: anytype) Raw {
    return .{ .text = wasq.json.write(value) };
}

fn repeat(byte: u8, times: usize) []const u8 {
    const text = wasq.allocator.alloc(u8, times) catch @panic("out of memory");
    @memset(text, byte);
    return text;
}

fn deep(levels: usize) Raw {
    const text = wasq.allocator.alloc(u8, levels * 2 + 1) catch @panic("out of memory");
    @memset(text[0..levels], '[');
    text[levels] = '1';
    @memset(text[levels + 1 ..], ']');
    return .{ .text = text };
}

const Colour = enum { red, blue };
const Address = struct { zip: ?u32 = null, street: []const u8, colour: Colour };
const Shape = union(enum) { round: f32, nothing };

fn rows(params: Params) !Raw {
    const Row = enum { null, true, false, largest, smallest, double, huge, tiny, text, @"empty text", list, @"empty list", object, @"empty object", deep, long, @"struct", optional, array, @"tagged union", @"tuple", slices, u128, @"not finite" };
    const row = std.meta.stringToEnum(Row, params.row) orelse return wasq.reject("no row {s}", .{params.row});
    const none: ?u8 = null;
    return switch (row) {
        .null => raw(null),
        .true => raw(true),
        .false => raw(false),
        .largest => raw(@as(i64, std.math.maxInt(i64))),
        .smallest => raw(@as(i64, std.math.minInt(i64))),
        .double => raw(1.5),
        .huge => raw(@as(f64, 1e308)),
        .tiny => raw(@as(f64, 5e-324)),
        .text => raw("é😀 \"\\/\n\x00\x7f\u{2028}"),
        .@"empty text" => raw(""),
        .list => raw(.{ 1, "a", null, .{true} }),
        .@"empty list" => raw(@as([]const u32, &.{})),
        .object => raw(try wasq.json.parse(std.json.Value, "{\"a\": {\"b\": [1]}, \"\": 1, \"é b\": 2}")),
        .@"empty object" => raw(struct {}{}),
        .deep => deep(400),
        .long => raw(repeat('x', 100_000)),
        .@"struct" => raw(Address{ .street = "s", .colour = .blue }),
        .optional => raw(.{ none, @as(?u8, 5) }),
        .array => raw([2]i16{ -1, 2 }),
        .@"tagged union" => raw([_]Shape{ .{ .round = 0.5 }, .nothing }),
        .@"tuple" => raw(.{ 1, Colour.red, "t" }),
        .slices => raw(@as([]const []const u8, &.{ "a", "b" })),
        .u128 => raw(@as(u128, 1) << 100),
        .@"not finite" => raw(std.math.nan(f64)),
    };
}
