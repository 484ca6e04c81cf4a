/*
 * crypto_cost.c - what one signature and one full handshake cost in CPU here.
 *
 * The bench's limit for submission is: cores / (signature + server's side of the
 * handshake + generator + sink, each in CPU seconds per message). This measures
 * the first two on the spot, in memory, without a relay.
 *
 * usage: crypto_cost CERTIFICATE KEY RSA-KEY     prints one JSON line
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SIGNATURES 300
#define HANDSHAKES 200

static double cpu_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "crypto_cost: %s\n", what);
    exit(1);
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *file = fopen(path, "r");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;

    if (!key)
        fail("cannot read the RSA key");
    fclose(file);
    return key;
}

static double sign_cost(const char *path)
{
    EVP_PKEY *key = read_key(path);
    unsigned char digest[32] = { 1 }, out[1024];
    double began = 0;
    int i;

    for (i = -20; i < SIGNATURES; i++) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
        size_t len = sizeof(out);

        if (i == 0)
            began = cpu_s();
        if (EVP_PKEY_sign_init(ctx) != 1 || EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) != 1 ||
            EVP_PKEY_sign(ctx, out, &len, digest, sizeof(digest)) != 1)
            fail("cannot sign");
        EVP_PKEY_CTX_free(ctx);
    }
    EVP_PKEY_free(key);
    return (cpu_s() - began) / SIGNATURES;
}

/* One handshake over memory; adds each side's time. */
static void handshake(SSL_CTX *server_ctx, SSL_CTX *client_ctx, double *server_s, double *client_s)
{
    SSL *server = SSL_new(server_ctx), *client = SSL_new(client_ctx);
    BIO *a, *b;
    int done_s = 0, done_c = 0, i;

    BIO_new_bio_pair(&a, 65536, &b, 65536);
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (i = 0; i < 10 && !(done_s == 1 && done_c == 1); i++) {
        double t0 = cpu_s(), t1;

        done_c = SSL_do_handshake(client);
        t1 = cpu_s();
        done_s = SSL_do_handshake(server);
        *client_s += t1 - t0;
        *server_s += cpu_s() - t1;
    }
    if (done_s != 1 || done_c != 1)
        fail("the handshake does not end");
    SSL_free(server);
    SSL_free(client);
}

int main(int argc, char **argv)
{
    SSL_CTX *server = SSL_CTX_new(TLS_server_method()), *client = SSL_CTX_new(TLS_client_method());
    double server_s = 0, client_s = 0;
    int i;

    if (argc != 4)
        fail("usage: crypto_cost CERTIFICATE KEY RSA-KEY");
    if (SSL_CTX_use_certificate_chain_file(server, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(server, argv[2], SSL_FILETYPE_PEM) != 1)
        fail("cannot use the certificate or its key");
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(server, 0);
    for (i = -20; i < HANDSHAKES; i++) {
        if (i == 0)
            server_s = client_s = 0;
        handshake(server, client, &server_s, &client_s);
    }
    printf("{\"sign_s\": %.7f, \"server_handshake_s\": %.7f, \"client_handshake_s\": %.7f}\n",
           sign_cost(argv[3]), server_s / HANDSHAKES, client_s / HANDSHAKES);
    return 0;
}
