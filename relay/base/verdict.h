/*
 * verdict.h - the vocabulary of what happened: stage, result, scope, class.
 *
 * Log lines, traces, metrics, DSNs and the outcome table all use these words.
 * They sit in base so that outcome and hop include nothing above them. A new
 * word is one row here.
 */
#ifndef WAYPOST_BASE_VERDICT_H
#define WAYPOST_BASE_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

/* Where in the path of a message something happened. */
#define STAGE_MAP(X)                                                                               \
    X(SERVICE, "service", "the relay itself started, reloaded, stopped")                           \
    X(SESSION, "session", "a client connected or left")                                            \
    X(RECEIVE, "receive", "a message arrived over SMTP")                                           \
    X(CONVERT, "convert", "a message was re-encoded")                                              \
    X(SIGN, "sign", "DKIM signatures were made")                                                   \
    X(QUEUE, "queue", "the message became durable")                                                \
    X(OPERATOR, "operator", "held, released, dropped, moved by hand")                              \
    X(WAIT, "wait", "the message waited for its turn")                                             \
    X(ROUTE, "route", "the next hop was looked up")                                                \
    X(POLICY, "policy", "how TLS must be done was decided")                                        \
    X(CONNECT, "connect", "a connection to the next hop")                                          \
    X(BANNER, "banner", "the greeting")                                                            \
    X(EHLO, "ehlo", "EHLO or HELO")                                                                \
    X(STARTTLS, "starttls", "the STARTTLS command")                                                \
    X(TLS, "tls", "the TLS handshake")                                                             \
    X(AUTH, "auth", "AUTH")                                                                        \
    X(MAIL, "mail", "MAIL FROM")                                                                   \
    X(RCPT, "rcpt", "RCPT TO")                                                                     \
    X(DATA, "data", "DATA or BDAT, up to the last byte of the content")                            \
    X(CONTENT, "content", "the reply to the end of the content")                                   \
    X(QUIT, "quit", "QUIT")                                                                        \
    X(SETTLE, "settle", "what came of it was recorded")                                            \
    X(DSN, "dsn", "a delivery status notification was made")                                       \
    X(ALARM, "alarm", "something an operator must look at")                                        \
    X(EXPAND, "expand", "a local name became the addresses it leads to")

enum stage {
#define X(name, word, help) STAGE_##name,
    STAGE_MAP(X)
#undef X
        STAGE_COUNT
};

/* How it ended. A hop that only made progress is OK. */
#define RESULT_MAP(X)                                                                              \
    X(OK, "ok")                                                                                    \
    X(DELIVERED, "delivered")                                                                      \
    X(LATER, "later")                                                                              \
    X(FAILED, "failed")

enum result {
#define X(name, word) RESULT_##name,
    RESULT_MAP(X)
#undef X
        RESULT_COUNT
};

/* Who suffers from it. */
#define SCOPE_MAP(X)                                                                               \
    X(NONE, "none")                                                                                \
    X(RECIPIENT, "recipient") /* only this recipient */                                            \
    X(MESSAGE, "message")     /* this message, at any host */                                      \
    X(HOST, "host")           /* this host: try the next one */                                    \
    X(DEST, "dest")           /* the whole destination backs off */                                \
    X(US, "us")               /* our own trouble: blame nobody, retry soon, alarm */

enum scope {
#define X(name, word) SCOPE_##name,
    SCOPE_MAP(X)
#undef X
        SCOPE_COUNT
};

/* What kind of reason it was. */
#define CLASS_MAP(X)                                                                               \
    X(NONE, "none")                                                                                \
    X(HARD, "hard")       /* no such mailbox, no such domain */                                    \
    X(SOFT, "soft")       /* mailbox full, greylisted, busy */                                     \
    X(BLOCK, "block")     /* our address or domain is refused: reputation, lists */                \
    X(CONTENT, "content") /* the content was refused: spam, virus, format */                       \
    X(POLICY, "policy")   /* a rule of theirs: authentication, relaying, sender rights */          \
    X(AUTH, "auth")       /* our credentials were refused */                                       \
    X(QUOTA, "quota")     /* too much, too fast */                                                 \
    X(NETWORK, "network")                                                                          \
    X(DNS, "dns")                                                                                  \
    X(TLS, "tls")                                                                                  \
    X(CONFIG, "config") /* something to mend in a configuration, ours or theirs */

enum class {
#define X(name, word) CLASS_##name,
    CLASS_MAP(X)
#undef X
        CLASS_COUNT
};

const char *stage_word(enum stage stage);
const char *stage_help(enum stage stage);
const char *result_word(enum result result);
const char *scope_word(enum scope scope);
const char *class_word(enum class kind);

/* The reverse, for filters and fixtures: false when the word is unknown. */
bool stage_parse(const char *word, size_t len, enum stage *out_stage);
bool result_parse(const char *word, size_t len, enum result *out_result);
bool scope_parse(const char *word, size_t len, enum scope *out_scope);
bool class_parse(const char *word, size_t len, enum class *out_kind);

#endif
