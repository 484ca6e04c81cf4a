/*
 * dns_parts_test.c - names, packets, cache and files of the resolver, without a loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/net/dns_cache.h"
#include "relay/net/dns_conf.h"
#include "relay/net/dns_hosts.h"
#include "relay/net/dns_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- names ---- */

#define L10 "abcdefghij"
#define L50 L10 L10 L10 L10 L10

static const struct {
    const char *name, *in, *out; /* NULL: refused */
} names[] = {
    { "plain", "example.com", "example.com" },
    { "upper case and a final dot", "Example.COM.", "example.com" },
    { "underscores", "_25._tcp.mx.example", "_25._tcp.mx.example" },
    { "a slash (RFC 2317)", "0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa" },
    { "one label", "localhost", "localhost" },
    { "empty", "", NULL },
    { "the root", ".", NULL },
    { "an empty label", "a..b", NULL },
    { "a leading dot", ".a", NULL },
    { "two final dots", "a..", NULL },
    { "a space", "a b.test", NULL },
    { "a star", "*.test", NULL },
    { "an escape", "a\\.b.test", NULL },
    { "UTF-8",
      "b\xc3\xbc"
      "cher.test",
      NULL },
    { "63 octets in a label", L50 L10 "abc.test", L50 L10 "abc.test" },
    { "64 octets in a label", L50 L10 "abcd.test", NULL },
    { "253 octets", L50 "." L50 "." L50 "." L50 "." L10 L10 L10 L10 "abcdefghi",
      L50 "." L50 "." L50 "." L50 "." L10 L10 L10 L10 "abcdefghi" },
    { "254 octets", L50 "." L50 "." L50 "." L50 "." L50, NULL },
};

static void names_have_one_spelling(void **state)
{
    char out[DNS_NAME];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bool ok = dns_name_clean(str_of(names[i].in), out);
        if (ok != (names[i].out != NULL) || (ok && strcmp(out, names[i].out) != 0))
            fail_msg("%s: %s", names[i].name, ok ? out : "refused");
    }
}

static void every_clean_name_makes_a_question(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct dns_question question = { .type = DNS_MX }, back = { 0 };
        uint8_t packet[DNS_QUERY_MAX];
        size_t end;
        if (!dns_name_clean(str_of(names[i].in), question.name))
            continue;
        size_t len =
            dns_wire_query(&question, 0x1234, (struct dns_wire_flags){ .edns = true }, packet);
        assert_true(dns_scan_question(packet, len, &back, &end));
        assert_true(dns_question_same(&question, &back));
        assert_false(dns_scan_is_answer(packet, len, &question, 0x1234)); /* QR is not set */
        packet[2] |= 0x80;
        assert_true(dns_scan_is_answer(packet, len, &question, 0x1234));
        assert_false(dns_scan_is_answer(packet, len, &question, 0x1235));
        for (size_t cut = 0; cut < end; cut++)
            assert_false(dns_scan_is_answer(packet, cut, &question, 0x1234));
    }
}

/* ---- cache ---- */

static struct dns_question question_of(const char *name, enum dns_type type)
{
    struct dns_question question = { .type = type };

    assert_true(dns_name_clean(str_of(name), question.name));
    return question;
}

static void put(struct dns_cache *cache, const char *name, enum dns_status status, uint32_t ttl_s,
                uint64_t now_ms)
{
    struct dns_question question = question_of(name, DNS_A);
    struct dns_record record = { .ttl_s = ttl_s, .address = { .family = ENDPOINT_IPV4 } };
    struct dns_answer answer = { .status = status, .ttl_s = ttl_s, .fault = STR("why") };

    str_copy(answer.canonical, DNS_NAME, str_of(name));
    if (status == DNS_OK) {
        answer.records = &record;
        answer.count = 1;
    }
    dns_cache_put(cache, &question, &answer, now_ms);
}

static bool get(struct dns_cache *cache, const char *name, uint64_t now_ms, uint32_t *out_ttl_s)
{
    struct dns_question question = question_of(name, DNS_A);
    struct dns_reply reply = { 0 };

    bool hit = dns_cache_get(cache, &question, now_ms, &reply);
    if (hit) {
        assert_true(reply.answer.from_cache);
        assert_string_equal(reply.answer.canonical, name);
        *out_ttl_s = reply.answer.ttl_s;
    }
    dns_reply_clear(&reply);
    return hit;
}

