/*
 * relay_ask.h - asking the running relay, through the API on its unix socket.
 *
 * Where that is says the configuration. When nobody listens there the relay is
 * down: commands that only read then look into its data folder themselves.
 */
#ifndef WAYPOST_CLI_RELAY_ASK_H
#define WAYPOST_CLI_RELAY_ASK_H

#include "relay/cli/cmd.h"
#include "relay/net/http.h"

#include <jansson.h>

struct relay_ask {
    struct conf *conf;
    char *socket;
    char *queue_folder, *trace_folder;
    bool is_guess; /* the caller may not read the configuration: the usual paths */
};

/* EX_OK, or EX_CONFIG with every mistake printed. */
int relay_ask_open(const char *conf_file, struct relay_ask *ask);
void relay_ask_close(struct relay_ask *ask);

/* One request. It may take the relay half an hour as long as that is alive; standard error
 * says that we wait. ERR_OK: answered with 2xx. ERR_REFUSED: the relay is down. Anything
 * else: `fault` has the sentence, the API's own when it answered. Clear the response. */
enum err relay_ask_call(const struct relay_ask *ask, const char *method, const char *path,
                        http_chunk_fn *chunk, void *arg, struct http_response *response,
                        struct fault *fault);
/* The answer as JSON; NULL with `fault` and *out_err set as above. */
json_t *relay_ask_json(const struct relay_ask *ask, const char *method, const char *path,
                       enum err *out_err, struct fault *fault);

/* Append "&name=value" or "?name=value". */
void relay_ask_param(struct buf *path, const char *name, struct str value);

/* The relay is down, and `folder` is to be read without it: said on standard error.
 * ERR_DENIED: the caller may not, and the fault says who may. */
enum err relay_ask_go_direct(const struct relay_ask *ask, const char *folder, struct fault *fault);
/* Added where nothing was found: others' mail is not shown to everybody. "" for root. */
const char *relay_ask_scope(void);
/* What waits in the drop folder, in no queue yet; for those who may look. */
void relay_ask_say_dropped(const struct relay_ask *ask);
/* "not running, so ..." for commands that change something. */
int relay_ask_say_down(const struct relay_ask *ask, const char *what);

#endif
