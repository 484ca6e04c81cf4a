/*
 * session_test.c - whole visits: a scripted client on a real socket, the real
 * session, store and intake behind it.
 *
 * A script has a line per step:
 *   > TEXT      send it and CRLF; "|" stands for CRLF, "~" for LF alone
 *   = TEXT      send it as it is, no CRLF at the end
 *   fill N      send N lines of content
 *   < CODE TEXT a whole reply comes; it begins with the code and has the text
 *   ! TEXT      the last reply does not have it
 *   tls         shake hands
 *   eof         the relay hangs up
 *   hangup      we do, rudely
 *   shut        we send no more, but read on
 *   drain       the relay is asked to stop
 *   count N     so many messages have been stored by now
 */
#include "relay/ingress/session.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "relay/base/container.h"

/* base64 of \0anna\0secret and so on */
#define ANNA "AGFubmEAc2VjcmV0"
#define ANNA_WRONG "AGFubmEAd3Jvbmc="
#define NOBODY "AG5vYm9keQBzZWNyZXQ="
#define ANNA_AS_BOB "Ym9iAGFubmEAc2VjcmV0"

enum at { AT_TRUSTED, AT_AUTH, AT_OPTIONAL, AT_IMPLICIT, AT_CLEAR, AT_LOCAL, AT_CRAM, AT_SMALL };

struct play {
    const char *name;
    enum at at;
    const char *script;
    unsigned stored; /* messages in the store in the end */
};

struct world {
    char folder[64], users_file[96], certificate[96], key[96], socket[96];
    struct pool *pool;
    struct loop *loop;
    struct store *store;
    struct intake *intake;
    struct auth *auth;
    struct caps *caps;
    struct users *users;
    struct tls_server *tls;
    struct sessions *sessions;
    struct service *service;
    struct listener *listener;
    struct network trust;
    struct timer guard, poll;
    struct letter drain, finish, abort;
    atomic_bool is_drained;
};

/* ---- the relay's side ---- */

static void hangs(void *arg)
{
    (void)arg;
    fail_msg("the test hangs");
}

static void drained(void *arg)
{
    struct world *world = arg;

    atomic_store(&world->is_drained, true);
}

static void do_drain(struct letter *letter)
{
    struct world *world = container_of(letter, struct world, drain);

    sessions_drain(world->sessions, drained, world);
}

static void poll_end(void *arg)
{
    struct world *world = arg;

    if (sessions_count(world->sessions) > 0 || intake_busy(world->intake) > 0) {
        loop_timer_start(world->loop, &world->poll, 5, poll_end, world);
        return;
    }
    listener_close(&world->listener);
    loop_timer_stop(world->loop, &world->guard);
    loop_stop(world->loop);
}

static void do_finish(struct letter *letter)
{
    poll_end(container_of(letter, struct world, finish));
}

/* The relay ends now, whatever clients are doing. */
static void abort_now(struct letter *letter)
{
    struct world *world = container_of(letter, struct world, abort);

    sessions_abort(world->sessions);
    assert_int_equal(sessions_count(world->sessions), 0);
}

static void connected(void *arg, struct stream *stream)
{
    struct world *world = arg;

    session_begin(world->service, stream);
}

static void make_users(struct world *world)
{
    static const struct str senders[] = { { "anna@example.com", 16 } };
    struct user_change anna = {
        .name = STR("anna"),
        .password = STR("secret"),
        .senders = senders,
        .sender_count = 1,
        .clear = true,
        .scram = true,
        .group = -1,
    };
    struct fault fault;

    if (users_add(world->users_file, &anna, &fault) ||
        users_load(world->users_file, &world->users, &fault))
        fail_msg("%s", fault.text);
}

static struct service *service_for(struct world *world, enum at at)
{
    struct service *service = mem_alloc(sizeof(*service));
    struct network *trust = mem_alloc(sizeof(*trust));

