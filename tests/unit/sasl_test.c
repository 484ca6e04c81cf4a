/*
 * sasl_test.c - our client and our server log in at each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/net/sasl.h"

#include <stdio.h>
#include <stdlib.h>

#define ITERATIONS 4096

static const char salt[] = "sixteen bytes ok";
static uint8_t stored_key[32], server_key[32];
static unsigned lookups;

static void lookup(void *arg, struct str user, struct sasl_secret *out)
{
    (void)arg;
    lookups++;
    out->scram_iterations = ITERATIONS;
    out->scram_salt = str_make(salt, 16);
    if (!str_eq(user, STR("alice")))
        return;
    out->known = true;
    out->scram_stored_key = str_make((const char *)stored_key, 32);
    out->scram_server_key = str_make((const char *)server_key, 32);
    out->clear_password = STR("s3cret");
}

static int set_up(void **state)
{
    (void)state;
    return (int)sasl_scram_derive(STR("s3cret"), str_make(salt, 16), ITERATIONS, stored_key,
                                  server_key, NULL);
}

struct talk {
    enum sasl_state state; /* the server's last */
    enum err err;          /* the client's last */
    bool client_done;
    char user[64], password[64], authzid[64];
    unsigned steps;
};

static void keep(char *to, size_t size, struct str text) { str_copy(to, size, text); }

static void converse(struct sasl_client *client, struct sasl_server *server, struct talk *talk)
{
    struct buf ours, theirs;
    bool has_response = sasl_client_has_initial(client);

    buf_init(&ours, 20000);
    buf_init(&theirs, 20000);
    if (has_response)
        talk->err = sasl_client_step(client, STR_EMPTY, &ours, NULL);
    while (!talk->err) {
        buf_reset(&theirs);
        talk->state = sasl_server_step(server, buf_view(&ours), has_response, &theirs);
        if (talk->state != SASL_MORE)
            break;
        assert_in_range(++talk->steps, 1, 5);
        buf_reset(&ours);
        has_response = true;
        talk->err = sasl_client_step(client, buf_view(&theirs), &ours, NULL);
    }
    talk->client_done = sasl_client_is_done(client);
    buf_clear(&ours);
    buf_clear(&theirs);
}

static struct talk log_in(enum mechanism mechanism, const struct sasl_login *login,
                          struct str server_binding)
{
    struct talk talk = { .state = SASL_MORE };
    struct sasl_client *client = NULL;
    struct sasl_server *server =
        sasl_server_new(mechanism, "relay.example", server_binding, lookup, NULL);

    assert_int_equal(sasl_client_new(mechanism, login, &client, NULL), 0);
    converse(client, server, &talk);
    keep(talk.user, sizeof(talk.user), sasl_server_user(server));
    keep(talk.password, sizeof(talk.password), sasl_server_password(server));
    keep(talk.authzid, sizeof(talk.authzid), sasl_server_authzid(server));
    sasl_client_free(&client);
    sasl_server_free(&server);
    return talk;
}

static const struct {
    const char *name;
    enum mechanism mechanism;
    const char *user, *password;
    const char *client_binding, *server_binding;
    enum sasl_state state;
} rows[] = {
    { "PLAIN hands over the password", MECHANISM_PLAIN, "alice", "s3cret", "", "",
      SASL_NEEDS_PASSWORD },
    { "PLAIN hands over a wrong one too", MECHANISM_PLAIN, "bob", "nonsense", "", "",
      SASL_NEEDS_PASSWORD },
    { "LOGIN hands over the password", MECHANISM_LOGIN, "alice", "s3cret", "", "",
      SASL_NEEDS_PASSWORD },
    { "CRAM-MD5, right password", MECHANISM_CRAM_MD5, "alice", "s3cret", "", "", SASL_DONE },
    { "CRAM-MD5, wrong password", MECHANISM_CRAM_MD5, "alice", "S3cret", "", "", SASL_REFUSED },
    { "CRAM-MD5, unknown user", MECHANISM_CRAM_MD5, "bob", "s3cret", "", "", SASL_REFUSED },
    { "SCRAM, right password", MECHANISM_SCRAM_SHA_256, "alice", "s3cret", "", "", SASL_DONE },
    { "SCRAM, wrong password", MECHANISM_SCRAM_SHA_256, "alice", "S3cret", "", "", SASL_REFUSED },
    { "SCRAM, unknown user", MECHANISM_SCRAM_SHA_256, "bob", "s3cret", "", "", SASL_REFUSED },
    { "SCRAM without binding where the server has one", MECHANISM_SCRAM_SHA_256, "alice", "s3cret",
      "", "exporter bytes of 32 octets......", SASL_DONE },
    { "SCRAM-PLUS, same channel", MECHANISM_SCRAM_SHA_256_PLUS, "alice", "s3cret", "same channel",
      "same channel", SASL_DONE },
    { "SCRAM-PLUS, somebody in the middle", MECHANISM_SCRAM_SHA_256_PLUS, "alice", "s3cret",
      "one channel", "other channel", SASL_REFUSED },
    { "SCRAM-PLUS, wrong password", MECHANISM_SCRAM_SHA_256_PLUS, "alice", "wrong", "same", "same",
      SASL_REFUSED },
};

