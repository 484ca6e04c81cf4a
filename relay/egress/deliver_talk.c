/*
 * deliver_talk.c - from the connection to a session that can send: banner,
 * EHLO, STARTTLS, AUTH; and the pump that moves bytes and events.
 */
#include "relay/egress/deliver_impl.h"

#define QUIT_MS ((uint64_t)10 * 1000)

static void fail(struct delivery *delivery, enum stage stage, const struct reply *reply,
                 enum err err, struct str words)
{
    struct reply copy;
    struct outcome_facts facts = {
        .stage = stage,
        .err = err,
        .fault = words,
        .tls_required = policy_needs_tls(delivery->policy.policy.level),
    };

    /* The reply lives in the machine, which goes with the host. */
    if (reply) {
        copy = *reply;
        facts.reply = &copy;
    }
    delivery_host_failed(delivery, &facts);
}

/* RFC 5321 4.1.4: a name that is not one the world can resolve is no HELO name. */
static struct str helo_name(struct delivery *delivery)
{
    if (memchr(delivery->hostname, '.', strlen(delivery->hostname)))
        return str_of(delivery->hostname);
    endpoint_literal(stream_local(delivery->stream), delivery->helo, sizeof(delivery->helo));
    return str_of(delivery->helo);
}

static void machine_start(struct delivery *delivery)
{
    struct smtp_client_options options = {
        .helo = helo_name(delivery),
        .timeouts = delivery->options.timeouts,
        .tls_active = delivery->tls_active,
    };

    delivery->state = DELIVERY_GREETING;
    delivery->client = smtp_client_new(&options, loop_now_ms(delivery->options.loop));
    delivery->stage_began_us = loop_wall_us(delivery->options.loop);
    delivery_pump(delivery);
}

/* ---- TLS ---- */

static void tls_begin(struct delivery *delivery)
{
    const struct route_host *host = delivery_route_host(delivery);
    char key[DNS_NAME + 32], domain[DNS_NAME];
    struct tls_request request = {
        .host = host->name,
        .also_name = domain,
        .level = delivery->policy.policy.level,
        .tlsa = delivery->policy.tlsa,
        .tlsa_count = delivery->policy.tlsa_count,
        .session_key = key,
    };

    /* RFC 7672 3.2.2: a certificate in the name of the domain is as good. */
    str_copy(domain, sizeof(domain), lane_place(str_of(delivery->lane)));
    if (request.level != POLICY_DANE || lane_is_smarthost(str_of(delivery->lane)))
        request.also_name = NULL;
    (void)snprintf(key, sizeof(key), "%s:%u/%s", host->name, host->port,
                   policy_word(request.level));
    delivery->tls_begun = true;
    delivery->stage_began_us = loop_wall_us(delivery->options.loop);
    stream_deadline(delivery->stream,
                    loop_now_ms(delivery->options.loop) + delivery->options.timeouts.command_ms);
    stream_tls_client(delivery->stream, delivery->options.route->tls, &request);
}

static void tls_done(struct delivery *delivery)
{
    tls_facts_line(stream_tls_facts(delivery->stream), delivery->tls_words,
                   sizeof(delivery->tls_words));
    delivery->tls_active = true;
    delivery_tell(delivery, STAGE_TLS, NULL, NULL, STR_EMPTY);
    if (!delivery->client) {
        machine_start(delivery);
        return;
    }
    smtp_client_tls_started(delivery->client);
    smtp_client_ehlo(delivery->client);
    delivery_pump(delivery);
}

/* Opportunistic means: better in clear than not at all, once, and on record. */
static void tls_failed(struct delivery *delivery, enum err err, const char *words)
{
    struct fault fault;

    fault_set(&fault, err, "%s", words);
    if (delivery->policy.policy.level == POLICY_OPPORTUNISTIC && !delivery->clear_only) {
        struct outcome retry = { .result = RESULT_LATER,
                                 .scope = SCOPE_HOST,
                                 .kind = CLASS_TLS,
                                 .cause = "the TLS handshake failed; TLS is optional here",
                                 .fix = "none needed: this host is tried once more without TLS" };
        delivery_tell(delivery, STAGE_TLS, NULL, &retry, str_of(fault.text));
        delivery_drop_stream(delivery);
        delivery->clear_only = true;
        delivery_next_address(delivery);
        return;
    }
    fail(delivery, STAGE_TLS, NULL, err, str_of(fault.text));
}

