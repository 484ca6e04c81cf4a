/*
 * sim_stream.c - net/stream.h over wires to simulated hosts.
 */
#include "tests/sim/host.h"
#include "tests/sim/wire.h"

#include "relay/net/stream.h"

#include <stdlib.h>

#define OUT_MAX ((size_t)1 << 30)
#define FLIGHT_MAX ((size_t)64 * 1024) /* then the rest waits until some has arrived */

struct stream {
    struct loop *loop;
    stream_fn *fn;
    void *arg;
    struct endpoint peer, local;
    struct host *host;    /* NULL: nobody has the address */
    struct visit *visit;  /* NULL: not connected, or the far side is gone */
    struct wire in_wire;  /* events for us */
    struct wire out_wire; /* what we sent, on its way to the visit */
    struct buf in;        /* arrived, unread */
    struct buf out;       /* written, not yet sent */
    size_t in_flight;     /* sent, not yet taken */
    struct deferred flush;
    struct timer deadline;
    bool is_open, is_paused, is_dead;
    struct fault fault;
    struct tls_facts facts;
    /* the handshake asked for */
    struct tls_request request;
    char *request_host;
    struct tlsa *request_tlsa;
};

/* ---- events ---- */

static void on_in(void *arg, const struct parcel *parcel)
{
    struct stream *stream = arg;

    switch (parcel->kind) {
    case PARCEL_OPEN:
        stream->is_open = true;
        stream->visit = visit_begin(stream->host, stream);
        stream->fn(stream->arg, stream, STREAM_CONNECTED);
        break;
    case PARCEL_BYTES:
        buf_append(&stream->in, parcel->bytes, parcel->len);
        if (!stream->is_paused)
            stream->fn(stream->arg, stream, STREAM_DATA);
        break;
    case PARCEL_AGAIN:
        if (stream->in.len && !stream->is_paused)
            stream->fn(stream->arg, stream, STREAM_DATA);
        break;
    case PARCEL_TLS:
        stream->facts = parcel->facts;
        stream->fn(stream->arg, stream, STREAM_TLS);
        break;
    case PARCEL_SENT:
        stream->fn(stream->arg, stream, STREAM_DRAINED);
        break;
    case PARCEL_CLOSE:
        stream->fn(stream->arg, stream, STREAM_EOF);
        break;
    case PARCEL_BREAK:
        stream->is_dead = true;
        fault_set(&stream->fault, parcel->err, "%s", parcel->words);
        loop_timer_stop(stream->loop, &stream->deadline);
        stream->fn(stream->arg, stream, STREAM_ERROR);
        break;
    }
}

static void flush(void *arg);

static void on_out(void *arg, const struct parcel *parcel)
{
    struct stream *stream = arg;

    if (!stream->visit)
        return;
    if (parcel->kind == PARCEL_TLS) {
        visit_tls_hello(stream->visit, &stream->request);
        return;
    }
    if (!visit_arrived(stream->visit, str_make(parcel->bytes, parcel->len)))
        return; /* nobody reads there any more */
    stream->in_flight -= parcel->len;
    if (stream->out.len && !stream->flush.is_queued)
        loop_defer(stream->loop, &stream->flush, flush, stream);
}

/* ---- from the host ---- */

void stream_far_bytes(struct stream *stream, struct str bytes)
{
    wire_send_bytes(&stream->in_wire, bytes, stream->host->latency_ms);
}

void stream_far_tls(struct stream *stream, const struct tls_facts *facts, const char *trouble)
{
    struct parcel *parcel =
        wire_send(&stream->in_wire, trouble ? PARCEL_BREAK : PARCEL_TLS, stream->host->latency_ms);

    parcel->facts = *facts;
    parcel->err = ERR_TLS;
    parcel->words = trouble;
}

void stream_far_close(struct stream *stream)
{
    stream->visit = NULL;
    wire_send(&stream->in_wire, PARCEL_CLOSE, stream->host->latency_ms);
}

