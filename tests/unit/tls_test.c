/*
 * tls_test.c - TLS over loopback streams: who is believed, what is told.
 */
#include "net_fixture.h"

#include "relay/net/tls_impl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- certificates, made once ---- */

static char folder[64];

static const char *path(const char *name, const char *kind)
{
    static char paths[8][128];
    static unsigned next;
    char *out = paths[next++ % 8];

    snprintf(out, 128, "%s/%s.%s", folder, name, kind);
    return out;
}

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

static void save(const char *name, X509 *certificate, X509 *issuer, EVP_PKEY *key)
{
    FILE *file = fopen(path(name, "crt"), "w");

    PEM_write_X509(file, certificate);
    if (issuer)
        PEM_write_X509(file, issuer);
    fclose(file);
    file = fopen(path(name, "key"), "w");
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

static EVP_PKEY *ca_key;
static X509 *ca;

static X509 *fill(EVP_PKEY *key, const char *cn, long from_s, long to_s)
{
    static long serial = 1;
    X509 *certificate = X509_new();

    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), from_s);
    X509_gmtime_adj(X509_getm_notAfter(certificate), to_s);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                               (const unsigned char *)cn, -1, -1, 0);
    X509_set_pubkey(certificate, key);
    return certificate;
}

static void make_ca(void)
{
    ca_key = EVP_EC_gen("P-256");
    ca = fill(ca_key, "Test Root", -3600, 86400);
    X509_set_issuer_name(ca, X509_get_subject_name(ca));
    extend(ca, ca, NID_basic_constraints, "critical,CA:TRUE");
    extend(ca, ca, NID_key_usage, "critical,keyCertSign");
    X509_sign(ca, ca_key, EVP_sha256());
    save("ca", ca, NULL, ca_key);
}

static void make_leaf(const char *name, const char *names, EVP_PKEY *key, long from_s, long to_s)
{
    X509 *leaf = fill(key, name, from_s, to_s);

    X509_set_issuer_name(leaf, X509_get_subject_name(ca));
    extend(leaf, ca, NID_subject_alt_name, names);
    X509_sign(leaf, ca_key, EVP_sha256());
    save(name, leaf, ca, key);
    X509_free(leaf);
    EVP_PKEY_free(key);
}

static int make_certificates(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/waypost-tls-XXXXXX");
    assert_non_null(mkdtemp(folder));
    make_ca();
    make_leaf("mx", "DNS:mx.example", EVP_EC_gen("P-256"), -3600, 86400);
    make_leaf("mx-rsa", "DNS:mx.example", EVP_RSA_gen(2048), -3600, 86400);
    make_leaf("mx-old", "DNS:mx.example", EVP_EC_gen("P-256"), -86400, -3600);
    make_leaf("other", "DNS:other.example", EVP_EC_gen("P-256"), -3600, 86400);
    make_leaf("wild", "DNS:*.wild.example", EVP_EC_gen("P-256"), -3600, 86400);
    make_leaf("deep", "DNS:deep.wild.example", EVP_EC_gen("P-256"), -3600, 86400);
    make_leaf("ip", "IP:127.0.0.1", EVP_EC_gen("P-256"), -3600, 86400);
    assert_int_equal(tls_self_signed("mx.example", path("self", "crt"), path("self", "key"), NULL),
                     0);
    return 0;
}

static int remove_certificates(void **state)
{
    static const char *const names[] = { "ca",   "mx",   "mx-rsa", "mx-old", "other",
                                         "wild", "deep", "ip",     "self",   "ipself" };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unlink(path(names[i], "crt"));
        unlink(path(names[i], "key"));
    }
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return rmdir(folder);
}

static struct tls_server *server_with(const char *const *names, size_t count)
{
    struct tls_pair pairs[4];
    struct tls_server *server = NULL;
    struct fault fault;

    for (size_t i = 0; i < count; i++)
        pairs[i] = (struct tls_pair){ path(names[i], "crt"), path(names[i], "key") };
    if (tls_server_new(pairs, count, &server, &fault))
        fail_msg("%s", fault.text);
    return server;
}

/* ---- one handshake ---- */

static struct tls_server *tls_server;
static struct tls_client *tls_client;
static struct tls_request request;
static struct tls_facts client_facts, server_facts;
static char client_binding[64], server_binding[64];