/* ---- AUTH ---- */

static void auth_begin(struct delivery *delivery)
{
    const struct route_settings *route = delivery->options.route;
    const struct ext_offer *offer = smtp_client_offer(delivery->client);
    struct sasl_login login = { .user = route->username,
                                .password = route->password,
                                .channel_binding = stream_channel_binding(delivery->stream) };
    struct fault fault;
    struct buf initial;
    struct str text;
    enum err rc;

    if (!sasl_choose(offer->mechanisms, delivery->refused_mechanisms, login.channel_binding.len > 0,
                     &delivery->mechanism)) {
        fail(delivery, STAGE_AUTH, NULL, ERR_UNSUPPORTED,
             STR("the next hop offers no AUTH mechanism that we can use"));
        return;
    }
    sasl_client_free(&delivery->sasl);
    rc = sasl_client_new(delivery->mechanism, &login, &delivery->sasl, &fault);
    buf_init(&initial, 12288);
    if (!rc && sasl_client_has_initial(delivery->sasl))
        rc = sasl_client_step(delivery->sasl, STR_EMPTY, &initial, &fault);
    if (rc) {
        fail(delivery, STAGE_AUTH, NULL, rc, str_of(fault.text));
    } else {
        text = buf_view(&initial);
        smtp_client_auth(delivery->client, delivery->mechanism,
                         sasl_client_has_initial(delivery->sasl) ? &text : NULL);
    }
    buf_clear(&initial);
}

static void auth_challenge(struct delivery *delivery, struct str challenge)
{
    struct fault fault;
    struct buf out;

    buf_init(&out, 12288);
    if (sasl_client_step(delivery->sasl, challenge, &out, &fault))
        smtp_client_auth_cancel(delivery->client);
    else
        smtp_client_auth_respond(delivery->client, buf_view(&out));
    buf_clear(&out);
}

static void session_ready(struct delivery *delivery)
{
    if (delivery->claim) {
        delivery->state = DELIVERY_SENDING;
        delivery_send(delivery);
        return;
    }
    delivery->state = DELIVERY_FREE;
    delivery->options.free_now(delivery->options.arg, delivery);
}

static void auth_answered(struct delivery *delivery, const struct reply *reply)
{
    if (reply_is_positive(reply) && !sasl_client_is_done(delivery->sasl)) {
        fail(delivery, STAGE_AUTH, NULL, ERR_DENIED,
             STR("the next hop accepted the login without proving that it knows the password"));
        return;
    }
    if (reply_is_positive(reply)) {
        delivery_tell(delivery, STAGE_AUTH, reply, NULL, STR_EMPTY);
        sasl_client_free(&delivery->sasl);
        session_ready(delivery);
        return;
    }
    /* 504: not this mechanism after all; the next best may do (RFC 4954 4). */
    if (reply->code == 504 || reply->code == 534) {
        unsigned refused = delivery->refused_mechanisms | (unsigned)delivery->mechanism;
        enum mechanism next;
        if (sasl_choose(smtp_client_offer(delivery->client)->mechanisms, refused,
                        stream_channel_binding(delivery->stream).len > 0, &next)) {
            delivery->refused_mechanisms = refused;
            auth_begin(delivery);
            return;
        }
    }
    fail(delivery, STAGE_AUTH, reply, ERR_OK, STR_EMPTY);
}

/* ---- greeting ---- */

static void ehlo_answered(struct delivery *delivery, const struct reply *reply)
{
    const struct ext_offer *offer = smtp_client_offer(delivery->client);
    enum policy_level level = delivery->policy.policy.level;

    if (!reply_is_positive(reply)) {
        fail(delivery, STAGE_EHLO, reply, ERR_OK, STR_EMPTY);
        return;
    }
    delivery_tell(delivery, STAGE_EHLO, reply, NULL, STR_EMPTY);
    if (!delivery->tls_active && level != POLICY_NONE && !delivery->clear_only) {
        if (offer->exts & EXT_STARTTLS) {
            smtp_client_starttls(delivery->client);
            return;
        }
        if (policy_needs_tls(level)) {
            fail(delivery, STAGE_STARTTLS, NULL, ERR_UNSUPPORTED,
                 STR("the next hop does not offer STARTTLS"));
            return;
        }
    }
    if (delivery->options.route->username.len == 0) {
        session_ready(delivery);
    } else if (!delivery->tls_active) {
        fail(delivery, STAGE_AUTH, NULL, ERR_DENIED, STR("credentials are never sent without TLS"));
    } else {
        auth_begin(delivery);
    }
}

