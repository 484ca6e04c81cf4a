/*
 * hop.h - one timestamped fact that a stage reports about a message or session.
 *
 * The log line, the kept trace, the DSN's explanation, the counters and the
 * live view are renderings of the same hops; nothing else is logged. Pure code
 * returns values, drivers emit.
 *
 * A producer (one thread: a loop, the store writer) emits into its own ring of
 * bytes. Emitting copies, never blocks, never fails; when the ring is full the
 * hop is dropped and counted. One consumer thread drains all rings in turn and
 * hands every hop to the taps (log writer, trace log, live view). Text is
 * copied raw here; whoever shows it escapes it (buf_escaped).
 *
 * Secrets never reach a hop: the SMTP codec marks AUTH lines and drivers leave
 * them out.
 */
#ifndef WAYPOST_BASE_HOP_H
#define WAYPOST_BASE_HOP_H

#include "relay/base/buf.h"
#include "relay/base/err.h"
#include "relay/base/msgid.h"
#include "relay/base/verdict.h"

/* How loud: DETAIL is kept in the trace and logged at level debug; EVENT is
 * logged at level info; WARNING and ALARM ask for a person. */
#define HOP_WEIGHT_MAP(X)                                                                          \
    X(DETAIL, "debug")                                                                             \
    X(EVENT, "info")                                                                               \
    X(WARNING, "warning")                                                                          \
    X(ALARM, "alarm")

enum hop_weight {
#define X(name, word) HOP_##name,
    HOP_WEIGHT_MAP(X)
#undef X
        HOP_WEIGHT_COUNT
};

enum hop_side {
    HOP_US,  /* inside the relay */
    HOP_IN,  /* between a client and us */
    HOP_OUT, /* between us and the next hop */
};

/* field, key in log and JSON; printed in this order, empty ones left out */
#define HOP_TEXT_MAP(X)                                                                            \
    X(recipient, "to") /* the address, when the hop is about one recipient */                      \
    X(sender, "from")  /* reverse-path; "<>" for the null one */                                   \
    X(lane, "lane")                                                                                \
    X(host, "host")             /* name of the next hop's host, or what the client said in EHLO */ \
    X(peer, "peer")             /* address and port of the other end */                            \
    X(user, "user")             /* authenticated user, or the uid of a local caller */             \
    X(tls, "tls")               /* "TLSv1.3 TLS_AES_256_GCM_SHA384", plus what was proved */       \
    X(policy, "policy")         /* TLS policy and the evidence for it; route name */               \
    X(said, "reply")            /* the peer's or our reply, lines joined by " / " */               \
    X(fault, "fault")           /* what failed on our side of the wire, in words */                \
    X(cause, "cause")           /* what it means */                                                \
    X(fix, "fix")               /* what to do */                                                   \
    X(message_id, "message-id") /* header field, angle brackets kept */                            \
    X(remote_id, "remote-id")   /* the next hop's queue id, found in its last reply */             \
    X(text, "text")             /* anything else, short */

struct hop {
    struct msgid id;  /* nil: not about one message */
    uint64_t session; /* our number for the session or attempt; 0: none */
    int64_t began_us; /* wall clock */
    int64_t ended_us;
    int64_t next_us;  /* when it is tried again; 0: not */
    uint64_t bytes;   /* size of what was taken or sent; 0: does not apply */
    uint32_t count;   /* recipients or messages concerned; 0: does not apply */
    uint32_t attempt; /* 1 for the first; 0: does not apply */
    enum hop_weight weight;
    enum hop_side side;
    enum stage stage;
    enum result result;
    enum scope scope;
    enum class kind;
    uint16_t code;        /* SMTP reply code; 0: none */
    uint8_t status_class; /* enhanced status code x.y.z; class 0: none */
    uint16_t status_subject, status_detail;
#define X(field, key) struct str field;
    HOP_TEXT_MAP(X)
#undef X
};

#define HOP_TEXT_LIMIT 1024   /* each text is cut to this when emitted */
#define HOP_ENCODED_MAX 16384 /* no encoded hop is longer */

/* The compact form, for rings and for the trace log: starts with a version.
 * Encoding cuts texts to fit `size` and returns the length; size must be at
 * least 256. A decoded hop's texts are views into `bytes`. */
size_t hop_encode(const struct hop *hop, void *out, size_t size);
enum err hop_decode(struct str bytes, struct hop *out_hop);

/* Renderings. hop_line: one line "stage=... side=... result=..." without time
 * and without line end; hop_json: one JSON object, with "time" (when it ended)
 * and "level". Keys come in a fixed order. Both escape what came from outside. */
const char *hop_weight_word(enum hop_weight weight);
void hop_line(const struct hop *hop, struct buf *out);
void hop_json(const struct hop *hop, struct buf *out);

/* ---- getting hops from producers to taps -------------------------------- */

struct hops;     /* the hub: all rings, the taps, the counters */
struct hop_ring; /* one producer thread's way in */

typedef void hop_tap_fn(void *arg, const struct hop *hop, struct str encoded); /* consumer thread */
typedef void hop_idle_fn(void *arg); /* consumer thread: the rings are empty for now (flush) */

struct hops *hops_new(size_t ring_bytes);
void hops_free(struct hops **hops); /* rings must be unused; drains first */
void hops_tap(struct hops *hops, hop_tap_fn *fn, hop_idle_fn *idle, void *arg); /* before start */
enum err hops_start(struct hops *hops,
                    struct fault *fault); /* consumer thread; without it, drain by hand */
void hops_stop(struct hops *hops);        /* drains, then joins */
size_t hops_drain(struct hops *hops);     /* only when not started */
/* Since when (clock_mono_ms) the taps have been at work; 0: they rest. Any thread. */
uint64_t hops_since_ms(const struct hops *hops);

struct hop_ring *hops_ring(struct hops *hops);               /* owned by the hub */
void hop_emit(struct hop_ring *ring, const struct hop *hop); /* ring NULL: nothing happens */

/* Counters, readable from any thread at any time. */
struct hop_counts {
    uint64_t by_result[STAGE_COUNT][RESULT_COUNT];
    uint64_t by_class[CLASS_COUNT]; /* of SETTLE hops only */
    uint64_t seconds_sum_us[STAGE_COUNT];
    uint64_t alarms;
    uint64_t dropped;
};
void hops_counts(struct hops *hops, struct hop_counts *out_counts);

#endif
