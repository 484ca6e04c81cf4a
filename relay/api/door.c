/*
 * door.c - one listening socket: the HTTP library run when there is something,
 * and who is inside.
 *
 * libmicrohttpd runs without a thread of its own. Its epoll descriptor is
 * watched by the loop; its timeouts and ours are a timer of the loop that exists
 * only while a connection is open, so an idle API costs no wake-ups.
 *
 * Anybody may come in, and the places are few: whose request is not complete
 * soon is shown out.
 */
#include "relay/api/api_impl.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define CONNECTIONS_MAX 64u
#define CONNECTIONS_MIN 4u
/* Request line, header and what is parsed of them: twice the longest line. */
#define CONNECTION_MEMORY ((size_t)64 * 1024)
#define REQUEST_MS 5000u
#define ANSWER_IDLE_S 30u

/* ---- visitors ---- */

int door_fd_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? info->connect_fd : -1;
}

static void stop_waiting(struct door *door, struct visitor *visitor)
{
    if (!visitor->is_waited_for)
        return;
    visitor->is_waited_for = false;
    DL_DELETE(door->waited_for, visitor);
}

void door_has_asked(struct door *door, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    stop_waiting(door, info->socket_context);
}

/* Other users have half of the unix door's places, so that none of them can keep the
 * relay's own people out. */
static void come_in(struct door *door, struct visitor *visitor)
{
    uid_t uid;

    visitor->is_waited_for = true;
    visitor->since_ms = loop_now_ms(door->api->options.loop);
    DL_APPEND(door->waited_for, visitor);
    if (door->needs_token || !peer_is_limited(visitor->fd, &uid))
        return;
    visitor->is_limited = true;
    if (++door->api->limited_connections > door->connections / 2)
        (void)shutdown(visitor->fd, SHUT_RDWR);
}

static void on_visitor(void *door_at, struct MHD_Connection *connection, void **context,
                       enum MHD_ConnectionNotificationCode what)
{
    struct door *door = door_at;
    struct visitor *visitor = *context;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        visitor = mem_alloc(sizeof(*visitor));
        visitor->fd = door_fd_of(connection);
        *context = visitor;
        come_in(door, visitor);
        return;
    }
    *context = NULL;
    door->has_lost_one = true;
    stop_waiting(door, visitor);
    door->api->limited_connections -= visitor->is_limited;
    free(visitor);
}

/* From accept() to the end of the request, however it trickles. */
static uint64_t patience_left(const struct door *door)
{
    const struct api_options *options = &door->api->options;
    uint64_t patience = options->request_ms ? options->request_ms : REQUEST_MS;
    uint64_t age = loop_now_ms(options->loop) - door->waited_for->since_ms;

    return age < patience ? patience - age : 0;
}

/* The library sees them go as if they had hung up. */
static void show_out(struct door *door)
{
    while (door->waited_for && patience_left(door) == 0) {
        (void)shutdown(door->waited_for->fd, SHUT_RDWR);
        stop_waiting(door, door->waited_for);
    }
}

/* ---- running ---- */

/* UINT64_MAX: only when the watch says so. */
static uint64_t next_run(struct door *door)
{
    MHD_UNSIGNED_LONG_LONG ms;
    uint64_t wait = UINT64_MAX;

    /* At its limit the library stops listening, and looks whether it may listen again only at
     * the start of a run, before the run in which connections end takes them off the count.
     * Without one more run nothing would ever wake it: its timeout says "never" by then. */
    if (door->has_lost_one)
        return 0;
    if (MHD_get_timeout(door->daemon, &ms) == MHD_YES)
        wait = ms;
    if (door->waited_for && patience_left(door) < wait)
        wait = patience_left(door);
    return wait;
}

static void door_run(void *arg)
{
    struct door *door = arg;
    struct loop *loop = door->api->options.loop;
    uint64_t wait;

    door->has_lost_one = false;
    MHD_run(door->daemon);
    /* After the run: what came while the loop was busy has been read by now. */
    show_out(door);
    wait = next_run(door);
    /* A deferred call could starve the loop if the library always had more to
     * do; a timer that is due now leaves room for others in between. */
    if (wait != UINT64_MAX)
        loop_timer_start(loop, &door->timer, wait, door_run, door);
    else
        loop_timer_stop(loop, &door->timer);
}

void door_look(struct door *door)
{
    loop_timer_start(door->api->options.loop, &door->timer, 0, door_run, door);
}

/* ---- open and close ---- */

/* Few descriptors are for mail; who asks about it waits. */
static unsigned connections_max(void)
{
    struct rlimit limit;
    rlim_t share = CONNECTIONS_MAX;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        share = limit.rlim_cur / 16;
    if (share < CONNECTIONS_MIN)
        return CONNECTIONS_MIN;
    return share < CONNECTIONS_MAX ? (unsigned)share : CONNECTIONS_MAX;
}

enum err door_open(struct api *api, int fd, bool needs_token, struct fault *fault)
{
    struct door *door = &api->doors[api->door_count];
    const union MHD_DaemonInfo *info;

    door->api = api;
    door->needs_token = needs_token;
    door->connections = connections_max();
    door->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, call_request, door,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, call_completed, door,
        MHD_OPTION_CONNECTION_LIMIT, door->connections, MHD_OPTION_NOTIFY_CONNECTION, on_visitor,
        door, MHD_OPTION_URI_LOG_CALLBACK, call_begins, door, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, ANSWER_IDLE_S, MHD_OPTION_END);
    if (!door->daemon)
        return fault_set(fault, ERR_IO, "cannot start the HTTP server of the API");
    api->door_count++;
    info = MHD_get_daemon_info(door->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || loop_watch_fd(api->options.loop, info->epoll_fd, door_run, door, &door->watch))
        return fault_set(fault, ERR_UNSUPPORTED, "the HTTP library here cannot be watched");
    return ERR_OK;
}

void door_close(struct door *door)
{
    /* Once to take up the resumed ones, once to send what they say. */
    MHD_run(door->daemon);
    MHD_run(door->daemon);
    loop_timer_stop(door->api->options.loop, &door->timer);
    loop_unwatch(&door->watch);
    MHD_stop_daemon(door->daemon); /* closes its socket; call_completed for what is open */
    door->daemon = NULL;
}