    assert_true(network_parse(STR("127.0.0.0/8"), trust));
    *service = (struct service){
        .refs = 1,
        .name = str_of(str_dup(STR("test"))),
        .hostname = str_of(str_dup(STR("relay.test"))),
        .loop = world->loop,
        .intake = world->intake,
        .auth = world->auth,
        .caps = world->caps,
        .store = world->store,
        .tls = at == AT_TRUSTED || at == AT_CLEAR ? NULL : tls_server_ref(world->tls),
        .tls_implicit = at == AT_IMPLICIT,
        .tls_starttls = at == AT_AUTH || at == AT_OPTIONAL || at == AT_CRAM,
        .auth_offered = at != AT_TRUSTED && at != AT_LOCAL && at != AT_SMALL,
        .auth_required = at == AT_AUTH || at == AT_IMPLICIT || at == AT_CRAM,
        .auth_in_clear = at == AT_CLEAR,
        .cram_md5 = at == AT_CRAM,
        .trust = trust,
        .trust_count = at == AT_TRUSTED || at == AT_SMALL ? 1 : 0,
        .is_local = at == AT_LOCAL,
        .sessions = world->sessions,
        .limits = {
            .exts = EXT_PIPELINING | EXT_SIZE | EXT_ENHANCEDSTATUSCODES | EXT_8BITMIME | EXT_DSN |
                    EXT_CHUNKING | EXT_SMTPUTF8,
            .size_max = 200000,
            .line_max = 2048,
            .recipients_max = 3,
            .errors_max = 5,
            .command_timeout_ms = at == AT_SMALL ? 3000 : 240000,
            .data_timeout_ms = at == AT_SMALL ? 3000 : 240000,
            .data_rate_min = 0,
        },
    };
    return service;
}

static void listen_for(struct world *world, enum at at)
{
    struct listener_options options = { .fd = -1 };
    char text[128];
    struct fault fault;

    if (at == AT_LOCAL)
        snprintf(text, sizeof(text), "unix:%s", world->socket);
    else
        snprintf(text, sizeof(text), "127.0.0.1:0");
    assert_int_equal(endpoint_parse(str_of(text), 0, &options.at, &fault), ERR_OK);
    if (listener_new(world->loop, &options, connected, world, &world->listener, &fault))
        fail_msg("%s", fault.text);
}

static void open_world(struct world *world, enum at at)
{
    struct loop_options loop_options = { .count = 1 };
    struct store_options store_options = { .quota_bytes = 1 << 20 };
    struct intake_options intake_options = { .hostname = STR("relay.test"),
                                             .header_max = 100000,
                                             .hops_max = 50 };
    struct fault fault;

    *world = (struct world){ 0 };
    snprintf(world->folder, sizeof(world->folder), "/tmp/session_test.XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->users_file, sizeof(world->users_file), "%s/users", world->folder);
    snprintf(world->certificate, sizeof(world->certificate), "%s/cert", world->folder);
    snprintf(world->key, sizeof(world->key), "%s/key", world->folder);
    snprintf(world->socket, sizeof(world->socket), "%s/socket", world->folder);
    make_users(world);
    loop_options.pool = world->pool = pool_new(1, false);
    store_options.pool = world->pool;
    if (tls_self_signed("relay.test", world->certificate, world->key, &fault) ||
        tls_server_new(&(struct tls_pair){ world->certificate, world->key }, 1, &world->tls,
                       &fault) ||
        loop_new(&loop_options, &world->loop, &fault) ||
        store_open_mem(&store_options, &world->store, &fault))
        fail_msg("%s", fault.text);
    intake_options.store = world->store;
    world->intake = intake_new(world->loop, &intake_options);
    world->auth = auth_new(world->users);
    world->caps = caps_new();
    caps_set(world->caps, 4, 2);
    world->sessions = sessions_new(world->loop);
    world->service = service_for(world, at);
    world->drain.open = do_drain;
    world->finish.open = do_finish;
    world->abort.open = abort_now;
    listen_for(world, at);
    loop_timer_start(world->loop, &world->guard, 200000, hangs, NULL);
}

static void close_world(struct world *world)
{
    assert_int_equal(caps_sessions(world->caps), 0);
    assert_int_equal(world->service->refs, 1); /* no session kept it */
    service_unref(&world->service);
    sessions_free(&world->sessions);
    intake_free(&world->intake);
    store_close(&world->store);
    pool_free(&world->pool);
    loop_free(&world->loop);
    auth_free(&world->auth);
    caps_free(&world->caps);
    users_unref(&world->users);
    tls_server_unref(&world->tls);
    unlink(world->users_file);
    unlink(world->certificate);
    unlink(world->key);
    unlink(world->socket);
    assert_int_equal(rmdir(world->folder), 0);
}

/* ---- the client's side, on a thread of its own ---- */

struct client {
    struct world *world;
    const struct play *play;
    struct endpoint to;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    char in[65536];
    size_t in_len;
    char reply[4096];
    char fault[512]; /* empty: the script went through */
};

static bool wrong(struct client *client, const char *step, const char *what)
{
    snprintf(client->fault, sizeof(client->fault), "at \"%.80s\": %.200s", step, what);
    return false;
}

static bool open_client(struct client *client)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(client->to.port) };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 100 };
    bool is_local = client->to.family == ENDPOINT_UNIX;

    memcpy(&in.sin_addr, client->to.ip, 4);
    memcpy(un.sun_path, client->to.path, sizeof(un.sun_path));
    client->fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return connect(client->fd, is_local ? (struct sockaddr *)&un : (struct sockaddr *)&in,
                   is_local ? sizeof(un) : sizeof(in)) == 0;
}

