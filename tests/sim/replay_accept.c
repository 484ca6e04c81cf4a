/*
 * replay_accept.c - "accept": a message comes in.
 */
#include "tests/sim/replay.h"

#include <stdio.h>
#include <stdlib.h>

#define HEADERS_MAX 16
#define SIZE_USUAL 300

struct letterhead { /* what the words of the step say */
    struct str from, to, subject, body, notify, ret, envid, orcpt, answer, user, author;
    struct str headers[HEADERS_MAX];
    size_t header_count;
    uint64_t size, count, local;
};

static bool word(struct replay *replay, struct letterhead *letter, const struct replay_pair *pair)
{
    const struct {
        const char *key;
        struct str *text;
        uint64_t *number;
    } keys[] = {
        { "from", &letter->from, NULL },       { "to", &letter->to, NULL },
        { "subject", &letter->subject, NULL }, { "body", &letter->body, NULL },
        { "notify", &letter->notify, NULL },   { "ret", &letter->ret, NULL },
        { "envid", &letter->envid, NULL },     { "orcpt", &letter->orcpt, NULL },
        { "answer", &letter->answer, NULL },   { "user", &letter->user, NULL },
        { "size", NULL, &letter->size },       { "count", NULL, &letter->count },
        { "author", &letter->author, NULL },   { "local", NULL, &letter->local },
    };

    if (str_eq(pair->key, STR("header")) && letter->header_count < HEADERS_MAX) {
        letter->headers[letter->header_count++] = pair->value;
        return true;
    }
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (!str_eq(pair->key, str_of(keys[i].key)))
            continue;
        if (keys[i].text)
            *keys[i].text = pair->value;
        else if (!str_u64(pair->value, keys[i].number))
            return replay_fail(replay, "%s= takes a number", keys[i].key);
        return true;
    }
    return replay_fail(replay, "a message has no \"" STR_FMT "\"", STR_ARG(pair->key));
}

/* ---- the envelope ---- */

static bool notify_of(struct replay *replay, struct str text, uint8_t *out)
{
    static const struct {
        const char *word;
        uint8_t bit;
    } bits[] = {
        { "NEVER", NOTIFY_NEVER },
        { "SUCCESS", NOTIFY_SUCCESS },
        { "FAILURE", NOTIFY_FAILURE },
        { "DELAY", NOTIFY_DELAY },
    };
    struct str piece;

    *out = 0;
    while (str_next(&text, ',', &piece)) {
        uint8_t bit = 0;
        for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
            if (str_ieq(piece, str_of(bits[i].word)))
                bit = bits[i].bit;
        if (!bit)
            return replay_fail(replay, "notify takes NEVER, SUCCESS, FAILURE, DELAY");
        *out |= bit;
    }
    return true;
}

/* "user%@there.test": % is the number of the message. */
static struct str numbered(struct arena *arena, struct str pattern, uint64_t number)
{
    size_t at = str_chr(pattern, '%');

    if (at == pattern.len)
        return pattern;
    return str_of(arena_printf(arena, STR_FMT "%llu" STR_FMT, STR_ARG(str_head(pattern, at)),
                               (unsigned long long)number, STR_ARG(str_from(pattern, at + 1))));
}

static struct str canonical(struct arena *arena, struct str text)
{
    struct addr addr;
    struct buf out;
    struct str copy = text;

    buf_init(&out, ADDR_MAX + 1);
    if (text.len && addr_parse(text, ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE, &addr, NULL) == ERR_OK &&
        addr_canonical(&addr, &out, NULL) == ERR_OK)
        copy = arena_str(arena, buf_view(&out));
    buf_clear(&out);
    return copy;
}

static bool envelope_of(struct replay *replay, const struct letterhead *letter, uint64_t number,
                        struct envelope *envelope)
{
    struct str rest = letter->to, piece;
    uint8_t notify;

