/*
 * routes.c - what can be asked: one row each.
 */
#include "relay/api/api_impl.h"

static const struct route routes[] = {
    { "GET", "/healthz", api_healthz, 0, true },
    { "GET", "/metrics", api_metrics, 0, false },
    { "GET", "/v1/info", api_info, 0, false },
    { "POST", "/v1/reload", api_reload, 0, false },
    { "GET", "/v1/queue", api_queue_list, 0, true },
    { "GET", "/v1/queue/:", api_queue_show, 0, true },
    { "POST", "/v1/queue/hold", api_queue_change, STORE_HOLD, false },
    { "POST", "/v1/queue/release", api_queue_change, STORE_RELEASE, false },
    { "POST", "/v1/queue/retry", api_queue_change, STORE_RETRY, false },
    { "POST", "/v1/queue/drop", api_queue_change, STORE_DROP, false },
    { "POST", "/v1/queue/reroute", api_queue_change, STORE_REROUTE, false },
    { "POST", "/v1/flush", api_flush, 0, false },
    { "GET", "/v1/lanes", api_lanes, 0, false },
    { "GET", "/v1/trace", api_trace, 0, true },
    { "GET", "/v1/resolve", api_resolve, 0, true },
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))

static bool path_fits(const struct route *route, struct str path, struct str *out_part)
{
    struct str pattern = str_of(route->path);
    size_t fixed = str_chr(pattern, ':');

    if (fixed == pattern.len)
        return str_eq(path, pattern);
    *out_part = str_from(path, fixed);
    return str_starts(path, str_head(pattern, fixed)) && out_part->len > 0 &&
           str_chr(*out_part, '/') == out_part->len;
}

static bool method_fits(const struct route *route, const char *method)
{
    /* HEAD is GET without the body; the library leaves it out. */
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

void route_run(struct call *call, const char *method, const char *path)
{
    const struct route *other = NULL;
    struct str part = STR_EMPTY;

    for (size_t i = 0; i < ROUTES; i++) {
        const struct route *route = &routes[i];
        if (!path_fits(route, str_of(path), &part))
            continue;
        if (method_fits(route, method) && call->is_limited && !route->for_anyone) {
            call_error(call, MHD_HTTP_FORBIDDEN,
                       "this is for root, the relay's user and members of its group; other users "
                       "see the mail that they handed in");
            return;
        }
        if (method_fits(route, method)) {
            call->route = route;
            call->part = arena_str(&call->arena, part);
            route->run(call);
            return;
        }
        other = route;
    }
    if (!other) {
        call_error(call, MHD_HTTP_NOT_FOUND, "nothing is served at this path");
        return;
    }
    str_copy(call->allow, sizeof(call->allow), str_of(other->method));
    call_error(call, MHD_HTTP_METHOD_NOT_ALLOWED, "use %s here", other->method);
}