static const struct {
    const char *name;
    enum dns_status status;
    uint32_t ttl_s;
    uint64_t kept_s;
} lifetimes[] = {
    { "an answer for its TTL", DNS_OK, 300, 300 },
    { "TTL 0 for one second", DNS_OK, 0, 1 },
    { "a week for one day", DNS_OK, 7 * 86400, 86400 },
    { "no data for the SOA's minimum", DNS_NODATA, 60, 60 },
    { "no name for one hour at most", DNS_NXDOMAIN, 86400, 3600 },
    { "no data without SOA for seconds", DNS_NODATA, 0, 5 },
    { "SERVFAIL for seconds", DNS_SERVFAIL, 3600, 5 },
    { "bogus for seconds", DNS_BOGUS, 0, 5 },
    { "silence for seconds", DNS_TIMEOUT, 3600, 5 },
};

static void answers_are_kept_as_long_as_they_may(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
        struct dns_cache *cache = dns_cache_new(1 << 20);
        uint64_t begin = 1000000, end = begin + lifetimes[i].kept_s * 1000;
        uint32_t ttl_s = 0;
        put(cache, "a.test", lifetimes[i].status, lifetimes[i].ttl_s, begin);
        if (!get(cache, "a.test", end - 1, &ttl_s) || ttl_s != 1)
            fail_msg("%s: gone too early, or TTL %u at the end", lifetimes[i].name, ttl_s);
        if (get(cache, "a.test", end, &ttl_s))
            fail_msg("%s: kept too long", lifetimes[i].name);
        assert_int_equal(dns_cache_bytes(cache), 0);
        dns_cache_free(&cache);
    }
}

static void the_least_used_goes_first(void **state)
{
    struct dns_cache *cache = dns_cache_new(20000);
    uint32_t ttl_s;
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%u.test", i);
        put(cache, name, DNS_OK, 60, 0);
        assert_true(dns_cache_bytes(cache) <= 20000);
        assert_true(get(cache, "n0.test", 0, &ttl_s)); /* used again and again: it stays */
    }
    assert_true(dns_cache_bytes(cache) > 15000);
    assert_true(get(cache, "n999.test", 0, &ttl_s));
    assert_false(get(cache, "n1.test", 0, &ttl_s));
    put(cache, "n0.test", DNS_OK, 10, 0); /* put again: replaced */
    assert_true(get(cache, "n0.test", 0, &ttl_s));
    assert_int_equal(ttl_s, 10);
    dns_cache_flush(cache);
    assert_int_equal(dns_cache_bytes(cache), 0);
    assert_false(get(cache, "n0.test", 0, &ttl_s));
    dns_cache_free(&cache);
}

/* ---- files ---- */

static void write_temp(char path[], const char *text)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static const struct {
    const char *name, *text, *servers;
    uint32_t timeout_ms;
    unsigned tries;
    bool believe_ad; /* the last server */
} confs[] = {
    { "nothing in it", "", "127.0.0.1:53", 3000, 2, true },
    { "two servers", "# c\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 ; c\n",
      "192.0.2.1:53 [2001:db8::1]:53", 3000, 2, false },
    { "options", "options timeout:7 attempts:4 rotate\nnameserver 192.0.2.1\n", "192.0.2.1:53",
      7000, 4, false },
    { "trust-ad", "nameserver 192.0.2.1\noptions edns0 trust-ad", "192.0.2.1:53", 3000, 2, true },
    { "loopback is believed", "nameserver ::1\n", "[::1]:53", 3000, 2, true },
    { "absurd numbers are bounded", "options timeout:999999 attempts:0\noptions attempts:77\n",
      "127.0.0.1:53", 30000, 5, true },
    { "what is no address is skipped",
      "nameserver example.test\nnameserver\nsearch a b\n;nameserver 192.0.2.9\nnameserver "
      "192.0.2.1\r\n",
      "192.0.2.1:53", 3000, 2, false },
    { "a port", "nameserver [192.0.2.1]:5353\n", "192.0.2.1:5353", 3000, 2, false },
    { "a ninth server is one too many",
      "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n"
      "nameserver 192.0.2.5\nnameserver 192.0.2.6\nnameserver 192.0.2.7\nnameserver 192.0.2.8\n"
      "nameserver 192.0.2.9\n",
      "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53 192.0.2.4:53 192.0.2.5:53 192.0.2.6:53 "
      "192.0.2.7:53 192.0.2.8:53",
      3000, 2, false },
};

