//! An order: charges once, and sends one mail, however often it runs.

const std = @import("std");
const wasq = @import("wasq_task");

comptime {
    wasq.task(order);
}

const Params = struct { amount: usize, charge: []const u8 = "", mail: []const u8 = "mail", tries: u32 = 1 };
const Receipt = struct { receipt: []const u8 };

fn order(params: Params) !Receipt {
    if (std.mem.eql(u8, params.charge, "many")) {
        for (0..params.amount) |number| try wasq.step(wasq.format("{d}", .{number}), nothing, .{});
        return .{ .receipt = params.charge };
    }
    const receipt = wasq.step("charge", charge, .{params}) catch |e|
        if (params.tries > 1) try wasq.step("charge", charge, .{params}) else return e;
    _ = try wasq.step(params.mail, mail, .{receipt});
    return receipt;
}

fn nothing() void {}

fn charge(params: Params) !Receipt {
    if (std.mem.eql(u8, params.charge, "nested")) {
        try wasq.step("inner", nothing, .{});
        return .{ .receipt = "" };
    }
    if (params.charge.len > 0) {
        const text = wasq.allocator.alloc(u8, params.amount) catch @panic("out of memory");
        @memset(text, 'x');
        return .{ .receipt = text };
    }
    return (try post("https://pay.example/charges", .{ .amount = params.amount })).json(Receipt);
}

fn mail(receipt: Receipt) !bool {
    _ = try post("https://mail.example/", receipt);
    return true;
}

fn post(url: []const u8, body: anytype) wasq.Failure!wasq.http.Response {
    return (try wasq.http.send(.{ .url = url, .method = "POST", .body = wasq.json.write(body) })).success();
}
