/*
 * dkim_test.c - keys, signatures, and the interposed key loader.
 *
 * That signatures verify is shown by tests/e2e/dkim_verify.py with another
 * implementation; here: what is matched, refused, and that nothing leaks or
 * depends on how the bytes were cut.
 */
#include "dkim/keylend.h"
#include "dkim/keyring.h"
#include "dkim/keytool.h"
#include "dkim/signer.h"

#include <fcntl.h>
#include <malloc.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static char rsa_file[96], ed_file[96];

static const char *in_dir(const char *name)
{
    static char path[4][160];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", dir, name);
    return to;
}

static void put(const char *path, const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static void put_key(const char *path, EVP_PKEY *key, const char *passphrase)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(PEM_write_PrivateKey(f, key, passphrase ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL,
                                     (void *)(uintptr_t)passphrase));
    fclose(f);
    assert_int_equal(chmod(path, 0600), 0);
    EVP_PKEY_free(key);
}

static int setup(void **state)
{
    struct fault fault;

    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/waypost-dkim-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(rsa_file, sizeof(rsa_file), "%s/rsa.pem", dir);
    snprintf(ed_file, sizeof(ed_file), "%s/ed.pem", dir);
    assert_int_equal(keytool_make(KEY_RSA_2048, rsa_file, &fault), ERR_OK);
    assert_int_equal(keytool_make(KEY_ED25519, ed_file, &fault), ERR_OK);
    put_key(in_dir("rsa512.pem"), EVP_RSA_gen(512), NULL);
    put_key(in_dir("rsa1024.pem"), EVP_RSA_gen(1024), NULL);
    put_key(in_dir("ec.pem"), EVP_EC_gen("P-256"), NULL);
    put_key(in_dir("locked.pem"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "secret");
    put_key(in_dir("open.pem"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL);
    assert_int_equal(chmod(in_dir("open.pem"), 0644), 0);
    put(in_dir("garbage.pem"), "-----BEGIN PRIVATE KEY-----\nnonsense\n", 0600);
    put(in_dir("empty.pem"), "", 0600);
    put(in_dir("closed.pem"), "x", 0000);
    mkdir(in_dir("folder.pem"), 0700);
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = { "rsa.pem",   "ed.pem",     "rsa512.pem", "rsa1024.pem",
                                         "ec.pem",    "locked.pem", "open.pem",   "garbage.pem",
                                         "empty.pem", "closed.pem" };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_dir(names[i]));
    rmdir(in_dir("folder.pem"));
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static struct keyring *ring_of(const struct keyring_key *keys, size_t count)
{
    struct keyring *keyring = NULL;
    struct fault fault = { 0 };

    if (keyring_new(keys, count, &keyring, &fault))
        fail_msg("%s", fault.text);
    return keyring;
}

static struct keyring *both_keys(void)
{
    struct keyring_key keys[] = {
        { .domain = "Example.com", .selector = "s1", .file = rsa_file },
        { .domain = "example.com", .selector = "e1", .file = ed_file },
    };
    return ring_of(keys, 2);
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *name, *file, *text;
        enum err err;
    } rows[] = {
        { "missing", "none.pem", "No such file or directory", ERR_NOT_FOUND },
        { "a folder", "folder.pem", "not a regular file", ERR_INVALID },
        { "readable by all", "open.pem",
          "a private key open to others (mode 0644): chmod 0640 or 0600", ERR_DENIED },
        { "not a key", "garbage.pem", "not a private key in PEM form", ERR_INVALID },
        { "empty", "empty.pem", "not a private key in PEM form", ERR_INVALID },
        { "RSA of 512 bits", "rsa512.pem",
          "RSA with 512 bits: verifiers ignore keys under 1024, make one of 2048", ERR_INVALID },
        { "EC", "ec.pem", "a EC key: DKIM signs with RSA or Ed25519", ERR_INVALID },
        { "encrypted", "locked.pem", "the key is encrypted: store it without a passphrase",
          ERR_INVALID },
        { "unreadable", "closed.pem", "Permission denied", ERR_DENIED },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct keyring_key key = { .domain = "example.com",
                                   .selector = "s1",
                                   .file = in_dir(rows[i].file) };
        struct keyring *keyring = NULL;
        struct fault fault = { 0 };
        char want[300];
        if (geteuid() == 0 && rows[i].err == ERR_DENIED && rows[i].text[0] == 'P')
            continue; /* root reads everything */
        snprintf(want, sizeof(want), "%s: %s", key.file, rows[i].text);
        enum err err = keyring_new(&key, 1, &keyring, &fault);
        if (err != rows[i].err || strcmp(fault.text, want) != 0)
            fail_msg("%s: %s, \"%s\"", rows[i].name, err_text(err), fault.text);
        assert_null(keyring);
    }
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_bad_names(void **state)
{
    static const struct {
        const char *domain, *sign_as, *selector, *text;
    } rows[] = {
        { "*", NULL, "s1", "the fallback for all domains needs a domain to sign as" },
        { "exa mple", NULL, "s1", "\"exa mple\" is not a domain in DNS form" },
        { "example.com", "b\xc3\xbc.de", "s1", "\"b\xc3\xbc.de\" is not a domain in DNS form" },
        { "example.com", NULL, "s;1", "\"s;1\" is not a selector in DNS form" },
        { "example.com", NULL, "", "\"\" is not a selector in DNS form" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct keyring_key key = { .domain = rows[i].domain,
                                   .sign_as = rows[i].sign_as,
                                   .selector = rows[i].selector,
                                   .file = rsa_file };
        struct keyring *keyring = NULL;
        struct fault fault = { 0 };
        char want[300];
        snprintf(want, sizeof(want), "%s: %s", rsa_file, rows[i].text);
        assert_int_equal(keyring_new(&key, 1, &keyring, &fault), ERR_INVALID);
        assert_string_equal(fault.text, want);
    }
    struct keyring_key twice[] = {
        { .domain = "a.test", .selector = "s1", .file = rsa_file },
        { .domain = "A.test", .selector = "s1", .file = ed_file },
    };
    struct keyring *keyring = NULL;
    assert_int_equal(keyring_new(twice, 2, &keyring, NULL), ERR_EXISTS);
}

static void test_match(void **state)
{
    struct keyring_key keys[] = {
        { .domain = "example.com", .selector = "s1", .file = rsa_file },
        { .domain = "example.com", .selector = "e1", .file = ed_file },
        { .domain = "news.example.com", .selector = "n1", .file = ed_file },
        { .domain = "*", .sign_as = "relay.test", .selector = "f1", .file = rsa_file },
    };
    static const struct {
        const char *name, *domain, *words;
    } rows[] = {
        { "exact", "example.com", "example.com/s1 rsa-sha256, example.com/e1 ed25519-sha256" },
        { "letter case", "EXAMPLE.Com",
          "example.com/s1 rsa-sha256, example.com/e1 ed25519-sha256" },
        { "a parent signs", "a.b.example.com",
          "example.com/s1 rsa-sha256, example.com/e1 ed25519-sha256" },
        { "the nearest parent signs", "x.news.example.com", "news.example.com/n1 ed25519-sha256" },
        { "a name that only ends alike is no child", "badexample.com", "relay.test/f1 rsa-sha256" },
        { "trailing dot", "example.com.",
          "example.com/s1 rsa-sha256, example.com/e1 ed25519-sha256" },
        { "fallback", "other.test", "relay.test/f1 rsa-sha256" },
        { "no domain", "", "relay.test/f1 rsa-sha256" },
    };

    (void)state;
    struct keyring *keyring = ring_of(keys, 4), *bare = ring_of(keys, 3);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct signer *signer = signer_new(keyring, str_of(rows[i].domain));
        assert_non_null(signer);
        if (!str_eq(signer_words(signer), str_of(rows[i].words)))
            fail_msg("%s: " STR_FMT, rows[i].name, STR_ARG(signer_words(signer)));
        signer_free(&signer);
    }
    assert_int_equal(keyring_count(bare), 3);
    assert_int_equal(keyring_match(bare, STR("other.test")), 0);
    assert_int_equal(keyring_match(bare, STR("")), 0);
    assert_null(signer_new(bare, STR("other.test")));
    keyring_unref(&keyring);
    keyring_unref(&bare);
    keyring = ring_of(NULL, 0);
    assert_null(signer_new(keyring, STR("example.com")));
    keyring_unref(&keyring);
}

#define HEAD                                                                                       \
    "From: a@example.com\r\nTo: b@example.net\r\nSubject: =?utf-8?q?x?=\r\n folded\r\n"            \
    "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
#define BODY "one \t \r\n\r\n  two\r\n.\r\n..dots\r\n\r\n\r\n"

static enum err sign_cut(struct keyring *keyring, struct str head, struct str body, size_t piece,
                         struct buf *out, unsigned *out_count, struct fault *fault)
{
    struct signer *signer = signer_new(keyring, STR("example.com"));
    enum err err = signer_head(signer, head, fault);

    for (struct str rest = body; !err && rest.len; rest = str_from(rest, piece))
        err = signer_body(signer, str_head(rest, piece), fault);
    if (!err)
        err = signer_end(signer, out, out_count, fault);
    signer_free(&signer);
    return err;
}

/* The value of b= differs with the second it was made in; bh= and h= do not. */
static struct str body_hash(struct str fields)
{
    struct str from = str_from(fields, str_find(fields, STR("bh=")));
    return str_head(from, str_chr(from, ';'));
}

static void test_pieces_do_not_matter(void **state)
{
    struct keyring *keyring = both_keys();
    struct buf whole, cut;
    unsigned count = 0;

    (void)state;
    buf_init(&whole, 16384);
    buf_init(&cut, 16384);
    assert_int_equal(sign_cut(keyring, STR(HEAD), STR(BODY), 1000, &whole, &count, NULL), ERR_OK);
    assert_int_equal(count, 2);
    for (size_t piece = 1; piece < sizeof(BODY); piece++) {
        buf_reset(&cut);
        assert_int_equal(sign_cut(keyring, STR(HEAD "\r\n"), STR(BODY), piece, &cut, &count, NULL),
                         ERR_OK);
        if (!str_eq(body_hash(buf_view(&cut)), body_hash(buf_view(&whole))))
            fail_msg("pieces of %zu give another body hash", piece);
    }
    buf_clear(&whole);
    buf_clear(&cut);
    keyring_unref(&keyring);
}

static bool has(struct str text, const char *word)
{
    return str_find(text, str_of(word)) < text.len;
}

static void test_fields(void **state)
{
    struct keyring *keyring = both_keys();
    struct buf out;
    unsigned count = 0;

    (void)state;
    buf_init(&out, 16384);
    buf_cstr(&out, "kept\r\n");
    assert_int_equal(sign_cut(keyring, STR(HEAD), STR(BODY), 1000, &out, &count, NULL), ERR_OK);
    struct str view = buf_view(&out);
    assert_true(str_starts(view, STR("kept\r\nDKIM-Signature: v=1; a=rsa-sha256;")));
    assert_true(has(view, "\r\nDKIM-Signature: v=1; a=ed25519-sha256;"));
    assert_true(has(view, "c=relaxed/relaxed;"));
    assert_true(has(view, "d=example.com;"));
    assert_true(str_eq(str_from(view, view.len - 2), STR("\r\n")));
    struct str h = str_from(view, str_find(view, STR("\th=")));
    h = str_head(h, str_chr(h, ';'));
    /* over-signed: present fields twice, absent ones once */
    size_t from = str_ifind(h, STR("From"));
    assert_true(str_ifind(str_from(h, from + 4), STR("From")) < h.len - from - 4);
    assert_true(str_ifind(h, STR("Reply-To")) < h.len);
    for (struct str rest = view, line; str_next(&rest, '\n', &line);)
        assert_true(line.len <= 80);
    buf_clear(&out);
    keyring_unref(&keyring);
}

static void test_refused_messages(void **state)
{
    static const struct {
        const char *name, *head, *body, *text;
    } rows[] = {
        { "no From", "To: b@example.net\r\n", "x\r\n",
          "DKIM cannot sign the header: required header \"from\" not found" },
        { "no colon", "From: a@example.com\r\nnonsense\r\n", "x\r\n",
          "DKIM cannot sign header field 2: no proper name" },
        { "space before the colon", "From: a@example.com\r\nReply-To : x\r\n", "x\r\n",
          "DKIM cannot sign header field 2: no proper name" },
        { "semicolon in a name", "a;b: c\r\n", "x\r\n",
          "DKIM cannot sign header field 1: no proper name" },
        { "8-bit name", "\xc3\xbc: c\r\n", "x\r\n",
          "DKIM cannot sign header field 1: no proper name" },
        { "no name", ": c\r\n", "x\r\n", "DKIM cannot sign header field 1: no proper name" },
        { "no CRLF at the end of the body", "From: a@example.com\r\n", "x\r\nno end",
          "DKIM cannot sign the message: CRLF at end of body missing" },
    };

    (void)state;
    struct keyring *keyring = both_keys();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fault fault = { 0 };
        struct buf out;
        unsigned count = 99;
        buf_init(&out, 16384);
        buf_cstr(&out, "kept");
        enum err err = sign_cut(keyring, str_of(rows[i].head), str_of(rows[i].body), 1000, &out,
                                &count, &fault);
        if (err != ERR_INVALID || strcmp(fault.text, rows[i].text) != 0)
            fail_msg("%s: %s, \"%s\"", rows[i].name, err_text(err), fault.text);
        assert_true(str_eq(buf_view(&out), STR("kept")));
        assert_int_equal(count, 99);
        buf_clear(&out);
    }
    keyring_unref(&keyring);
}

static void test_interposition(void **state)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *token = BIO_new_mem_buf(KEYLEND_TEXT, -1), *der = BIO_new(BIO_s_mem());

    (void)state;
    assert_null(d2i_PrivateKey_bio(token, NULL)); /* nothing is lent */
    BIO_free(token);
    keylend_begin(key);
    token = BIO_new_mem_buf(KEYLEND_TEXT, -1);
    EVP_PKEY *got = d2i_PrivateKey_bio(token, NULL);
    assert_ptr_equal(got, key);
    EVP_PKEY_free(got);
    i2d_PrivateKey_bio(der, key);
    got = d2i_PrivateKey_bio(der, NULL); /* everything else is parsed, lent or not */
    assert_non_null(got);
    assert_ptr_not_equal(got, key);
    assert_int_equal(EVP_PKEY_eq(got, key), 1);
    EVP_PKEY_free(got);
    assert_int_equal(keylend_end(), 1);
    BIO_free(token);
    BIO_free(der);
    EVP_PKEY_free(key);
    ERR_clear_error();

    /* libopendkim, in its own shared object, must come to ours as well: with
     * the real function the token is no key and no keyring can be made. */
    struct keyring *keyring = both_keys();
    keyring_unref(&keyring);
}