static void resolv_conf_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(confs) / sizeof(confs[0]); i++) {
        char path[] = "/tmp/waypost-conf-XXXXXX", servers[512] = "";
        struct dns_conf *conf = NULL;
        write_temp(path, confs[i].text);
        assert_int_equal(
            dns_conf_new(&(struct resolver_options){ .resolv_conf = path }, &conf, NULL), ERR_OK);
        for (unsigned s = 0; s < conf->count; s++) {
            size_t used = strlen(servers);
            snprintf(servers + used, sizeof(servers) - used, "%s%s", s ? " " : "",
                     conf->servers[s].text);
        }
        if (strcmp(servers, confs[i].servers) != 0 || conf->timeout_ms != confs[i].timeout_ms ||
            conf->tries != confs[i].tries ||
            conf->servers[conf->count - 1].believe_ad != confs[i].believe_ad)
            fail_msg("%s: %s, %u ms, %u tries", confs[i].name, servers, conf->timeout_ms,
                     conf->tries);
        dns_conf_unref(&conf);
        unlink(path);
    }
}

static void a_conf_that_cannot_be_read_is_an_error(void **state)
{
    struct dns_conf *conf = NULL;
    struct fault fault;

    (void)state;
    assert_int_equal(
        dns_conf_new(&(struct resolver_options){ .resolv_conf = "/nonexistent" }, &conf, &fault),
        ERR_OK);
    assert_string_equal(conf->servers[0].text, "127.0.0.1:53");
    dns_conf_unref(&conf);
    assert_int_not_equal(
        dns_conf_new(&(struct resolver_options){ .resolv_conf = "/tmp" }, &conf, &fault), ERR_OK);
    assert_non_null(strstr(fault.text, "/tmp"));
}

static void hosts_are_found_by_any_of_their_names(void **state)
{
    char path[] = "/tmp/waypost-hosts-XXXXXX";
    struct endpoint at[8];

    (void)state;
    write_temp(path, "# comment\n192.0.2.1 One.test one # c\n2001:db8::1\tone.test\n"
                     "nonsense two.test\n192.0.2.3\n192.0.2.4 bad_but_fine a..b ok.test");
    struct dns_hosts *hosts = dns_hosts_read(path);
    assert_int_equal(dns_hosts_find(hosts, "one.test", at, 8), 2);
    assert_int_equal(at[0].family, ENDPOINT_IPV4);
    assert_int_equal(at[1].family, ENDPOINT_IPV6);
    assert_int_equal(dns_hosts_find(hosts, "one.test", at, 1), 1);
    assert_int_equal(dns_hosts_find(hosts, "one", at, 8), 1);
    assert_int_equal(dns_hosts_find(hosts, "two.test", at, 8), 0);
    assert_int_equal(dns_hosts_find(hosts, "ok.test", at, 8), 1);
    assert_int_equal(dns_hosts_find(hosts, "localhost", at, 8), 2);
    dns_hosts_free(&hosts);
    unlink(path);
    hosts = dns_hosts_read("/nonexistent");
    assert_int_equal(dns_hosts_find(hosts, "one.test", at, 8), 0);
    assert_int_equal(dns_hosts_find(hosts, "db.localhost", at, 8), 2);
    dns_hosts_free(&hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_one_spelling),
        cmocka_unit_test(every_clean_name_makes_a_question),
        cmocka_unit_test(answers_are_kept_as_long_as_they_may),
        cmocka_unit_test(the_least_used_goes_first),
        cmocka_unit_test(resolv_conf_is_read),
        cmocka_unit_test(a_conf_that_cannot_be_read_is_an_error),
        cmocka_unit_test(hosts_are_found_by_any_of_their_names),
    };

    return cmocka_run_group_tests_name("dns_parts", tests, NULL, NULL);
}
