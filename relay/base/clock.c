/*
 * clock.c - reading the clocks, and times written for machines and people.
 *
 * Names of days and months are our own: strftime would follow the locale, and
 * RFC 5322 dates are English.
 */
#include "relay/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define US_PER_S 1000000

static struct timespec read_clock(clockid_t id)
{
    struct timespec t = { 0 };

    clock_gettime(id, &t);
    return t;
}

int64_t clock_wall_us(void)
{
    struct timespec t = read_clock(CLOCK_REALTIME);

    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

uint64_t clock_mono_ns(void)
{
    struct timespec t = read_clock(CLOCK_MONOTONIC);

    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_mono_ms(void) { return clock_mono_ns() / 1000000; }

uint64_t clock_boot_ms(void)
{
    struct timespec t = read_clock(CLOCK_BOOTTIME);

    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void clock_watch_init(struct clock_watch *watch)
{
    watch->wall_us = clock_wall_us();
    watch->boot_ms = clock_boot_ms();
}

int64_t clock_watch_jump_s(struct clock_watch *watch, int64_t slack_s)
{
    struct clock_watch before = *watch;

    clock_watch_init(watch);
    int64_t by_wall = watch->wall_us - before.wall_us;
    int64_t by_boot = ((int64_t)watch->boot_ms - (int64_t)before.boot_ms) * 1000;
    int64_t jump_s = (by_wall - by_boot) / US_PER_S;
    return llabs(jump_s) < slack_s ? 0 : jump_s;
}

/* Whole seconds, rounded down also before 1970, and the rest. */
static time_t split_us(int64_t wall_us, int *out_rest_us)
{
    int64_t s = wall_us / US_PER_S, rest = wall_us % US_PER_S;

    if (rest < 0) {
        rest += US_PER_S;
        s--;
    }
    *out_rest_us = (int)rest;
    return (time_t)s;
}

static size_t clamp_len(int len, size_t size)
{
    if (len < 0)
        return 0;
    return (size_t)len < size ? (size_t)len : size - 1;
}

size_t clock_iso(int64_t wall_us, char *out, size_t size)
{
    int rest_us;
    time_t s = split_us(wall_us, &rest_us);
    struct tm tm = { 0 };

    gmtime_r(&s, &tm);
    int len = snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, rest_us / 1000);
    return clamp_len(len, size);
}

size_t clock_rfc5322(int64_t wall_us, char *out, size_t size)
{
    static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    int rest_us;
    time_t s = split_us(wall_us, &rest_us);
    struct tm tm = { 0 };

    localtime_r(&s, &tm);
    int zone = (int)(labs(tm.tm_gmtoff) / 60);
    int len = snprintf(out, size, "%s, %02d %s %04d %02d:%02d:%02d %c%02d%02d", days[tm.tm_wday],
                       tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                       tm.tm_sec, tm.tm_gmtoff < 0 ? '-' : '+', zone / 60, zone % 60);
    return clamp_len(len, size);
}

size_t clock_span(uint64_t seconds, char *out, size_t size)
{
    uint64_t m = seconds / 60, h = m / 60, d = h / 24;
    int len;

    if (seconds < 60)
        len = snprintf(out, size, "%" PRIu64 "s", seconds);
    else if (h == 0 && seconds % 60 == 0)
        len = snprintf(out, size, "%" PRIu64 "m", m);
    else if (h == 0)
        len = snprintf(out, size, "%" PRIu64 "m %02" PRIu64 "s", m, seconds % 60);
    else if (d == 0 && m % 60 == 0)
        len = snprintf(out, size, "%" PRIu64 "h", h);
    else if (d == 0)
        len = snprintf(out, size, "%" PRIu64 "h %02" PRIu64 "m", h, m % 60);
    else if (h % 24 == 0)
        len = snprintf(out, size, "%" PRIu64 "d", d);
    else
        len = snprintf(out, size, "%" PRIu64 "d %" PRIu64 "h", d, h % 24);
    return clamp_len(len, size);
}
