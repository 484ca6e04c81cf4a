/*
 * engine.h - composition: configuration -> store -> loops -> listeners.
 *
 * The only place that knows every part. Loop 0 runs on the calling thread, with
 * signals and the API; the others on threads of their own. SIGHUP reloads,
 * SIGTERM and SIGINT drain, a second one ends now.
 */
#ifndef WAYPOST_ENGINE_H
#define WAYPOST_ENGINE_H

#include "conf/conf.h"

struct engine_options {
    struct conf *conf;           /* a reference is taken */
    const char *conf_file;       /* read again at reload; NULL: the default */
    void (*ready)(void *arg);    /* listening, store open: loop 0; may be NULL */
    void (*stopping)(void *arg); /* drains now: loop 0; may be NULL */
    void (*alive)(void *arg);    /* every alive_every_ms while the loops turn: loop 0 */
    uint64_t alive_every_ms;     /* 0: nobody wants to know */
    void *arg;
};

/* Runs until stopped. The fault says why it could not start. */
enum err engine_serve(const struct engine_options *options, struct fault *fault);

#endif
