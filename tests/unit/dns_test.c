/*
 * dns_test.c - the resolver against scripted servers: every way to answer, and not to.
 *
 * The loop is told to stop before anything is asked, so loop_run() comes back
 * when nothing is left to wait for: that it does shows that an idle resolver
 * keeps no timer and no socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/clock.h"
#include "relay/net/dns_resolver.h"
#include "tests/unit/dns_server.h"

#include <sys/stat.h>

/* ---- scripts ---- */

static bool say_a(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    if (r->question.type == DNS_A)
        put_a(out, r->question.name, 60, 1);
    else
        put_soa(out, 900, 60);
    put_opt(out, "", 0);
    return true;
}

static bool say_both(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    if (r->question.type == DNS_AAAA)
        put_aaaa(out, r->question.name, 60, 6);
    else
        put_a(out, r->question.name, 60, 4);
    set_authentic(out);
    return true;
}

static bool say_mx(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_named(out, r->question.name, DNS_MX, 300, 10, "MX1.test");
    put_named(out, r->question.name, DNS_MX, 120, 20, "mx2.test");
    return true;
}

static bool say_null_mx(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_named(out, r->question.name, DNS_MX, 300, 0, "");
    return true;
}

static bool say_bad_mx(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_named(out, r->question.name, DNS_MX, 300, 0, "mail host\n.test");
    return true;
}

static bool say_half_bad_mx(const struct request *r, struct packet *out)
{
    say_bad_mx(r, out);
    put_named(out, r->question.name, DNS_MX, 300, 5, "mx.test");
    return true;
}

static bool say_txt(const struct request *r, struct packet *out)
{
    static const char rdata[] = "\x05v=one\x03two";

    begin_reply(out, r, 0);
    put_record(out, ANSWER, r->question.name, DNS_TXT, 60, rdata, sizeof(rdata) - 1);
    return true;
}

static bool say_tlsa(const struct request *r, struct packet *out)
{
    uint8_t rdata[35] = { 3, 1, 1, 0xab, [34] = 0xcd };

    begin_reply(out, r, 0);
    put_record(out, ANSWER, r->question.name, DNS_TLSA, 60, rdata, sizeof(rdata));
    set_authentic(out);
    return true;
}

static bool say_ptr(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_named(out, r->question.name, DNS_PTR, 60, -1, "host.test");
    return true;
}

static bool say_nodata(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_soa(out, 900, 60);
    return true;
}

static bool say_referral(const struct request *r, struct packet *out)
{
    static const char ns[] = "\x02ns\x04test";

    begin_reply(out, r, 0);
    put_record(out, AUTHORITY, "test", 2, 60, ns, sizeof(ns));
    return true;
}

static bool say_servfail(const struct request *r, struct packet *out)
{
    begin_reply(out, r, DNS_RCODE_SERVFAIL);
    return true;
}

static bool say_expired(const struct request *r, struct packet *out)
{
    static const uint8_t option[] = { 0, 15, 0, 2, 0, 7 };

    if (r->cd)
        return say_a(r, out);
    begin_reply(out, r, DNS_RCODE_SERVFAIL);
    put_opt(out, option, sizeof(option));
    return true;
}

static bool say_refused(const struct request *r, struct packet *out)
{
    begin_reply(out, r, DNS_RCODE_REFUSED);
    return true;
}

static bool first_servfails(const struct request *r, struct packet *out)
{
    return r->server == 0 ? say_servfail(r, out) : say_a(r, out);
}

static bool say_nothing(const struct request *r, struct packet *out)
{
    (void)r, (void)out;
    return false;
}

static bool first_is_silent(const struct request *r, struct packet *out)
{
    return r->server != 0 && say_a(r, out);
}

static bool once_silent(const struct request *r, struct packet *out)
{
    return r->nth > 0 && say_a(r, out);
}

static bool servfail_or_silent(const struct request *r, struct packet *out)
{
    return r->server == 0 && say_servfail(r, out);
}

static void send_now(const struct request *r, const struct packet *p)
{
    sendto(r->socket, p->bytes, p->len, 0, &r->from.any, r->from_len);
}

/* Four forgeries first, each wrong in one thing, each with the answer 192.0.2.66. */
static bool forgeries_first(const struct request *r, struct packet *out)
{
    struct request other = *r;

    begin_reply(out, r, 0);
    put_a(out, r->question.name, 60, 66);
    out->bytes[1] ^= 1; /* id */
    send_now(r, out);
    out->bytes[1] ^= 1;
    out->bytes[2] &= 0x7f; /* a question */
    send_now(r, out);
    str_copy(other.question.name, DNS_NAME, STR("forger.test"));
    begin_reply(out, &other, 0);
    put_a(out, r->question.name, 60, 66);
    send_now(r, out);
    other = *r;
    other.question.type = DNS_TXT;
    begin_reply(out, &other, 0);
    put_a(out, r->question.name, 60, 66);
    send_now(r, out);
    send_now(r, &(struct packet){ .len = 5 });
    return say_a(r, out);
}

