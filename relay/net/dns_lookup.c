/*
 * dns_lookup.c - asking, judging what comes back, and asking the next.
 *
 * Nothing here answers from inside the call that started it: a lookup begins
 * in line for a socket, and the line is served by a deferred call.
 */
#include "relay/net/dns_lookup.h"

#include "relay/base/buf.h"
#include "relay/net/dns_resolver.h"
#include "relay/net/dns_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <utlist.h>

#define PAUSE_MS 250         /* between rounds, when a try failed at once */
#define BAD_SERVER_MS 30000u /* how long a silent server is asked last */

static void serve_line(void *arg);
static void on_packet(void *arg, const uint8_t *bytes, size_t len);

/* ---- the line for a socket ---- */

void dns_lookup_again(struct dns_lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;

    lookup->state = DNS_LOOKUP_WAITING;
    DL_APPEND2(resolver->line, lookup, line_prev, line_next);
    if (!resolver->pump.is_queued)
        loop_defer(resolver->loop, &resolver->pump, serve_line, resolver);
}

static void on_pause_over(void *arg) { dns_lookup_again(arg); }

static void pause_before_try(struct dns_lookup *lookup)
{
    lookup->state = DNS_LOOKUP_PAUSING;
    loop_timer_start(lookup->resolver->loop, &lookup->timer, PAUSE_MS, on_pause_over, lookup);
}

static void end_try(struct dns_lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;

    loop_timer_stop(resolver->loop, &lookup->timer);
    if (!lookup->exchange)
        return;
    dns_exchange_close(&lookup->exchange);
    resolver->sockets--;
    if (resolver->line && !resolver->pump.is_queued)
        loop_defer(resolver->loop, &resolver->pump, serve_line, resolver);
}

/* ---- beginning and end ---- */

/* Servers that were silent lately come last, the others in the order given. */
static void order_servers(struct dns_lookup *lookup)
{
    uint64_t now = loop_now_ms(lookup->resolver->loop);
    unsigned used = 0;

    for (int bad = 0; bad <= 1; bad++) {
        for (unsigned i = 0; i < lookup->conf->count; i++) {
            if ((lookup->conf->servers[i].bad_until_ms > now) == (bad == 1))
                lookup->order[used++] = i;
        }
    }
}

void dns_lookup_begin(struct dns_lookup *lookup)
{
    lookup->step = 0;
    lookup->answered = 0;
    lookup->silent = 0;
    lookup->servfail_server = -1;
    lookup->fault = (struct fault){ 0 };
    lookup->edns = true;
    lookup->tcp = lookup->cd = false;
    order_servers(lookup);
    dns_lookup_again(lookup);
}

struct dns_lookup *dns_lookup_get(struct resolver *resolver, const struct dns_question *question)
{
    struct dns_lookup *lookup = NULL;

    HASH_FIND(hh, resolver->table, question, sizeof(*question), lookup);
    if (lookup) {
        resolver->counts.joined++;
        return lookup;
    }
    lookup = mem_alloc(sizeof(*lookup));
    lookup->resolver = resolver;
    lookup->question = lookup->current = *question;
    lookup->conf = dns_conf_ref(resolver->conf);
    lookup->ttl_s = UINT32_MAX;
    lookup->is_secure = true;
    lookup->is_joinable = true;
    HASH_ADD(hh, resolver->table, question, sizeof(lookup->question), lookup);
    DL_APPEND(resolver->lookups, lookup);
    dns_lookup_begin(lookup);
    return lookup;
}

void dns_lookup_unjoin(struct dns_lookup *lookup)
{
    if (lookup->is_joinable)
        HASH_DEL(lookup->resolver->table, lookup);
    lookup->is_joinable = false;
}

void dns_lookup_free(struct dns_lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;

    if (lookup->state == DNS_LOOKUP_WAITING)
        DL_DELETE2(resolver->line, lookup, line_prev, line_next);
    end_try(lookup);
    dns_lookup_unjoin(lookup);
    DL_DELETE(resolver->lookups, lookup);
    dns_conf_unref(&lookup->conf);
    free(lookup);
}

