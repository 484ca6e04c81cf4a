/*
 * engine_fit.c - living within the descriptors we get: how many loops, sessions
 * and connections they are enough for.
 */
#include "relay/engine_impl.h"

#include <sys/resource.h>
#include <unistd.h>

#define PROCESS_OWN 13 /* standard three, trace, queue, its lock, signals, log, API */
#define LOOP_OWN 4     /* epoll, wake-ups */
#define LOOP_DNS 4     /* a few questions at once */
#define SHARE_MIN 4
#define LOOPS_AUTO_MAX 8

static rlim_t descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return (rlim_t)1 << 20;
    return limit.rlim_cur;
}

void engine_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Open whatever the load. A listener is bound once a loop, and each has its copy. */
static rlim_t own(const struct conf *conf, unsigned loops)
{
    return PROCESS_OWN + (rlim_t)loops * (LOOP_OWN + LOOP_DNS + 2 * conf->listen_count) +
           descriptors() / 16; /* callers of the API */
}

unsigned engine_fit_loops(const struct conf *conf)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned loops = cores < 1 ? 1 : cores > LOOPS_AUTO_MAX ? LOOPS_AUTO_MAX : (unsigned)cores;

    if (conf->workers)
        return conf->workers < ENGINE_LOOPS_MAX ? conf->workers : ENGINE_LOOPS_MAX;
    while (loops > 1 && own(conf, loops) > descriptors() * 2 / 3)
        loops--;
    return loops;
}

static unsigned least(uint64_t wanted, rlim_t room)
{
    rlim_t share = room > SHARE_MIN ? room : SHARE_MIN;

    return wanted < share ? (unsigned)wanted : (unsigned)share;
}

void engine_fit_caps(struct engine *engine, struct setup *setup)
{
    const struct conf *conf = setup->conf;
    rlim_t taken = own(conf, engine->loop_count), all = descriptors();
    rlim_t room = all > taken ? all - taken : 0;
    rlim_t files = room / 6; /* large bodies on their way in or out */
    rlim_t outbound = (room - files) / 3;
    unsigned connections = least(conf->max_connections, outbound) / engine->loop_count;

    setup->sched.connections_max = connections ? connections : 1;
    caps_set(engine->caps, least(conf->limits.sessions, room - files - outbound),
             conf->limits.sessions_per_client);
}