static void keep_binding(struct end *end, char out[64])
{
    struct str binding = stream_channel_binding(end->stream);

    memset(out, 0, 64);
    memcpy(out, binding.at, binding.len);
}

static void client_reacts(struct end *client, enum stream_event event)
{
    if (event == STREAM_CONNECTED)
        stream_tls_client(client->stream, tls_client, &request);
    if (event == STREAM_TLS || event == STREAM_ERROR)
        client_facts = *stream_tls_facts(client->stream);
    if (event == STREAM_TLS) {
        keep_binding(client, client_binding);
        stream_write(client->stream, STR("EHLO\r\n"));
    }
    if (event == STREAM_DATA)
        stream_close(&client->stream); /* 250: the tickets are here too */
    if (event == STREAM_ERROR)
        net_finish(client->net);
}

static void server_reacts(struct end *server, enum stream_event event)
{
    if (event == STREAM_TLS) {
        server_facts = *stream_tls_facts(server->stream);
        keep_binding(server, server_binding);
    }
    if (event == STREAM_DATA)
        stream_write(server->stream, STR("250 ok\r\n"));
    if (event == STREAM_EOF)
        net_finish(server->net);
}

static void start_server_tls(struct end *server) { stream_tls_server(server->stream, tls_server); }

static struct fault shake(void)
{
    struct net net;

    client_facts = server_facts = (struct tls_facts){ 0 };
    net_start_tcp(&net);
    net.accepted = start_server_tls;
    net.client.react = client_reacts;
    net.server.react = server_reacts;
    net_call(&net);
    net_run(&net);
    struct fault fault = net.client.fault;
    if (fault.err == ERR_OK) {
        assert_str(buf_view(&net.client.got), "250 ok\r\n");
        assert_str(buf_view(&net.server.got), "EHLO\r\n");
        assert_int_equal(net.server.count[STREAM_EOF], 1);
    }
    net_end(&net);
    return fault;
}

struct row {
    const char *name;
    const char *pair;
    const char *host;
    enum policy_level level;
    enum err err;
    const char *problem; /* in the facts, and in the fault when it fails */
    bool chain_ok, name_ok;
};

static void levels_ask_for_what_they_say(void **state)
{
    static const struct row rows[] = {
        { "opportunistic believes everybody", "self", "mx.example", POLICY_OPPORTUNISTIC, ERR_OK,
          "not checked", false, true },
        { "opportunistic takes an expired one", "mx-old", "mx.example", POLICY_OPPORTUNISTIC,
          ERR_OK, "not checked", false, true },
        { "required does not mind the name", "other", "mx.example", POLICY_REQUIRED, ERR_OK,
          "not checked", false, false },
        { "verified", "mx", "mx.example", POLICY_VERIFIED, ERR_OK, "", true, true },
        { "implicit is verified too", "mx-rsa", "mx.example", POLICY_IMPLICIT, ERR_OK, "", true,
          true },
        { "verified, wrong name", "other", "mx.example", POLICY_VERIFIED, ERR_TLS,
          "certificate is for other.example, not for mx.example", false, false },
        { "verified, expired", "mx-old", "mx.example", POLICY_VERIFIED, ERR_TLS,
          "certificate has expired (", false, false },
        { "verified, self-signed", "self", "mx.example", POLICY_VERIFIED, ERR_TLS, "is self-signed",
          false, false },
        { "verified, by wildcard", "wild", "a.wild.example", POLICY_VERIFIED, ERR_OK, "", true,
          true },
        { "a wildcard is one label", "wild", "a.b.wild.example", POLICY_VERIFIED, ERR_TLS,
          "certificate is for *.wild.example, not", false, false },
        { "verified, by address", "ip", "127.0.0.1", POLICY_VERIFIED, ERR_OK, "", true, true },
        { "verified, wrong address", "ip", "127.0.0.2", POLICY_VERIFIED, ERR_TLS,
          "certificate is for ip, not for 127.0.0.2", false, false },
        { "dane without records is opportunistic", "self", "mx.example", POLICY_DANE, ERR_OK,
          "not checked", false, true },
    };

    (void)state;
    assert_int_equal(tls_client_new(path("ca", "crt"), &tls_client, NULL), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        tls_server = server_with(&row->pair, 1);
        request = (struct tls_request){ .host = row->host, .level = row->level };
        struct fault fault = shake();
        if (fault.err != row->err)
            fail_msg("%s: %s", row->name, fault.text);
        if (!strstr(client_facts.problem, row->problem) ||
            (row->err && !strstr(fault.text, row->problem)))
            fail_msg("%s: \"%s\", fault \"%s\"", row->name, client_facts.problem, fault.text);
        if (!row->err) {
            if (client_facts.chain_ok != row->chain_ok || client_facts.name_ok != row->name_ok)
                fail_msg("%s: chain %d, name %d", row->name, client_facts.chain_ok,
                         client_facts.name_ok);
            assert_string_equal(client_facts.version, "TLSv1.3");
            assert_string_equal(client_facts.cipher, server_facts.cipher);
            assert_true(client_facts.encrypted && server_facts.encrypted);
            assert_true(client_facts.expires_at > 0);
            assert_true(client_binding[0] || client_binding[1]);
            assert_memory_equal(client_binding, server_binding, 32);
        }
        tls_server_unref(&tls_server);
    }
    tls_client_free(&tls_client);
}

