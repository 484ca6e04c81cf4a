/*
 * hops.c - rings of encoded hops from producers to one consumer.
 *
 * A ring has one producer and one consumer. `head` is written by the producer
 * alone and `tail` by the consumer alone; both only grow, the place is the
 * value modulo the ring's size. A record is a length and that many bytes,
 * padded to 8 and never split over the end: a length of SKIP says that the
 * rest up to the end is unused.
 *
 * The consumer sleeps in poll() on an eventfd. A producer writes to it only
 * when `mood` says that this is needed: when the consumer sleeps, or when it
 * pauses between two drains and a ring is half full. The pause makes hops of
 * a busy relay travel in batches; an idle one has no wake-ups at all.
 */
#include "relay/base/clock.h"
#include "relay/base/hop.h"
#include "relay/base/thread.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SKIP UINT32_MAX
#define HEADER 8 /* the length takes 4; records stay aligned */
#define PAUSE_MS 5
#define TAPS_MAX 8

/* AWAKE -> PAUSING -> AWAKE,  AWAKE -> SLEEPING -> AWAKE. Whoever changes it
 * back to AWAKE from another thread must write to the eventfd. */
enum mood {
    MOOD_AWAKE,    /* the consumer drains, or will look again by itself */
    MOOD_PAUSING,  /* it looks again in a few milliseconds */
    MOOD_SLEEPING, /* it waits to be woken */
};

struct counters {
    atomic_uint_fast64_t by_result[STAGE_COUNT][RESULT_COUNT];
    atomic_uint_fast64_t by_class[CLASS_COUNT];
    atomic_uint_fast64_t seconds_sum_us[STAGE_COUNT];
    atomic_uint_fast64_t alarms;
    atomic_uint_fast64_t dropped;
};

struct hop_ring {
    struct hop_ring *next; /* set before the ring is seen by the consumer */
    struct hops *hops;
    char *bytes;
    size_t size; /* a power of two */
    _Alignas(64) atomic_uint_fast64_t head;
    _Alignas(64) atomic_uint_fast64_t tail;
    _Alignas(64) struct counters counters;
};

struct tap {
    hop_tap_fn *fn;
    hop_idle_fn *idle;
    void *arg;
};

struct hops {
    size_t ring_bytes;
    _Atomic(struct hop_ring *) rings;
    struct tap taps[TAPS_MAX];
    size_t tap_count;
    atomic_int mood;
    atomic_bool stopping;
    atomic_uint_fast64_t since_ms;
    int wake_fd;
    bool started;
    pthread_t thread;
};

struct hops *hops_new(size_t ring_bytes)
{
    struct hops *hops = mem_alloc(sizeof(*hops));

    /* At least twice the longest record: one must fit even behind skipped space. */
    hops->ring_bytes = (size_t)4 * HOP_ENCODED_MAX;
    while (hops->ring_bytes < ring_bytes)
        hops->ring_bytes *= 2;
    hops->wake_fd = -1;
    return hops;
}

void hops_free(struct hops **hops)
{
    struct hops *h = *hops;

    if (!h)
        return;
    hops_stop(h);
    hops_drain(h);
    for (struct hop_ring *ring = atomic_load(&h->rings); ring;) {
        struct hop_ring *next = ring->next;
        free(ring->bytes);
        free(ring);
        ring = next;
    }
    if (h->wake_fd >= 0)
        close(h->wake_fd);
    free(h);
    *hops = NULL;
}

void hops_tap(struct hops *hops, hop_tap_fn *fn, hop_idle_fn *idle, void *arg)
{
    assert(!hops->started && hops->tap_count < TAPS_MAX);
    hops->taps[hops->tap_count++] = (struct tap){ fn, idle, arg };
}

struct hop_ring *hops_ring(struct hops *hops)
{
    size_t size = (sizeof(struct hop_ring) + 63) / 64 * 64;
    struct hop_ring *ring = aligned_alloc(64, size);

    if (!ring)
        abort();
    memset(ring, 0, size);
    ring->hops = hops;
    ring->size = hops->ring_bytes;
    ring->bytes = mem_alloc(ring->size);
    ring->next = atomic_load(&hops->rings);
    while (!atomic_compare_exchange_weak(&hops->rings, &ring->next, ring))
        continue;
    return ring;
}

