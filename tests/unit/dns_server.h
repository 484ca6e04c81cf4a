/*
 * dns_server.h - a scripted name server on loopback, for dns_test.c.
 *
 * A thread answers on UDP and TCP for a few servers. What it does with a
 * question is one row by name; the row's function writes the packet, so that
 * it can also be a wrong one.
 */
#ifndef WAYPOST_TESTS_DNS_SERVER_H
#define WAYPOST_TESTS_DNS_SERVER_H

#include "relay/net/dns_scan.h"
#include "relay/net/sockaddr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SERVERS 3 /* the last on ::1, where there is one */
#define SERVER_IPV6 2

enum section { QUESTION, ANSWER, AUTHORITY, ADDITIONAL };

struct packet {
    uint8_t bytes[65536];
    size_t len;
};

struct request {
    unsigned server;
    bool is_tcp;
    const uint8_t *bytes;
    size_t len;
    struct dns_question question;
    bool edns, dnssec_ok, ad, cd;
    uint16_t udp_size;
    unsigned nth; /* asked so often before, for this name and type, at any server */
    int socket;
    union sockaddr_any from;
    socklen_t from_len;
};

/* Writes the answer; false: says nothing. */
typedef bool script_fn(const struct request *request, struct packet *out);
struct script {
    const char *name;
    script_fn *fn;
};

struct dns_server_thread {
    pthread_t thread;
    const struct script *scripts; /* ends with a NULL name */
    int udp[SERVERS], tcp[SERVERS], wake[2];
    struct endpoint at[SERVERS];
    bool has_ipv6;
    struct {
        struct dns_question question;
        unsigned count;
    } seen[4096];
    unsigned seen_count;
    atomic_uint packets, without_edns, badly_formed;
    uint16_t ids[4096], ports[4096];
};

/* ---- packets ---- */

static inline void put16(struct packet *p, unsigned value)
{
    p->bytes[p->len++] = (uint8_t)(value >> 8);
    p->bytes[p->len++] = (uint8_t)value;
}

static inline void put32(struct packet *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p, value & 0xffff);
}

static inline void put_bytes(struct packet *p, const void *bytes, size_t len)
{
    memcpy(p->bytes + p->len, bytes, len);
    p->len += len;
}

static inline void put_name(struct packet *p, const char *name)
{
    struct str rest = str_of(name), label;

    while (str_next(&rest, '.', &label)) {
        p->bytes[p->len++] = (uint8_t)label.len;
        put_bytes(p, label.at, label.len);
    }
    p->bytes[p->len++] = 0;
}

static inline void bump(struct packet *p, enum section section)
{
    unsigned at = 4 + 2 * (unsigned)section;
    unsigned count = (unsigned)(p->bytes[at] << 8 | p->bytes[at + 1]) + 1;

    p->bytes[at] = (uint8_t)(count >> 8);
    p->bytes[at + 1] = (uint8_t)count;
}

/* The head and the question again, as an answer with that rcode. */
static inline void begin_reply(struct packet *p, const struct request *request, unsigned rcode)
{
    p->len = 0;
    put16(p, (unsigned)(request->bytes[0] << 8 | request->bytes[1]));
    put16(p, 0x8180 | rcode);
    put32(p, 0);
    put32(p, 0);
    bump(p, QUESTION);
    put_name(p, request->question.name);
    put16(p, (unsigned)request->question.type);
    put16(p, 1);
}

static inline void set_truncated(struct packet *p) { p->bytes[2] |= 0x02; }
static inline void set_authentic(struct packet *p) { p->bytes[3] |= 0x20; }

static inline void put_record(struct packet *p, enum section section, const char *owner,
                              unsigned type, uint32_t ttl, const void *rdata, size_t len)
{
    bump(p, section);
    put_name(p, owner);
    put16(p, type);
    put16(p, 1);
    put32(p, ttl);
    put16(p, (unsigned)len);
    put_bytes(p, rdata, len);
}

static inline void put_a(struct packet *p, const char *owner, uint32_t ttl, uint8_t last)
{
    uint8_t ip[4] = { 192, 0, 2, last };

    put_record(p, ANSWER, owner, DNS_A, ttl, ip, 4);
}

static inline void put_aaaa(struct packet *p, const char *owner, uint32_t ttl, uint8_t last)
{
    uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = last };

    put_record(p, ANSWER, owner, DNS_AAAA, ttl, ip, 16);
}

