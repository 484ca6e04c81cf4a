/*
 * metrics.c - one row for each plain metric, a function for those with labels.
 *
 * Text format 0.0.4: HELP and TYPE once, before all samples of a name; in label
 * values backslash, quote and newline are escaped.
 */
#include "relay/api/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

#define LABEL_MAX 256

/* ---- the format ---- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP waypost_%s %s\n# TYPE waypost_%s %s\n", name, help, name, type);
}

static void label(struct buf *out, const char *name, struct str value)
{
    struct buf shown;

    /* Control characters and broken UTF-8 are shown as text before they are quoted. */
    buf_init(&shown, 4 * LABEL_MAX + 8);
    buf_escaped(&shown, value, LABEL_MAX);
    buf_printf(out, "%s%s=\"", out->at[out->len - 1] == '{' ? "" : ",", name);
    for (size_t i = 0; i < shown.len; i++) {
        if (shown.at[i] == '\\' || shown.at[i] == '"')
            buf_char(out, '\\');
        buf_char(out, shown.at[i]);
    }
    buf_char(out, '"');
    buf_clear(&shown);
}

static void sample_begin(struct buf *out, const char *name)
{
    buf_printf(out, "waypost_%s{", name);
}

static void sample_end(struct buf *out, uint64_t value)
{
    buf_printf(out, "} %" PRIu64 "\n", value);
}

static void seconds_end(struct buf *out, uint64_t us)
{
    buf_printf(out, "} %" PRIu64 ".%06u\n", us / 1000000, (unsigned)(us % 1000000));
}

/* ---- plain ones ---- */

#define COUNTER(name, value, help)                                                                 \
    {                                                                                              \
        name, "counter", help, (double)(value)                                                     \
    }
#define GAUGE(name, value, help)                                                                   \
    {                                                                                              \
        name, "gauge", help, (double)(value)                                                       \
    }

struct plain {
    const char *name, *type, *help;
    double value;
};

static void render_plain(const struct plain *rows, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        head(out, rows[i].name, rows[i].type, rows[i].help);
        buf_printf(out, "waypost_%s %.17g\n", rows[i].name, rows[i].value);
    }
}

static void render_store(const struct store_health *store, struct buf *out)
{
    const struct plain rows[] = {
        GAUGE("queue_messages", store->messages, "Messages in the queue."),
        GAUGE("queue_bytes", store->queued_bytes, "Bytes the queued messages take."),
        GAUGE("queue_quota_bytes", store->quota_bytes, "How much may be queued."),
        GAUGE("queue_disk_free_bytes", store->disk_free_bytes, "Free bytes on the queue's disk."),
        GAUGE("queue_oldest_arrival_seconds", store->oldest_s,
              "Unix time at which the oldest queued message arrived; 0 when the queue is empty."),
        GAUGE("queue_corrupt_records", store->corrupt, "Records that cannot be read."),
        GAUGE("queue_files_removed_at_start", store->files_removed,
              "Side files of messages never taken or already gone, left by a crash."),
        GAUGE("queue_writer_waiting", store->waiting, "Requests the writer has not taken yet."),
        COUNTER("queue_commits_total", store->commits, "Commits of the queue's writer."),
        COUNTER("queue_commit_seconds_total", (double)store->commit_ns_sum / 1e9,
                "Time spent in commits."),
        COUNTER("queue_batched_total", store->batch_sum,
                "Requests made durable; divided by the commits, the size of a batch."),
    };

    render_plain(rows, sizeof(rows) / sizeof(rows[0]), out);
}

static void render_state(const struct api_state *state, struct buf *out)
{
    const struct plain rows[] = {
        GAUGE("sessions", state->sessions, "Client sessions open now."),
        GAUGE("connections_out", state->connections_out, "Connections to next hops open now."),
        GAUGE("lanes", state->lanes_known, "Places the schedulers know."),
        GAUGE("lanes_sleeping", state->lanes_sleeping, "Places backed off as a whole."),
        COUNTER("attempts_total", state->attempts, "Delivery attempts."),
        COUNTER("delivered_total", state->delivered, "Recipients delivered."),
        COUNTER("later_total", state->later, "Recipients put off by an attempt."),
        COUNTER("failed_total", state->failed, "Recipients failed."),
        COUNTER("dns_lookups_total", state->dns_asked, "Questions to the resolver."),
        COUNTER("dns_cached_total", state->dns_cached, "Questions answered from its cache."),
        COUNTER("dns_queries_total", state->dns_sent, "Queries sent to name servers."),
        COUNTER("dns_timeouts_total", state->dns_timed_out, "Queries that got no answer in time."),
        COUNTER("log_lost_total", state->log_lost, "Log lines that could not be written."),
        GAUGE("trace_bytes", state->trace_bytes, "Bytes of kept traces."),
        COUNTER("trace_lost_total", state->trace_lost, "Hops that could not be kept."),
        COUNTER("reloads_total", state->reloads, "Reloads of the configuration."),
        COUNTER("reloads_failed_total", state->reloads_failed, "Reloads refused."),
        COUNTER("reports_put_off_total", state->reports_put_off,
                "Delivery reports that wait for a later hour."),
        GAUGE("stuck_seconds", state->stuck_s,
              "For how long the oldest thing that hangs has hung; 0: nothing does."),
        COUNTER("clock_jumps_total", state->clock_jumps, "Times the wall clock was set."),
        GAUGE("memory_anonymous_bytes", state->memory_anonymous,
              "Memory that the kernel cannot take back."),
        GAUGE("memory_limit_bytes", state->memory_limit, "What we may have; 0: no limit."),
        COUNTER("memory_shortages_total", state->memory_shortages,
                "Times clients were turned away for want of memory."),
        GAUGE("descriptors", state->descriptors, "Open descriptors."),
        GAUGE("descriptors_max", state->descriptors_max, "How many may be open."),
        GAUGE("process_start_time_seconds", (double)state->started_us / 1e6,
              "Unix time at which the relay started."),
    };

    render_plain(rows, sizeof(rows) / sizeof(rows[0]), out);
    if (state->certificate_expires_at) {
        const struct plain rows_tls[] = {
            GAUGE("certificate_expiry_seconds", state->certificate_expires_at,
                  "Unix time at which the first certificate expires."),
            GAUGE("certificate_stale", state->certificate_is_stale,
                  "1: another certificate lies on the disk, and nobody has reloaded the relay."),
        };
        render_plain(rows_tls, sizeof(rows_tls) / sizeof(rows_tls[0]), out);
    }
}