static bool other_source_first(const struct request *r, struct packet *out)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    begin_reply(out, r, 0);
    put_a(out, r->question.name, 60, 66);
    sendto(fd, out->bytes, out->len, 0, &r->from.any, r->from_len);
    close(fd);
    usleep(20000);
    return say_a(r, out);
}

static bool truncated(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    if (!r->is_tcp) {
        set_truncated(out);
        out->len += 7; /* a record cut in two */
        bump(out, ANSWER);
        return true;
    }
    for (unsigned i = 0; i < 200; i++)
        put_a(out, r->question.name, 60, (uint8_t)i);
    return true;
}

static bool truncated_twice(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    set_truncated(out);
    return true;
}

static bool closes_tcp(const struct request *r, struct packet *out)
{
    return !r->is_tcp && truncated(r, out);
}

static bool no_edns(const struct request *r, struct packet *out)
{
    if (!r->edns)
        return say_a(r, out);
    begin_reply(out, r, DNS_RCODE_FORMERR);
    memset(out->bytes + 4, 0, 8); /* the head alone, as old servers do */
    out->len = 12;
    return true;
}

static bool cname_chain(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_a(out, "c.test", 40, 7);
    put_cname(out, "b.test", "C.test");
    put_cname(out, r->question.name, "b.test");
    set_authentic(out);
    return true;
}

static bool cname_only(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_cname(out, r->question.name, "a.test");
    set_authentic(out);
    return true;
}

static bool cname_to_nothing(const struct request *r, struct packet *out)
{
    begin_reply(out, r, DNS_RCODE_NXDOMAIN);
    put_cname(out, r->question.name, "gone.test");
    put_soa(out, 900, 60);
    return true;
}

static bool cname_to_nodata(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_cname(out, r->question.name, "empty.test");
    put_soa(out, 900, 60);
    return true;
}

static bool cname_circle(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_cname(out, r->question.name, "x.test");
    put_cname(out, "x.test", r->question.name);
    return true;
}

/* "a0.test" -> "b1.test" without an end, one packet each, and back: only counting stops it. */
static bool cname_ping(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_cname(out, r->question.name, "pong.test");
    return true;
}

static bool cname_pong(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_cname(out, r->question.name, "ping.test");
    return true;
}

static bool with_tsig(const struct request *r, struct packet *out)
{
    say_a(r, out);
    put_record(out, ADDITIONAL, "key.test", 250, 0, "0123456789", 10);
    return true;
}

static bool two_opts(const struct request *r, struct packet *out)
{
    say_a(r, out);
    put_opt(out, "", 0);
    return true;
}

static bool garbage(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_bytes(out, "\xc0\xff\xff\xff\xff", 5);
    bump(out, ANSWER);
    return true;
}

static bool upper_case(const struct request *r, struct packet *out)
{
    say_a(r, out);
    for (size_t i = 12; i < 12 + 5; i++)
        out->bytes[i] = out->bytes[i] >= 'a' ? (uint8_t)(out->bytes[i] - 32) : out->bytes[i];
    return true;
}

static bool a_but_aaaa_silent(const struct request *r, struct packet *out)
{
    if (r->question.type == DNS_AAAA)
        return false;
    say_both(r, out);
    return true;
}

static bool counted(const struct request *r, struct packet *out)
{
    begin_reply(out, r, 0);
    put_a(out, r->question.name, 60, (uint8_t)(r->nth + 1));
    return true;
}