/* ---- DANE ---- */

static size_t digest_of(const char *name, bool whole, uint8_t out[32])
{
    FILE *file = fopen(path(name, "crt"), "r");
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    unsigned char *der = NULL;

    fclose(file);
    int len = whole ? i2d_X509(certificate, &der)
                    : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    EVP_Q_digest(NULL, "SHA256", NULL, der, (size_t)len, out, NULL);
    OPENSSL_free(der);
    X509_free(certificate);
    return 32;
}

static void tlsa_records_decide(void **state)
{
    static const struct {
        const char *name;
        const char *pair, *digest_of;
        uint8_t usage, selector, matching;
        enum err err;
        bool dane_ok;
        const char *problem;
    } rows[] = {
        { "3 1 1 matches", "self", "self", 3, 1, 1, ERR_OK, true, "" },
        { "3 0 1 matches", "self", "self", 3, 0, 1, ERR_OK, true, "" },
        { "3 1 1 matches whatever the date", "mx-old", "mx-old", 3, 1, 1, ERR_OK, true, "" },
        { "3 1 1 matches whatever the name", "other", "other", 3, 1, 1, ERR_OK, true, "" },
        { "3 1 1 of another key", "self", "other", 3, 1, 1, ERR_TLS, false,
          "no TLSA record matches" },
        { "2 0 1 of the issuer", "mx", "ca", 2, 0, 1, ERR_OK, true, "" },
        { "2 1 1 of the issuer, wrong name", "other", "ca", 2, 1, 1, ERR_TLS, false,
          "certificate is for other" },
        { "2 1 1 of the issuer, expired", "mx-old", "ca", 2, 1, 1, ERR_TLS, false, "has expired" },
        { "1 1 1 is not usable for SMTP", "self", "self", 1, 1, 1, ERR_OK, false,
          "no TLSA record is usable" },
        { "matching type 9 is not usable", "self", "self", 3, 1, 9, ERR_OK, false,
          "no TLSA record is usable" },
    };

    (void)state;
    assert_int_equal(tls_client_new(path("ca", "crt"), &tls_client, NULL), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t digest[32];
        struct tlsa tlsa = { rows[i].usage, rows[i].selector, rows[i].matching, digest, 0 };
        tlsa.len = digest_of(rows[i].digest_of, rows[i].selector == 0, digest);
        tls_server = server_with(&rows[i].pair, 1);
        request = (struct tls_request){ .host = "mx.example",
                                        .level = POLICY_DANE,
                                        .tlsa = &tlsa,
                                        .tlsa_count = 1,
                                        .session_key = "x" };
        struct fault fault = shake();
        if (fault.err != rows[i].err || client_facts.dane_ok != rows[i].dane_ok ||
            !strstr(client_facts.problem, rows[i].problem) || client_facts.chain_ok)
            fail_msg("%s: dane %d, \"%s\", fault \"%s\"", rows[i].name, client_facts.dane_ok,
                     client_facts.problem, fault.text);
        tls_server_unref(&tls_server);
    }
    tls_client_free(&tls_client);
}

/* ---- resumption ---- */

