/*
 * host.h - the hosts of the simulated world.
 *
 * A host listens on addresses and runs the real server machine behind a script
 * of actions per stage (script.h). It keeps what it took and counts what was
 * tried, so that a replay can ask.
 */
#ifndef WAYPOST_SIM_HOST_H
#define WAYPOST_SIM_HOST_H

#include "relay/mail/envelope.h"
#include "relay/net/endpoint.h"
#include "relay/net/tls.h"
#include "tests/sim/script.h"
#include "tests/sim/world.h"

#define HOST_ADDRESSES_MAX 12
#define HOST_PEOPLE_MAX 16

/* scripts, as replays name them */
#define HOST_STAGE_MAP(X)                                                                          \
    X(CONNECT, "connect")                                                                          \
    X(BANNER, "banner")                                                                            \
    X(EHLO, "ehlo")                                                                                \
    X(HELO, "helo")                                                                                \
    X(STARTTLS, "starttls")                                                                        \
    X(TLS, "tls") /* none: not offered */                                                          \
    X(AUTH, "auth")                                                                                \
    X(MAIL, "mail")                                                                                \
    X(RCPT, "rcpt")                                                                                \
    X(DATA, "data")                                                                                \
    X(BODY, "body") /* while the content arrives; a reply is said at once, then it leaves */       \
    X(CONTENT, "content")

enum host_stage {
#define X(name, word) HOST_##name,
    HOST_STAGE_MAP(X)
#undef X
        HOST_STAGE_COUNT
};

#define HOST_COUNT_MAP(X)                                                                          \
    X(connects, "tries to connect, refused ones too")                                              \
    X(sessions, "connections that were made")                                                      \
    X(at_once, "the most sessions at one time")                                                    \
    X(logins, "AUTH that was accepted")                                                            \
    X(handshakes, "TLS handshakes that worked")                                                    \
    X(mails, "MAIL commands")                                                                      \
    X(rcpts, "RCPT commands")                                                                      \
    X(contents, "contents that arrived whole")                                                     \
    X(messages, "contents that were accepted")                                                     \
    X(quits, "sessions ended in order")

struct host_counts {
#define X(name, help) unsigned name;
    HOST_COUNT_MAP(X)
#undef X
};

/* A message that a host accepted. */
struct seen {
    struct seen *next;
    const struct host *host;
    uint64_t at_ms;
    unsigned session;
    struct envelope envelope; /* sender, recipients, RET, ENVID, NOTIFY */
    bool is_tls, body_8bit, smtputf8;
    char *user;
    char *content; /* canonical, as it came */
    size_t len;
};

struct person { /* an address with a script of its own */
    char address[128];
    struct script script;
};

struct visit;

struct host {
    struct host *next;
    struct world *world;
    char name[64];
    struct endpoint at[HOST_ADDRESSES_MAX];
    size_t at_count;
    struct script scripts[HOST_STAGE_COUNT];
    struct person people[HOST_PEOPLE_MAX];
    size_t people_count;
    unsigned exts;       /* EXT_* */
    unsigned mechanisms; /* of AUTH; 0: not offered */
    char password[64];
    uint64_t size_max;
    unsigned recipients_max;
    unsigned sessions_max; /* at one time; more are greeted with 421. 0: any number */
    bool implicit_tls;
    uint64_t latency_ms;
    uint64_t idle_ms; /* leaves an idle client after so long; 0: never */
    struct tlsa key;  /* what its certificate shows to TLSA records */
    uint8_t key_data[64];
    bool keeps; /* what it takes; else only counts */
    struct host_counts counts;
    unsigned present; /* sessions now */
    struct visit *visits;
    struct seen *seen, **seen_last;
};

struct host *host_find(const struct world *world, const char *name);
struct host *host_at(const struct world *world, const struct endpoint *at);
/* `words`: NAME [ADDRESS[:PORT]]... [accepts] [KEY=VALUE]... A host is made when
 * first named. */
enum err host_tell(struct world *world, char **words, size_t count, struct fault *fault);
void hosts_free(struct world *world);

/* By name of a count; false: no such count. */
bool host_count(const struct host *host, const char *name, unsigned *out_value);

/* ---- between sim_stream.c and visit.c: one connection ---- */

struct stream;
struct wire;

struct visit *visit_begin(struct host *host, struct stream *stream);
bool visit_arrived(struct visit *visit, struct str bytes); /* false: it reads no more */
void visit_tls_hello(struct visit *visit, const struct tls_request *request);
/* The relay left: in order, or (also) its stream is gone. */
void visit_left(struct visit *visit);
void visit_free(struct visit **visit);

/* sim_stream.c: from the host to the relay */
void stream_far_bytes(struct stream *stream, struct str bytes);
void stream_far_tls(struct stream *stream, const struct tls_facts *facts, const char *trouble);
void stream_far_close(struct stream *stream); /* the visit is over */

#endif
