/*
 * api.c - the API on the loop: started, told of what others finished, stopped.
 */
#include "relay/api/api_impl.h"

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
        door_close(&api->doors[i]);
    }
    for (struct call *call = api->calls; call; call = call->next)
        call->api = NULL;
    api_unlink_socket(api);
    post_free(api->post);
    free(api->token);
    free(api);
}