static inline void put_named(struct packet *p, const char *owner, unsigned type, uint32_t ttl,
                             int preference, const char *target)
{
    static _Thread_local struct packet rdata;

    rdata.len = 0;
    if (preference >= 0)
        put16(&rdata, (unsigned)preference);
    put_name(&rdata, target);
    put_record(p, ANSWER, owner, type, ttl, rdata.bytes, rdata.len);
}

static inline void put_cname(struct packet *p, const char *owner, const char *target)
{
    put_named(p, owner, 5, 300, -1, target);
}

static inline void put_soa(struct packet *p, uint32_t ttl, uint32_t minimum)
{
    static _Thread_local struct packet rdata;

    rdata.len = 0;
    put_name(&rdata, "ns.test");
    put_name(&rdata, "root.test");
    for (unsigned i = 0; i < 4; i++)
        put32(&rdata, 1);
    put32(&rdata, minimum);
    put_record(p, AUTHORITY, "test", 6, ttl, rdata.bytes, rdata.len);
}

static inline void put_opt(struct packet *p, const void *rdata, size_t len)
{
    bump(p, ADDITIONAL);
    p->bytes[p->len++] = 0;
    put16(p, 41);
    put16(p, 1232);
    put32(p, 0);
    put16(p, (unsigned)len);
    put_bytes(p, rdata, len);
}

/* ---- reading questions ---- */

static inline bool read_request(struct request *request)
{
    size_t end = 0;

    if (!dns_scan_question(request->bytes, request->len, &request->question, &end))
        return false;
    request->ad = request->bytes[3] & 0x20;
    request->cd = request->bytes[3] & 0x10;
    const uint8_t *opt = request->bytes + end;
    if (request->len == end + 11 && opt[0] == 0 && opt[2] == 41) {
        request->edns = true;
        request->udp_size = (uint16_t)(opt[3] << 8 | opt[4]);
        request->dnssec_ok = opt[7] & 0x80;
    }
    return true;
}

static inline unsigned count_seen(struct dns_server_thread *server, const struct dns_question *q)
{
    for (unsigned i = 0; i < server->seen_count; i++) {
        if (dns_question_same(&server->seen[i].question, q))
            return server->seen[i].count++;
    }
    assert(server->seen_count < 4096);
    server->seen[server->seen_count].question = *q;
    server->seen[server->seen_count++].count = 1;
    return 0;
}

static inline bool answer_request(struct dns_server_thread *server, struct request *request,
                                  struct packet *out)
{
    if (!read_request(request)) {
        server->badly_formed++;
        return false;
    }
    unsigned packets = server->packets++;
    if (packets < 4096) {
        server->ids[packets] = (uint16_t)(request->bytes[0] << 8 | request->bytes[1]);
        server->ports[packets] =
            ntohs(((struct sockaddr_in *)(void *)&request->from.room)->sin_port);
    }
    if (!request->edns)
        server->without_edns++;
    else if (request->udp_size != 1232 || !request->dnssec_ok || !request->ad)
        server->badly_formed++;
    request->nth = count_seen(server, &request->question);
    for (const struct script *s = server->scripts; s->name; s++) {
        if (strcmp(s->name, request->question.name) == 0)
            return s->fn(request, out);
    }
    begin_reply(out, request, DNS_RCODE_NXDOMAIN);
    put_soa(out, 900, 60);
    return true;
}

/* ---- the thread ---- */

static inline void serve_udp(struct dns_server_thread *server, unsigned i, struct packet *out)
{
    uint8_t bytes[1500];
    struct request request = { .server = i, .bytes = bytes, .socket = server->udp[i] };

    request.from_len = sizeof(request.from);
    ssize_t len =
        recvfrom(server->udp[i], bytes, sizeof(bytes), 0, &request.from.any, &request.from_len);
    if (len <= 0)
        return;
    request.len = (size_t)len;
    if (answer_request(server, &request, out))
        sendto(server->udp[i], out->bytes, out->len, 0, &request.from.any, request.from_len);
}

