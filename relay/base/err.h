/*
 * err.h - what our own functions return, and the sentence that goes with it.
 *
 * An `enum err` says what kind of thing went wrong, so that code can decide;
 * a `struct fault` says it in words, so that a person can. Codes of libraries
 * (errno, libuv, LMDB, OpenSSL, ldns) are translated at the module's edge.
 * What a mail server elsewhere said is not an error: it is a reply.
 */
#ifndef WAYPOST_BASE_ERR_H
#define WAYPOST_BASE_ERR_H

#define ERR_MAP(X)                                                                                 \
    X(OK, "ok")                                                                                    \
    X(AGAIN, "not now")      /* ask again later or with more input */                              \
    X(INVALID, "invalid")    /* the input breaks a rule */                                         \
    X(LIMIT, "over a limit") /* a size or count cap was reached */                                 \
    X(NOT_FOUND, "not found")                                                                      \
    X(EXISTS, "already there")                                                                     \
    X(DENIED, "permission denied")                                                                 \
    X(BUSY, "in use")   /* somebody else holds it */                                               \
    X(FULL, "no space") /* disk, quota or map is full */                                           \
    X(IO, "input/output error")                                                                    \
    X(CORRUPT, "corrupt") /* stored bytes do not make sense */                                     \
    X(VERSION, "from another version")                                                             \
    X(TIMEOUT, "timed out")                                                                        \
    X(REFUSED, "connection refused")                                                               \
    X(UNREACHABLE, "unreachable")  /* no route to host or network, family unusable */              \
    X(CLOSED, "connection closed") /* by the peer, in order or by reset */                         \
    X(DNS, "name lookup failed")                                                                   \
    X(TLS, "TLS failed")                                                                           \
    X(UNSUPPORTED, "not supported")                                                                \
    X(CANCELLED, "cancelled")

enum err {
#define X(name, text) ERR_##name,
    ERR_MAP(X)
#undef X
};

#define FAULT_MAX 512

/* One sentence for a person. `err` repeats what the function returned. */
struct fault {
    enum err err;
    char text[FAULT_MAX];
};

/* Fill `fault` (may be NULL) and return `err`, so that a guard is one line:
 * `return fault_set(fault, ERR_INVALID, "line %u: ...", line);`
 * Text that does not fit is cut at the end. */
enum err fault_set(struct fault *fault, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with ": strerror(errnum)" at the end and the err derived from errnum; never ERR_OK. */
enum err fault_errno(struct fault *fault, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum err err_of_errno(int errnum);
const char *err_text(enum err err); /* a constant, never NULL */

#endif