static void sessions_are_resumed_by_key_and_level(void **state)
{
    static const struct {
        const char *name, *key;
        enum policy_level level;
        bool resumed;
    } rows[] = {
        { "the first is a full handshake", "mx:25", POLICY_OPPORTUNISTIC, false },
        { "the second is resumed", "mx:25", POLICY_OPPORTUNISTIC, true },
        { "another level starts anew", "mx:25", POLICY_VERIFIED, false },
        { "and is then resumed too", "mx:25", POLICY_VERIFIED, true },
        { "without a key it is not", NULL, POLICY_OPPORTUNISTIC, false },
        { "another key starts anew", "mx:587", POLICY_OPPORTUNISTIC, false },
    };
    static const char *const names[] = { "mx" };

    (void)state;
    assert_int_equal(tls_client_new(path("ca", "crt"), &tls_client, NULL), 0);
    tls_server = server_with(names, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        request = (struct tls_request){ .host = "mx.example",
                                        .level = rows[i].level,
                                        .session_key = rows[i].key };
        assert_int_equal(shake().err, 0);
        if (client_facts.resumed != rows[i].resumed || server_facts.resumed != rows[i].resumed)
            fail_msg("%s: resumed %d", rows[i].name, client_facts.resumed);
        assert_int_equal(client_facts.chain_ok, rows[i].level == POLICY_VERIFIED);
        assert_true(client_facts.name_ok);
    }
    tls_server_unref(&tls_server);
    tls_client_free(&tls_client);
}

static bool visit(const char *key)
{
    request = (struct tls_request){ .host = "mx.example",
                                    .level = POLICY_OPPORTUNISTIC,
                                    .session_key = key };
    assert_int_equal(shake().err, 0);
    assert_int_equal(client_facts.resumed, server_facts.resumed);
    return client_facts.resumed;
}

static void tickets_go_to_those_who_use_them(void **state)
{
    static const char *const names[] = { "mx" };
    unsigned resumed = 0;

    (void)state;
    assert_int_equal(tls_client_new(path("ca", "crt"), &tls_client, NULL), 0);
    tls_server = server_with(names, 1);
    for (unsigned i = 0; i < 100; i++)
        assert_false(visit(NULL)); /* nobody comes back */
    for (unsigned i = 0; i < 5; i++)
        assert_false(visit("mx:25")); /* so nobody gets one for now */
    for (unsigned i = 0; i < 16; i++)
        visit("mx:25");
    for (unsigned i = 0; i < 10; i++)
        resumed += visit("mx:25"); /* but one of so many does, and is renewed */
    assert_int_equal(resumed, 10);
    assert_false(visit("mx:587"));
    assert_true(visit("mx:587")); /* now it pays for others, too */
    tls_server_unref(&tls_server);
    tls_client_free(&tls_client);
}

/* ---- which certificate is shown ---- */

static void pump(SSL *a, SSL *b)
{
    for (int i = 0; i < 10; i++) {
        SSL_do_handshake(a);
        SSL_do_handshake(b);
    }
}

/* In memory, so that the client may be as odd as it likes. */
static void shown_to(struct tls_server *server, const char *sni, const char *signatures, char *out,
                     size_t size)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(context), *ssl = NULL;
    BIO *left = NULL, *right = NULL;

    assert_int_equal(tls_server_ssl(server, &ssl, NULL), 0);
    BIO_new_bio_pair(&left, 0, &right, 0);
    SSL_set_bio(ssl, left, left);
    SSL_set_bio(client, right, right);
    SSL_set_accept_state(ssl);
    SSL_set_connect_state(client);
    if (sni)
        SSL_set_tlsext_host_name(client, sni);
    if (signatures)
        assert_int_equal(SSL_set1_sigalgs_list(client, signatures), 1);
    pump(client, ssl);
    X509 *shown = SSL_get0_peer_certificate(client);
    snprintf(out, size, "none");
    if (shown)
        X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, out, (int)size);
    SSL_free(client);
    SSL_free(ssl);
    SSL_CTX_free(context);
    ERR_clear_error();
}