/* ---- producer ------------------------------------------------------------ */

/* One writer per counter, so a load and a store do what an atomic add would. */
static void bump(atomic_uint_fast64_t *counter, uint64_t by)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, value + by, memory_order_relaxed);
}

static void count_hop(struct counters *counters, const struct hop *hop)
{
    assert(hop->stage < STAGE_COUNT && hop->result < RESULT_COUNT && hop->kind < CLASS_COUNT);
    bump(&counters->by_result[hop->stage][hop->result], 1);
    if (hop->stage == STAGE_SETTLE)
        bump(&counters->by_class[hop->kind], 1);
    if (hop->ended_us > hop->began_us)
        bump(&counters->seconds_sum_us[hop->stage], (uint64_t)(hop->ended_us - hop->began_us));
    if (hop->weight == HOP_ALARM)
        bump(&counters->alarms, 1);
}

static void write_header(struct hop_ring *ring, uint64_t at, uint32_t len)
{
    memcpy(ring->bytes + (at & (ring->size - 1)), &len, sizeof(len));
}

/* Space for a record in one piece; false when the ring is too full. *head
 * moves past space that has to be skipped, which becomes visible only together
 * with the record. */
static bool make_room(struct hop_ring *ring, uint64_t *head, size_t need)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t space = ring->size - (size_t)(*head - tail);
    size_t to_end = ring->size - (size_t)(*head & (ring->size - 1));

    if (to_end >= need)
        return space >= need;
    if (space < to_end + need)
        return false;
    write_header(ring, *head, SKIP);
    *head += to_end;
    return true;
}

static void wake(struct hops *hops)
{
    uint64_t one = 1;

    if (atomic_exchange(&hops->mood, MOOD_AWAKE) == MOOD_AWAKE)
        return;
    /* An eventfd refuses only when it is full, and then it wakes as well. */
    if (write(hops->wake_fd, &one, sizeof(one)) < 0)
        return;
}

/* Sequentially consistent on both sides: either we see that the consumer
 * sleeps, or it sees our head before it goes to sleep. */
static void publish(struct hop_ring *ring, uint64_t head)
{
    struct hops *hops = ring->hops;

    atomic_store(&ring->head, head);
    int mood = atomic_load(&hops->mood);
    if (mood == MOOD_AWAKE)
        return;
    uint64_t used = head - atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (mood == MOOD_SLEEPING || used > ring->size / 2)
        wake(hops);
}

void hop_emit(struct hop_ring *ring, const struct hop *hop)
{
    char encoded[HOP_ENCODED_MAX];

    if (!ring)
        return;
    count_hop(&ring->counters, hop);
    size_t len = hop_encode(hop, encoded, sizeof(encoded));
    size_t need = HEADER + (len + 7) / 8 * 8;
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (!make_room(ring, &head, need)) {
        bump(&ring->counters.dropped, 1);
        return;
    }
    write_header(ring, head, (uint32_t)len);
    memcpy(ring->bytes + (head & (ring->size - 1)) + HEADER, encoded, len);
    publish(ring, head + need);
}

/* ---- consumer ------------------------------------------------------------ */

static void hand_out(struct hops *hops, struct str encoded)
{
    struct hop hop;

    enum err err = hop_decode(encoded, &hop);
    assert(err == ERR_OK); /* hop_encode made it */
    if (err != ERR_OK)
        return;
    for (size_t i = 0; i < hops->tap_count; i++)
        hops->taps[i].fn(hops->taps[i].arg, &hop, encoded);
}

/* Up to the head as it is now: a producer that never rests must not keep the
 * other rings waiting. */
static size_t drain_ring(struct hops *hops, struct hop_ring *ring)
{
    uint64_t head = atomic_load(&ring->head);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t count = 0;

    while (tail != head) {
        size_t at = (size_t)(tail & (ring->size - 1));
        uint32_t len;
        memcpy(&len, ring->bytes + at, sizeof(len));
        if (len == SKIP) {
            tail += ring->size - at;
            continue;
        }
        hand_out(hops, str_make(ring->bytes + at + HEADER, len));
        tail += HEADER + (len + 7) / 8 * 8;
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
        count++;
    }
    return count;
}