static void both_sides_talk(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sasl_login login = { .user = str_of(rows[i].user),
                                    .password = str_of(rows[i].password),
                                    .channel_binding = str_of(rows[i].client_binding) };
        struct talk talk = log_in(rows[i].mechanism, &login, str_of(rows[i].server_binding));
        if (talk.state != rows[i].state || strcmp(talk.user, rows[i].user) != 0)
            fail_msg("%s: state %d, user \"%s\"", rows[i].name, talk.state, talk.user);
        if (rows[i].state == SASL_NEEDS_PASSWORD)
            assert_string_equal(talk.password, rows[i].password);
        if (rows[i].state == SASL_DONE || rows[i].state == SASL_NEEDS_PASSWORD)
            assert_true(talk.client_done);
        else if (rows[i].mechanism != MECHANISM_CRAM_MD5)
            assert_false(talk.client_done);
    }
}

static void an_authorisation_identity_is_passed_on(void **state)
{
    static const enum mechanism mechanisms[] = { MECHANISM_PLAIN, MECHANISM_SCRAM_SHA_256 };
    struct sasl_login login = { .user = STR("alice"),
                                .password = STR("s3cret"),
                                .authzid = STR("bob") };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct talk talk = log_in(mechanisms[i], &login, STR_EMPTY);
        assert_string_equal(talk.authzid, "bob");
        assert_string_equal(talk.user, "alice");
    }
}

/* ---- the server and strange clients ---- */

static const struct {
    const char *name;
    enum mechanism mechanism;
    const char *responses[4]; /* NULL first: no initial response */
    enum sasl_state state;
    const char *user;
} strange[] = {
    { "PLAIN after an empty challenge",
      MECHANISM_PLAIN,
      { NULL, "AGFsaWNlAHMzY3JldA==" },
      SASL_NEEDS_PASSWORD,
      "alice" },
    { "PLAIN that is not base64", MECHANISM_PLAIN, { "!!!" }, SASL_BROKEN, "" },
    { "PLAIN without NULs", MECHANISM_PLAIN, { "YWxpY2U=" }, SASL_BROKEN, "" },
    { "PLAIN with one NUL", MECHANISM_PLAIN, { "AGFsaWNl" }, SASL_BROKEN, "" },
    { "PLAIN with three NULs", MECHANISM_PLAIN, { "AGEAYgBj" }, SASL_BROKEN, "" },
    { "PLAIN with an empty name", MECHANISM_PLAIN, { "AABwYXNz" }, SASL_BROKEN, "" },
    { "PLAIN with an empty password", MECHANISM_PLAIN, { "AGFsaWNlAA==" }, SASL_BROKEN, "" },
    { "PLAIN with nothing", MECHANISM_PLAIN, { "=" }, SASL_BROKEN, "" },
    { "LOGIN with the name at once",
      MECHANISM_LOGIN,
      { "YWxpY2U=", "czNjcmV0" },
      SASL_NEEDS_PASSWORD,
      "alice" },
    { "LOGIN with an empty name", MECHANISM_LOGIN, { NULL, "" }, SASL_BROKEN, "" },
    { "LOGIN with garbage", MECHANISM_LOGIN, { NULL, "%%%%" }, SASL_BROKEN, "" },
    { "CRAM-MD5 with an initial response", MECHANISM_CRAM_MD5, { "YWxpY2U=" }, SASL_BROKEN, "" },
    { "CRAM-MD5 without a digest", MECHANISM_CRAM_MD5, { NULL, "YWxpY2U=" }, SASL_BROKEN, "" },
    { "SCRAM with garbage", MECHANISM_SCRAM_SHA_256, { "YWxpY2U=" }, SASL_BROKEN, "" },
    { "SCRAM with nothing", MECHANISM_SCRAM_SHA_256, { NULL, "" }, SASL_BROKEN, "" },
};

