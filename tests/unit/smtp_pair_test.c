/*
 * smtp_pair_test.c - our client talks to our server, the wire cut at random.
 *
 * Thousands of random messages, by DATA and by BDAT, with and without a
 * pipeline: each must arrive byte for byte, in step with what the client was told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/smtp/client.h"
#include "tests/unit/smtp_play.h"

#include <stdio.h>
#include <stdlib.h>

/* How the wire cuts what is on it. */
enum wire { WHOLE, OCTETS, RANDOM, ONE_CUT };

struct pair {
    struct play play;
    enum wire wire;
    size_t cut, moved[2]; /* ONE_CUT: where, and how much went each way so far */
    uint64_t wire_seed;   /* the wire throws its own dice: messages do not depend on it */
    struct smtp_client *client;
    struct buf to_client; /* on the wire */
    struct buf to_server;
    struct smtp_client_transaction mail;
    struct recipient recipients[3];
    const struct recipient *list[3];
    struct buf text; /* what is to be sent */
    size_t said;     /* of it */
    bool in_body, waits_for_room;
    unsigned wanted, begun, delivered, refused;
    uint64_t seed;
    size_t text_max;
    struct buf told; /* events of the client, in words */
};

static uint64_t throw_dice(uint64_t *seed, uint64_t sides)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (*seed >> 33) % sides;
}

static uint64_t dice(struct pair *pair, uint64_t sides) { return throw_dice(&pair->seed, sides); }

/* Random text with many dots, empty lines and 8-bit octets, ending in CRLF. */
static void make_text(struct pair *pair)
{
    static const char alphabet[] = "...\r\rab \xC3\xA4=";
    uint64_t shape = dice(pair, 4);
    size_t len = (size_t)dice(pair, shape == 0 ? pair->text_max : 300);

    buf_reset(&pair->text);
    while (pair->text.len < len) {
        char c = shape == 0 && dice(pair, 3) ? 'x' : alphabet[dice(pair, sizeof(alphabet) - 1)];
        if (c == '\r')
            buf_cstr(&pair->text, "\r\n");
        else
            buf_char(&pair->text, c);
    }
    if (pair->text.len > 0)
        buf_cstr(&pair->text, "\r\n");
}

/* Recipients "bad" are refused, "later" put off. */
static void begin(struct pair *pair)
{
    static const char *const names[] = { "ok@x.test", "bad@x.test", "later@x.test", "b@x.test" };
    size_t count = 1 + (size_t)dice(pair, 3);

    make_text(pair);
    for (size_t i = 0; i < count; i++) {
        pair->recipients[i] = (struct recipient){ .address = str_of(names[dice(pair, 4)]),
                                                  .orcpt = STR("rfc822;a+2Bb"),
                                                  .notify = (uint8_t)dice(pair, 2) };
        pair->list[i] = &pair->recipients[i];
    }
    pair->mail = (struct smtp_client_transaction){
        .sender = dice(pair, 10) ? STR("a@y.test") : STR_EMPTY,
        .recipients = pair->list,
        .recipient_count = count,
        .size = pair->text.len,
        .body_8bit = true,
        .ret = RET_FULL,
        .envid = STR("e"),
    };
    pair->said = 0;
    pair->begun++;
    smtp_client_begin(pair->client, &pair->mail);
}

static void go_on(struct pair *pair)
{
    if (pair->begun < pair->wanted)
        begin(pair);
    else
        smtp_client_quit(pair->client);
}

static void say_more(struct pair *pair)
{
    struct str rest = str_from(buf_view(&pair->text), pair->said);
    struct str piece = str_head(rest, (size_t)throw_dice(&pair->wire_seed, 100000));

    if (rest.len == 0) {
        pair->in_body = false;
        smtp_client_body_end(pair->client);
        return;
    }
    smtp_client_body(pair->client, piece);
    pair->said += piece.len;
    pair->waits_for_room = smtp_client_output(pair->client).len > SMTP_CLIENT_HIGH;
}

static void check_arrival(struct pair *pair, const struct reply *reply)
{
    if (!reply_is_positive(reply)) {
        pair->refused++;
        return;
    }
    pair->delivered++;
    assert_int_equal(pair->play.messages, pair->delivered);
    assert_int_equal(pair->play.content.len, pair->text.len);
    if (pair->text.len)
        assert_memory_equal(pair->play.content.at, pair->text.at, pair->text.len);
}

static void react(struct pair *pair, const struct smtp_client_event *event)
{
    buf_printf(&pair->told, "%d %zu %d\n", (int)event->kind, event->index,
               event->reply ? event->reply->code : 0);
    switch (event->kind) {
    case SMTP_CLIENT_BANNER:
        smtp_client_ehlo(pair->client);
        return;
    case SMTP_CLIENT_EHLO:
        go_on(pair);
        return;
    case SMTP_CLIENT_MAIL:
    case SMTP_CLIENT_RCPT:
        return;
    case SMTP_CLIENT_GO:
        pair->in_body = true;
        pair->waits_for_room = false;
        return;
    case SMTP_CLIENT_ROOM:
        pair->waits_for_room = false;
        return;
    case SMTP_CLIENT_DATA:
        pair->refused++;
        go_on(pair);
        return;
    case SMTP_CLIENT_CONTENT:
        check_arrival(pair, event->reply);
        go_on(pair);
        return;
    case SMTP_CLIENT_QUIT:
        return;
    case SMTP_CLIENT_STARTTLS:
    case SMTP_CLIENT_CHALLENGE:
    case SMTP_CLIENT_AUTH:
    case SMTP_CLIENT_RSET:
    case SMTP_CLIENT_FAULT:
        fail_msg("event %d: " STR_FMT, (int)event->kind, STR_ARG(event->words));
    }
}