static void the_name_chooses_the_certificate(void **state)
{
    static const char *const pairs[] = { "mx", "mx-rsa", "wild", "deep" };
    static const struct {
        const char *name, *sni, *signatures, *shown;
    } rows[] = {
        { "no name: the first pair", NULL, NULL, "mx" },
        { "an unknown name: the first pair", "nobody.example", NULL, "mx" },
        { "its own name", "mx.example", NULL, "mx" },
        { "a client without ECDSA gets RSA", "mx.example", "rsa_pss_rsae_sha256", "mx-rsa" },
        { "also without a name", NULL, "rsa_pss_rsae_sha256", "mx-rsa" },
        { "a wildcard", "a.wild.example", NULL, "wild" },
        { "an exact name before a wildcard", "deep.wild.example", NULL, "deep" },
        { "no RSA for a name that has none", "a.wild.example", "rsa_pss_rsae_sha256", "none" },
    };
    struct tls_server *server = server_with(pairs, 4);
    char shown[64];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        shown_to(server, rows[i].sni, rows[i].signatures, shown, sizeof(shown));
        if (strcmp(shown, rows[i].shown) != 0)
            fail_msg("%s: %s", rows[i].name, shown);
    }
    assert_string_equal(tls_server_problem(server), "");
    assert_true(tls_server_expires_at(server) > 0);
    tls_server_unref(&server);
}

static void write_text(const char *file_path, const char *text)
{
    FILE *file = fopen(file_path, "w");

    fputs(text, file);
    fclose(file);
}

