/*
 * stream_tls.c - records in and out of a stream.
 *
 * The BIO has no buffer of its own: it reads what the socket has just put into
 * the loop's buffer and writes to the stream's `wire`. Only what OpenSSL did
 * not take, because the owner does not consume, is kept in `rest`.
 */
#include "relay/net/stream_impl.h"
#include "relay/net/tls_impl.h"

#include <limits.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>

#define RECORD_MAX ((size_t)16 * 1024) /* clear bytes of one record */

struct stream_tls {
    struct stream *stream;
    SSL *ssl;
    struct str fresh; /* in the loop's buffer, during stream_tls_feed() only */
    struct buf rest;
    bool is_done;
    bool is_broken; /* OpenSSL allows nothing more on it */
    uint8_t binding[32];
    struct tls_facts facts;
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *out, int size)
{
    struct stream_tls *tls = BIO_get_data(bio);
    size_t most = size > 0 ? (size_t)size : 0;
    struct str from = tls->rest.len ? buf_view(&tls->rest) : tls->fresh;

    BIO_clear_retry_flags(bio);
    if (from.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (most > from.len)
        most = from.len;
    memcpy(out, from.at, most);
    if (tls->rest.len)
        buf_consume(&tls->rest, most);
    else
        tls->fresh = str_from(tls->fresh, most);
    return (int)most;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct stream_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (len > 0)
        buf_append(&tls->stream->wire, bytes, (size_t)len);
    return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* the stream's flush is the real one */
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static BIO *new_bio(struct stream_tls *tls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_bio_method);
    BIO *bio = BIO_new(bio_method);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    return bio;
}

/* ---- starting ---- */

/* False: TLS must not start now, the stream has failed. */
static bool may_start(struct stream *stream)
{
    if (stream->state != STREAM_OPEN || stream->tls)
        return false;
    if (stream->in.len == 0)
        return true;
    /* Bytes slipped in behind STARTTLS must never be read as if they had been
     * encrypted. The caller judges them; this is the second lock on that door. */
    stream_fail_text(stream, ERR_INVALID, "bytes came in clear where the TLS handshake was due");
    stream_kick(stream);
    return false;
}

static void attach(struct stream *stream, SSL *ssl)
{
    struct stream_tls *tls = mem_alloc(sizeof(*tls));

    tls->stream = stream;
    tls->ssl = ssl;
    buf_init(&tls->rest, SIZE_MAX); /* bounded by STREAM_IN_MAX plus one read, see wants_bytes() */
    BIO *bio = new_bio(tls);
    SSL_set_bio(ssl, bio, bio);
    /* What was written before this call goes out in clear, in front. */
    buf_str(&stream->wire, buf_view(&stream->out));
    buf_clear(&stream->out);
    stream->tls = tls;
}

void stream_tls_server(struct stream *stream, struct tls_server *server)
{
    struct fault fault;
    SSL *ssl = NULL;

    if (!may_start(stream))
        return;
    if (tls_server_ssl(server, &ssl, &fault)) {
        stream_fail(stream, &fault);
    } else {
        attach(stream, ssl);
        SSL_set_accept_state(ssl);
    }
    stream_kick(stream);
}

void stream_tls_client(struct stream *stream, struct tls_client *client,
                       const struct tls_request *request)
{
    struct fault fault;
    SSL *ssl = NULL;

    if (!may_start(stream))
        return;
    if (tls_client_ssl(client, request, &ssl, &fault)) {
        stream_fail(stream, &fault);
    } else {
        attach(stream, ssl);
        SSL_set_connect_state(ssl);
        stream_tls_pump(stream); /* the first flight; events wait for the kick */
    }
    stream_kick(stream);
}

void stream_tls_free(struct stream_tls **tls_at)
{
    struct stream_tls *tls = *tls_at;

    if (!tls)
        return;
    SSL_free(tls->ssl); /* and the BIO */
    buf_clear(&tls->rest);
    free(tls);
    *tls_at = NULL;
}

/* ---- bytes in ---- */

static void fail(struct stream *stream, const char *what)
{
    struct stream_tls *tls = stream->tls;
    struct fault fault;

    tls->is_broken = true;
    tls_facts_learn(tls->ssl, &tls->facts);
    tls_fault(&fault, what, tls->facts.problem);
    stream_flush(stream); /* the alert tells the other side why */
    if (stream->state == STREAM_LEAVING)
        stream_drop_output(stream);
    stream_fail(stream, &fault);
}

static bool shake_hands(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;

    ERR_clear_error();
    int rc = SSL_do_handshake(tls->ssl);
    if (rc == 1) {
        tls->is_done = true;
        tls_facts_learn(tls->ssl, &tls->facts);
        if (SSL_is_server(tls->ssl))
            tls_server_shaken(tls->ssl);
        stream_event_add(stream, STREAM_TLS);
        return true;
    }
    int why = SSL_get_error(tls->ssl, rc);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        fail(stream, "TLS handshake");
    return false;
}

/* False: nothing more to decrypt for now. */
static bool decrypt_some(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    size_t got = 0;

    ERR_clear_error();
    char *to = buf_reserve(&stream->in, RECORD_MAX);
    if (SSL_read_ex(tls->ssl, to, RECORD_MAX, &got)) {
        buf_commit(&stream->in, got);
        stream_event_add(stream, STREAM_DATA);
        return true;
    }
    int why = SSL_get_error(tls->ssl, 0);
    if (why == SSL_ERROR_ZERO_RETURN)
        stream_got_eof(stream);
    else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        fail(stream, "TLS");
    return false;
}

void stream_tls_pump(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;

    if (stream->state != STREAM_OPEN || (!tls->is_done && !shake_hands(stream)))
        return;
    while (stream->state == STREAM_OPEN && !stream->has_eof && stream->in.len < STREAM_IN_MAX) {
        if (!decrypt_some(stream))
            break;
    }
    if (stream->in.len == 0)
        buf_clear(&stream->in);
}

void stream_tls_feed(struct stream *stream, struct str bytes)
{
    struct stream_tls *tls = stream->tls;

    if (tls->rest.len)
        buf_str(&tls->rest, bytes);
    else
        tls->fresh = bytes;
    stream_tls_pump(stream);
    buf_str(&tls->rest, tls->fresh);
    tls->fresh = STR_EMPTY;
    if (tls->rest.len == 0)
        buf_clear(&tls->rest);
    if (stream->wire.len || stream->out.len)
        stream_kick(stream);
}

bool stream_tls_has_rest(const struct stream *stream) { return stream->tls->rest.len > 0; }
bool stream_tls_is_shaking(const struct stream *stream) { return !stream->tls->is_done; }

/* ---- bytes out ---- */

void stream_tls_encrypt(struct stream *stream, size_t most)
{
    struct stream_tls *tls = stream->tls;
    size_t taken = 0;

    if (!tls->is_done || tls->is_broken || stream->out.len == 0 || stream->wire.len >= most)
        return;
    if (most > stream->out.len)
        most = stream->out.len;
    ERR_clear_error();
    /* The BIO takes everything, so a write is never left half done. */
    if (!SSL_write_ex(tls->ssl, stream->out.at, most, &taken)) {
        fail(stream, "TLS");
        return;
    }
    buf_consume(&stream->out, taken);
    if (stream->out.len == 0)
        buf_clear(&stream->out);
}

void stream_tls_goodbye(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;

    if (!tls->is_done)
        buf_clear(&stream->out); /* can never be encrypted now */
    if (!tls->is_done || tls->is_broken || stream->is_out_dead)
        return;
    stream_tls_encrypt(stream, SIZE_MAX);
    if (tls->is_broken)
        return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

/* ---- what was agreed ---- */

const struct tls_facts *stream_tls_facts(const struct stream *stream)
{
    static const struct tls_facts none;

    return stream->tls ? &stream->tls->facts : &none;
}

struct str stream_channel_binding(const struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    static const char label[] = "EXPORTER-Channel-Binding";

    if (!tls || !tls->is_done || SSL_version(tls->ssl) != TLS1_3_VERSION)
        return STR_EMPTY;
    if (!SSL_export_keying_material(tls->ssl, tls->binding, sizeof(tls->binding), label,
                                    sizeof(label) - 1, NULL, 0, 0))
        return STR_EMPTY;
    return str_make((const char *)tls->binding, sizeof(tls->binding));
}