/* ---- connecting ---- */

static void deadline_passed(void *arg)
{
    struct stream *stream = arg;
    struct parcel *parcel;

    if (stream->is_open) {
        stream->fn(stream->arg, stream, STREAM_TIMEOUT);
        return;
    }
    parcel = wire_send(&stream->in_wire, PARCEL_BREAK, 0);
    parcel->err = ERR_TIMEOUT;
    parcel->words = "connection timed out";
}

static void answer_connect(struct stream *stream)
{
    const struct action *action = script_next(&stream->host->scripts[HOST_CONNECT]);
    uint64_t delay = action->delay_ms + 2 * stream->host->latency_ms;
    struct parcel *parcel;

    stream->host->counts.connects++;
    if (action->kind == ACTION_TIMEOUT || action->kind == ACTION_HANG)
        return; /* the deadline tells */
    if (action->kind == ACTION_OK) {
        wire_send(&stream->in_wire, PARCEL_OPEN, delay);
        return;
    }
    parcel = wire_send(&stream->in_wire, PARCEL_BREAK, delay);
    parcel->err = action->kind == ACTION_REFUSE        ? ERR_REFUSED
                  : action->kind == ACTION_UNREACHABLE ? ERR_UNREACHABLE
                                                       : ERR_CLOSED;
    parcel->words = action->kind == ACTION_REFUSE        ? "connection refused"
                    : action->kind == ACTION_UNREACHABLE ? "no route to host"
                                                         : "connection reset";
}

enum err stream_connect(struct loop *loop, const struct endpoint *to, const struct endpoint *source,
                        uint64_t deadline_ms, stream_fn *fn, void *arg, struct stream **out_stream,
                        struct fault *fault)
{
    struct stream *stream = mem_alloc(sizeof(*stream));

    (void)fault;
    stream->loop = loop;
    stream->fn = fn;
    stream->arg = arg;
    stream->peer = *to;
    if (source)
        stream->local = *source;
    else
        endpoint_ip(to->family == ENDPOINT_IPV6 ? STR("2001:db8::25") : STR("192.0.2.25"),
                    &stream->local);
    stream->host = host_at(loop_world(loop), to);
    wire_init(&stream->in_wire, loop, on_in, stream);
    wire_init(&stream->out_wire, loop, on_out, stream);
    buf_init(&stream->in, OUT_MAX);
    buf_init(&stream->out, OUT_MAX);
    stream_deadline(stream, deadline_ms);
    if (stream->host)
        answer_connect(stream); /* else silence: nobody has this address */
    *out_stream = stream;
    return ERR_OK;
}

/* ---- reading and writing ---- */

struct str stream_in(const struct stream *stream) { return buf_view(&stream->in); }
void stream_consume(struct stream *stream, size_t len) { buf_consume(&stream->in, len); }
void stream_pause(struct stream *stream) { stream->is_paused = true; }

void stream_resume(struct stream *stream)
{
    stream->is_paused = false;
    wire_send(&stream->in_wire, PARCEL_AGAIN, 0);
}

static void send_out(struct stream *stream)
{
    while (stream->out.len && stream->in_flight < FLIGHT_MAX) {
        struct str piece = str_head(buf_view(&stream->out), FLIGHT_MAX - stream->in_flight);
        wire_send_bytes(&stream->out_wire, piece, stream->host->latency_ms);
        stream->in_flight += piece.len;
        buf_consume(&stream->out, piece.len);
    }
}

static void flush(void *arg)
{
    struct stream *stream = arg;

    send_out(stream);
    if (stream->out.len == 0)
        wire_send(&stream->in_wire, PARCEL_SENT, 0);
}

void stream_write(struct stream *stream, struct str bytes)
{
    if (stream->is_dead || !stream->is_open || bytes.len == 0)
        return;
    buf_str(&stream->out, bytes);
    if (!stream->flush.is_queued)
        loop_defer(stream->loop, &stream->flush, flush, stream);
}