/* Queries may cancel each other while they are called, so each time the first is taken. */
void dns_lookup_finish(struct dns_lookup *lookup, struct dns_reply *reply)
{
    struct resolver *resolver = lookup->resolver;
    struct dns_answer *answer = &reply->answer;

    lookup->state = DNS_LOOKUP_DONE;
    if (lookup->is_joinable)
        dns_cache_put(resolver->cache, &lookup->question, answer, loop_now_ms(resolver->loop));
    dns_lookup_unjoin(lookup);
    while (lookup->queries)
        dns_query_finish(lookup->queries, answer);
    dns_lookup_free(lookup);
    dns_reply_clear(reply);
}

/* ---- one try ---- */

unsigned dns_lookup_server_index(const struct dns_lookup *lookup)
{
    return lookup->cd ? (unsigned)lookup->servfail_server
                      : lookup->order[lookup->step % lookup->conf->count];
}

struct dns_server *dns_lookup_server(const struct dns_lookup *lookup)
{
    return &lookup->conf->servers[dns_lookup_server_index(lookup)];
}

static void mark_bad(struct dns_lookup *lookup)
{
    dns_lookup_server(lookup)->bad_until_ms = loop_now_ms(lookup->resolver->loop) + BAD_SERVER_MS;
}

static void on_silence(void *arg)
{
    struct dns_lookup *lookup = arg;

    lookup->resolver->counts.timed_out++;
    if (lookup->tcp)
        fault_set(&lookup->fault, ERR_DNS, "%s truncated its answer and was silent over TCP",
                  dns_lookup_server(lookup)->text);
    else if (!lookup->cd)
        lookup->silent |= 1u << dns_lookup_server_index(lookup);
    mark_bad(lookup);
    end_try(lookup);
    dns_lookup_next(lookup, false);
}

/* The socket said so at once: nobody listens there, no route, no descriptor. */
static void try_failed(struct dns_lookup *lookup, const struct fault *fault)
{
    fault_set(&lookup->fault, ERR_DNS, "%s: %s%s", dns_lookup_server(lookup)->text, fault->text,
              fault->err == ERR_REFUSED ? " (is a DNS server running there?)" : "");
    if (fault->err == ERR_REFUSED || fault->err == ERR_UNREACHABLE || fault->err == ERR_TIMEOUT)
        mark_bad(lookup); /* otherwise it is we who are in trouble: no descriptor left */
    end_try(lookup);
    dns_lookup_next(lookup, true);
}

static void on_failed(void *arg, const struct fault *fault) { try_failed(arg, fault); }

static uint16_t random_id(void)
{
    uint16_t id = 0;

    /* Never blocks for so little once the system is up; EINTR cannot cut it short. */
    while (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
    }
    return id;
}

static enum err send_question(struct dns_lookup *lookup, struct fault *fault)
{
    struct resolver *resolver = lookup->resolver;
    struct dns_wire_flags flags = { .edns = lookup->edns, .cd = lookup->cd };
    uint8_t bytes[DNS_QUERY_MAX];

    lookup->id = random_id();
    struct dns_exchange_request request = {
        .server = &dns_lookup_server(lookup)->at,
        .bytes = bytes,
        .len = dns_wire_query(&lookup->current, lookup->id, flags, bytes),
        .answered = on_packet,
        .failed = on_failed,
        .arg = lookup,
    };
    return lookup->tcp ? dns_exchange_tcp(resolver->loop, &request, &lookup->exchange, fault)
                       : dns_exchange_udp(resolver->loop, &request, &lookup->exchange, fault);
}

