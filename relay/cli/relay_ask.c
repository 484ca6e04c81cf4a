/*
 * relay_ask.c - requests to the relay's API.
 */
#include "relay/cli/relay_ask.h"

#include "relay/base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Changing a million messages takes a while before the first byte of an answer. */
#define PATIENCE_MIN 30u
/* So long silent, it is asked whether it is well, and has as long to say so; then now and again. */
#define QUIET_MS 5000u
#define ASK_AGAIN_MS 30000u
/* Without a place at the relay: longer than it lets anybody sit there in silence. */
#define PLACE_MS 8000u
#define PLACE_AGAIN_US 100000u

static char *join(struct str folder, const char *name)
{
    struct buf path;

    buf_init(&path, 4096);
    buf_printf(&path, STR_FMT "/%s", STR_ARG(folder), name);
    return buf_take(&path, NULL);
}

int relay_ask_open(const char *conf_file, struct relay_ask *ask)
{
    *ask = (struct relay_ask){ .conf = geteuid() == 0 ? NULL : cmd_conf_quietly(conf_file) };
    /* The file, or passwords that it names, may be for the relay's eyes only. */
    if (!ask->conf && geteuid() != 0 && access(conf_file_name(conf_file), F_OK) == 0)
        ask->is_guess = !conf_glance(conf_file, &ask->conf);
    if (!ask->conf)
        ask->conf = cmd_conf(conf_file);
    if (!ask->conf)
        return cmd_fail(EX_CONFIG,
                        "the configuration tells where the relay is, and it cannot be used");
    ask->socket = str_dup(ask->conf->api.socket);
    ask->queue_folder = join(ask->conf->data, "queue");
    ask->trace_folder = join(ask->conf->data, "trace");
    return EX_OK;
}

void relay_ask_close(struct relay_ask *ask)
{
    free(ask->socket);
    free(ask->queue_folder);
    free(ask->trace_folder);
    if (ask->conf)
        conf_unref(&ask->conf);
    *ask = (struct relay_ask){ 0 };
}

/* What the API says went wrong: {"error": "..."}. */
static enum err refuse(const struct http_response *response, struct fault *fault)
{
    json_t *json =
        json_loadb(response->body.len ? response->body.at : "", response->body.len, 0, NULL);
    const char *words = json_string_value(json_object_get(json, "error"));
    enum err err = response->status == 404   ? ERR_NOT_FOUND
                   : response->status == 400 ? ERR_INVALID
                   : response->status == 403 ? ERR_DENIED
                   : response->status == 503 ? ERR_BUSY
                                             : ERR_IO;

    if (words)
        err = fault_set(fault, err, "%s", words);
    else
        err = fault_set(fault, ERR_UNSUPPORTED, "the relay answered with HTTP status %u",
                        response->status);
    json_decref(json);
    return err;
}

/* ---- one request ---- */

struct patience {
    const struct relay_ask *ask;
    uint32_t next_ms; /* of silence, when it is asked */
    bool is_told, has_run_out;
};

/* Any answer will do, also a bad one, and that it is gone shows on the request itself. */
static bool is_alive(const struct relay_ask *ask)
{
    struct http_request request = {
        .method = "GET", .socket = ask->socket, .path = "/healthz", .timeout_ms = QUIET_MS
    };
    struct http_response response;
    enum err rc = http_call(&request, &response, NULL);

    http_response_clear(&response);
    return rc != ERR_TIMEOUT;
}

static bool go_on_waiting(void *arg, uint32_t silent_ms)
{
    struct patience *patience = arg;

    if (silent_ms < QUIET_MS)
        patience->next_ms = QUIET_MS;
    if (silent_ms < patience->next_ms)
        return true;
    patience->next_ms = silent_ms + ASK_AGAIN_MS;
    patience->has_run_out = !is_alive(patience->ask);
    if (patience->has_run_out || patience->is_told)
        return !patience->has_run_out;
    patience->is_told = true;
    (void)cmd_fail(EX_OK,
                   "the relay runs, but this takes it longer (much mail, or a slow disk): waiting "
                   "for up to %u minutes",
                   PATIENCE_MIN);
    return true;
}

/* Other callers may have all its places; who says nothing loses his soon. */
static enum err call_in_turn(const struct http_request *request, struct http_response *response,
                             struct fault *fault)
{
    uint64_t until_ms = clock_mono_ms() + PLACE_MS;
    enum err rc;

    while ((rc = http_call(request, response, fault)) == ERR_BUSY && clock_mono_ms() < until_ms) {
        http_response_clear(response);
        (void)usleep(PLACE_AGAIN_US);
    }
    return rc;
}