static void strange_clients_are_broken_not_dangerous(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        enum sasl_state last = SASL_MORE;
        struct buf out;
        struct sasl_server *server =
            sasl_server_new(strange[i].mechanism, "relay.example", STR_EMPTY, lookup, NULL);
        buf_init(&out, 20000);
        for (size_t step = 0; step < 4 && last == SASL_MORE; step++) {
            const char *response = strange[i].responses[step];
            if (step && !response)
                break;
            last = sasl_server_step(server, str_of(response), response != NULL, &out);
        }
        if (last != strange[i].state)
            fail_msg("%s: state %d", strange[i].name, last);
        if (last == SASL_NEEDS_PASSWORD)
            assert_int_equal(sasl_server_user(server).len, strlen(strange[i].user));
        assert_int_equal(sasl_server_step(server, STR("YQ=="), true, &out), SASL_BROKEN);
        buf_clear(&out);
        sasl_server_free(&server);
    }
}

static void login_asks_in_the_words_clients_know(void **state)
{
    struct buf out;
    struct sasl_server *server =
        sasl_server_new(MECHANISM_LOGIN, "relay.example", STR_EMPTY, lookup, NULL);

    (void)state;
    buf_init(&out, 100);
    assert_int_equal(sasl_server_step(server, STR_EMPTY, false, &out), SASL_MORE);
    assert_memory_equal(out.at, "VXNlcm5hbWU6", 12); /* "Username:" */
    buf_reset(&out);
    assert_int_equal(sasl_server_step(server, STR("YWxpY2U="), true, &out), SASL_MORE);
    assert_memory_equal(out.at, "UGFzc3dvcmQ6", 12); /* "Password:" */
    buf_clear(&out);
    sasl_server_free(&server);
}

/* The salt and count of the server's first message, decoded by hand. */
static void server_first(const char *user, char *out, size_t size)
{
    struct sasl_client *client = NULL;
    struct sasl_server *server =
        sasl_server_new(MECHANISM_SCRAM_SHA_256, "relay.example", STR_EMPTY, lookup, NULL);
    struct sasl_login login = { .user = str_of(user), .password = STR("x") };
    struct buf ours, theirs;

    buf_init(&ours, 2000);
    buf_init(&theirs, 2000);
    assert_int_equal(sasl_client_new(MECHANISM_SCRAM_SHA_256, &login, &client, NULL), 0);
    assert_int_equal(sasl_client_step(client, STR_EMPTY, &ours, NULL), 0);
    assert_int_equal(sasl_server_step(server, buf_view(&ours), true, &theirs), SASL_MORE);
    keep(out, size, buf_view(&theirs));
    buf_clear(&ours);
    buf_clear(&theirs);
    sasl_client_free(&client);
    sasl_server_free(&server);
}

static int value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

static void decode(const char *from, char *to)
{
    unsigned bits = 0, have = 0;

    for (; value(*from) >= 0; from++) {
        bits = bits << 6 | (unsigned)value(*from);
        have += 6;
        if (have >= 8)
            *to++ = (char)(bits >> (have -= 8));
    }
    *to = '\0';
}

/* What comes after the nonce: ",s=...,i=4096" */
static void salt_part(const char *user, char out[256])
{
    char text[400], clear[400];

    server_first(user, text, sizeof(text));
    decode(text, clear);
    const char *part = strstr(clear, ",s=");
    assert_non_null(part);
    snprintf(out, 256, "%s", part);
}

static void unknown_users_look_like_known_ones(void **state)
{
    char alice[256], bob[256], again[256], carol[256];

    (void)state;
    salt_part("alice", alice);
    salt_part("bob", bob);
    salt_part("bob", again);
    salt_part("carol", carol);
    assert_string_equal(bob, again); /* asked twice, the same answer */
    assert_string_not_equal(bob, carol);
    assert_int_equal(strlen(alice), strlen(bob));
    assert_non_null(strstr(bob, ",i=4096"));
}

/* ---- the client and strange servers ---- */

static void a_server_cannot_ask_for_hours_of_work(void **state)
{
    struct sasl_client *client = NULL;
    struct sasl_login login = { .user = STR("alice"), .password = STR("s3cret") };
    struct buf out;
    struct fault fault;

    (void)state;
    buf_init(&out, 2000);
    assert_int_equal(sasl_client_new(MECHANISM_SCRAM_SHA_256, &login, &client, NULL), 0);
    assert_int_equal(sasl_client_step(client, STR_EMPTY, &out, NULL), 0);
    /* r=abc,s=c2FsdA==,i=99999999 */
    assert_int_equal(
        sasl_client_step(client, STR("cj1hYmMscz1jMkZzZEE9PSxpPTk5OTk5OTk5"), &out, &fault),
        ERR_LIMIT);
    buf_clear(&out);
    sasl_client_free(&client);
}