size_t stream_pending(const struct stream *stream) { return stream->out.len; }

void stream_deadline(struct stream *stream, uint64_t at_ms)
{
    uint64_t now = loop_now_ms(stream->loop);

    if (at_ms == UINT64_MAX || stream->is_dead)
        loop_timer_stop(stream->loop, &stream->deadline);
    else
        loop_timer_start(stream->loop, &stream->deadline, at_ms > now ? at_ms - now : 0,
                         deadline_passed, stream);
}

/* ---- TLS ---- */

void stream_tls_server(struct stream *stream, struct tls_server *tls)
{
    (void)stream;
    (void)tls;
}

static void forget_request(struct stream *stream)
{
    for (size_t i = 0; i < stream->request.tlsa_count; i++)
        free((void *)(uintptr_t)stream->request_tlsa[i].data);
    free(stream->request_tlsa);
    free(stream->request_host);
}

void stream_tls_client(struct stream *stream, struct tls_client *tls,
                       const struct tls_request *request)
{
    (void)tls;
    forget_request(stream);
    stream->request = *request;
    stream->request.host = stream->request_host = str_dup(str_of(request->host));
    stream->request_tlsa = mem_alloc((request->tlsa_count + 1) * sizeof(*stream->request_tlsa));
    for (size_t i = 0; i < request->tlsa_count; i++) {
        stream->request_tlsa[i] = request->tlsa[i];
        stream->request_tlsa[i].data = (const uint8_t *)str_dup(
            str_make((const char *)request->tlsa[i].data, request->tlsa[i].len));
    }
    stream->request.tlsa = stream->request_tlsa;
    send_out(stream);
    wire_send(&stream->out_wire, PARCEL_TLS, stream->host->latency_ms);
}

const struct tls_facts *stream_tls_facts(const struct stream *stream) { return &stream->facts; }

struct str stream_channel_binding(const struct stream *stream)
{
    (void)stream;
    return STR_EMPTY;
}

/* ---- small questions ---- */

const struct endpoint *stream_peer(const struct stream *stream) { return &stream->peer; }
const struct endpoint *stream_local(struct stream *stream) { return &stream->local; }
const struct fault *stream_fault(const struct stream *stream) { return &stream->fault; }

bool stream_peer_uid(const struct stream *stream, uint32_t *out_uid)
{
    (void)stream;
    (void)out_uid;
    return false;
}

void stream_own(struct stream *stream, stream_fn *fn, void *arg)
{
    stream->fn = fn;
    stream->arg = arg;
}

/* ---- closing ---- */

static void stream_free(struct stream *stream, bool in_order)
{
    struct visit *visit = stream->visit;

    stream->visit = NULL;
    if (visit && in_order) {
        /* What was written still arrives, then the end: at once, since nothing
         * that the host says can be heard any more. */
        for (struct parcel *parcel = stream->out_wire.first; parcel; parcel = parcel->next)
            if (parcel->kind == PARCEL_BYTES)
                visit_arrived(visit, str_make(parcel->bytes, parcel->len));
        if (stream->out.len)
            visit_arrived(visit, buf_view(&stream->out));
    }
    if (visit)
        visit_left(visit);
    wire_clear(&stream->in_wire);
    wire_clear(&stream->out_wire);
    loop_undefer(stream->loop, &stream->flush);
    loop_timer_stop(stream->loop, &stream->deadline);
    buf_clear(&stream->in);
    buf_clear(&stream->out);
    forget_request(stream);
    free(stream);
}

void stream_close(struct stream **stream)
{
    struct stream *gone = *stream;

    *stream = NULL;
    if (gone)
        stream_free(gone, true);
}

void stream_part(struct stream **stream) { stream_close(stream); }

void stream_abort(struct stream **stream)
{
    struct stream *gone = *stream;

    *stream = NULL;
    if (gone)
        stream_free(gone, false);
}