static void starttls_answered(struct delivery *delivery, const struct reply *reply)
{
    if (reply_is_positive(reply)) {
        delivery_tell(delivery, STAGE_STARTTLS, reply, NULL, STR_EMPTY);
        tls_begin(delivery);
        return;
    }
    if (policy_needs_tls(delivery->policy.policy.level) ||
        delivery->options.route->username.len > 0) {
        fail(delivery, STAGE_STARTTLS, reply, ERR_OK, STR_EMPTY);
        return;
    }
    /* Offered and refused: go on in clear on the same connection. */
    delivery_tell(delivery, STAGE_STARTTLS, reply, NULL, STR("refused, going on without TLS"));
    delivery->clear_only = true;
    session_ready(delivery);
}

static void banner(struct delivery *delivery, const struct reply *reply)
{
    if (!reply_is_positive(reply)) {
        fail(delivery, STAGE_BANNER, reply, ERR_OK, STR_EMPTY);
        return;
    }
    delivery_tell(delivery, STAGE_BANNER, reply, NULL, STR_EMPTY);
    smtp_client_ehlo(delivery->client);
}

static void faulted(struct delivery *delivery, const struct smtp_client_event *event)
{
    struct outcome_facts facts = { .stage = event->stage, .err = event->err };
    struct reply reply;
    char words[FAULT_MAX];

    /* What it said on leaving (421) says more than that it left. */
    if (event->reply && event->reply->code >= 400) {
        reply = *event->reply;
        facts.reply = &reply;
    }
    str_copy(words, sizeof(words), event->words);
    facts.fault = str_of(words);
    facts.content_sent = delivery_content_sent(delivery);
    if (delivery->state == DELIVERY_QUITTING || delivery->state == DELIVERY_FREE) {
        delivery_end(delivery, NULL);
        return;
    }
    if (delivery_was_refused(delivery))
        return;
    if (delivery->is_reused && event->err == ERR_CLOSED && !facts.reply) {
        delivery_reconnect(delivery);
        return;
    }
    if (facts.content_sent && delivery->state == DELIVERY_SENDING) {
        /* It may have arrived: asking the next host now would send it twice. */
        delivery->step = delivery->plan->step_count - 1;
    }
    delivery_host_failed(delivery, &facts);
}

static void handle(struct delivery *delivery, const struct smtp_client_event *event)
{
    switch (event->kind) {
    case SMTP_CLIENT_BANNER:
        banner(delivery, event->reply);
        break;
    case SMTP_CLIENT_EHLO:
        ehlo_answered(delivery, event->reply);
        break;
    case SMTP_CLIENT_STARTTLS:
        starttls_answered(delivery, event->reply);
        break;
    case SMTP_CLIENT_CHALLENGE:
        auth_challenge(delivery, event->bytes);
        break;
    case SMTP_CLIENT_AUTH:
        auth_answered(delivery, event->reply);
        break;
    case SMTP_CLIENT_MAIL:
    case SMTP_CLIENT_RCPT:
    case SMTP_CLIENT_GO:
    case SMTP_CLIENT_ROOM:
    case SMTP_CLIENT_DATA:
    case SMTP_CLIENT_CONTENT:
        delivery_transaction_event(delivery, event);
        break;
    case SMTP_CLIENT_RSET:
        break; /* whatever it says, the next MAIL tells */
    case SMTP_CLIENT_QUIT:
        delivery_end(delivery, NULL);
        break;
    case SMTP_CLIENT_FAULT:
        faulted(delivery, event);
        break;
    }
}

/* ---- the pump ---- */

static bool can_talk(const struct delivery *delivery)
{
    return delivery->stream && delivery->client && (!delivery->tls_begun || delivery->tls_active);
}