static void files_that_cannot_work_are_refused(void **state)
{
    struct tls_server *server = NULL;
    struct fault fault;
    const char *junk = path("junk", "crt");

    (void)state;
    write_text(junk, "not a certificate\n");
    const struct {
        const char *name;
        struct tls_pair pair;
        enum err err;
        const char *words;
    } rows[] = {
        { "missing certificate",
          { "/nowhere/a.crt", path("mx", "key") },
          ERR_NOT_FOUND,
          "cannot read the certificate /nowhere/a.crt" },
        { "missing key",
          { path("mx", "crt"), "/nowhere/a.key" },
          ERR_NOT_FOUND,
          "cannot read the key /nowhere/a.key" },
        { "junk", { junk, path("mx", "key") }, ERR_INVALID, "does not hold a certificate" },
        { "junk as key", { path("mx", "crt"), junk }, ERR_INVALID, "does not hold a private key" },
        { "a key of another",
          { path("mx", "crt"), path("other", "key") },
          ERR_INVALID,
          "does not belong to the certificate" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum err err = tls_server_new(&rows[i].pair, 1, &server, &fault);
        if (err != rows[i].err || !strstr(fault.text, rows[i].words))
            fail_msg("%s: %s", rows[i].name, fault.text);
        assert_null(server);
    }
    unlink(junk);
    assert_int_equal(tls_client_new("/nowhere/ca.pem", &tls_client, &fault), ERR_NOT_FOUND);
    assert_int_equal(tls_self_signed("mx.example", path("mx", "crt"), path("mx", "key"), &fault),
                     ERR_EXISTS);
    assert_int_equal(tls_self_signed("a,DNS:b", path("x", "crt"), path("x", "key"), &fault),
                     ERR_INVALID);
}

static void what_works_for_some_is_a_problem_not_an_error(void **state)
{
    static const char *const old[] = { "mx-old" };
    struct tls_server *server = server_with(old, 1);

    (void)state;
    assert_non_null(strstr(tls_server_problem(server), "has expired"));
    tls_server_unref(&server);
}

/* ---- in the middle of a session ---- */

static void answer_starttls(struct end *server, enum stream_event event)
{
    if (event == STREAM_DATA && server->count[STREAM_DATA] == 1) {
        stream_write(server->stream, STR("220 go ahead\r\n")); /* in clear */
        stream_tls_server(server->stream, tls_server);
    } else {
        server_reacts(server, event);
    }
}

static void ask_starttls(struct end *client, enum stream_event event)
{
    if (event == STREAM_CONNECTED)
        stream_write(client->stream, STR("STARTTLS\r\n"));
    else if (event == STREAM_DATA && client->count[STREAM_TLS] == 0)
        stream_tls_client(client->stream, tls_client, &request);
    else
        client_reacts(client, event);
}

static void starttls_in_the_middle_of_a_session(void **state)
{
    static const char *const names[] = { "mx" };
    struct net net;

    (void)state;
    assert_int_equal(tls_client_new(NULL, &tls_client, NULL), 0);
    tls_server = server_with(names, 1);
    request = (struct tls_request){ .host = "mx.example", .level = POLICY_OPPORTUNISTIC };
    net_start_tcp(&net);
    net.client.react = ask_starttls;
    net.server.react = answer_starttls;
    net_call(&net);
    net_run(&net);
    assert_str(buf_view(&net.client.got), "220 go ahead\r\n250 ok\r\n");
    assert_str(buf_view(&net.server.got), "STARTTLS\r\nEHLO\r\n");
    net_end(&net);
    tls_server_unref(&tls_server);
    tls_client_free(&tls_client);
}

/* ---- many bytes ---- */

#define BULK ((size_t)3 << 20)

static void resume_server(void *arg)
{
    struct net *net = arg;

    if (net->server.stream)
        stream_resume(net->server.stream);
}

static void slow_sink(struct end *server, enum stream_event event)
{
    struct net *net = server->net;

    if (event == STREAM_DATA) {
        assert_true(stream_in(server->stream).len < STREAM_IN_MAX + 16384);
        /* a part now, the rest later */
        size_t take = stream_in(server->stream).len / 2 + 1;
        buf_append(&server->got, stream_in(server->stream).at, take);
        stream_consume(server->stream, take);
        stream_pause(server->stream);
        loop_timer_start(net->loop, &net->timer, 0, resume_server, net);
    }
    if (server->got.len == BULK)
        net_finish(net);
}

static void bulk_source(struct end *client, enum stream_event event)
{
    static char bytes[BULK];

    client_reacts(client, event);
    if (event != STREAM_TLS)
        return;
    for (size_t i = 6; i < BULK; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    stream_write(client->stream, str_make(bytes + 6, BULK - 6)); /* behind "EHLO\r\n" */
}

static void megabytes_arrive_through_pauses(void **state)
{
    static const char *const names[] = { "mx" };
    struct net net;

    (void)state;
    assert_int_equal(tls_client_new(NULL, &tls_client, NULL), 0);
    tls_server = server_with(names, 1);
    request = (struct tls_request){ .host = "mx.example", .level = POLICY_REQUIRED };
    net_start_tcp(&net);
    net.accepted = start_server_tls;
    net.client.react = bulk_source;
    net.server.react = slow_sink;
    net.server.keeps_bytes = true;
    net_call(&net);
    net_run(&net);
    for (size_t i = 6; i < BULK; i++) {
        if (net.server.got.at[i] != (char)(i * 2654435761u >> 13))
            fail_msg("byte %zu differs", i);
    }
    net_end(&net);
    tls_server_unref(&tls_server);
    tls_client_free(&tls_client);
}

/* ---- peers that do something else ---- */

static void speak_clear(struct end *server) { stream_write(server->stream, STR("220 hi\r\n")); }
static void hang_up(struct end *server) { stream_close(&server->stream); }

static void silent_until_deadline(struct end *server)
{
    stream_tls_server(server->stream, tls_server);
    stream_deadline(server->stream, loop_now_ms(server->net->loop) + 10);
}

static void finish_at_timeout(struct end *server, enum stream_event event)
{
    if (event == STREAM_TIMEOUT || event == STREAM_ERROR)
        net_finish(server->net);
}

static void talk_clear(struct end *client, enum stream_event event)
{
    if (event == STREAM_CONNECTED)
        stream_write(client->stream, STR("EHLO client.example\r\n"));
}

static void peers_without_tls_are_told_apart(void **state)
{
    static const char *const names[] = { "mx" };
    struct net net;

    (void)state;
    assert_int_equal(tls_client_new(NULL, &tls_client, NULL), 0);
    tls_server = server_with(names, 1);
    request = (struct tls_request){ .host = "mx.example", .level = POLICY_OPPORTUNISTIC };

    net_start_tcp(&net);
    net.accepted = speak_clear;
    net.client.react = client_reacts;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.client.fault.err, ERR_TLS);
    assert_non_null(strstr(net.client.fault.text, "the other side does not speak TLS here"));
    net_end(&net);

    net_start_tcp(&net);
    net.accepted = hang_up;
    net.client.react = client_reacts;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.client.fault.err, ERR_CLOSED);
    net_end(&net);

    net_start_tcp(&net);
    net.accepted = start_server_tls;
    net.server.react = finish_at_timeout;
    net.client.react = talk_clear;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.server.fault.err, ERR_TLS);
    assert_non_null(strstr(net.server.fault.text, "TLS handshake: "));
    net_end(&net);

    net_start_tcp(&net);
    net.accepted = silent_until_deadline;
    net.server.react = finish_at_timeout;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.server.count[STREAM_TIMEOUT], 1);
    net_end(&net);
    tls_server_unref(&tls_server);
    tls_client_free(&tls_client);
}