static bool put(struct client *client, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = client->ssl ? SSL_write(client->ssl, bytes, (int)len)
                                : send(client->fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* More input; false at the end of it. */
static bool get(struct client *client)
{
    char *at = client->in + client->in_len;
    size_t room = sizeof(client->in) - client->in_len;
    ssize_t n = client->ssl ? SSL_read(client->ssl, at, (int)room) : recv(client->fd, at, room, 0);

    if (n <= 0)
        return false;
    client->in_len += (size_t)n;
    return true;
}

static bool take_line(struct client *client, struct str *out_line)
{
    char *end;

    while (!(end = memmem(client->in, client->in_len, "\r\n", 2)))
        if (!get(client))
            return false;
    *out_line = str_make(client->in, (size_t)(end - client->in) + 2);
    return true;
}

static bool read_reply(struct client *client)
{
    size_t len = 0;
    struct str line;
    bool last = false;

    client->reply[0] = '\0';
    while (!last) {
        if (!take_line(client, &line))
            return false;
        last = line.len < 4 || line.at[3] != '-';
        len += str_copy(client->reply + len, sizeof(client->reply) - len, line);
        client->in_len -= line.len;
        memmove(client->in, client->in + line.len, client->in_len);
    }
    return true;
}

static bool say(struct client *client, const char *step, bool with_end)
{
    char text[4096];
    size_t len = 0;

    for (const char *c = step + 2; *c && len < sizeof(text) - 4; c++) {
        if (*c == '|') {
            text[len++] = '\r';
            text[len++] = '\n';
        } else if (*c == '~') {
            text[len++] = '\n';
        } else {
            text[len++] = *c;
        }
    }
    if (with_end) {
        text[len++] = '\r';
        text[len++] = '\n';
    }
    return put(client, text, len) || wrong(client, step, "cannot send");
}

static bool hear(struct client *client, const char *step)
{
    if (!read_reply(client))
        return wrong(client, step, "no reply");
    if (strncmp(client->reply, step + 2, 3) != 0 ||
        (step[5] == ' ' && !strstr(client->reply, step + 6)))
        return wrong(client, step, client->reply);
    return true;
}

static bool shake_hands(struct client *client, const char *step)
{
    client->ctx = SSL_CTX_new(TLS_client_method());
    client->ssl = SSL_new(client->ctx);
    SSL_set_fd(client->ssl, client->fd);
    return SSL_connect(client->ssl) == 1 || wrong(client, step, "no handshake");
}

static void hang_up(struct client *client, bool rudely)
{
    struct linger linger = { .l_onoff = 1 };

    if (client->ssl) {
        if (!rudely)
            SSL_shutdown(client->ssl);
        SSL_free(client->ssl);
        SSL_CTX_free(client->ctx);
        client->ssl = NULL;
    }
    if (client->fd >= 0) {
        if (rudely)
            setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(client->fd);
    }
    client->fd = -1;
}

static bool at_end(struct client *client, const char *step)
{
    while (get(client))
        ;
    if (errno == EAGAIN)
        return wrong(client, step, "the relay does not hang up");
    return client->in_len == 0 ? true : wrong(client, step, "there was more to read");
}

static bool fill(struct client *client, const char *step)
{
    static const char line[] =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";

    for (long i = atol(step + 5); i > 0; i--)
        if (!put(client, line, sizeof(line) - 1))
            return wrong(client, step, "cannot send");
    return true;
}

static bool count(struct client *client, const char *step)
{
    struct store_health health;

    store_health(client->world->store, &health);
    if (health.messages != (uint64_t)atol(step + 6))
        return wrong(client, step, "another number is stored");
    return true;
}

static bool do_step(struct client *client, const char *step)
{
    if (step[0] == '>')
        return say(client, step, true);
    if (step[0] == '=')
        return say(client, step, false);
    if (step[0] == '<')
        return hear(client, step);
    if (step[0] == '!')
        return !strstr(client->reply, step + 2) || wrong(client, step, client->reply);
    if (strncmp(step, "fill", 4) == 0)
        return fill(client, step);
    if (strncmp(step, "count", 5) == 0)
        return count(client, step);
    if (strcmp(step, "tls") == 0)
        return shake_hands(client, step);
    if (strcmp(step, "eof") == 0)
        return at_end(client, step);
    if (strcmp(step, "hangup") == 0)
        hang_up(client, true);
    else if (strcmp(step, "shut") == 0)
        shutdown(client->fd, SHUT_WR);
    else if (strcmp(step, "drain") == 0)
        mailbox_post(loop_mailbox(client->world->loop), &client->world->drain);
    else
        return wrong(client, step, "no such step");
    return true;
}

static void *run_client(void *arg)
{
    struct client *client = arg;
    struct str rest = str_of(client->play->script), line;
    bool ok = open_client(client) || wrong(client, "connect", strerror(errno));

    while (ok && str_next(&rest, '\n', &line)) {
        char *step = str_dup(line);
        ok = do_step(client, step);
        free(step);
    }
    hang_up(client, false);
    mailbox_post(loop_mailbox(client->world->loop), &client->world->finish);
    return NULL;
}

static void play(const struct play *play)
{
    struct world world;
    struct client *client = mem_alloc(sizeof(*client));
    struct store_health health;
    pthread_t thread;

    open_world(&world, play->at);
    client->world = &world;
    client->play = play;
    client->to = *listener_at(world.listener);
    assert_int_equal(pthread_create(&thread, NULL, run_client, client), 0);
    loop_run(world.loop);
    pthread_join(thread, NULL);
    if (client->fault[0])
        fail_msg("%s: %s", play->name, client->fault);
    store_health(world.store, &health);
    if (health.messages != play->stored)
        fail_msg("%s: %u messages are stored", play->name, (unsigned)health.messages);
    free(client);
    close_world(&world);
}

static void play_all(const struct play *plays, size_t count)
{
    for (size_t i = 0; i < count; i++)
        play(&plays[i]);
}
#define PLAY_ALL(plays) play_all(plays, sizeof(plays) / sizeof((plays)[0]))

/* ---- the plays ---- */

#define HELLO "< 220 relay.test\n> EHLO client.test\n< 250 relay.test\n"
#define STARTTLS HELLO "> STARTTLS\n< 220\ntls\n> EHLO client.test\n< 250 relay.test\n"
#define BYE "> QUIT\n< 221\neof"
#define MESSAGE "Subject: hello||text"

static void submission(void **state)
{
    static const struct play plays[] = {
        { "a trusted client sends", AT_TRUSTED,
          HELLO "! AUTH\n! STARTTLS\n> MAIL FROM:<a@b.test>\n< 250 2.1.0\n> RCPT TO:<c@d.test>\n"
                "< 250 2.1.5\n> DATA\n< 354\n> " MESSAGE "|.\n< 250 2.0.0 queued as\n"
                "count 1\n" BYE,
          1 },
        { "all at once", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n> " MESSAGE
                "|.|QUIT\n< 250 2.0.0\n< 221\neof",
          1 },
        { "two transactions in one session", AT_TRUSTED,
          HELLO "> MAIL FROM:<>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n> " MESSAGE
                "|.\n< 250\n> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "> " MESSAGE "|.\n< 250\n" BYE,
          2 },
        { "BDAT in two chunks", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>\n< 250\n< 250\n"
                "= BDAT 20|Subject: hello||te\n< 250\n= BDAT 4 LAST|xt|\n< 250 2.0.0\n" BYE,
          1 },
        { "BDAT, everything pipelined", AT_TRUSTED,
          HELLO "= MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|BDAT 18|Subject: hello||BDAT 6 LAST|"
                "text|QUIT|\n< 250\n< 250\n< 250\n< 250 2.0.0\n< 221\neof",
          1 },
        { "nothing of BDAT is kept when it is given up", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>\n< 250\n< 250\n"
                "= BDAT 20|Subject: hello||te\n< 250\n> RSET\n< 250\n> BDAT 0 LAST\n< 503\n" BYE,
          0 },
        { "too many recipients, the others are served", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>\n< 250\n"
                "> RCPT TO:<c@d.test>|RCPT TO:<d@d.test>|RCPT TO:<e@d.test>|RCPT TO:<f@d.test>\n"
                "< 250\n< 250\n< 250\n< 452 4.5.3\n> DATA\n< 354\n> " MESSAGE "|.\n< 250\n" BYE,
          1 },
        { "too large by its own word", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test> SIZE=200001\n< 552 5.3.4\n" BYE, 0 },
        { "too large without a word", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "> Subject: big||\nfill 3000\n> .\n< 552 5.3.4\n> NOOP\n< 250\n" BYE,
          0 },
        { "the queue is full, then MAIL is refused for now", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "> Subject: big||\nfill 2500\n> .\n< 250\n"
                "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "> Subject: big||\nfill 2500\n> .\n< 250\n> NOOP\n< 250\n" BYE,
          2 },
        { "a second From field", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "> From: a@b.test|From: c@d.test||text|.\n< 550\n" BYE,
          0 },
        { "bare LF in the content", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "= Subject: hello||te~xt||.|\n< 550 5.6.0\n" BYE,
          0 },
        { "web talk ends it", AT_TRUSTED, "< 220\n> GET / HTTP/1.1\n< 554\neof", 0 },
        { "too many errors end it", AT_TRUSTED,
          HELLO "> XYZ|XYZ|XYZ|XYZ|XYZ|XYZ\n< 500\n< 500\n< 500\n< 500\n< 500\n< 421 4.7.0\neof",
          0 },
    };

    (void)state;
    PLAY_ALL(plays);
}

static void no_open_relay(void **state)
{
    static const struct play plays[] = {
        { "a stranger where AUTH is optional", AT_OPTIONAL,
          STARTTLS "> MAIL FROM:<a@b.test>\n< 250\n> RCPT TO:<c@d.test>\n< 550 5.7.1\n"
                   "> RCPT TO:<c%d.test@relay.test>\n< 550 5.7.1\n"
                   "> RCPT TO:<@relay.test:c@d.test>\n< 550 5.7.1\n> DATA\n< 554\n" BYE,
          0 },
        { "a literal and a quoted local part", AT_OPTIONAL,
          HELLO
          "> MAIL FROM:<>\n< 250\n> RCPT TO:<c@[127.0.0.1]>\n< 550 5.7.1\n"
          "> RCPT TO:<\"c@d.test\"@relay.test>\n< 550 5.7.1\n> RCPT TO:<postmaster>\n< 550\n" BYE,
          0 },
        { "a stranger where AUTH is required", AT_AUTH,
          STARTTLS "> MAIL FROM:<a@b.test>\n< 530 5.7.0\n> RCPT TO:<c@d.test>\n< 503\n" BYE, 0 },
        { "a caller of the local socket is one of us", AT_LOCAL,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n> " MESSAGE
                "|.\n< 250 2.0.0\n" BYE,
          1 },
    };

    (void)state;
    PLAY_ALL(plays);
}

static void logins(void **state)
{
    static const struct play plays[] = {
        { "AUTH is not offered and not taken in clear", AT_AUTH,
          HELLO "! AUTH\n> AUTH PLAIN " ANNA "\n< 538\n" BYE, 0 },
        { "PLAIN, and the message is taken", AT_AUTH,
          STARTTLS "> AUTH PLAIN " ANNA "\n< 235 2.7.0\n> MAIL FROM:<anna@example.com>\n< 250\n"
                   "> RCPT TO:<c@d.test>\n< 250\n> DATA\n< 354\n> From: anna@example.com|" MESSAGE
                   "|.\n< 250 2.0.0\n" BYE,
          1 },
        { "PLAIN in two steps", AT_AUTH,
          STARTTLS "> AUTH PLAIN\n< 334\n> " ANNA "\n< 235\n> AUTH PLAIN " ANNA "\n< 503\n" BYE,
          0 },
        { "LOGIN", AT_AUTH,
          STARTTLS "> AUTH LOGIN\n< 334\n> YW5uYQ==\n< 334\n> c2VjcmV0\n< 235\n" BYE, 0 },
        { "under implicit TLS", AT_IMPLICIT,
          "tls\n" HELLO "! STARTTLS\n> AUTH PLAIN " ANNA "\n< 235\n" BYE, 0 },
        { "in clear, where that was asked for", AT_CLEAR,
          HELLO "> AUTH PLAIN " ANNA "\n< 235\n" BYE, 0 },
        { "a wrong password, then the right one", AT_AUTH,
          STARTTLS "> AUTH PLAIN " ANNA_WRONG "\n< 535 5.7.8\n> MAIL FROM:<>\n< 530\n"
                   "> AUTH PLAIN " ANNA "\n< 235\n" BYE,
          0 },
        { "an unknown user looks the same", AT_AUTH,
          STARTTLS "> AUTH PLAIN " NOBODY "\n< 535 5.7.8 Authentication credentials invalid\n" BYE,
          0 },
        { "acting for another", AT_AUTH, STARTTLS "> AUTH PLAIN " ANNA_AS_BOB "\n< 535 5.7.8\n" BYE,
          0 },
        { "cancelled, then done", AT_AUTH,
          STARTTLS "> AUTH LOGIN\n< 334\n> *\n< 501\n> AUTH PLAIN " ANNA "\n< 235\n" BYE, 0 },
        { "not base64", AT_AUTH, STARTTLS "> AUTH PLAIN ??\n< 501\n" BYE, 0 },
        { "SCRAM is offered when all can do it, CRAM-MD5 when asked for", AT_AUTH,
          HELLO "> STARTTLS\n< 220\ntls\n> EHLO c\n< 250 SCRAM-SHA-256\n! CRAM-MD5\n"
                "> AUTH CRAM-MD5\n< 504\n> AUTH SCRAM-SHA-256 biwsbj1hbm5hLHI9YWJj\n< 334\n"
                "> *\n< 501\n" BYE,
          0 },
        { "CRAM-MD5 with a wrong answer", AT_CRAM,
          STARTTLS
          "> AUTH CRAM-MD5\n< 334\n> YW5uYSAwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==\n< 535 5.7.8\n" BYE,
          0 },
        { "another's reverse-path", AT_AUTH,
          STARTTLS "> AUTH PLAIN " ANNA "\n< 235\n> MAIL FROM:<bob@example.com>\n< 553 5.7.1\n"
                   "> MAIL FROM:<>\n< 250\n" BYE,
          0 },
        { "another's From field", AT_AUTH,
          STARTTLS "> AUTH PLAIN " ANNA "\n< 235\n> MAIL FROM:<anna@example.com>\n< 250\n"
                   "> RCPT TO:<c@d.test>\n< 250\n> DATA\n< 354\n> From: bob@example.com|" MESSAGE
                   "|.\n< 550 5.7.1\n> NOOP\n< 250\n" BYE,
          0 },
    };

    (void)state;
    PLAY_ALL(plays);
}

static void tls(void **state)
{
    static const struct play plays[] = {
        { "STARTTLS forgets what was before", AT_OPTIONAL,
          HELLO "> MAIL FROM:<a@b.test>\n< 250\n> STARTTLS\n"
                "< 220\ntls\n> MAIL FROM:<a@b.test>\n< 503\n> EHLO c\n< 250\n! STARTTLS\n" BYE,
          0 },
        { "commands behind STARTTLS in clear", AT_OPTIONAL,
          HELLO "> STARTTLS|MAIL FROM:<evil@b.test>|RCPT TO:<c@d.test>\n< 554\neof", 0 },
        { "clear text where a handshake is due", AT_OPTIONAL,
          HELLO "> STARTTLS\n< 220\n> EHLO evil.test\neof", 0 },
        { "clear text at an implicit listener", AT_IMPLICIT, "> EHLO evil.test\neof", 0 },
        { "gone before the handshake", AT_OPTIONAL, HELLO "> STARTTLS\n< 220\nhangup", 0 },
        { "STARTTLS under TLS", AT_OPTIONAL, STARTTLS "> STARTTLS\n< 503\n" BYE, 0 },
    };

    (void)state;
    PLAY_ALL(plays);
}

/* Whatever the client has left undone: nothing is stored, nothing leaks. */
static void gone_in_the_middle(void **state)
{
    static const struct play plays[] = {
        { "at once", AT_TRUSTED, "hangup", 0 },
        { "after the greeting", AT_TRUSTED, "< 220\nhangup", 0 },
        { "in a command", AT_TRUSTED, HELLO "= MAIL FR\nhangup", 0 },
        { "in the content", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "= Subject: hello||te\nhangup",
          0 },
        { "in the content, after a lot", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "> Subject: big||\nfill 2000\nhangup",
          0 },
        { "in a chunk", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>\n< 250\n< 250\n"
                "= BDAT 100 LAST|Subject: hello||te\nhangup",
          0 },
        { "while the password is hashed", AT_CLEAR, HELLO "> AUTH PLAIN " ANNA "\nhangup", 0 },
        { "while the answer is late", AT_CLEAR, HELLO "> AUTH PLAIN " ANNA_WRONG "|NOOP\nhangup",
          0 },
        { "half-closed, and everything is answered", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n> " MESSAGE
                "|.\nshut\n< 250 2.0.0\neof",
          1 },
    };

    (void)state;
    PLAY_ALL(plays);
}

static void limits_of_time(void **state)
{
    static const struct play plays[] = {
        { "an idle client", AT_SMALL, HELLO "< 421 4.4.2\neof", 0 },
        { "a line that never ends", AT_SMALL, "< 220\n= EHLO cli\n< 421\neof", 0 },
        { "content that stops", AT_SMALL,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "= Subject: hello||te\n< 421\neof",
          0 },
    };

    (void)state;
    PLAY_ALL(plays);
}

static void draining(void **state)
{
    static const struct play plays[] = {
        { "an idle client is told", AT_TRUSTED, HELLO "drain\n< 421 4.3.2\neof", 0 },
        { "a message under way is taken, then it ends", AT_TRUSTED,
          HELLO "> MAIL FROM:<a@b.test>|RCPT TO:<c@d.test>|DATA\n< 250\n< 250\n< 354\n"
                "= Subject: hello||te\ndrain\n> xt|.\n< 250 2.0.0\n< 421 4.3.2\neof",
          1 },
    };

    (void)state;
    PLAY_ALL(plays);
}

/* ---- more than a script can say ---- */

static bool is_greeted(struct client *client, const char *code)
{
    return open_client(client) && read_reply(client) && strncmp(client->reply, code, 3) == 0;
}

/* One client address may have two sessions; a place that is given back is free again. */
static void *crowd(void *arg)
{
    struct client *clients = arg;
    bool ok = is_greeted(&clients[0], "220") && is_greeted(&clients[1], "220") &&
              is_greeted(&clients[2], "421") && strstr(clients[2].reply, "4.7.0") &&
              at_end(&clients[2], "eof");

    hang_up(&clients[2], false);
    hang_up(&clients[0], false);
    for (unsigned i = 0; ok && i < 30000; i++) {
        if (is_greeted(&clients[0], "220"))
            break;
        hang_up(&clients[0], false);
        usleep(2000);
        ok = i < 29999;
    }
    hang_up(&clients[0], false);
    hang_up(&clients[1], false);
    if (!ok)
        (void)wrong(&clients[0], "crowd", clients[2].reply);
    mailbox_post(loop_mailbox(clients[0].world->loop), &clients[0].world->finish);
    return NULL;
}

static void with_clients(unsigned number, void *(*run)(void *arg))
{
    struct world world;
    struct client *clients = mem_alloc(number * sizeof(*clients));
    pthread_t thread;

    open_world(&world, AT_TRUSTED);
    for (unsigned i = 0; i < number; i++) {
        clients[i].world = &world;
        clients[i].to = *listener_at(world.listener);
    }
    assert_int_equal(pthread_create(&thread, NULL, run, clients), 0);
    loop_run(world.loop);
    pthread_join(thread, NULL);
    if (clients[0].fault[0])
        fail_msg("%s", clients[0].fault);
    free(clients);
    close_world(&world);
}

static void too_many_sessions(void **state)
{
    (void)state;
    with_clients(3, crowd);
}

/* Who talks without end and never reads the answers: the relay does not go
 * along with it, and nothing piles up (with_clients waits until it is gone). */
static void *never_reads(void *arg)
{
    struct client *client = arg;
    struct timeval patience = { .tv_usec = 500000 };
    char noops[6 * 1000];
    size_t sent = 0;

    for (size_t i = 0; i < sizeof(noops); i += 6)
        memcpy(noops + i, "NOOP\r\n", 6);
    if (!is_greeted(client, "220"))
        (void)wrong(client, "connect", "no greeting");
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    while (sent < (size_t)16 << 20) {
        ssize_t n = send(client->fd, noops, sizeof(noops), MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    hang_up(client, true);
    mailbox_post(loop_mailbox(client->world->loop), &client->world->finish);
    return NULL;
}

static void a_flood_of_commands_ends_it(void **state)
{
    (void)state;
    with_clients(1, never_reads);
}

static void *is_cut_off(void *arg)
{
    struct client *client = arg;
    bool ok = is_greeted(client, "220") && put(client, "EHLO c\r\n", 8) && read_reply(client) &&
              put(client, "MAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nDATA\r\nSubj", 44) &&
              read_reply(client) && read_reply(client) && read_reply(client);

    if (!ok)
        (void)wrong(client, "DATA", client->reply);
    mailbox_post(loop_mailbox(client->world->loop), &client->world->abort);
    while (get(client))
        ;
    hang_up(client, false);
    mailbox_post(loop_mailbox(client->world->loop), &client->world->finish);
    return NULL;
}

static void aborted(void **state)
{
    (void)state;
    with_clients(1, is_cut_off);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(submission),
        cmocka_unit_test(no_open_relay),
        cmocka_unit_test(logins),
        cmocka_unit_test(tls),
        cmocka_unit_test(gone_in_the_middle),
        cmocka_unit_test(limits_of_time),
        cmocka_unit_test(draining),
        cmocka_unit_test(too_many_sessions),
        cmocka_unit_test(a_flood_of_commands_ends_it),
        cmocka_unit_test(aborted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