static bool pump_once(struct delivery *delivery)
{
    uint64_t now = loop_now_ms(delivery->options.loop);
    struct smtp_client_event event;
    struct str bytes;
    bool moved = false;

    bytes = stream_in(delivery->stream);
    if (bytes.len) {
        size_t used = smtp_client_feed(delivery->client, bytes, now);
        stream_consume(delivery->stream, used);
        moved = used > 0;
    }
    while (can_talk(delivery) && smtp_client_next(delivery->client, now, &event)) {
        handle(delivery, &event);
        moved = true;
    }
    if (!can_talk(delivery))
        return false;
    bytes = smtp_client_output(delivery->client);
    if (bytes.len && stream_pending(delivery->stream) < SMTP_CLIENT_HIGH) {
        stream_write(delivery->stream, bytes);
        smtp_client_sent(delivery->client, bytes.len, now);
        moved = true;
    }
    return moved;
}

/* All is said and done when QUIT is: its answer is worth no place that others wait for. */
static uint64_t deadline_of(const struct delivery *delivery)
{
    uint64_t at = smtp_client_deadline(delivery->client);
    uint64_t patience = loop_now_ms(delivery->options.loop) + QUIT_MS;

    return delivery->state == DELIVERY_QUITTING && patience < at ? patience : at;
}

void delivery_pump(struct delivery *delivery)
{
    if (delivery->is_pumping) {
        delivery->pump_again = true;
        return;
    }
    delivery->is_pumping = true;
    do
        delivery->pump_again = false;
    while (can_talk(delivery) && (pump_once(delivery) || delivery->pump_again));
    delivery->is_pumping = false;
    if (can_talk(delivery))
        stream_deadline(delivery->stream, deadline_of(delivery));
    delivery_maybe_free(delivery);
}

static void stream_failed(struct delivery *delivery)
{
    if (delivery->state == DELIVERY_CONNECTING && !delivery->tls_begun) {
        const struct fault *fault = stream_fault(delivery->stream);
        struct fault copy = *fault;
        fail(delivery, STAGE_CONNECT, NULL, copy.err, str_of(copy.text));
    } else if (delivery->tls_begun && !delivery->tls_active) {
        const char *words = stream_fault(delivery->stream)->text;
        tls_failed(delivery, ERR_TLS,
                   words[0] ? words : "the server closed the connection during the handshake");
    } else {
        smtp_client_closed(delivery->client);
        delivery_pump(delivery);
    }
}

static void timed_out(struct delivery *delivery)
{
    if (delivery->tls_begun && !delivery->tls_active) {
        tls_failed(delivery, ERR_TIMEOUT, "the TLS handshake took too long");
    } else if (delivery->state == DELIVERY_QUITTING) {
        delivery_end(delivery, NULL);
    } else if (delivery->client) {
        smtp_client_timeout(delivery->client, loop_now_ms(delivery->options.loop));
        delivery_pump(delivery);
    }
}

static void connected(struct delivery *delivery)
{
    delivery_tell(delivery, STAGE_CONNECT, NULL, NULL, STR_EMPTY);
    if (delivery->policy.policy.level == POLICY_IMPLICIT)
        tls_begin(delivery);
    else
        machine_start(delivery);
}

void delivery_stream_event(void *arg, struct stream *stream, enum stream_event event)
{
    struct delivery *delivery = arg;

    (void)stream;
    switch (event) {
    case STREAM_CONNECTED:
        connected(delivery);
        break;
    case STREAM_TLS:
        tls_done(delivery);
        break;
    case STREAM_DATA:
    case STREAM_DRAINED:
        if (can_talk(delivery))
            delivery_pump(delivery);
        break;
    case STREAM_EOF:
        if (!delivery->client || (delivery->tls_begun && !delivery->tls_active)) {
            stream_failed(delivery);
            break;
        }
        delivery->jobs++;        /* stays while we look twice */
        delivery_pump(delivery); /* what it said before it left */
        delivery->jobs--;
        if (delivery->client)
            smtp_client_closed(delivery->client);
        delivery_pump(delivery);
        break;
    case STREAM_TIMEOUT:
        timed_out(delivery);
        break;
    case STREAM_ERROR:
        stream_failed(delivery);
        break;
    }
}