static size_t portion(struct pair *pair, size_t *moved, size_t len)
{
    size_t n = len;

    switch (pair->wire) {
    case WHOLE:
        break;
    case OCTETS:
        n = 1;
        break;
    case RANDOM:
        n = 1 + (size_t)throw_dice(&pair->wire_seed, throw_dice(&pair->wire_seed, 4) ? 40 : 70000);
        break;
    case ONE_CUT:
        n = *moved < pair->cut ? pair->cut - *moved : len;
        break;
    }
    n = n < len ? n : len;
    *moved += n;
    return n;
}

static bool move_client(struct pair *pair)
{
    struct smtp_client_event event;
    bool moved = false;
    struct str in =
        str_head(buf_view(&pair->to_client), portion(pair, &pair->moved[0], pair->to_client.len));
    size_t took = smtp_client_feed(pair->client, in, 0);

    buf_consume(&pair->to_client, took);
    while (smtp_client_next(pair->client, 0, &event)) {
        moved = true;
        react(pair, &event);
    }
    if (pair->in_body && !pair->waits_for_room) {
        say_more(pair);
        moved = true;
    }
    struct str out = smtp_client_output(pair->client);
    buf_str(&pair->to_server, out);
    smtp_client_sent(pair->client, out.len, 0);
    return moved || took > 0 || out.len > 0;
}

static bool move_server(struct pair *pair)
{
    struct str in =
        str_head(buf_view(&pair->to_server), portion(pair, &pair->moved[1], pair->to_server.len));
    size_t took = play_feed(&pair->play, in);

    buf_consume(&pair->to_server, took);
    bool wrote = pair->play.wire.len > 0;
    buf_str(&pair->to_client, buf_view(&pair->play.wire));
    buf_reset(&pair->play.wire);
    buf_reset(&pair->play.transcript);
    return took > 0 || wrote;
}

static void pair_init(struct pair *pair, unsigned exts, unsigned wanted, uint64_t seed)
{
    struct smtp_server_options options = play_options();
    struct smtp_client_options client_options = {
        .helo = STR("me.test"),
        .timeouts = { 1000, 1000, 1000, 1000 },
    };

    *pair = (struct pair){
        .wanted = wanted, .seed = seed, .wire_seed = seed, .text_max = 3000, .wire = RANDOM
    };
    options.exts = exts;
    options.size_max = 10000000;
    options.errors_max = 0;
    options.recipients_max = 10;
    play_init(&pair->play, &options);
    pair->play.keep_wire = true;
    buf_init(&pair->to_client, SIZE_MAX / 4);
    buf_init(&pair->to_server, SIZE_MAX / 4);
    buf_init(&pair->text, SIZE_MAX / 4);
    buf_init(&pair->told, SIZE_MAX / 4);
    buf_cstr(&pair->to_client, "220 mx.test\r\n");
    pair->client = smtp_client_new(&client_options, 0);
}

static void pair_clear(struct pair *pair)
{
    play_clear(&pair->play);
    smtp_client_free(&pair->client);
    buf_clear(&pair->to_client);
    buf_clear(&pair->to_server);
    buf_clear(&pair->text);
    buf_clear(&pair->told);
}

static void run_pair(struct pair *pair)
{
    bool client_moved, server_moved;

    do {
        client_moved = move_client(pair);
        server_moved = move_server(pair);
    } while (client_moved || server_moved);
    assert_true(pair->play.closed);
    assert_int_equal(pair->begun, pair->wanted);
    assert_int_equal(pair->delivered + pair->refused, pair->wanted);
    assert_true(pair->delivered > 0);
}

static const struct {
    const char *name;
    unsigned exts;
} servers[] = {
    { "bare", 0 },
    { "one command at a time", EXT_SIZE | EXT_8BITMIME },
    { "pipeline and DATA", EXT_PIPELINING | EXT_8BITMIME | EXT_DSN | EXT_SIZE },
    { "pipeline and BDAT", EXT_PIPELINING | EXT_CHUNKING | EXT_8BITMIME | EXT_DSN },
};

static void messages_arrive_byte_for_byte(void **state)
{
    struct pair pair;

    (void)state;
    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
        for (uint64_t seed = 1; seed <= 5; seed++) {
            pair_init(&pair, servers[i].exts, 200, seed * 1000 + i);
            pair.text_max = seed == 1 ? 700000 : 3000;
            run_pair(&pair);
            pair_clear(&pair);
        }
    }
}

/* What the client was told in a session of `count` short messages. */
static char *told_by(unsigned exts, unsigned count, enum wire wire, size_t cut, size_t *out_octets)
{
    struct pair pair;
    size_t len;

    pair_init(&pair, exts, count, 77);
    pair.wire = wire;
    pair.cut = cut;
    pair.text_max = 300;
    run_pair(&pair);
    *out_octets = pair.moved[0] > pair.moved[1] ? pair.moved[0] : pair.moved[1];
    char *told = buf_take(&pair.told, &len);
    pair_clear(&pair);
    return told;
}

static void the_cut_changes_nothing(void **state)
{
    size_t octets, unused;

    (void)state;
    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
        char *whole = told_by(servers[i].exts, 40, WHOLE, 0, &octets);
        char *single = told_by(servers[i].exts, 40, OCTETS, 0, &unused);
        assert_string_equal(whole, single);
        free(single);
        free(whole);
        whole = told_by(servers[i].exts, 3, WHOLE, 0, &octets);
        for (size_t cut = 1; cut < octets; cut++) {
            char *parts = told_by(servers[i].exts, 3, ONE_CUT, cut, &unused);
            assert_string_equal(whole, parts);
            free(parts);
        }
        free(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_byte_for_byte),
        cmocka_unit_test(the_cut_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