/* ---- with labels ---- */

static void render_hops(const struct hop_counts *hops, struct buf *out)
{
    const struct plain rows[] = {
        COUNTER("alarms_total", hops->alarms, "Things an operator must look at."),
        COUNTER("hops_dropped_total", hops->dropped, "Hops lost because their ring was full."),
    };

    head(out, "hops_total", "counter", "What happened, by stage and result.");
    for (unsigned stage = 0; stage < STAGE_COUNT; stage++) {
        for (unsigned result = 0; result < RESULT_COUNT; result++) {
            if (!hops->by_result[stage][result])
                continue;
            sample_begin(out, "hops_total");
            label(out, "stage", str_of(stage_word((enum stage)stage)));
            label(out, "result", str_of(result_word((enum result)result)));
            sample_end(out, hops->by_result[stage][result]);
        }
    }
    head(out, "stage_seconds_total", "counter", "Time spent, by stage.");
    for (unsigned stage = 0; stage < STAGE_COUNT; stage++) {
        sample_begin(out, "stage_seconds_total");
        label(out, "stage", str_of(stage_word((enum stage)stage)));
        seconds_end(out, hops->seconds_sum_us[stage]);
    }
    head(out, "settled_total", "counter", "Recipients' attempts settled, by class of the reason.");
    for (unsigned kind = 0; kind < CLASS_COUNT; kind++) {
        sample_begin(out, "settled_total");
        label(out, "class", str_of(class_word((enum class)kind)));
        sample_end(out, hops->by_class[kind]);
    }
    render_plain(rows, sizeof(rows) / sizeof(rows[0]), out);
}

static void render_queue_states(const struct store_health *store, struct buf *out)
{
    static const char *const words[] = {
        [STORE_FINE] = "fine",
        [STORE_FULL_QUOTA] = "full-quota",
        [STORE_FULL_DISK] = "full-disk",
        [STORE_BROKEN] = "broken",
    };

    head(out, "queue_recipients", "gauge", "Recipients in the queue, by state.");
    buf_printf(out, "waypost_queue_recipients{state=\"queued\"} %" PRIu64 "\n",
               store->recipients_queued);
    buf_printf(out, "waypost_queue_recipients{state=\"held\"} %" PRIu64 "\n",
               store->recipients_held);
    head(out, "queue_state", "gauge", "1 for the state the queue is in.");
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        buf_printf(out, "waypost_queue_state{state=\"%s\"} %d\n", words[i], store->state == i);
}

/* Those that put off the most come first. */
static int by_trouble(const void *a, const void *b)
{
    const struct api_lane *left = a, *right = b;

    if (left->later != right->later)
        return left->later < right->later ? 1 : -1;
    return str_cmp(left->lane, right->lane);
}

static void render_lanes(const struct api_state *state, struct buf *out)
{
    struct api_lane *sleeping = mem_alloc((state->lane_count + 1) * sizeof(*sleeping));
    size_t count = 0;

    for (size_t i = 0; i < state->lane_count; i++)
        if (str_eq(state->lanes[i].state, STR("sleeping")))
            sleeping[count++] = state->lanes[i];
    if (count)
        qsort(sleeping, count, sizeof(*sleeping), by_trouble);
    head(out, "lane_wakes_seconds", "gauge",
         "Unix time at which a sleeping place is tried again; the worst places only.");
    for (size_t i = 0; i < count && i < METRICS_LANES; i++) {
        sample_begin(out, "lane_wakes_seconds");
        label(out, "lane", sleeping[i].lane);
        label(out, "dest", sleeping[i].dest);
        sample_end(out, sleeping[i].wake_at > 0 ? (uint64_t)sleeping[i].wake_at : 0);
    }
    free(sleeping);
}

void metrics_render(const struct metrics *metrics, struct buf *out)
{
    head(out, "build_info", "gauge", "1, with the version.");
    buf_cstr(out, "waypost_build_info{version=\"" WAYPOST_VERSION "\"} 1\n");
    render_hops(metrics->hops, out);
    render_store(metrics->store, out);
    render_queue_states(metrics->store, out);
    render_state(metrics->state, out);
    render_lanes(metrics->state, out);
}