static void sign_many(struct keyring *keyring, unsigned times)
{
    struct buf out;
    unsigned count;

    buf_init(&out, 16384);
    for (unsigned i = 0; i < times; i++) {
        buf_reset(&out);
        assert_int_equal(sign_cut(keyring, STR(HEAD), STR(BODY), 100, &out, &count, NULL), ERR_OK);
    }
    buf_clear(&out);
}

static void test_no_growth(void **state)
{
    struct keyring *keyring = both_keys();

    (void)state;
    sign_many(keyring, 50);
    size_t before = mallinfo2().uordblks;
    sign_many(keyring, 1000);
    size_t after = mallinfo2().uordblks;
    keyring_unref(&keyring);
    if (after > before + 1000) /* a leak of one byte a signature would show */
        fail_msg("1000 messages left %zu bytes behind", after - before);
}

static void test_large_body_in_small_memory(void **state)
{
    struct keyring *keyring = both_keys();
    struct signer *signer = signer_new(keyring, STR("example.com"));
    char piece[65536];
    unsigned count;
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof(piece); i++) /* 5000 byte lines, and blanks */
        piece[i] = i % 5000 == 4998 ? '\r' : i % 5000 == 4999 ? '\n' : i % 7 ? 'x' : ' ';
    memcpy(piece + sizeof(piece) - 2, "\r\n", 2);
    buf_init(&out, 16384);
    assert_int_equal(signer_head(signer, STR(HEAD), NULL), ERR_OK);
    size_t before = mallinfo2().uordblks;
    for (unsigned i = 0; i < 400; i++)
        assert_int_equal(signer_body(signer, str_make(piece, sizeof(piece)), NULL), ERR_OK);
    size_t after = mallinfo2().uordblks;
    assert_int_equal(signer_end(signer, &out, &count, NULL), ERR_OK);
    if (after > before + 262144)
        fail_msg("25 MB of body took %zu bytes of memory", after - before);
    signer_free(&signer);
    buf_clear(&out);
    keyring_unref(&keyring);
}