static const struct script scripts[] = {
    { "a.test", say_a },
    { "both.test", say_both },
    { "mx.test", say_mx },
    { "nullmx.test", say_null_mx },
    { "badmx.test", say_bad_mx },
    { "halfbadmx.test", say_half_bad_mx },
    { "txt.test", say_txt },
    { "_25._tcp.mx.test", say_tlsa },
    { "1.2.0.192.in-addr.arpa", say_ptr },
    { "nodata.test", say_nodata },
    { "referral.test", say_referral },
    { "servfail.test", say_servfail },
    { "expired.test", say_expired },
    { "refused.test", say_refused },
    { "firstservfails.test", first_servfails },
    { "silent.test", say_nothing },
    { "silent2.test", say_nothing },
    { "firstsilent.test", first_is_silent },
    { "firstsilent2.test", first_is_silent },
    { "oncesilent.test", once_silent },
    { "mixed.test", servfail_or_silent },
    { "forged.test", forgeries_first },
    { "othersource.test", other_source_first },
    { "long.test", truncated },
    { "longer.test", truncated_twice },
    { "closes.test", closes_tcp },
    { "old.test", no_edns },
    { "chain.test", cname_chain },
    { "partial.test", cname_only },
    { "tonothing.test", cname_to_nothing },
    { "tonodata.test", cname_to_nodata },
    { "circle.test", cname_circle },
    { "ping.test", cname_ping },
    { "pong.test", cname_pong },
    { "tsig.test", with_tsig },
    { "twoopts.test", two_opts },
    { "garbage.test", garbage },
    { "upper.test", upper_case },
    { "half.test", a_but_aaaa_silent },
    { "counted.test", counted },
    { NULL, NULL },
};

/* ---- the bench ---- */

struct got { /* an answer, kept */
    unsigned calls;
    enum dns_status status;
    size_t count;
    struct dns_record first, second;
    bool is_secure, from_cache;
    uint32_t ttl_s;
    char canonical[DNS_NAME], fault[512], text[64];
    struct resolver *then_ask; /* ask again from inside the call */
    struct got *then;
    struct dns_query **then_cancel;
};

struct bench {
    struct dns_server_thread server;
    struct loop *loop;
    struct resolver *resolver;
};

static void on_answer(void *arg, const struct dns_answer *answer)
{
    struct got *got = arg;

    got->calls++;
    got->status = answer->status;
    got->count = answer->count;
    if (answer->count > 0)
        got->first = answer->records[0];
    if (answer->count > 1)
        got->second = answer->records[1];
    got->is_secure = answer->is_secure;
    got->from_cache = answer->from_cache;
    got->ttl_s = answer->ttl_s;
    str_copy(got->canonical, sizeof(got->canonical), str_of(answer->canonical));
    str_copy(got->fault, sizeof(got->fault), answer->fault);
    if (answer->count)
        str_copy(got->text, sizeof(got->text), answer->records[0].text);
    if (got->then)
        resolver_ask(got->then_ask, "a.test", DNS_A, on_answer, got->then, NULL);
    if (got->then_cancel)
        resolver_cancel(got->then_cancel);
}

static void make_resolver(struct bench *bench, struct resolver_options options)
{
    struct loop_options loop_options = { .count = 1 };
    struct fault fault;

    assert_int_equal(loop_new(&loop_options, &bench->loop, &fault), ERR_OK);
    loop_stop(bench->loop);
    assert_int_equal(resolver_new(bench->loop, &options, &bench->resolver, &fault), ERR_OK);
}

/* How long a try waits. Who is answered is answered long before AMPLE; SPARE is for those who
 * are answered after a silence, SHORT for those who never are. */
enum { AMPLE = 20000, SPARE = 1500, SHORT = 200 };

static void open_bench_for(struct bench *bench, size_t servers, uint32_t timeout_ms)
{
    dns_server_start(&bench->server, scripts);
    make_resolver(bench, (struct resolver_options){ .servers = bench->server.at,
                                                    .server_count = servers,
                                                    .timeout_ms = timeout_ms });
}

static void open_bench(struct bench *bench, size_t servers)
{
    open_bench_for(bench, servers, AMPLE);
}

static void close_bench(struct bench *bench)
{
    resolver_free(&bench->resolver);
    assert_null(bench->resolver);
    loop_free(&bench->loop); /* asserts that nothing was left open */
    dns_server_stop(&bench->server);
    assert_int_equal(bench->server.badly_formed, 0);
}

static struct got ask(struct bench *bench, const char *name, enum dns_type type)
{
    struct got got = { 0 };

    resolver_ask(bench->resolver, name, type, on_answer, &got, NULL);
    assert_int_equal(got.calls, 0); /* never before the call returned */
    loop_run(bench->loop);
    assert_int_equal(got.calls, 1);
    return got;
}

static struct got addresses(struct bench *bench, const char *host, bool hosts)
{
    struct got got = { 0 };

    resolver_addresses(bench->resolver, host, hosts, on_answer, &got, NULL);
    assert_int_equal(got.calls, 0);
    loop_run(bench->loop);
    assert_int_equal(got.calls, 1);
    return got;
}

static struct resolver_counts counts(struct bench *bench)
{
    return resolver_counts(bench->resolver);
}

/* ---- answers, one row each ---- */

