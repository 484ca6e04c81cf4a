/*
 * sendmail_await.c - what became of a message, while the caller waits.
 *
 * The trace of the message is asked for again and again until every recipient
 * has been tried once or the wait is over. What is put off is not a failure: the
 * message is on disk and tried again, so the code is 0, as it is after the wait;
 * 75 would make callers send it a second time (Sendmail does the same).
 */
#include "relay/base/clock.h"
#include "relay/cli/cmd.h"
#include "relay/cli/relay_ask.h"
#include "relay/cli/sendmail_large.h"
#include "relay/cli/show.h"

#include <time.h>
#include <unistd.h>

#define FIRST_MS 20
#define MOST_MS 250

/* A failure by its class and status: sysexits has three kinds. */
static enum sendmail_trouble trouble_of(const json_t *hop)
{
    struct str status = show_field(hop, "status");

    if (str_eq(show_field(hop, "class"), STR("dns")) || str_eq(status, STR("5.1.2")) ||
        str_eq(status, STR("5.4.4")))
        return TROUBLE_NO_HOST;
    if (str_eq(status, STR("5.1.1")) || str_eq(status, STR("5.1.0")) ||
        str_eq(status, STR("5.1.6")))
        return TROUBLE_NO_USER;
    return TROUBLE_REJECTED;
}

static void keep_failure(struct sendmail_verdicts *verdicts, const json_t *hop)
{
    struct str to = show_field(hop, "to"), said = show_field(hop, "reply");

    if (verdicts->worst)
        return;
    if (said.len == 0)
        said = show_field(hop, "fault");
    verdicts->worst = trouble_of(hop);
    (void)snprintf(verdicts->words, sizeof(verdicts->words), STR_FMT ": %llu " STR_FMT,
                   STR_ARG(str_head(to, 200)), (unsigned long long)show_number(hop, "code"),
                   STR_ARG(str_head(said, 200)));
}

void sendmail_judge(struct sendmail_verdicts *verdicts, const json_t *hop)
{
    struct str stage = show_field(hop, "stage"), result = show_field(hop, "result");
    uint64_t count = show_number(hop, "count");

    if (str_eq(stage, STR("receive")) && count > 0)
        verdicts->expected = count;
    if (str_eq(stage, STR("expand")) && str_eq(result, STR("later")))
        verdicts->is_held = true;
    if (!str_eq(stage, STR("settle")))
        return;
    verdicts->settled++;
    if (str_eq(result, STR("failed")))
        keep_failure(verdicts, hop);
}

/* "12:00:01 rcpt later mx.example.com: 450 4.2.0 greylisted" */
static void show_hop(const json_t *hop, struct buf *out)
{
    static const char *const keys[] = { "to", "host", "tls", "policy", "reply", "fault", "text" };
    struct str time = show_field(hop, "time");

    buf_str(out, str_head(str_from(time, 11), 12));
    buf_char(out, ' ');
    show_text(out, show_field(hop, "stage"), 16);
    buf_char(out, ' ');
    show_text(out, show_field(hop, "result"), 16);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct str value = show_field(hop, keys[i]);
        if (value.len) {
            buf_printf(out, " %s=", keys[i]);
            show_text(out, value, 200);
        }
    }
    buf_char(out, '\n');
}

static void read_hops(struct sendmail_verdicts *verdicts, struct str lines, bool verbose)
{
    uint64_t shown = verdicts->shown, at = 0;
    struct str line;
    struct buf out;

    buf_init(&out, 1 << 20);
    *verdicts = (struct sendmail_verdicts){ .shown = shown };
    for (; str_next(&lines, '\n', &line); at++) {
        json_t *hop = json_loadb(line.at, line.len, 0, NULL);
        sendmail_judge(verdicts, hop);
        if (verbose && at >= shown)
            show_hop(hop, &out);
        json_decref(hop);
    }
    verdicts->shown = at;
    (void)cmd_put(stdout, &out);
    (void)fflush(stdout);
    buf_clear(&out);
}

static bool is_over(const struct sendmail_verdicts *verdicts)
{
    return verdicts->is_held || (verdicts->expected && verdicts->settled >= verdicts->expected);
}

static int tell_end(const struct sendmail_wish *wish, const struct sendmail_verdicts *verdicts)
{
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };

    if (!verdicts->worst)
        return EX_OK;
    sendmail_fail(&fault, verdicts->worst, "%s", verdicts->words);
    return sendmail_say(wish, &fault);
}

int sendmail_await(const struct sendmail_wish *wish, const struct conf *conf, const char *id)
{
    uint64_t end = clock_mono_ms() + conf->sendmail.wait_ms, pause_ms = FIRST_MS;
    struct sendmail_verdicts verdicts = { .shown = 0 };
    struct http_response response;
    struct relay_ask ask;
    struct fault fault;
    char path[128];

    if (relay_ask_open(wish->conf_file, &ask))
        return EX_OK; /* it is queued, whatever became of our question */
    (void)snprintf(path, sizeof(path), "/v1/trace?handle=%s", id);
    while (!is_over(&verdicts) && clock_mono_ms() < end) {
        enum err rc;
        (void)usleep((useconds_t)pause_ms * 1000);
        pause_ms = pause_ms * 2 > MOST_MS ? MOST_MS : pause_ms * 2;
        rc = relay_ask_call(&ask, "GET", path, NULL, NULL, &response, &fault);
        if (rc == ERR_OK)
            read_hops(&verdicts, buf_view(&response.body), wish->verbose);
        http_response_clear(&response);
        if (rc && rc != ERR_NOT_FOUND)
            break;
    }
    relay_ask_close(&ask);
    return tell_end(wish, &verdicts);
}
