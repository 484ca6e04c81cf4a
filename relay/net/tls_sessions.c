/*
 * tls_sessions.c - TLS sessions kept per destination, shared by all loops.
 *
 * A resumed handshake costs a fifth of a full one. Whoever takes a session gets
 * a copy of its own: OpenSSL writes into sessions, and two loops may use one.
 */
#include "relay/net/tls_impl.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
/* uthash's own hash functions fall through their switches, which clang reports. */
#define HASH_FUNCTION(key, len, hash) (hash) = (unsigned)str_hash(str_make((key), (len)), 0)
#include <uthash.h>

#define SESSIONS_MAX 1024
#define SESSION_AGE_S 3600 /* then the certificate is looked at again */

struct entry {
    char *key;
    SSL_SESSION *session;
    UT_hash_handle hh;
};

struct tls_sessions {
    pthread_mutex_t lock;
    struct entry *entries; /* oldest first */
};

struct tls_sessions *tls_sessions_new(void)
{
    struct tls_sessions *sessions = mem_alloc(sizeof(*sessions));

    pthread_mutex_init(&sessions->lock, NULL);
    return sessions;
}

static void drop(struct tls_sessions *sessions, struct entry *entry)
{
    HASH_DEL(sessions->entries, entry);
    SSL_SESSION_free(entry->session);
    free(entry->key);
    free(entry);
}

void tls_sessions_free(struct tls_sessions **sessions_at)
{
    struct tls_sessions *sessions = *sessions_at;

    while (sessions->entries)
        drop(sessions, sessions->entries);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
    *sessions_at = NULL;
}

static bool is_fresh(const SSL_SESSION *session)
{
    return SSL_SESSION_is_resumable(session) &&
           time(NULL) - (time_t)SSL_SESSION_get_time(session) < SESSION_AGE_S;
}

SSL_SESSION *tls_sessions_get(struct tls_sessions *sessions, const char *key)
{
    struct entry *entry = NULL;
    SSL_SESSION *copy = NULL;

    pthread_mutex_lock(&sessions->lock);
    HASH_FIND_STR(sessions->entries, key, entry);
    if (entry && is_fresh(entry->session))
        copy = SSL_SESSION_dup(entry->session);
    else if (entry)
        drop(sessions, entry);
    pthread_mutex_unlock(&sessions->lock);
    return copy;
}

void tls_sessions_put(struct tls_sessions *sessions, const char *key, SSL_SESSION *session)
{
    struct entry *old = NULL;
    struct entry *entry = mem_alloc(sizeof(*entry));

    /* The connection that made it goes on writing into its own. */
    entry->session = SSL_SESSION_dup(session);
    SSL_SESSION_free(session);
    entry->key = str_dup(str_of(key));
    pthread_mutex_lock(&sessions->lock);
    HASH_FIND_STR(sessions->entries, key, old);
    if (!old && HASH_COUNT(sessions->entries) >= SESSIONS_MAX)
        old = sessions->entries;
    if (old)
        drop(sessions, old);
    HASH_ADD_KEYPTR(hh, sessions->entries, entry->key, strlen(entry->key), entry);
    pthread_mutex_unlock(&sessions->lock);
}