static const struct {
    const char *name, *ask;
    enum dns_type type;
    size_t servers;
    enum dns_status status;
    size_t count;
    const char *fault; /* in the answer's words */
    const char *canonical;
    bool is_secure;
    uint32_t timeout_ms;
} rows[] = {
    { "an address", "a.test", DNS_A, 1, DNS_OK, 1, "", "a.test", false, AMPLE },
    { "a final dot and upper case are the same name", "A.TEST.", DNS_A, 1, DNS_OK, 1, "", "a.test",
      false, AMPLE },
    { "AD from loopback is believed", "both.test", DNS_AAAA, 1, DNS_OK, 1, "", "both.test", true,
      AMPLE },
    { "MX", "mx.test", DNS_MX, 1, DNS_OK, 2, "", "mx.test", false, AMPLE },
    { "null MX", "nullmx.test", DNS_MX, 1, DNS_OK, 1, "", "nullmx.test", false, AMPLE },
    { "MX to no host name is not taken for no MX", "badmx.test", DNS_MX, 1, DNS_SERVFAIL, 0,
      "MX records that cannot be used", "badmx.test", false, AMPLE },
    { "one bad MX does not spoil the other", "halfbadmx.test", DNS_MX, 1, DNS_OK, 1, "",
      "halfbadmx.test", false, AMPLE },
    { "TXT in pieces", "txt.test", DNS_TXT, 1, DNS_OK, 1, "", "txt.test", false, AMPLE },
    { "TLSA", "_25._tcp.mx.test", DNS_TLSA, 1, DNS_OK, 1, "", "_25._tcp.mx.test", true, AMPLE },
    { "PTR", "1.2.0.192.in-addr.arpa", DNS_PTR, 1, DNS_OK, 1, "", "1.2.0.192.in-addr.arpa", false,
      AMPLE },
    { "no such type", "nodata.test", DNS_MX, 1, DNS_NODATA, 0, "", "nodata.test", false, AMPLE },
    { "no such name", "nowhere.test", DNS_MX, 1, DNS_NXDOMAIN, 0, "", "nowhere.test", false,
      AMPLE },
    { "a referral is not an answer", "referral.test", DNS_A, 1, DNS_SERVFAIL, 0,
      "gave a referral to other servers", "referral.test", false, AMPLE },
    { "SERVFAIL", "servfail.test", DNS_A, 1, DNS_SERVFAIL, 0, "answered SERVFAIL", "servfail.test",
      false, AMPLE },
    { "SERVFAIL that CD cures is bogus", "expired.test", DNS_A, 1, DNS_BOGUS, 0,
      "answered SERVFAIL (signature expired), but answers when DNSSEC is not checked",
      "expired.test", false, AMPLE },
    { "REFUSED", "refused.test", DNS_A, 2, DNS_SERVFAIL, 0, "answered REFUSED", "refused.test",
      false, AMPLE },
    { "SERVFAIL: the next server knows", "firstservfails.test", DNS_A, 2, DNS_OK, 1, "",
      "firstservfails.test", false, AMPLE },
    { "nobody answers", "silent.test", DNS_A, 1, DNS_TIMEOUT, 0, "after 2 tries of 200 ms",
      "silent.test", false, SHORT },
    { "neither of two answers", "silent.test", DNS_A, 2, DNS_TIMEOUT, 0,
      "after 2 tries each of 200 ms", "silent.test", false, SHORT },
    { "silence: the next server is asked", "firstsilent.test", DNS_A, 2, DNS_OK, 1, "",
      "firstsilent.test", false, SPARE },
    { "a lost packet is sent again", "oncesilent.test", DNS_A, 1, DNS_OK, 1, "", "oncesilent.test",
      false, SPARE },
    { "one says SERVFAIL and one nothing", "mixed.test", DNS_A, 2, DNS_SERVFAIL, 0,
      "answered SERVFAIL; no answer from 127.0.0.1:", "mixed.test", false, SPARE },
    { "forged packets are passed over", "forged.test", DNS_A, 1, DNS_OK, 1, "", "forged.test",
      false, AMPLE },
    { "an answer from another port is not one", "othersource.test", DNS_A, 1, DNS_OK, 1, "",
      "othersource.test", false, AMPLE },
    { "truncated: asked again over TCP", "long.test", DNS_A, 1, DNS_OK, 200, "", "long.test", false,
      AMPLE },
    { "truncated over TCP too", "longer.test", DNS_A, 1, DNS_SERVFAIL, 0,
      "gave a truncated answer over TCP", "longer.test", false, AMPLE },
    { "TCP closed without an answer", "closes.test", DNS_A, 1, DNS_TIMEOUT, 0, "connection closed",
      "closes.test", false, AMPLE },
    { "a server without EDNS", "old.test", DNS_A, 1, DNS_OK, 1, "", "old.test", false, AMPLE },
    { "CNAMEs inside the packet", "chain.test", DNS_A, 1, DNS_OK, 1, "", "c.test", true, AMPLE },
    { "a CNAME alone: its target is asked for", "partial.test", DNS_A, 1, DNS_OK, 1, "", "a.test",
      false, AMPLE },
    { "a CNAME to no name", "tonothing.test", DNS_A, 1, DNS_NXDOMAIN, 0, "", "gone.test", false,
      AMPLE },
    { "a CNAME to a name without the type", "tonodata.test", DNS_A, 1, DNS_NODATA, 0, "",
      "empty.test", false, AMPLE },
    { "CNAMEs in a circle in one packet", "circle.test", DNS_A, 1, DNS_SERVFAIL, 0, "circle",
      "circle.test", false, AMPLE },
    { "CNAMEs in a circle over many packets", "ping.test", DNS_A, 1, DNS_SERVFAIL, 0, "circle",
      "ping.test", false, AMPLE },
    { "a TSIG nobody asked for", "tsig.test", DNS_A, 1, DNS_SERVFAIL, 0, "gave a signature",
      "tsig.test", false, AMPLE },
    { "two OPT records", "twoopts.test", DNS_A, 1, DNS_SERVFAIL, 0, "gave more than one OPT",
      "twoopts.test", false, AMPLE },
    { "records that are garbage", "garbage.test", DNS_A, 1, DNS_SERVFAIL, 0,
      "gave records that end too early", "garbage.test", false, AMPLE },
    { "a question repeated in upper case", "upper.test", DNS_A, 1, DNS_OK, 1, "", "upper.test",
      false, AMPLE },
    { "the root is no name", ".", DNS_A, 1, DNS_INVALID, 0, "not a domain name", "", false, AMPLE },
    { "an empty label", "a..test", DNS_A, 1, DNS_INVALID, 0, "not a domain name", "", false,
      AMPLE },
    { "a control character", "a\n.test", DNS_A, 1, DNS_INVALID, 0, "not a domain name", "", false,
      AMPLE },
};

