/*
 * api.c - the HTTP server on the loop: started, run when there is something, stopped.
 *
 * libmicrohttpd runs without a thread of its own. Its epoll descriptor is
 * watched by the loop; its timeouts are a timer of the loop that exists only
 * while a connection is open, so an idle API costs no wake-ups.
 */
#include "relay/api/api_impl.h"

#include <sys/resource.h>

#define CONNECTIONS_MAX 64u
#define CONNECTIONS_MIN 4u
#define CONNECTION_MEMORY ((size_t)32 * 1024) /* request line, header and what is parsed of it */
#define CONNECTION_IDLE_S 30u

/* ---- letters ---- */

static void on_knock(struct letter *letter)
{
    struct api_post *post = container_of(letter, struct api_post, knock);

    atomic_store(&post->knocked, false);
    if (post->api) {
        mailbox_drain(&post->box);
        return;
    }
    mailbox_clear(&post->box);
    free(post);
}

/* Any thread, under the box's lock. The flag keeps the one knock letter from
 * being posted again while it still lies in the loop's mailbox. */
static void wake(void *arg)
{
    struct api_post *post = arg;

    if (!atomic_exchange(&post->knocked, true))
        mailbox_post(post->loop_box, &post->knock);
}

static struct api_post *post_new(struct api *api)
{
    struct api_post *post = mem_alloc(sizeof(*post));

    post->api = api;
    post->loop_box = loop_mailbox(api->options.loop);
    post->knock.open = on_knock;
    mailbox_init(&post->box, wake, post);
    return post;
}

static void post_free(struct api_post *post)
{
    post->api = NULL;
    if (atomic_load(&post->knocked))
        return; /* the knock that lies in the loop's mailbox frees it */
    mailbox_clear(&post->box);
    free(post);
}

/* ---- doors ---- */

static void door_run(void *arg)
{
    struct door *door = arg;
    struct loop *loop = door->api->options.loop;
    MHD_UNSIGNED_LONG_LONG ms;

    MHD_run(door->daemon);
    /* A deferred call could starve the loop if the library always had more to
     * do; a timer that is due now leaves room for others in between. */
    if (MHD_get_timeout(door->daemon, &ms) == MHD_YES)
        loop_timer_start(loop, &door->timer, ms, door_run, door);
    else
        loop_timer_stop(loop, &door->timer);
}

void door_look(struct door *door)
{
    loop_timer_start(door->api->options.loop, &door->timer, 0, door_run, door);
}

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

static enum err door_open(struct api *api, int fd, bool needs_token, struct fault *fault)
{
    struct door *door = &api->doors[api->door_count];
    const union MHD_DaemonInfo *info;

    door->api = api;
    door->needs_token = needs_token;
    door->connections = connections_max();
    door->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, call_request, door,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, call_completed, door,
        MHD_OPTION_CONNECTION_LIMIT, door->connections, MHD_OPTION_NOTIFY_CONNECTION,
        call_peer_connects, door, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_IDLE_S, MHD_OPTION_END);
    if (!door->daemon)
        return fault_set(fault, ERR_IO, "cannot start the HTTP server of the API");
    api->door_count++;
    info = MHD_get_daemon_info(door->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || loop_watch_fd(api->options.loop, info->epoll_fd, door_run, door, &door->watch))
        return fault_set(fault, ERR_UNSUPPORTED, "the HTTP library here cannot be watched");
    return ERR_OK;
}

static void door_close(struct door *door)
{
    loop_timer_stop(door->api->options.loop, &door->timer);
    loop_unwatch(&door->watch);
    MHD_stop_daemon(door->daemon); /* closes its socket; call_completed for what is open */
    door->daemon = NULL;
}

/* ---- life ---- */

static enum err open_doors(struct api *api, struct fault *fault)
{
    const struct api_options *options = &api->options;
    enum err rc;
    int fd;

    rc = api_listen_unix(api, options->socket, &fd, fault);
    if (!rc)
        rc = door_open(api, fd, false, fault);
    if (rc || !options->address)
        return rc;
    if (!options->token_file)
        return fault_set(fault, ERR_INVALID,
                         "api address %s needs a token: set token-file in the api section",
                         options->address);
    rc = api_read_token(options->token_file, &api->token, fault);
    if (!rc)
        rc = api_listen_tcp(options->address, &fd, fault);
    if (!rc)
        rc = door_open(api, fd, true, fault);
    return rc;
}

enum err api_new(const struct api_options *options, struct api **out_api, struct fault *fault)
{
    struct api *api = mem_alloc(sizeof(*api));
    enum err rc;

    api->options = *options;
    api->post = post_new(api);
    rc = open_doors(api, fault);
    if (rc) {
        api_free(&api);
        return rc;
    }
    *out_api = api;
    return ERR_OK;
}

/* What the store and the workers do for us comes home before anything is
 * freed. They need nothing of this loop for it, so waiting here cannot hang. */
static void wait_for_pending(struct api *api)
{
    while (api->pending) {
        struct letter *letter = mailbox_wait(&api->post->box, UINT64_MAX);
        while (letter) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    }
}

static void answer_waiting(struct api *api)
{
    for (struct call *call = api->calls; call; call = call->next)
        if (call->is_suspended && !call->is_answered)
            call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "the relay is stopping");
}

void api_free(struct api **api_at)
{
    struct api *api = *api_at;

    if (!api)
        return;
    *api_at = NULL;
    api->is_closing = true;
    for (struct call *call = api->calls; call; call = call->next)
        atomic_store(&call->is_cancelled, true);
    wait_for_pending(api);
    answer_waiting(api); /* those that engine still gathers for */
    for (unsigned i = 0; i < api->door_count; i++) {
        /* Once to take up the resumed ones, once to send what they say. */
        MHD_run(api->doors[i].daemon);
        MHD_run(api->doors[i].daemon);
        door_close(&api->doors[i]);
    }
    for (struct call *call = api->calls; call; call = call->next)
        call->api = NULL;
    api_unlink_socket(api);
    post_free(api->post);
    free(api->token);
    free(api);
}
