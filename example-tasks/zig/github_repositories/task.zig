//! How many public repositories a GitHub user has.

const std = @import("std");
const wasq = @import("wasq_task");

comptime {
    wasq.task(githubRepositories);
}

const Params = struct {
    user: []const u8,
    /// A task that gets the result as its params.
    then: ?[]const u8 = null,
};

const Output = struct { user: []const u8, repositories: i64 };

/// GitHub's answer about a user; we need one number of it.
const User = struct { public_repos: i64 };

fn githubRepositories(params: Params) !Output {
    const user = params.user;
    if (!isUserName(user)) {
        const shown = wasq.json.write(user[0..@min(user.len, 100)]);
        return wasq.reject("params.user: {s} is no GitHub user name", .{shown});
    }
    const api = wasq.env("GITHUB_API") orelse "https://api.github.com";
    const response = try wasq.http.send(.{
        .url = wasq.format("{s}/users/{s}", .{ api, user }),
        .timeout_ms = 10_000,
    });
    switch (response.status) {
        404 => return wasq.reject("GitHub does not know the user {s}", .{user}),
        // GitHub reports its rate limit by this status as well.
        403 => return wasq.retryAfter(60, "GitHub's rate limit (status 403)", .{}),
        else => {},
    }
    const found = try (try response.success()).json(User);
    if (found.public_repos < 0) std.debug.panic("GitHub counts {d} repositories", .{found.public_repos});
    wasq.log.info("{s} has {d} public repositories", .{ user, found.public_repos });

    const output = Output{ .user = user, .repositories = found.public_repos };
    if (params.then) |then| {
        _ = wasq.enqueue(then, output, .{}) catch return wasq.reject("params.then: {s}", .{wasq.reason()});
    }
    return output;
}

fn isUserName(user: []const u8) bool {
    for (user) |c| {
        if (!std.ascii.isAlphanumeric(c) and c != '-') return false;
    }
    return user.len > 0;
}