static void a_server_that_asks_on_is_refused(void **state)
{
    struct sasl_client *client = NULL;
    struct sasl_login login = { .user = STR("alice"), .password = STR("s3cret") };
    struct buf out;
    struct fault fault;

    (void)state;
    buf_init(&out, 2000);
    assert_int_equal(sasl_client_new(MECHANISM_PLAIN, &login, &client, NULL), 0);
    assert_int_equal(sasl_client_step(client, STR_EMPTY, &out, NULL), 0);
    assert_memory_equal(out.at, "AGFsaWNlAHMzY3JldA==", 20);
    assert_true(sasl_client_is_done(client));
    assert_int_equal(sasl_client_step(client, STR("YQ=="), &out, &fault), ERR_INVALID);
    sasl_client_free(&client);
    login.password = str_make("a\0b", 3);
    assert_int_equal(sasl_client_new(MECHANISM_PLAIN, &login, &client, &fault), ERR_INVALID);
    assert_null(client);
    buf_clear(&out);
}

static void the_best_mechanism_is_chosen(void **state)
{
    static const struct {
        const char *name;
        unsigned offered, refused;
        bool binding;
        unsigned chosen; /* 0: none */
    } choices[] = {
        { "PLAIN before LOGIN", MECHANISM_PLAIN | MECHANISM_LOGIN, 0, true, MECHANISM_PLAIN },
        { "the next one after a refusal", MECHANISM_PLAIN | MECHANISM_LOGIN, MECHANISM_PLAIN, true,
          MECHANISM_LOGIN },
        { "PLUS needs a binding", MECHANISM_SCRAM_SHA_256_PLUS | MECHANISM_PLAIN, 0, false,
          MECHANISM_PLAIN },
        { "PLUS is best", MECHANISM_SCRAM_SHA_256_PLUS | MECHANISM_SCRAM_SHA_256, 0, true,
          MECHANISM_SCRAM_SHA_256_PLUS },
        { "nothing left", MECHANISM_PLAIN, MECHANISM_PLAIN, true, 0 },
        { "nothing offered", 0, 0, true, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        enum mechanism mechanism = 0;
        bool found =
            sasl_choose(choices[i].offered, choices[i].refused, choices[i].binding, &mechanism);
        if (found != (choices[i].chosen != 0) || (found && mechanism != choices[i].chosen))
            fail_msg("%s", choices[i].name);
    }
}

/* The inputs of RFC 7677, 3; the keys computed apart, with Python's hashlib. */
static void derived_keys_are_those_of_the_rfc(void **state)
{
    static const uint8_t rfc_salt[] = { 0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
                                        0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81 };
    static const uint8_t stored_want[] = { 0x58, 0x6e, 0x5d, 0xf2, 0x83, 0xe6, 0xdc, 0xeb,
                                           0x5c, 0x3e, 0x79, 0x1d, 0x8b, 0x85, 0x28, 0xec,
                                           0x19, 0x1e, 0x66, 0x40, 0x45, 0xce, 0x97, 0x17,
                                           0x92, 0xe2, 0xe6, 0xb5, 0xbb, 0x13, 0xe2, 0xa6 };
    static const uint8_t server_want[] = { 0xc1, 0xf3, 0xcb, 0xc1, 0xc1, 0x3a, 0x9d, 0x35,
                                           0xa1, 0x4c, 0x09, 0x90, 0xee, 0xd9, 0x76, 0x29,
                                           0xea, 0x22, 0x58, 0x63, 0xe5, 0x66, 0xa4, 0x31,
                                           0x4a, 0xb9, 0x9f, 0x3f, 0x00, 0xe5, 0xd9, 0xd5 };
    uint8_t stored[32], server[32];
    struct fault fault;

    (void)state;
    assert_int_equal(sasl_scram_derive(STR("pencil"), str_make((const char *)rfc_salt, 16), 4096,
                                       stored, server, &fault),
                     0);
    assert_memory_equal(stored, stored_want, 32);
    assert_memory_equal(server, server_want, 32);
    assert_int_equal(sasl_scram_derive(STR_EMPTY, STR("salt"), 4096, stored, server, &fault),
                     ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_talk),
        cmocka_unit_test(an_authorisation_identity_is_passed_on),
        cmocka_unit_test(strange_clients_are_broken_not_dangerous),
        cmocka_unit_test(login_asks_in_the_words_clients_know),
        cmocka_unit_test(unknown_users_look_like_known_ones),
        cmocka_unit_test(a_server_cannot_ask_for_hours_of_work),
        cmocka_unit_test(a_server_that_asks_on_is_refused),
        cmocka_unit_test(the_best_mechanism_is_chosen),
        cmocka_unit_test(derived_keys_are_those_of_the_rfc),
    };

    return cmocka_run_group_tests_name("sasl", tests, set_up, NULL);
}
