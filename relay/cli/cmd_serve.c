/*
 * cmd_serve.c - waypost serve: read the configuration, then be the relay.
 */
#include "relay/cli/cmd.h"
#include "relay/cli/notify.h"
#include "relay/engine.h"

#include <sched.h>

/* A thread that is woken waits for its turn instead of pushing another one off its
 * processor: fewer switches, and commits that carry more messages, when all processors
 * are busy; the same when they are not. A policy that was given to us stays. The
 * packaged unit forbids the call and sets the policy itself. */
static void choose_scheduling(void)
{
    const struct sched_param none = { .sched_priority = 0 };

    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &none);
}

static void tell(void *arg, enum conf_severity severity, const char *file, unsigned line,
                 const char *what, const char *fix)
{
    (void)arg;
    cmd_print_finding(stderr, severity, file, line, what, fix);
}

static void ready(void *arg)
{
    (void)arg;
    notify_manager("READY=1");
}

static void stopping(void *arg)
{
    (void)arg;
    notify_manager("STOPPING=1");
}

static void alive(void *arg)
{
    (void)arg;
    notify_manager("WATCHDOG=1");
}

/* What is wrong at the start is wrong with the set-up, not with some input. */
static int start_code(enum err err)
{
    bool is_setup = err == ERR_INVALID || err == ERR_NOT_FOUND || err == ERR_CORRUPT;

    return is_setup ? EX_CONFIG : cmd_code(err);
}

int cmd_serve(const char *conf_file, int argc, char **argv)
{
    struct engine_options options = {
        .conf_file = conf_file,
        .ready = ready,
        .stopping = stopping,
        .alive = alive,
        .alive_every_ms = notify_interval_ms(),
    };
    struct fault fault;
    enum err err;

    if (argc > 1)
        return cmd_misuse("serve", "serve takes no argument \"%s\"", argv[1]);
    if (conf_read(conf_file, tell, NULL, &options.conf))
        return cmd_fail(EX_CONFIG, "not started: mend the configuration first");
    choose_scheduling();
    err = engine_serve(&options, &fault);
    conf_unref(&options.conf);
    return err ? cmd_fail(start_code(err), "%s", fault.text) : EX_OK;
}
