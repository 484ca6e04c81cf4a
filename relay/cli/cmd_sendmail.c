/*
 * cmd_sendmail.c - sendmail(1) in the large program: the parts that ask the relay.
 */
#include "relay/cli/sendmail.h"

#include "relay/cli/cmd.h"
#include "relay/cli/relay_ask.h"
#include "relay/cli/sendmail_large.h"
#include "relay/cli/show.h"

/* ---- -q ---- */

static void flush_path(const struct sendmail_wish *wish, struct buf *path)
{
    static const char *const filters[] = { [FLUSH_ALL] = "",
                                           [FLUSH_ID] = "id",
                                           [FLUSH_RECIPIENT] = "recipient",
                                           [FLUSH_SENDER] = "sender" };

    buf_init(path, 4096);
    buf_cstr(path, wish->flush == FLUSH_ALL ? "/v1/flush" : "/v1/queue/retry");
    if (wish->flush != FLUSH_ALL)
        relay_ask_param(path, filters[wish->flush], str_of(wish->flush_what));
    buf_char(path, '\0');
}

static int flush(const struct sendmail_wish *wish)
{
    struct fault fault = { .err = ERR_OK };
    struct relay_ask ask;
    struct buf path;
    enum err rc;
    int code = relay_ask_open(wish->conf_file, &ask);

    if (code)
        return code;
    flush_path(wish, &path);
    json_decref(relay_ask_json(&ask, "POST", path.at, &rc, &fault));
    buf_clear(&path);
    if (rc == ERR_REFUSED)
        code = relay_ask_say_down(&ask, "flushed");
    else if (rc)
        code = cmd_fail(cmd_code(rc), "%s", fault.text);
    relay_ask_close(&ask);
    return code;
}

/* ---- -bv ---- */

static void put_resolved(const char *typed, const json_t *one, struct buf *out)
{
    struct str address = show_field(one, "address"), by = show_field(one, "by");
    struct str relays = show_field(one, "relays"), lane = show_field(one, "lane");

    show_text(out, str_of(typed), 320);
    if (address.len == 0) {
        buf_cstr(out, "... held: ");
        show_text(out, by, 300);
        buf_char(out, '\n');
        return;
    }
    buf_cstr(out, "... deliverable: ");
    if (relays.len) {
        buf_cstr(out, "relay ");
        show_text(out, relays, 300);
    } else {
        buf_cstr(out, "the MX hosts of ");
        show_text(out, str_from(lane, str_chr(lane, '/') + 1), 300);
    }
    buf_cstr(out, ", route ");
    show_text(out, str_head(lane, str_chr(lane, '/')), 100);
    buf_cstr(out, ", user ");
    show_text(out, address, 320);
    if (by.len) {
        buf_cstr(out, " (");
        show_text(out, by, 300);
        buf_char(out, ')');
    }
    buf_char(out, '\n');
}

/* EX_OK, or why this address is none. */
static int verify_one(const struct relay_ask *ask, const struct sendmail_wish *wish,
                      const char *recipient)
{
    struct fault fault = { .err = ERR_OK };
    struct buf path, out;
    json_t *answer;
    const json_t *list, *one;
    size_t i;
    enum err rc;

    buf_init(&path, 4096);
    buf_init(&out, 1 << 20);
    buf_cstr(&path, "/v1/resolve");
    relay_ask_param(&path, "recipient", str_of(recipient));
    if (wish->sender.len)
        relay_ask_param(&path, "sender", wish->sender);
    buf_char(&path, '\0');
    answer = relay_ask_json(ask, "GET", path.at, &rc, &fault);
    list = json_object_get(answer, "leads-to");
    json_array_foreach((json_t *)(uintptr_t)list, i, one) put_resolved(recipient, one, &out);
    (void)cmd_put(stdout, &out);
    json_decref(answer);
    buf_clear(&path);
    buf_clear(&out);
    if (rc == ERR_REFUSED)
        return relay_ask_say_down(ask, "verified");
    if (rc)
        (void)printf("%s... %s\n", recipient, fault.text);
    return rc == ERR_INVALID ? EX_NOUSER : cmd_code(rc);
}

static int verify(const struct sendmail_wish *wish)
{
    struct relay_ask ask;
    int code = EX_OK;

    if (wish->recipient_count == 0)
        return cmd_fail(EX_USAGE, "-bv needs addresses");
    code = relay_ask_open(wish->conf_file, &ask);
    for (size_t i = 0; !code && i < wish->recipient_count; i++)
        code = verify_one(&ask, wish, wish->recipients[i]);
    relay_ask_close(&ask);
    return code;
}

int cmd_sendmail(const char *conf_file, int argc, char **argv)
{
    static const struct sendmail_large large = { .list = sendmail_list,
                                                 .flush = flush,
                                                 .verify = verify,
                                                 .aliases = sendmail_aliases,
                                                 .await = sendmail_await };

    return sendmail_main(argc, argv, conf_file, &large);
}
