/*
 * Metrics as Prometheus reads them: a checker of the text format 0.0.4, then
 * what the values are.
 */
#include "relay/api/metrics.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the checker ---- */

#define NAMES_MAX 200

struct check {
    char name[128]; /* of the family whose samples come now */
    char seen[NAMES_MAX][128];
    size_t seen_count;
    char *samples[4096]; /* name and labels, each once */
    size_t sample_count;
};

static size_t name_len(const char *s)
{
    size_t n = 0;

    while (isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == ':')
        n++;
    return isdigit((unsigned char)s[0]) ? 0 : n;
}

static void begin_family(struct check *check, const char *line)
{
    size_t n = name_len(line + 7);

    assert_true(n > 0 && n < sizeof(check->name));
    assert_int_equal(line[7 + n], ' ');
    str_copy(check->name, sizeof(check->name), str_make(line + 7, n));
    for (size_t i = 0; i < check->seen_count; i++)
        assert_string_not_equal(check->seen[i], check->name);
    assert_true(check->seen_count < NAMES_MAX);
    str_copy(check->seen[check->seen_count++], sizeof(check->name), str_of(check->name));
    assert_true(strlen(line) > 7 + n + 1); /* some help */
}

static void check_type(const struct check *check, const char *line)
{
    size_t n = strlen(check->name);

    assert_memory_equal(line + 7, check->name, n);
    assert_true(!strcmp(line + 7 + n, " counter") || !strcmp(line + 7 + n, " gauge"));
    if (!strcmp(line + 7 + n, " counter"))
        assert_string_equal(check->name + n - 6, "_total");
}

static const char *skip_labels(const char *s)
{
    if (*s != '{')
        return s;
    do {
        size_t n = name_len(++s);
        assert_true(n > 0);
        assert_memory_equal(s + n, "=\"", 2);
        for (s += n + 2; *s != '"'; s++) {
            assert_true((unsigned char)*s >= 0x20);
            if (*s == '\\')
                assert_non_null(strchr("\\\"n", *++s));
        }
        s++;
    } while (*s == ',');
    assert_int_equal(*s, '}');
    return s + 1;
}

static void check_sample(struct check *check, const char *line)
{
    size_t n = name_len(line);
    const char *end = skip_labels(line + n);
    char *rest;

    assert_int_equal(n, strlen(check->name));
    assert_memory_equal(line, check->name, n);
    assert_int_equal(*end, ' ');
    strtod(end + 1, &rest);
    assert_true(rest > end + 1 && *rest == '\0');
    char *key = str_dup(str_make(line, (size_t)(end - line)));
    for (size_t i = 0; i < check->sample_count; i++)
        assert_string_not_equal(check->samples[i], key);
    check->samples[check->sample_count++] = key;
}

static void check_text(struct str text)
{
    struct check *check = mem_alloc(sizeof(*check));
    struct str line;

    assert_int_equal(text.at[text.len - 1], '\n');
    assert_true(str_is_utf8(text));
    while (str_next(&text, '\n', &line)) {
        char *s = str_dup(line);
        if (str_starts(line, STR("# HELP ")))
            begin_family(check, s);
        else if (str_starts(line, STR("# TYPE ")))
            check_type(check, s);
        else
            check_sample(check, s);
        free(s);
    }
    assert_true(check->seen_count > 20);
    for (size_t i = 0; i < check->sample_count; i++)
        free(check->samples[i]);
    free(check);
}

/* ---- the tests ---- */

static void has(struct buf *out, const char *line)
{
    buf_char(out, '\0');
    if (!strstr(out->at, line))
        fail_msg("no \"%s\" in\n%s", line, out->at);
    out->len--;
}