    if (!notify_of(replay, letter->notify, &notify))
        return false;
    if (!str_eq(letter->from, STR("<>")))
        envelope->sender = arena_str(&envelope->arena, canonical(&envelope->arena, letter->from));
    envelope->envid = arena_str(&envelope->arena, letter->envid);
    envelope->user = arena_str(&envelope->arena, letter->user);
    envelope->helo = STR("client.here.test");
    envelope->client = STR("[192.0.2.200]:40000");
    envelope->listener = STR("sim");
    if (str_ieq(letter->ret, STR("FULL")))
        envelope->ret = RET_FULL;
    if (str_ieq(letter->ret, STR("HDRS")))
        envelope->ret = RET_HDRS;
    if (!str_is_ascii(letter->to) || !str_is_ascii(letter->from))
        envelope->flags |= ENVELOPE_SMTPUTF8;
    while (str_next(&rest, ',', &piece)) {
        struct str address = numbered(&envelope->arena, piece, number);
        struct recipient *recipient = envelope_add(envelope, canonical(&envelope->arena, address));
        recipient->notify = notify;
        recipient->orcpt = arena_str(&envelope->arena, letter->orcpt);
    }
    return true;
}

/* ---- the content ---- */

static void content_of(const struct letterhead *letter, uint64_t number, unsigned line_number,
                       struct buf *out)
{
    static const char line[] = "All work and no play makes mail a dull toy, dull toy, dull.\r\n";
    struct str from = str_eq(letter->from, STR("<>")) ? STR("nobody@here.test") : letter->from;
    size_t body;

    if (letter->author.len)
        buf_printf(out, "From: " STR_FMT "\r\n", STR_ARG(letter->author));
    else
        buf_printf(out, "From: <" STR_FMT ">\r\n", STR_ARG(from));
    buf_printf(out, "Subject: " STR_FMT "\r\n", STR_ARG(letter->subject));
    buf_printf(out, "Message-ID: <%llu.%u@here.test>\r\n", (unsigned long long)number, line_number);
    for (size_t i = 0; i < letter->header_count; i++)
        buf_printf(out, STR_FMT "\r\n", STR_ARG(letter->headers[i]));
    buf_cstr(out, "\r\n");
    body = out->len;
    if (letter->body.len)
        buf_printf(out, STR_FMT "\r\n", STR_ARG(letter->body));
    while (out->len - body < letter->size)
        buf_cstr(out, line);
}

/* ---- the step ---- */

struct taking_note {
    struct reply reply;
    bool came;
};

static void answered(void *arg, const struct reply *reply)
{
    struct taking_note *note = arg;

    note->reply = *reply;
    note->came = true;
}

static bool check(struct replay *replay, const struct taking_note *note, struct str wanted)
{
    struct buf line;
    bool ok;

    if (!note->came)
        return replay_fail(replay, "the message got no answer");
    buf_init(&line, REPLY_TEXT_MAX + 64);
    reply_line(&note->reply, &line);
    ok = str_starts(buf_view(&line), wanted);
    if (!ok)
        replay_fail(replay, "the answer was \"" STR_FMT "\"", STR_ARG(buf_view(&line)));
    buf_clear(&line);
    return ok;
}

bool step_accept(struct replay *replay, char **words, size_t count)
{
    struct letterhead letter = { .size = SIZE_USUAL, .count = 1, .answer = STR("250") };
    struct taking_note *notes;
    struct replay_pair pair;
    bool ok = true;

    letter.subject = STR("hello");
    for (size_t i = 0; i < count; i++)
        if (!replay_pair(words[i], &pair))
            return replay_fail(replay, "\"%s\": KEY=VALUE is wanted", words[i]);
        else if (!word(replay, &letter, &pair))
            return false;
    if (!letter.from.len || !letter.to.len)
        return replay_fail(replay, "from= and to= are needed");
    notes = mem_alloc(letter.count * sizeof(*notes));
    for (uint64_t n = 0; ok && n < letter.count; n++) {
        struct envelope envelope;
        struct buf content;
        envelope_init(&envelope);
        buf_init(&content, (size_t)256 << 20);
        ok = envelope_of(replay, &letter, n + 1, &envelope);
        content_of(&letter, n + 1, replay->line, &content);
        if (ok)
            relay_take(&replay->relay, &envelope, buf_view(&content), letter.local, answered,
                       &notes[n]);
        buf_clear(&content);
        envelope_clear(&envelope);
    }
    world_settle(&replay->world);
    for (uint64_t n = 0; ok && n < letter.count; n++)
        ok = check(replay, &notes[n], letter.answer);
    free(notes);
    return ok;
}