static inline bool read_all(int fd, uint8_t *to, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = read(fd, to + got, len - got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

/* One question a connection; the answer goes in two pieces, so that both are put together. */
static inline void serve_tcp(struct dns_server_thread *server, unsigned i, struct packet *out)
{
    uint8_t head[2], bytes[1500];
    struct request request = { .server = i, .is_tcp = true, .bytes = bytes };
    int fd = accept(server->tcp[i], NULL, NULL);

    if (fd < 0 || !read_all(fd, head, 2))
        goto out;
    request.len = (size_t)(head[0] << 8 | head[1]);
    if (request.len > sizeof(bytes) || !read_all(fd, bytes, request.len))
        goto out;
    request.socket = fd;
    if (answer_request(server, &request, out)) {
        uint8_t prefix[2] = { (uint8_t)(out->len >> 8), (uint8_t)out->len };
        size_t half = out->len / 2;
        bool ok = write(fd, prefix, 1) == 1;
        usleep(2000);
        ok = ok && write(fd, prefix + 1, 1) == 1 && write(fd, out->bytes, half) == (ssize_t)half;
        usleep(2000);
        ok = ok && write(fd, out->bytes + half, out->len - half) == (ssize_t)(out->len - half);
        (void)ok; /* the resolver may have left: its business */
    }
out:
    if (fd >= 0)
        close(fd);
}

static inline void *serve(void *arg)
{
    struct dns_server_thread *server = arg;
    struct packet *out = calloc(1, sizeof(*out));
    struct pollfd fds[2 * SERVERS + 1] = { { .fd = server->wake[0], .events = POLLIN } };

    for (unsigned i = 0; i < SERVERS; i++) {
        fds[1 + 2 * i] = (struct pollfd){ .fd = server->udp[i], .events = POLLIN };
        fds[2 + 2 * i] = (struct pollfd){ .fd = server->tcp[i], .events = POLLIN };
    }
    for (;;) {
        poll(fds, 2 * SERVERS + 1, -1);
        if (fds[0].revents)
            break;
        for (unsigned i = 0; i < SERVERS; i++) {
            if (fds[1 + 2 * i].revents)
                serve_udp(server, i, out);
            if (fds[2 + 2 * i].revents)
                serve_tcp(server, i, out);
        }
    }
    free(out);
    return NULL;
}

/* The same port for both; false: it is taken for one of them. */
static inline bool bind_pair(struct dns_server_thread *server, unsigned i)
{
    struct endpoint *at = &server->at[i];
    union sockaddr_any name;

    *at = (struct endpoint){ .family = ENDPOINT_IPV4, .ip = { 127, 0, 0, 1 } };
    if (i == SERVER_IPV6)
        *at = (struct endpoint){ .family = ENDPOINT_IPV6, .ip = { [15] = 1 } };
    socklen_t len = endpoint_to_sockaddr(at, &name);
    server->udp[i] = socket(name.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int room = 1 << 20; /* all that a resolver asks at a time, also when this thread has no turn */
    setsockopt(server->udp[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    server->tcp[i] = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->udp[i], &name.any, len) == 0 &&
        getsockname(server->udp[i], &name.any, &len) == 0 &&
        bind(server->tcp[i], &name.any, len) == 0 && listen(server->tcp[i], 16) == 0) {
        endpoint_of_sockaddr(&name, len, at);
        return true;
    }
    close(server->udp[i]);
    close(server->tcp[i]);
    server->udp[i] = server->tcp[i] = -1; /* poll() passes over it */
    return false;
}

static inline void dns_server_start(struct dns_server_thread *server, const struct script *scripts)
{
    memset(server, 0, sizeof(*server));
    server->scripts = scripts;
    for (unsigned i = 0; i < SERVERS; i++) {
        unsigned tries = 0;
        while (!bind_pair(server, i) && ++tries < 50) {
        }
        assert(tries < 50 || i == SERVER_IPV6);
    }
    server->has_ipv6 = server->udp[SERVER_IPV6] >= 0;
    int rc = pipe(server->wake);
    assert(rc == 0);
    rc = pthread_create(&server->thread, NULL, serve, server);
    assert(rc == 0);
    (void)rc;
}

static inline void dns_server_stop(struct dns_server_thread *server)
{
    ssize_t n = write(server->wake[1], "x", 1);

    assert(n == 1);
    (void)n;
    pthread_join(server->thread, NULL);
    for (unsigned i = 0; i < SERVERS; i++) {
        if (server->udp[i] < 0)
            continue;
        close(server->udp[i]);
        close(server->tcp[i]);
    }
    close(server->wake[0]);
    close(server->wake[1]);
}

#endif