static void every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bench bench;
        open_bench_for(&bench, rows[i].servers, rows[i].timeout_ms);
        struct got got = ask(&bench, rows[i].ask, rows[i].type);
        if (got.status != rows[i].status || got.count != rows[i].count ||
            got.is_secure != rows[i].is_secure || strcmp(got.canonical, rows[i].canonical) != 0 ||
            !strstr(got.fault, rows[i].fault) || (got.fault[0] != 0) != (rows[i].fault[0] != 0))
            fail_msg("%s: %s, %zu records, canonical \"%s\", secure %d, \"%s\"", rows[i].name,
                     dns_status_word(got.status), got.count, got.canonical, got.is_secure,
                     got.fault);
        close_bench(&bench);
    }
}

/* ---- what is in the records, and the numbers ---- */

static void records_hold_what_was_sent(void **state)
{
    struct bench bench;

    (void)state;
    open_bench(&bench, 1);
    for (unsigned again = 0; again < 2; again++) { /* the second time out of the cache */
        struct got got = ask(&bench, "mx.test", DNS_MX);
        assert_int_equal(got.from_cache, again);
        assert_string_equal(got.first.name, "mx1.test");
        assert_int_equal(got.first.preference, 10);
        assert_string_equal(got.second.name, "mx2.test");
        assert_int_equal(got.second.preference, 20);
        assert_true(got.ttl_s >= 118 && got.ttl_s <= 120);
        got = ask(&bench, "nullmx.test", DNS_MX);
        assert_string_equal(got.first.name, "");
        got = ask(&bench, "txt.test", DNS_TXT);
        assert_string_equal(got.text, "v=onetwo");
        got = ask(&bench, "_25._tcp.mx.test", DNS_TLSA);
        assert_int_equal(got.first.tlsa.usage, 3);
        assert_int_equal(got.first.tlsa.len, 32);
        got = ask(&bench, "1.2.0.192.in-addr.arpa", DNS_PTR);
        assert_string_equal(got.first.name, "host.test");
        got = ask(&bench, "a.test", DNS_A);
        assert_int_equal(got.first.address.family, ENDPOINT_IPV4);
        assert_int_equal(got.first.address.ip[3], 1);
        got = ask(&bench, "both.test", DNS_AAAA);
        assert_int_equal(got.first.address.family, ENDPOINT_IPV6);
        assert_int_equal(got.first.address.ip[15], 6);
    }
    struct resolver_counts n = counts(&bench);
    assert_int_equal(n.asked, 14);
    assert_int_equal(n.cached, 7);
    assert_int_equal(n.sent, 7);
    close_bench(&bench);
}