static void *sign_on_thread(void *arg)
{
    struct keyring *keyring = keyring_ref(arg);

    sign_many(keyring, 40);
    keyring_unref(&keyring);
    return NULL;
}

static void test_threads(void **state)
{
    struct keyring *keyring = both_keys();
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_on_thread, keyring), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    keyring_unref(&keyring);
}

static void test_unfinished_signers(void **state)
{
    struct keyring *keyring = both_keys();
    struct signer *signer = signer_new(keyring, STR("example.com"));

    (void)state;
    signer_free(&signer);
    signer_free(&signer);
    signer = signer_new(keyring, STR("example.com"));
    assert_int_equal(signer_head(signer, STR(HEAD), NULL), ERR_OK);
    signer_free(&signer);
    signer = signer_new(keyring, STR("example.com"));
    keyring_unref(&keyring); /* the signer holds it */
    assert_int_equal(signer_head(signer, STR(HEAD), NULL), ERR_OK);
    assert_int_equal(signer_body(signer, STR(BODY), NULL), ERR_OK);
    signer_free(&signer);
}

static void test_keytool(void **state)
{
    struct buf record, line;
    struct fault fault = { 0 };
    struct stat st;

    (void)state;
    buf_init(&record, 4096);
    buf_init(&line, 4096);
    assert_int_equal(stat(rsa_file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(keytool_make(KEY_ED25519, rsa_file, &fault), ERR_EXISTS);
    assert_int_equal(keytool_make(KEY_ED25519, in_dir("no/such/folder"), &fault), ERR_NOT_FOUND);
    assert_int_equal(keytool_record(rsa_file, &record, &fault), ERR_OK);
    assert_true(str_starts(buf_view(&record), STR("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0B")));
    assert_int_equal(keytool_zone_line(rsa_file, "s1", "example.com", &line, &fault), ERR_OK);
    assert_true(str_starts(buf_view(&line),
                           STR("s1._domainkey.example.com. IN TXT \"v=DKIM1; k=rsa; p=MII")));
    struct str first = str_from(buf_view(&line), str_chr(buf_view(&line), '"') + 1);
    assert_int_equal(str_chr(first, '"'), 255);
    buf_reset(&record);
    assert_int_equal(keytool_record(ed_file, &record, &fault), ERR_OK);
    assert_true(str_starts(buf_view(&record), STR("v=DKIM1; k=ed25519; p=")));
    assert_int_equal(record.len, sizeof("v=DKIM1; k=ed25519; p=") - 1 + 44);
    assert_int_equal(keytool_record(in_dir("none.pem"), &record, &fault), ERR_NOT_FOUND);
    buf_clear(&record);
    buf_clear(&line);
}

static void test_compare(void **state)
{
    static const struct {
        const char *name, *before, *after, *text;
        bool without_key;
    } rows[] = {
        { "the same", "v=DKIM1; k=ed25519; p=", "", NULL, false },
        { "spaces and other tags", "v=DKIM1;k=ed25519 ; t=s; s=email; h=sha1:sha256; p = ", " ;",
          NULL, false },
        { "no version", "k=ed25519; p=", "", NULL, false },
        { "revoked", "v=DKIM1; k=ed25519; p=", "", "the record revokes the key (p= is empty)",
          true },
        { "no key", "v=DKIM1; k=ed25519", "", "the record has no key (p=)", true },
        { "another type", "v=DKIM1; p=", "",
          "the record is for another type of key (k=), not ed25519", false },
        { "another key", "v=DKIM1; k=ed25519; p=A", "",
          "the record carries another key (p= differs): publish the new one, or sign with the old",
          false },
        { "only sha1", "k=ed25519; h=sha1; p=", "", "the record does not allow sha256 (h=)",
          false },
        { "not for mail", "k=ed25519; s=other; p=", "", "the record is not for mail (s=)", false },
        { "SPF", "v=spf1 -all", "", "the record is not a DKIM key (v= is not DKIM1)", true },
    };
    struct buf record;

    (void)state;
    buf_init(&record, 4096);
    assert_int_equal(keytool_record(ed_file, &record, NULL), ERR_OK);
    const char *p = record.at + sizeof("v=DKIM1; k=ed25519; p=") - 1;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char txt[300];
        struct fault fault = { 0 };
        snprintf(txt, sizeof(txt), "%s%.*s%s", rows[i].before, rows[i].without_key ? 0 : 44, p,
                 rows[i].after);
        enum err err = keytool_compare(ed_file, str_of(txt), &fault);
        if (err != (rows[i].text ? ERR_INVALID : ERR_OK) ||
            (rows[i].text && strcmp(fault.text, rows[i].text) != 0))
            fail_msg("%s: %s, \"%s\"", rows[i].name, err_text(err), fault.text);
    }
    buf_clear(&record);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_pieces_do_not_matter),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_refused_messages),
        cmocka_unit_test(test_interposition),
        cmocka_unit_test(test_no_growth),
        cmocka_unit_test(test_large_body_in_small_memory),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_unfinished_signers),
        cmocka_unit_test(test_keytool),
        cmocka_unit_test(test_compare),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