static void begin_try(struct dns_lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    struct fault fault;

    lookup->state = DNS_LOOKUP_ASKING;
    resolver->counts.sent++;
    resolver->counts.tcp += lookup->tcp;
    resolver->counts.retried += lookup->is_again;
    lookup->is_again = true;
    if (send_question(lookup, &fault)) {
        try_failed(lookup, &fault);
        return;
    }
    resolver->sockets++;
    loop_timer_start(resolver->loop, &lookup->timer, lookup->conf->timeout_ms, on_silence, lookup);
}

static void serve_line(void *arg)
{
    struct resolver *resolver = arg;

    while (resolver->line && resolver->sockets < resolver->sockets_max) {
        struct dns_lookup *lookup = resolver->line;
        DL_DELETE2(resolver->line, lookup, line_prev, line_next);
        begin_try(lookup);
    }
}

/* ---- what to do next ---- */

void dns_lookup_fail(struct dns_lookup *lookup, enum dns_status status, const char *words)
{
    struct dns_reply reply = { 0 };

    dns_reply_fail(&reply, status, lookup->current.name, words);
    dns_lookup_finish(lookup, &reply);
}

/* "no answer from 127.0.0.1:53, 192.0.2.1:53 after 2 tries each of 3 s" */
static void describe_silence(const struct dns_lookup *lookup, struct buf *out)
{
    const struct dns_conf *conf = lookup->conf;
    unsigned named = 0;

    if (!lookup->silent)
        return;
    buf_cstr(out, out->len ? "; no answer from " : "no answer from ");
    for (unsigned i = 0; i < conf->count; i++) {
        if (lookup->silent & 1u << i)
            buf_printf(out, "%s%s", named++ ? ", " : "", conf->servers[i].text);
    }
    buf_printf(out, " after %u %s%s of ", conf->tries, conf->tries == 1 ? "try" : "tries",
               named > 1 ? " each" : "");
    if (conf->timeout_ms % 1000)
        buf_printf(out, "%u ms", conf->timeout_ms);
    else
        buf_printf(out, "%u s", conf->timeout_ms / 1000);
}

static void give_up(struct dns_lookup *lookup)
{
    struct buf words;

    buf_init(&words, 1024); /* all servers' texts fit */
    buf_cstr(&words, lookup->fault.text);
    describe_silence(lookup, &words);
    buf_char(&words, '\0');
    dns_lookup_fail(lookup, lookup->answered ? DNS_SERVFAIL : DNS_TIMEOUT, words.at);
    buf_clear(&words);
}

static void conclude(struct dns_lookup *lookup)
{
    if (lookup->servfail_server < 0 || lookup->cd) {
        give_up(lookup);
        return;
    }
    /* Was it DNSSEC? A validating server answers the same with checking disabled. */
    lookup->cd = lookup->edns = true;
    lookup->tcp = false;
    dns_lookup_again(lookup);
}

void dns_lookup_next(struct dns_lookup *lookup, bool was_quick)
{
    const struct dns_conf *conf = lookup->conf;
    unsigned round = lookup->step / conf->count, last = conf->tries * conf->count;

    if (lookup->cd) {
        conclude(lookup);
        return;
    }
    lookup->edns = true;
    lookup->tcp = false;
    do {
        lookup->step++;
    } while (lookup->step < last &&
             (lookup->answered & 1u << lookup->order[lookup->step % conf->count]));
    if (lookup->step >= last)
        conclude(lookup);
    else if (was_quick && lookup->step / conf->count > round)
        pause_before_try(lookup);
    else
        dns_lookup_again(lookup);
}

static void on_packet(void *arg, const uint8_t *bytes, size_t len)
{
    struct dns_lookup *lookup = arg;

    if (!dns_scan_is_answer(bytes, len, &lookup->current, lookup->id)) {
        lookup->resolver->counts.mismatched++;
        return;
    }
    dns_lookup_server(lookup)->bad_until_ms = 0;
    end_try(lookup); /* `bytes` are in a buffer of the loop's or freed later: still there */
    dns_judge(lookup, bytes, len);
}