static void forgeries_are_counted(void **state)
{
    struct bench bench;

    (void)state;
    open_bench(&bench, 1);
    struct got got = ask(&bench, "forged.test", DNS_A);
    assert_int_equal(got.first.address.ip[3], 1);
    assert_int_equal(counts(&bench).mismatched, 5);
    assert_int_equal(counts(&bench).sent, 1);
    got = ask(&bench, "othersource.test", DNS_A);
    assert_int_equal(got.first.address.ip[3], 1);
    close_bench(&bench);
}

static void ids_and_ports_vary(void **state)
{
    struct bench bench;
    struct got got = { 0 };
    unsigned same_id = 0, same_port = 0;

    (void)state;
    open_bench(&bench, 1);
    for (unsigned i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%u.test", i);
        resolver_ask(bench.resolver, name, DNS_A, on_answer, &got, NULL);
    }
    loop_run(bench.loop);
    assert_int_equal(got.calls, 200);
    close_bench(&bench);
    for (unsigned i = 1; i < 200; i++) {
        same_id += bench.server.ids[i] == bench.server.ids[i - 1];
        same_port += bench.server.ports[i] == bench.server.ports[i - 1];
    }
    assert_true(same_id < 5);
    assert_true(same_port < 5);
}

static void same_question_is_joined(void **state)
{
    struct bench bench;
    struct got got[5] = { 0 };

    (void)state;
    open_bench_for(&bench, 1, SPARE);
    for (unsigned i = 0; i < 5; i++)
        resolver_ask(bench.resolver, "oncesilent.test", DNS_A, on_answer, &got[i], NULL);
    loop_run(bench.loop);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(got[i].calls, 1);
    struct resolver_counts n = counts(&bench);
    assert_int_equal(n.joined, 4);
    assert_int_equal(n.sent, 2);
    assert_int_equal(n.retried, 1);
    assert_int_equal(n.timed_out, 1);
    close_bench(&bench);
}

static void cancelled_ones_are_not_called(void **state)
{
    struct bench bench;
    struct got got[4] = { 0 };
    struct dns_query *query[4];

    (void)state;
    open_bench(&bench, 1);
    /* One of two that share a question; the only one of another; an address; a cached one. */
    ask(&bench, "a.test", DNS_A);
    resolver_ask(bench.resolver, "counted.test", DNS_A, on_answer, &got[0], &query[0]);
    resolver_ask(bench.resolver, "counted.test", DNS_A, on_answer, &got[1], NULL);
    resolver_ask(bench.resolver, "silent.test", DNS_A, on_answer, &got[2], &query[1]);
    resolver_addresses(bench.resolver, "silent2.test", false, on_answer, &got[2], &query[2]);
    resolver_ask(bench.resolver, "a.test", DNS_A, on_answer, &got[3], &query[3]);
    for (unsigned i = 0; i < 4; i++) {
        resolver_cancel(&query[i]);
        assert_null(query[i]);
    }
    uint64_t began = clock_mono_ms();
    loop_run(bench.loop);
    assert_true(clock_mono_ms() - began < AMPLE); /* nobody waited for the silent ones */
    assert_int_equal(counts(&bench).timed_out, 0);
    assert_int_equal(got[0].calls, 0);
    assert_int_equal(got[1].calls, 1);
    assert_int_equal(got[2].calls, 0);
    assert_int_equal(got[3].calls, 0);
    close_bench(&bench);
}

static void a_call_may_cancel_its_neighbour_and_ask(void **state)
{
    struct bench bench;
    struct got last = { 0 }, second = { 0 }, first = { 0 };
    struct dns_query *query;

    (void)state;
    open_bench(&bench, 1);
    first.then_ask = bench.resolver;
    first.then = &last;
    first.then_cancel = &query;
    resolver_ask(bench.resolver, "a.test", DNS_A, on_answer, &first, NULL);
    resolver_ask(bench.resolver, "a.test", DNS_A, on_answer, &second, &query);
    loop_run(bench.loop);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 0);
    assert_int_equal(last.calls, 1);
    assert_true(last.from_cache);
    close_bench(&bench);
}

static void freeing_with_questions_out_is_quiet(void **state)
{
    struct bench bench;
    struct got got = { 0 };

    (void)state;
    open_bench(&bench, 1);
    ask(&bench, "a.test", DNS_A);
    resolver_ask(bench.resolver, "silent.test", DNS_A, on_answer, &got, NULL);
    resolver_addresses(bench.resolver, "silent.test", false, on_answer, &got, NULL);
    resolver_addresses(bench.resolver, "192.0.2.1", false, on_answer, &got, NULL);
    resolver_ask(bench.resolver, "a.test", DNS_A, on_answer, &got, NULL);
    close_bench(&bench);
    assert_int_equal(got.calls, 0);
}