static void finish_later(void *arg) { net_finish(arg); }

static void finish_at_eof(struct end *end, enum stream_event event)
{
    if (event == STREAM_EOF)
        net_finish(end->net);
}

/* A man in the middle appended a command to the STARTTLS line; the owner did not look. */
static void careless_starttls(struct end *server, enum stream_event event)
{
    if (event == STREAM_DATA)
        stream_tls_server(server->stream, tls_server);
    if (event == STREAM_ERROR) {
        stream_resume(server->stream); /* nothing may come of it */
        loop_timer_start(server->net->loop, &server->net->timer, 5, finish_later, server->net);
    }
}

static void inject(struct end *client, enum stream_event event)
{
    if (event == STREAM_CONNECTED)
        stream_write(client->stream, STR("STARTTLS\r\nMAIL FROM:<>\r\n"));
}

static void clear_bytes_never_become_encrypted_ones(void **state)
{
    static const char *const names[] = { "mx" };
    struct net net;

    (void)state;
    tls_server = server_with(names, 1);
    net_start_tcp(&net);
    net.client.react = inject;
    net.server.react = careless_starttls;
    net.server.keeps_bytes = true;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.server.fault.err, ERR_INVALID);
    assert_int_equal(net.server.count[STREAM_DATA], 1);
    assert_int_equal(net.server.count[STREAM_ERROR], 1);
    net_end(&net);
    tls_server_unref(&tls_server);
}

static void write_and_leave(struct end *client, enum stream_event event)
{
    client_reacts(client, event);
    if (event == STREAM_CONNECTED) {
        stream_write(client->stream, STR("EHLO\r\n"));
        stream_close(&client->stream);
    }
}

static void leaving_in_the_middle_of_a_handshake_is_quick(void **state)
{
    struct net net;

    (void)state;
    assert_int_equal(tls_client_new(NULL, &tls_client, NULL), 0);
    request = (struct tls_request){ .host = "mx.example", .level = POLICY_OPPORTUNISTIC };
    net_start_tcp(&net);
    net.client.react = write_and_leave;
    net.server.react = finish_at_eof;
    net_call(&net);
    uint64_t began = loop_now_ms(net.loop);
    net_run(&net);
    assert_true(loop_now_ms(net.loop) - began < 9000); /* it would linger for 10 s */
    net_end(&net);
    tls_client_free(&tls_client);
}

static void a_context_may_go_before_its_streams(void **state)
{
    static const char *const names[] = { "mx" };
    struct net net;

    (void)state;
    assert_int_equal(tls_client_new(NULL, &tls_client, NULL), 0);
    tls_server = server_with(names, 1);
    request = (struct tls_request){ .host = "mx.example",
                                    .session_key = "k",
                                    .level = POLICY_OPPORTUNISTIC };
    net_start_tcp(&net);
    net.accepted = start_server_tls;
    net.client.react = client_reacts;
    net.server.react = server_reacts;
    net_call(&net);
    struct tls_server *kept = tls_server_ref(tls_server);
    tls_server_unref(&kept); /* as a reload would */
    net_run(&net);
    tls_server_unref(&tls_server);
    tls_client_free(&tls_client);
    net_end(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_ask_for_what_they_say),
        cmocka_unit_test(tlsa_records_decide),
        cmocka_unit_test(sessions_are_resumed_by_key_and_level),
        cmocka_unit_test(tickets_go_to_those_who_use_them),
        cmocka_unit_test(the_name_chooses_the_certificate),
        cmocka_unit_test(files_that_cannot_work_are_refused),
        cmocka_unit_test(what_works_for_some_is_a_problem_not_an_error),
        cmocka_unit_test(starttls_in_the_middle_of_a_session),
        cmocka_unit_test(megabytes_arrive_through_pauses),
        cmocka_unit_test(peers_without_tls_are_told_apart),
        cmocka_unit_test(clear_bytes_never_become_encrypted_ones),
        cmocka_unit_test(leaving_in_the_middle_of_a_handshake_is_quick),
        cmocka_unit_test(a_context_may_go_before_its_streams),
    };

    return cmocka_run_group_tests_name("tls", tests, make_certificates, remove_certificates);
}
