/*
 * unit.c - sizes, durations and rates, from text and into text.
 */
#include "conf/value.h"

/* Digits at the front of *rest. */
static bool number(struct str *rest, uint64_t *out)
{
    size_t n = 0;

    while (n < rest->len && rest->at[n] >= '0' && rest->at[n] <= '9')
        n++;
    if (!str_u64(str_head(*rest, n), out))
        return false;
    *rest = str_from(*rest, n);
    return true;
}

static bool multiply(uint64_t value, uint64_t by, uint64_t *out)
{
    return !__builtin_mul_overflow(value, by, out);
}

bool value_size(struct str text, uint64_t *out_octets)
{
    static const char units[] = "KMGT";
    struct str rest = text;
    uint64_t value;

    if (!number(&rest, &value))
        return false;
    if (rest.len == 0) {
        *out_octets = value;
        return true;
    }
    const char *unit = rest.len == 1 ? strchr(units, rest.at[0] & ~32) : NULL;
    if (!unit || !*unit)
        return false;
    return multiply(value, 1ULL << (10 * (unit - units + 1)), out_octets);
}

static const struct {
    const char *word;
    uint64_t ms;
} duration_units[] = {
    { "w", 7 * MS(DAY) }, { "d", MS(DAY) }, { "h", MS(HOUR) },
    { "ms", 1 },          { "m", MS(60) },  { "s", MS(1) },
};

static bool duration_unit(struct str *rest, uint64_t *out_ms)
{
    for (size_t i = 0; i < sizeof(duration_units) / sizeof(duration_units[0]); i++) {
        struct str word = str_of(duration_units[i].word);
        if (!str_starts(*rest, word))
            continue;
        *rest = str_from(*rest, word.len);
        *out_ms = duration_units[i].ms;
        return true;
    }
    return false;
}

bool value_duration(struct str text, uint64_t *out_ms)
{
    uint64_t total = 0, value, unit;
    struct str rest = text;

    if (str_eq(text, STR("0"))) {
        *out_ms = 0;
        return true;
    }
    do {
        if (!number(&rest, &value) || !duration_unit(&rest, &unit) ||
            !multiply(value, unit, &value) || __builtin_add_overflow(total, value, &total))
            return false;
    } while (rest.len);
    *out_ms = total;
    return true;
}

bool value_rate(struct str text, double *out_per_s)
{
    struct str rest = text;
    uint64_t value;

    if (!number(&rest, &value) || value == 0 || value > 1000000000)
        return false;
    if (str_eq(rest, STR("/s")))
        *out_per_s = (double)value;
    else if (str_eq(rest, STR("/m")))
        *out_per_s = (double)value / 60;
    else if (str_eq(rest, STR("/h")))
        *out_per_s = (double)value / 3600;
    else
        return false;
    return true;
}

void value_print_size(uint64_t octets, struct buf *out)
{
    static const char units[] = "KMGT";
    int unit = -1;

    while (octets && octets % 1024 == 0 && unit < 3) {
        octets /= 1024;
        unit++;
    }
    buf_printf(out, "%llu", (unsigned long long)octets);
    if (unit >= 0)
        buf_char(out, units[unit]);
}

void value_print_duration(uint64_t ms, struct buf *out)
{
    static const struct {
        const char *word;
        uint64_t ms;
    } units[] = {
        { "d", MS(DAY) }, { "h", MS(HOUR) }, { "m", MS(60) }, { "s", MS(1) }, { "ms", 1 },
    };

    if (ms == 0)
        buf_char(out, '0');
    for (size_t i = 0; ms && i < sizeof(units) / sizeof(units[0]); i++) {
        if (ms >= units[i].ms)
            buf_printf(out, "%llu%s", (unsigned long long)(ms / units[i].ms), units[i].word);
        ms %= units[i].ms;
    }
}