enum err relay_ask_call(const struct relay_ask *ask, const char *method, const char *path,
                        http_chunk_fn *chunk, void *arg, struct http_response *response,
                        struct fault *fault)
{
    struct patience patience = { .ask = ask, .next_ms = QUIET_MS };
    struct http_request request = { .method = method,
                                    .socket = ask->socket,
                                    .path = path,
                                    .timeout_ms = PATIENCE_MIN * 60 * 1000,
                                    .chunk = chunk,
                                    .arg = arg,
                                    .wait = go_on_waiting,
                                    .wait_arg = &patience };
    enum err rc = call_in_turn(&request, response, fault);

    if (rc == ERR_NOT_FOUND || rc == ERR_REFUSED)
        return ERR_REFUSED;
    if (patience.has_run_out)
        return fault_set(fault, rc,
                         "the relay at %s does not answer, not even whether it is well: it is "
                         "stopped or hangs; systemctl status waypost and its log tell more, "
                         "systemctl restart waypost starts it anew (queued mail is kept)",
                         ask->socket);
    if (rc == ERR_DENIED)
        return fault_set(fault, rc,
                         "cannot connect to the relay at %s: permission denied (root and the "
                         "relay's user may)",
                         ask->socket);
    if (rc || (response->status >= 200 && response->status < 300))
        return rc;
    return refuse(response, fault);
}

json_t *relay_ask_json(const struct relay_ask *ask, const char *method, const char *path,
                       enum err *out_err, struct fault *fault)
{
    struct http_response response;
    json_t *json = NULL;

    *out_err = relay_ask_call(ask, method, path, NULL, NULL, &response, fault);
    if (!*out_err) {
        json = json_loadb(response.body.len ? response.body.at : "", response.body.len, 0, NULL);
        if (!json)
            *out_err = fault_set(fault, ERR_CORRUPT, "the relay's answer is not JSON");
    }
    http_response_clear(&response);
    return json;
}

void relay_ask_param(struct buf *path, const char *name, struct str value)
{
    bool is_first = str_chr(buf_view(path), '?') == path->len;

    buf_printf(path, "%c%s=", is_first ? '?' : '&', name);
    http_escape(path, value);
}

/* Behind "nobody listens on PATH". */
static const char *guess_note(const struct relay_ask *ask)
{
    return ask->is_guess ? ", the usual path: you may not read the configuration" : "";
}

const char *relay_ask_scope(void)
{
    return geteuid() == 0
               ? ""
               : " (you see mail that you handed in; root and the relay's group see all)";
}

enum err relay_ask_go_direct(const struct relay_ask *ask, const char *folder, struct fault *fault)
{
    if (access(folder, F_OK) && access(ask->queue_folder, F_OK) && errno == ENOENT)
        return fault_set(fault, ERR_NOT_FOUND,
                         "the relay is not running (nobody listens on %s%s), and no relay has run "
                         "on this data folder yet: " STR_FMT,
                         ask->socket, guess_note(ask), STR_ARG(ask->conf->data));
    if (access(folder, R_OK | X_OK) && errno == EACCES)
        return fault_set(fault, ERR_DENIED,
                         "the relay is not running (nobody listens on %s%s); without it only root "
                         "and its user can look into " STR_FMT,
                         ask->socket, guess_note(ask), STR_ARG(ask->conf->data));
    (void)cmd_fail(
        EX_OK, "the relay is not running (nobody listens on %s%s): reading " STR_FMT " directly",
        ask->socket, guess_note(ask), STR_ARG(ask->conf->data));
    return ERR_OK;
}

/* Under such names sendmail leaves a message that is whole. */
static bool is_dropped_name(const char *name)
{
    return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32;
}

void relay_ask_say_dropped(const struct relay_ask *ask)
{
    char *folder = str_dup(ask->conf->sendmail.drop);
    DIR *dir = folder[0] ? opendir(folder) : NULL;
    const struct dirent *entry;
    size_t count = 0;

    while (dir && (entry = readdir(dir)) != NULL)
        count += is_dropped_name(entry->d_name);
    if (count > 0)
        (void)cmd_fail(EX_OK, "%zu message%s from sendmail wait%s in %s until it runs", count,
                       count == 1 ? "" : "s", count == 1 ? "s" : "", folder);
    if (dir)
        closedir(dir);
    free(folder);
}

int relay_ask_say_down(const struct relay_ask *ask, const char *what)
{
    return cmd_fail(EX_UNAVAILABLE,
                    "the relay is not running (nobody listens on %s%s), so nothing can be %s; "
                    "start it (systemctl start waypost, or waypost serve) and ask again",
                    ask->socket, guess_note(ask), what);
}