static void a_silent_server_is_asked_last(void **state)
{
    struct bench bench;

    (void)state;
    open_bench_for(&bench, 2, SPARE);
    ask(&bench, "firstsilent.test", DNS_A);
    assert_int_equal(counts(&bench).timed_out, 1);
    struct got got = ask(&bench, "firstsilent2.test", DNS_A);
    assert_int_equal(got.status, DNS_OK);
    assert_int_equal(counts(&bench).timed_out, 1); /* nothing was waited for */
    close_bench(&bench);
}

static void a_closed_port_is_heard_of_at_once(void **state)
{
    struct bench bench;

    (void)state;
    open_bench(&bench, 1);
    resolver_free(&bench.resolver);
    loop_free(&bench.loop);
    dns_server_stop(&bench.server); /* and now nobody listens there */
    make_resolver(&bench, (struct resolver_options){
                              .servers = bench.server.at, .server_count = 1, .timeout_ms = AMPLE });
    uint64_t began = clock_mono_ms();
    struct got got = ask(&bench, "a.test", DNS_A);
    assert_int_equal(got.status, DNS_TIMEOUT);
    assert_non_null(strstr(got.fault, "connection refused (is a DNS server running there?)"));
    assert_true(clock_mono_ms() - began < AMPLE);
    assert_int_equal(counts(&bench).timed_out, 0);
    resolver_free(&bench.resolver);
    loop_free(&bench.loop);
}

static void more_questions_than_sockets(void **state)
{
    struct bench bench;
    struct got got = { 0 };

    (void)state;
    open_bench(&bench, 1);
    for (unsigned i = 0; i < 2000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "many%u.nowhere.test", i);
        resolver_ask(bench.resolver, name, DNS_A, on_answer, &got, NULL);
    }
    loop_run(bench.loop);
    assert_int_equal(got.calls, 2000);
    assert_int_equal(got.status, DNS_NXDOMAIN);
    close_bench(&bench);
}

/* ---- addresses ---- */

static void both_families_are_one_answer(void **state)
{
    struct bench bench;

    (void)state;
    open_bench(&bench, 1);
    struct got got = addresses(&bench, "both.test", false);
    assert_int_equal(got.status, DNS_OK);
    assert_int_equal(got.count, 2);
    assert_true(got.is_secure);
    assert_int_equal(got.first.address.family, ENDPOINT_IPV6);
    assert_int_equal(got.second.address.family, ENDPOINT_IPV4);
    got = addresses(&bench, "a.test", false);
    assert_int_equal(got.count, 1);
    assert_false(got.is_secure);
    got = addresses(&bench, "nodata.test", false);
    assert_int_equal(got.status, DNS_NODATA);
    got = addresses(&bench, "nowhere.test", false);
    assert_int_equal(got.status, DNS_NXDOMAIN);
    got = addresses(&bench, "servfail.test", false);
    assert_int_equal(got.status, DNS_SERVFAIL);
    assert_non_null(strstr(got.fault, "answered SERVFAIL"));
    got = addresses(&bench, "not a host", false);
    assert_int_equal(got.status, DNS_INVALID);
    close_bench(&bench);
}

/* AAAA never comes: A must do, and stays secure. */
static void one_family_may_stay_away(void **state)
{
    struct bench bench;

    (void)state;
    open_bench_for(&bench, 1, SPARE);
    struct got got = addresses(&bench, "half.test", false);
    assert_int_equal(got.status, DNS_OK);
    assert_int_equal(got.count, 1);
    assert_true(got.is_secure);
    close_bench(&bench);
}

static void ad_of_a_far_server_needs_trust(void **state)
{
    struct bench bench;

    (void)state;
    open_bench(&bench, 1);
    bench.resolver->conf->servers[0].believe_ad = false; /* as for one that is not on loopback */
    assert_false(ask(&bench, "both.test", DNS_A).is_secure);
    assert_false(ask(&bench, "both.test", DNS_A).is_secure); /* from the cache */
    close_bench(&bench);
}

static void a_server_may_have_an_ipv6_address(void **state)
{
    struct bench bench;

    (void)state;
    dns_server_start(&bench.server, scripts);
    if (!bench.server.has_ipv6) {
        dns_server_stop(&bench.server);
        skip();
    }
    make_resolver(&bench, (struct resolver_options){ .servers = &bench.server.at[SERVER_IPV6],
                                                     .server_count = 1,
                                                     .timeout_ms = AMPLE });
    assert_int_equal(ask(&bench, "a.test", DNS_A).status, DNS_OK);
    assert_int_equal(ask(&bench, "long.test", DNS_A).count, 200);
    close_bench(&bench);
}

