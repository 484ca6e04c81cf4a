/*
 * queue_json.c - envelopes as JSON objects.
 */
#include "relay/api/queue_json.h"

#include "queue/store_rules.h"
#include "relay/base/clock.h"

#include <stdlib.h>

json_t *json_text(struct str text)
{
    struct buf wide;
    json_t *json;

    if (str_is_utf8(text))
        return json_stringn(text.at, text.len);
    buf_init(&wide, text.len * 2);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c >= 0x80)
            buf_char(&wide, (char)(0xC0 | (c >> 6)));
        buf_char(&wide, c >= 0x80 ? (char)(0x80 | (c & 0x3F)) : (char)c);
    }
    json = json_stringn(buf_view(&wide).at, wide.len);
    buf_clear(&wide);
    return json;
}

static json_t *json_moment(int64_t wall_us)
{
    char text[32];

    clock_iso(wall_us, text, sizeof(text));
    return json_string(text);
}

json_t *json_wall(int64_t wall_s) { return json_moment(wall_s * 1000000); }

static void put_text(json_t *object, const char *key, struct str text)
{
    if (text.len)
        json_object_set_new(object, key, json_text(text));
}

static void put_wall(json_t *object, const char *key, int64_t wall_s)
{
    if (wall_s)
        json_object_set_new(object, key, json_wall(wall_s));
}

static void put_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

/* ---- recipients ---- */

static json_t *notify_words(unsigned notify)
{
    static const struct {
        unsigned bit;
        const char *word;
    } words[] = { { NOTIFY_NEVER, "never" },
                  { NOTIFY_SUCCESS, "success" },
                  { NOTIFY_FAILURE, "failure" },
                  { NOTIFY_DELAY, "delay" } };
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (notify & words[i].bit)
            json_array_append_new(list, json_string(words[i].word));
    return list;
}

static json_t *recipient_json(const struct recipient *recipient)
{
    json_t *json = json_object();

    json_object_set_new(json, "address", json_text(recipient->address));
    json_object_set_new(json, "state", json_string(recipient_state_word(recipient->state)));
    json_object_set_new(json, "lane", json_text(recipient->lane));
    put_number(json, "attempts", recipient->attempts);
    if (recipient->state == RECIPIENT_QUEUED)
        put_wall(json, "due", recipient->due_at);
    if (recipient->state == RECIPIENT_HELD)
        put_wall(json, "held-since", recipient->due_at);
    put_wall(json, "tried", recipient->tried_at);
    if (recipient->tried_at) {
        json_object_set_new(json, "stage", json_string(stage_word(recipient->stage)));
        json_object_set_new(json, "class", json_string(class_word(recipient->kind)));
    }
    put_text(json, "status", recipient->status);
    put_text(json, "host", recipient->host);
    put_text(json, "reply", recipient->said);
    put_text(json, "cause", recipient->cause);
    put_text(json, "fix", recipient->fix);
    return json;
}

static json_t *recipient_whole(const struct recipient *recipient)
{
    json_t *json = recipient_json(recipient);

    put_text(json, "orcpt", recipient->orcpt);
    if (recipient->notify)
        json_object_set_new(json, "notify", notify_words(recipient->notify));
    if (recipient->warned)
        json_object_set_new(json, "warned", json_true());
    return json;
}

/* ---- messages ---- */

static void put_states(json_t *json, const struct envelope *envelope)
{
    uint64_t counts[RECIPIENT_FAILED + 1] = { 0 };

    for (size_t i = 0; i < envelope->recipient_count; i++)
        if (envelope->recipients[i].state <= RECIPIENT_FAILED)
            counts[envelope->recipients[i].state]++;
    put_number(json, "recipient-count", envelope->recipient_count);
    for (unsigned i = 0; i <= RECIPIENT_FAILED; i++)
        put_number(json, recipient_state_word((enum recipient_state)i), counts[i]);
}

static json_t *message_head(const struct envelope *envelope)
{
    json_t *json = json_object();
    char id[MSGID_TEXT + 1];

    msgid_print(&envelope->id, id);
    json_object_set_new(json, "id", json_string(id));
    json_object_set_new(json, "arrived", json_moment(envelope->arrived_us));
    put_number(json, "size", envelope->size_bytes);
    json_object_set_new(json, "sender",
                        envelope->sender.len ? json_text(envelope->sender) : json_string("<>"));
    put_text(json, "user", envelope->user);
    put_text(json, "message-id", envelope->message_id);
    put_states(json, envelope);
    return json;
}

json_t *queue_json_listed(const struct envelope *envelope, const struct store_filter *filter)
{
    json_t *json = message_head(envelope), *list = json_array();

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (json_array_size(list) == QUEUE_JSON_RECIPIENTS)
            break;
        if (rules_recipient_matches(filter, &envelope->recipients[i]))
            json_array_append_new(list, recipient_json(&envelope->recipients[i]));
    }
    json_object_set_new(json, "recipients", list);
    return json;
}

json_t *queue_json_corrupt(const struct msgid *id)
{
    json_t *json = json_object();
    char text[MSGID_TEXT + 1];

    msgid_print(id, text);
    json_object_set_new(json, "id", json_string(text));
    json_object_set_new(json, "corrupt", json_true());
    return json;
}

static void put_flags(json_t *json, const struct envelope *envelope)
{
    static const struct {
        unsigned bit;
        const char *word;
    } words[] = { { ENVELOPE_SMTPUTF8, "smtputf8" },
                  { ENVELOPE_8BITMIME, "8bitmime" },
                  { ENVELOPE_UTF8_NEEDED, "utf8-needed" },
                  { ENVELOPE_HAS_8BIT, "8bit" },
                  { ENVELOPE_TLS, "tls" },
                  { ENVELOPE_DSN, "report" } };
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (envelope->flags & words[i].bit)
            json_array_append_new(list, json_string(words[i].word));
    json_object_set_new(json, "flags", list);
}

json_t *queue_json_message(const struct envelope *envelope)
{
    json_t *json = message_head(envelope), *list = json_array();

    put_text(json, "client", envelope->client);
    put_text(json, "helo", envelope->helo);
    put_text(json, "listener", envelope->listener);
    put_text(json, "from-domain", envelope->from_domain);
    put_text(json, "envid", envelope->envid);
    if (envelope->ret != RET_UNSET)
        json_object_set_new(json, "ret", json_string(envelope->ret == RET_FULL ? "full" : "hdrs"));
    put_flags(json, envelope);
    for (size_t i = 0; i < envelope->recipient_count; i++)
        json_array_append_new(list, recipient_whole(&envelope->recipients[i]));
    json_object_set_new(json, "recipients", list);
    return json;
}

json_t *queue_json_page(const struct store_list *list)
{
    json_t *page = json_object(), *messages = json_array();
    char id[MSGID_TEXT + 1];

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(
            messages, list->is_corrupt[i] ? queue_json_corrupt(&list->envelopes[i].id)
                                          : queue_json_listed(&list->envelopes[i], &list->filter));
    json_object_set_new(page, "messages", messages);
    json_object_set_new(page, "more", json_boolean(list->more));
    if (list->count) {
        msgid_print(&list->envelopes[list->count - 1].id, id);
        json_object_set_new(page, "after", json_string(id));
    }
    return page;
}
