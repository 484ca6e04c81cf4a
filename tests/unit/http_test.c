/*
 * http_test.c - the blocking client against a server of a few lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/net/http.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- a server that answers one request with fixed bytes ---- */

struct server {
    int fd;
    const char *answer; /* NULL: silent until the client hangs up */
    char asked[4096];
    atomic_bool heard; /* the request is here, whole */
    pthread_t thread;
};

static bool is_whole(const char *asked)
{
    const char *end = strstr(asked, "\r\n\r\n");
    const char *length = strstr(asked, "Content-Length: ");

    if (!end)
        return false;
    return !length || strlen(end + 4) >= (size_t)atoi(length + 16);
}

static void *serve(void *arg)
{
    struct server *server = arg;
    size_t len = 0;
    int fd = accept(server->fd, NULL, NULL);

    while (!is_whole(server->asked)) {
        ssize_t n = read(fd, server->asked + len, sizeof(server->asked) - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    atomic_store(&server->heard, true);
    while (!server->answer && read(fd, server->asked, sizeof(server->asked)) > 0)
        ;
    size_t rest = server->answer ? strlen(server->answer) : 0;
    const char *at = server->answer;
    while (rest) {
        ssize_t n = send(fd, at, rest, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += n;
        rest -= (size_t)n;
    }
    close(fd);
    return NULL;
}

static void start(struct server *server, const struct sockaddr *address, socklen_t len,
                  const char *answer)
{
    *server = (struct server){ .answer = answer };
    server->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, address, len), 0);
    assert_int_equal(listen(server->fd, 1), 0);
    pthread_create(&server->thread, NULL, serve, server);
}

static void finish(struct server *server)
{
    pthread_join(server->thread, NULL);
    close(server->fd);
}

static char socket_path[100];

static void start_unix(struct server *server, const char *answer)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    snprintf(socket_path, sizeof(socket_path), "/tmp/waypost-http-%d", (int)getpid());
    unlink(socket_path);
    memcpy(un.sun_path, socket_path, sizeof(socket_path));
    start(server, (struct sockaddr *)&un, sizeof(un), answer);
}

static void start_tcp(struct server *server, const char *answer, char host[32])
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t len = sizeof(in);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    start(server, (struct sockaddr *)&in, sizeof(in), answer);
    getsockname(server->fd, (struct sockaddr *)&in, &len);
    snprintf(host, 32, "127.0.0.1:%u", ntohs(in.sin_port));
}

/* ---- */

static void a_get_over_a_unix_socket(void **state)
{
    struct server server;
    struct http_response response;
    struct http_request request = { .method = "GET",
                                    .socket = socket_path,
                                    .path = "/v1/queue?max=1" };

    (void)state;
    start_unix(&server, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        "Content-Length: 2\r\n\r\n{}");
    assert_int_equal(http_call(&request, &response, NULL), 0);
    finish(&server);
    assert_int_equal(response.status, 200);
    assert_string_equal(response.content_type, "application/json");
    assert_memory_equal(response.body.at, "{}", 2);
    assert_non_null(strstr(server.asked, "GET /v1/queue?max=1 HTTP/1.1\r\n"));
    assert_null(strstr(server.asked, "Authorization"));
    http_response_clear(&response);
    unlink(socket_path);
}

struct patience {
    struct server *server;
    uint32_t silent_ms;
};

/*
 * A client that gives up before the server has its request would leave the
 * server waiting for one for ever.
 */
static bool give_up_when_silent(void *arg, uint32_t silent_ms)
{
    struct patience *patience = arg;

    patience->silent_ms = silent_ms;
    return silent_ms == 0 || !atomic_load(&patience->server->heard);
}

static void a_silent_server_is_given_up_when_the_caller_says_so(void **state)
{
    struct server server;
    struct http_response response;
    struct fault fault;
    struct patience patience = { .server = &server };
    struct http_request request = { .method = "GET",
                                    .socket = socket_path,
                                    .path = "/",
                                    .timeout_ms = 600000,
                                    .wait = give_up_when_silent,
                                    .wait_arg = &patience };

    (void)state;
    start_unix(&server, NULL);
    assert_int_equal(http_call(&request, &response, &fault), ERR_TIMEOUT);
    finish(&server);
    assert_in_range(patience.silent_ms, 1, 60000);
    http_response_clear(&response);
    unlink(socket_path);
}