static void literals_need_no_question(void **state)
{
    struct bench bench;

    (void)state;
    open_bench(&bench, 1);
    struct got got = addresses(&bench, "192.0.2.1", false);
    assert_int_equal(got.status, DNS_OK);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.first.address.family, ENDPOINT_IPV4);
    got = addresses(&bench, "2001:db8::1", false);
    assert_int_equal(got.first.address.family, ENDPOINT_IPV6);
    assert_int_equal(counts(&bench).asked, 0);
    close_bench(&bench);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void files_are_read_and_read_again(void **state)
{
    struct bench bench;
    char dir[] = "/tmp/waypost-dns-XXXXXX", conf[64], hosts[64], text[256];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(conf, sizeof(conf), "%s/resolv.conf", dir);
    snprintf(hosts, sizeof(hosts), "%s/hosts", dir);
    dns_server_start(&bench.server, scripts);
    snprintf(text, sizeof(text), "nameserver [127.0.0.1]:%u\noptions timeout:20 attempts:1\n",
             bench.server.at[0].port);
    write_file(conf, text);
    write_file(hosts, "192.0.2.77 smart.test Smart # the smarthost\n2001:db8::7 smart.test\n");
    make_resolver(&bench, (struct resolver_options){ .resolv_conf = conf, .hosts_file = hosts });

    struct got got = addresses(&bench, "SMART.test", true);
    assert_int_equal(got.count, 2);
    assert_int_equal(got.first.address.ip[3], 77);
    assert_false(got.is_secure);
    assert_int_equal(addresses(&bench, "smart.test", false).status, DNS_NXDOMAIN);
    assert_int_equal(addresses(&bench, "localhost", true).count, 2);
    assert_int_equal(ask(&bench, "a.test", DNS_A).status, DNS_OK);

    /* Flushed: another server, another address. */
    snprintf(text, sizeof(text), "nameserver [127.0.0.1]:%u\n", bench.server.at[1].port);
    write_file(conf, text);
    write_file(hosts, "192.0.2.78 smart.test\n");
    resolver_flush(bench.resolver);
    got = addresses(&bench, "smart.test", true);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.first.address.ip[3], 78);
    assert_int_equal(ask(&bench, "firstservfails.test", DNS_A).status, DNS_OK);
    assert_int_equal(counts(&bench).retried, 0);

    close_bench(&bench);
    unlink(conf);
    unlink(hosts);
    rmdir(dir);
}

static void what_a_flush_overtakes_is_not_kept(void **state)
{
    struct bench bench;
    struct got old = { 0 }, fresh = { 0 };

    (void)state;
    open_bench(&bench, 1);
    resolver_ask(bench.resolver, "counted.test", DNS_A, on_answer, &old, NULL);
    resolver_flush(bench.resolver);
    resolver_ask(bench.resolver, "counted.test", DNS_A, on_answer, &fresh, NULL);
    loop_run(bench.loop);
    assert_int_equal(counts(&bench).joined, 0);
    assert_int_equal(old.first.address.ip[3], 1);
    assert_int_equal(fresh.first.address.ip[3], 2);
    struct got kept = ask(&bench, "counted.test", DNS_A);
    assert_true(kept.from_cache);
    assert_int_equal(kept.first.address.ip[3], 2);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(records_hold_what_was_sent),
        cmocka_unit_test(forgeries_are_counted),
        cmocka_unit_test(ids_and_ports_vary),
        cmocka_unit_test(same_question_is_joined),
        cmocka_unit_test(cancelled_ones_are_not_called),
        cmocka_unit_test(a_call_may_cancel_its_neighbour_and_ask),
        cmocka_unit_test(freeing_with_questions_out_is_quiet),
        cmocka_unit_test(a_silent_server_is_asked_last),
        cmocka_unit_test(a_closed_port_is_heard_of_at_once),
        cmocka_unit_test(more_questions_than_sockets),
        cmocka_unit_test(both_families_are_one_answer),
        cmocka_unit_test(one_family_may_stay_away),
        cmocka_unit_test(ad_of_a_far_server_needs_trust),
        cmocka_unit_test(a_server_may_have_an_ipv6_address),
        cmocka_unit_test(literals_need_no_question),
        cmocka_unit_test(files_are_read_and_read_again),
        cmocka_unit_test(what_a_flush_overtakes_is_not_kept),
    };

    return cmocka_run_group_tests_name("dns", tests, NULL, NULL);
}