static size_t drain_all(struct hops *hops)
{
    size_t count = 0;

    for (struct hop_ring *ring = atomic_load(&hops->rings); ring; ring = ring->next)
        count += drain_ring(hops, ring);
    for (size_t i = 0; count && i < hops->tap_count; i++) {
        if (hops->taps[i].idle)
            hops->taps[i].idle(hops->taps[i].arg);
    }
    return count;
}

static bool all_empty(struct hops *hops)
{
    for (struct hop_ring *ring = atomic_load(&hops->rings); ring; ring = ring->next) {
        if (atomic_load(&ring->head) != atomic_load_explicit(&ring->tail, memory_order_relaxed))
            return false;
    }
    return true;
}

static void rest(struct hops *hops, enum mood mood)
{
    struct pollfd fd = { .fd = hops->wake_fd, .events = POLLIN };
    uint64_t times;

    atomic_store(&hops->mood, mood);
    bool nothing = all_empty(hops) && !atomic_load(&hops->stopping);
    if (mood == MOOD_PAUSING || nothing)
        poll(&fd, 1, mood == MOOD_PAUSING ? PAUSE_MS : -1);
    atomic_store(&hops->mood, MOOD_AWAKE);
    /* Not there when nobody woke us: the descriptor does not block. */
    if (read(hops->wake_fd, &times, sizeof(times)) < 0)
        return;
}

static void *consume(void *arg)
{
    struct hops *hops = arg;

    for (;;) {
        bool last = atomic_load(&hops->stopping);
        atomic_store_explicit(&hops->since_ms, clock_mono_ms(), memory_order_relaxed);
        size_t count = drain_all(hops);
        atomic_store_explicit(&hops->since_ms, 0, memory_order_relaxed);
        if (last)
            return NULL;
        rest(hops, count ? MOOD_PAUSING : MOOD_SLEEPING);
    }
}

enum err hops_start(struct hops *hops, struct fault *fault)
{
    assert(!hops->started);
    if (hops->wake_fd < 0)
        hops->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (hops->wake_fd < 0)
        return fault_errno(fault, errno, "cannot make the log thread's eventfd");
    atomic_store(&hops->stopping, false);
    int rc = thread_start(&hops->thread, "hops", consume, hops);
    if (rc != 0)
        return fault_errno(fault, rc, "cannot start the log thread");
    hops->started = true;
    return ERR_OK;
}

/* Producers may still emit meanwhile: what comes after the last drain stays in
 * the rings for hops_drain(). One of them may just be about to wake the
 * consumer, so the descriptor lives until hops_free(). */
void hops_stop(struct hops *hops)
{
    if (!hops->started)
        return;
    atomic_store(&hops->stopping, true);
    wake(hops);
    pthread_join(hops->thread, NULL);
    hops->started = false;
}

size_t hops_drain(struct hops *hops)
{
    assert(!hops->started);
    return drain_all(hops);
}

uint64_t hops_since_ms(const struct hops *hops)
{
    return atomic_load_explicit(&hops->since_ms, memory_order_relaxed);
}

/* ---- counters ------------------------------------------------------------ */

static void add(uint64_t *sum, const atomic_uint_fast64_t *counter)
{
    *sum += atomic_load_explicit(counter, memory_order_relaxed);
}

void hops_counts(struct hops *hops, struct hop_counts *out_counts)
{
    struct hop_counts sum = { 0 };

    for (struct hop_ring *ring = atomic_load(&hops->rings); ring; ring = ring->next) {
        struct counters *counters = &ring->counters;
        for (size_t stage = 0; stage < STAGE_COUNT; stage++) {
            for (size_t result = 0; result < RESULT_COUNT; result++)
                add(&sum.by_result[stage][result], &counters->by_result[stage][result]);
            add(&sum.seconds_sum_us[stage], &counters->seconds_sum_us[stage]);
        }
        for (size_t kind = 0; kind < CLASS_COUNT; kind++)
            add(&sum.by_class[kind], &counters->by_class[kind]);
        add(&sum.alarms, &counters->alarms);
        add(&sum.dropped, &counters->dropped);
    }
    *out_counts = sum;
}