static void a_post_over_tcp_with_a_token(void **state)
{
    struct server server;
    struct http_response response;
    char host[32];
    struct http_request request = { .method = "POST",
                                    .host = host,
                                    .path = "/v1/reload",
                                    .token = "t0ken",
                                    .body = STR("{\"a\":1}") };

    (void)state;
    setenv("http_proxy", "http://192.0.2.1:1", 1); /* must not matter */
    start_tcp(&server, "HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nbusy", host);
    assert_int_equal(http_call(&request, &response, NULL), 0);
    finish(&server);
    unsetenv("http_proxy");
    assert_int_equal(response.status, 409);
    assert_memory_equal(response.body.at, "busy", 4);
    assert_non_null(strstr(server.asked, "POST /v1/reload HTTP/1.1\r\n"));
    assert_non_null(strstr(server.asked, "Authorization: Bearer t0ken\r\n"));
    assert_non_null(strstr(server.asked, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(server.asked, "\r\n\r\n{\"a\":1}"));
    http_response_clear(&response);
}

static char streamed[64];

static bool take(void *arg, struct str bytes)
{
    size_t *most = arg;

    strncat(streamed, bytes.at, bytes.len);
    return strlen(streamed) < *most;
}

static void a_long_answer_is_streamed_and_may_be_broken_off(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n";
    static const size_t limits[] = { 100, 3 };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct server server;
        struct http_response response;
        size_t most = limits[i];
        struct http_request request = {
            .method = "GET", .socket = socket_path, .path = "/", .chunk = take, .arg = &most
        };
        start_unix(&server, answer);
        streamed[0] = '\0';
        assert_int_equal(http_call(&request, &response, NULL), i ? ERR_CANCELLED : ERR_OK);
        finish(&server);
        assert_int_equal(strncmp(streamed, "one\n", 4), 0);
        assert_int_equal(response.body.len, 0);
        http_response_clear(&response);
    }
    unlink(socket_path);
}

static void an_error_is_gathered_not_streamed(void **state)
{
    struct server server;
    struct http_response response;
    size_t most = 100;
    struct http_request request = {
        .method = "GET", .socket = socket_path, .path = "/", .chunk = take, .arg = &most
    };

    (void)state;
    start_unix(&server, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
    streamed[0] = '\0';
    assert_int_equal(http_call(&request, &response, NULL), 0);
    finish(&server);
    assert_int_equal(response.status, 404);
    assert_int_equal(response.body.len, 4);
    assert_string_equal(streamed, "");
    http_response_clear(&response);
    unlink(socket_path);
}

static void nobody_there_is_told_in_words(void **state)
{
    struct http_response response;
    struct fault fault;
    struct http_request request = { .method = "GET",
                                    .socket = "/nowhere/waypost.sock",
                                    .path = "/" };

    (void)state;
    assert_int_equal(http_call(&request, &response, &fault), ERR_NOT_FOUND);
    assert_non_null(strstr(fault.text, "cannot connect to /nowhere/waypost.sock"));
    http_response_clear(&response);
    request.socket = NULL;
    request.host = "127.0.0.1:1";
    assert_int_equal(http_call(&request, &response, &fault), ERR_REFUSED);
    http_response_clear(&response);
}

static void a_server_that_hangs_up(void **state)
{
    struct server server;
    struct http_response response;
    struct fault fault;
    struct http_request request = { .method = "GET", .socket = socket_path, .path = "/" };

    (void)state;
    start_unix(&server, "");
    assert_int_equal(http_call(&request, &response, &fault), ERR_BUSY);
    assert_non_null(strstr(fault.text, "takes no more callers"));
    finish(&server);
    http_response_clear(&response);
    unlink(socket_path);
    start_unix(&server, "");
    request.method = "POST"; /* it may have been done */
    assert_int_equal(http_call(&request, &response, &fault), ERR_CLOSED);
    finish(&server);
    http_response_clear(&response);
    unlink(socket_path);
}

static void values_are_escaped(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 100);
    http_escape(&out, STR("a b&c=d/\xc3\xa9~"));
    assert_int_equal(out.len, strlen("a%20b%26c%3Dd%2F%C3%A9~"));
    assert_memory_equal(out.at, "a%20b%26c%3Dd%2F%C3%A9~", out.len);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_over_a_unix_socket),
        cmocka_unit_test(a_silent_server_is_given_up_when_the_caller_says_so),
        cmocka_unit_test(a_post_over_tcp_with_a_token),
        cmocka_unit_test(a_long_answer_is_streamed_and_may_be_broken_off),
        cmocka_unit_test(an_error_is_gathered_not_streamed),
        cmocka_unit_test(nobody_there_is_told_in_words),
        cmocka_unit_test(a_server_that_hangs_up),
        cmocka_unit_test(values_are_escaped),
    };

    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