static void values(void **state)
{
    struct hop_counts hops = { .alarms = 3, .dropped = 4 };
    struct store_health store = { .state = STORE_FULL_DISK,
                                  .messages = 1000000,
                                  .recipients_queued = 7,
                                  .recipients_held = 8,
                                  .queued_bytes = UINT64_C(5000000000),
                                  .commits = 10,
                                  .commit_ns_sum = 1500000000,
                                  .batch_sum = 40 };
    struct api_state now = { .sessions = 2, .started_us = 1700000000500000 };
    struct buf out;

    (void)state;
    hops.by_result[STAGE_RCPT][RESULT_LATER] = 5;
    hops.by_class[CLASS_SOFT] = 6;
    hops.seconds_sum_us[STAGE_CONNECT] = 1234567;
    buf_init(&out, 1 << 20);
    metrics_render(&(struct metrics){ .hops = &hops, .store = &store, .state = &now }, &out);
    check_text(buf_view(&out));
    has(&out, "\nwaypost_hops_total{stage=\"rcpt\",result=\"later\"} 5\n");
    has(&out, "\nwaypost_settled_total{class=\"soft\"} 6\n");
    has(&out, "\nwaypost_settled_total{class=\"hard\"} 0\n");
    has(&out, "\nwaypost_stage_seconds_total{stage=\"connect\"} 1.234567\n");
    has(&out, "\nwaypost_alarms_total 3\n");
    has(&out, "\nwaypost_hops_dropped_total 4\n");
    has(&out, "\nwaypost_queue_messages 1000000\n");
    has(&out, "\nwaypost_queue_bytes 5000000000\n");
    has(&out, "\nwaypost_queue_recipients{state=\"held\"} 8\n");
    has(&out, "\nwaypost_queue_state{state=\"full-disk\"} 1\n");
    has(&out, "\nwaypost_queue_state{state=\"fine\"} 0\n");
    has(&out, "\nwaypost_queue_commit_seconds_total 1.5\n");
    has(&out, "\nwaypost_process_start_time_seconds 1700000000.5\n");
    has(&out, "waypost_build_info{version=\"" WAYPOST_VERSION "\"} 1\n");
    assert_null(strstr(out.at, "certificate"));
    buf_clear(&out);
}

static void labels_are_escaped(void **state)
{
    struct hop_counts hops = { 0 };
    struct store_health store = { 0 };
    struct api_lane lanes[] = {
        { .lane = STR("a\"b\\c\n\x1b\xff/*"),
          .dest = STR("x"),
          .state = STR("sleeping"),
          .wake_at = 1800000000 },
        { .lane = STR("awake/*"), .state = STR("ready") },
    };
    struct api_state now = { .lanes = lanes,
                             .lane_count = 2,
                             .certificate_expires_at = 1900000000,
                             .certificate_is_stale = true,
                             .stuck_s = 400 };
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    metrics_render(&(struct metrics){ .hops = &hops, .store = &store, .state = &now }, &out);
    check_text(buf_view(&out));
    has(&out, "{lane=\"a\\\"b\\\\\\\\c\\\\x0A\\\\x1B\\\\xFF/*\",dest=\"x\"} 1800000000\n");
    has(&out, "\nwaypost_certificate_expiry_seconds 1900000000\n");
    has(&out, "\nwaypost_certificate_stale 1\n");
    has(&out, "\nwaypost_stuck_seconds 400\n");
    assert_null(strstr(out.at, "awake"));
    buf_clear(&out);
}

static void only_the_worst_lanes(void **state)
{
    struct hop_counts hops = { 0 };
    struct store_health store = { 0 };
    struct api_lane lanes[80];
    char names[80][32];
    struct api_state now = { .lanes = lanes, .lane_count = 80 };
    struct buf out;
    size_t count = 0;

    (void)state;
    for (unsigned i = 0; i < 80; i++) {
        snprintf(names[i], sizeof(names[i]), "direct/n%u.test", i);
        lanes[i] =
            (struct api_lane){ .lane = str_of(names[i]), .state = STR("sleeping"), .later = i };
    }
    buf_init(&out, 1 << 20);
    metrics_render(&(struct metrics){ .hops = &hops, .store = &store, .state = &now }, &out);
    check_text(buf_view(&out));
    has(&out, "direct/n79.test");
    for (const char *s = out.at; (s = strstr(s, "waypost_lane_wakes_seconds{")); s++)
        count++;
    assert_int_equal(count, METRICS_LANES);
    assert_null(strstr(out.at, "n29.test"));
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(only_the_worst_lanes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
