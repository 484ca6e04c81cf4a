/*
 * sched_test.c - weeks of scheduling in moments: what is sent when, over how
 * many connections, and what becomes of what cannot be sent.
 */
#include "sched_fixture.h"

/* The big queue costs too much under a sanitizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANY 5000
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MANY 5000
#endif
#endif
#ifndef MANY
#define MANY 100000
#endif

static void mail_is_sent_at_once(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(site->messages, 1);
    assert_int_equal(health().messages, 0);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_DELIVERED), 1);
    assert_int_equal(hops_of(STAGE_ROUTE, RESULT_OK), 1);
    assert_non_null(strstr(fx.last_settle, "to=b@there.test"));
    assert_non_null(strstr(fx.last_settle, "lane=direct/there.test"));
    assert_non_null(strstr(fx.last_settle, "remote-id=4XyZ"));
    assert_non_null(strstr(fx.last_settle, "attempt=1"));
}

static void a_connection_is_kept_for_the_next_message(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);
    struct sched_counts counts;

    (void)state;
    for (int i = 0; i < 10; i++) {
        submit("direct/there.test", "a@here.test", 0);
        virtual_run(SECOND);
    }
    assert_int_equal(site->messages, 10);
    assert_int_equal(site->connects, 1);
    assert_int_equal(site->lookups, 1);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.connections, 1);
    virtual_run(6 * SECOND);
    assert_int_equal(site->quits, 1);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.connections, 0);
    assert_int_equal(counts.lanes, 0); /* nothing queued: not even a table entry */
    assert_int_equal(counts.delivered, 10);
}

static void a_message_over_a_kept_connection_goes_in_the_same_moment(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(SECOND);
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(site->message_ms);
    assert_int_equal(site->messages, 2);
}

static void the_window_widens_while_mail_is_taken(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    submit_many("direct/there.test", 2000);
    virtual_run(319);
    assert_int_equal(site->open_most, 5);
    virtual_run(10 * SECOND);
    assert_int_equal(site->open_most, 20);
    virtual_run(MINUTE);
    assert_int_equal(site->messages, 2000);
    assert_int_equal(health().messages, 0);
    assert_in_range(site->connects, 20, 25);
    /* Claims and results go in batches. */
    assert_in_range(fx.claim_calls, 2000 / 32, 200);
    assert_in_range(fx.settle_calls, 1, 1000);
}

static void messages_per_connection_are_counted(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    fx.settings.default_limits.messages_per_connection = 10;
    fx.settings.default_limits.max_connections = 1;
    submit_many("direct/there.test", 100);
    virtual_run(MINUTE);
    assert_int_equal(site->messages, 100);
    assert_int_equal(site->connects, 10);
    assert_int_equal(site->open_most, 1);
}

static void a_message_rate_is_kept(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    fx.settings.default_limits.rate_per_s = 2;
    submit_many("direct/there.test", 100);
    virtual_run(20 * SECOND);
    assert_in_range(site->messages, 38, 42);
    virtual_run(31 * SECOND);
    assert_int_equal(site->messages, 100);
    assert_in_range(site->connects, 1, 6);
}

static void a_rate_is_shared_fairly_by_the_lanes_of_a_dest(void **state)
{
    struct site *big = site_add("big.test", SITE_TAKES);
    struct site *small = site_add("small.test", SITE_TAKES);

    (void)state;
    big->host = "mx1.provider.test";
    small->host = "mx2.provider.test";
    fx.destinations[0] = (struct sched_destination){ .match = STR("provider.test"),
                                                     .limits = fx.settings.default_limits };
    fx.destinations[0].limits.rate_per_s = 2;
    fx.settings.destination_count = 1;
    submit_many("direct/big.test", 1000);
    virtual_run(10 * SECOND);
    submit_many("direct/small.test", 10);
    virtual_run(20 * SECOND);
    assert_in_range(small->messages, 8, 10);
    assert_in_range(big->messages + small->messages, 56, 64);
}

static void domains_at_one_provider_are_one_dest(void **state)
{
    struct sched_counts counts;
    char lane[64];

    (void)state;
    fx.destinations[0] = (struct sched_destination){ .match = STR("provider.test"),
                                                     .limits = fx.settings.default_limits };
    fx.destinations[0].limits.max_connections = 4;
    fx.settings.destination_count = 1;
    for (int i = 0; i < 40; i++) {
        snprintf(fx.names[i], sizeof(fx.names[i]), "d%d.test", i);
        site_add(fx.names[i], SITE_TAKES)->host = "mx.provider.test";
        snprintf(lane, sizeof(lane), "direct/d%d.test", i);
        submit_many(lane, 30);
    }
    virtual_run(2 * SECOND);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.connections, 4);
    virtual_run(10 * MINUTE);
    assert_int_equal(fx.open_most, 4);
    assert_int_equal(health().messages, 0);
}

static void a_big_lane_does_not_hold_up_a_small_one(void **state)
{
    struct site *big = site_add("big.test", SITE_TAKES);
    struct site *small = site_add("small.test", SITE_TAKES);

    (void)state;
    fx.settings.connections_max = 4;
    submit_many("direct/big.test", 5000);
    virtual_run(10 * SECOND);
    assert_int_equal(big->open, 4);
    submit_many("direct/small.test", 3);
    virtual_run(4 * SECOND);
    assert_int_equal(small->messages, 3);
    assert_true(big->messages < 5000);
    assert_int_equal(fx.open_most, 4);
}

static void an_idle_connection_makes_way(void **state)
{
    struct site *second = site_add("second.test", SITE_TAKES);

    (void)state;
    fx.settings.connections_max = 1;
    submit("direct/first.test", "a@here.test", 0);
    virtual_run(SECOND);
    submit("direct/second.test", "a@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(second->messages, 1);
}

static void a_connection_that_turns_idle_makes_way_for_those_in_line(void **state)
{
    struct site *first = site_add("first.test", SITE_TAKES);
    struct site *second = site_add("second.test", SITE_TAKES);

    (void)state;
    first->message_ms = 2000;
    fx.settings.connections_max = 1;
    submit("direct/first.test", "a@here.test", 0);
    virtual_run(SECOND);
    submit("direct/second.test", "a@here.test", 0); /* waits while the first runs */
    virtual_run(2 * SECOND);
    assert_int_equal(second->messages, 1);
}

static void many_lanes_take_turns(void **state)
{
    struct sched_counts counts;
    char lane[64];

    (void)state;
    fx.settings.connections_max = 10;
    for (int i = 0; i < 50; i++) {
        snprintf(fx.names[i], sizeof(fx.names[i]), "d%d.test", i);
        site_add(fx.names[i], SITE_TAKES);
        snprintf(lane, sizeof(lane), "direct/d%d.test", i);
        submit_many(lane, 100);
    }
    virtual_run(30 * SECOND);
    for (int i = 0; i < 50; i++)
        if (fx.sites[i].messages < 20)
            fail_msg("%s had %u", fx.sites[i].place, fx.sites[i].messages);
    virtual_run(2 * MINUTE);
    assert_int_equal(health().messages, 0);
    assert_int_equal(fx.open_most, 10);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.delivered, 5000);
}

static void what_is_put_off_comes_again_later_and_later(void **state)
{
    struct site *site = site_add("there.test", SITE_PUTS_OFF);

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(40 * SECOND);
    assert_int_equal(site->messages, 1);
    virtual_run(HOUR - 40 * SECOND); /* after 1, 2, 4, 8, 16 minutes */
    assert_in_range(site->messages, 6, 7);
    assert_non_null(strstr((hops_drain(fx.hops), fx.last_settle), "452 4.2.2"));
    site->mood = SITE_TAKES;
    virtual_run(2 * HOUR);
    assert_int_equal(health().messages, 0);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_DELIVERED), 1);
}

static void a_refusal_is_reported_in_the_same_settlement(void **state)
{
    struct site *here = site_add("here.test", SITE_PUTS_OFF);
    struct found found;

    (void)state;
    site_add("there.test", SITE_REFUSES);
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(2 * SECOND);
    list_all(&found);
    assert_int_equal(found.list.count, 1);
    struct envelope *dsn = &found.list.envelopes[0];
    assert_int_equal(dsn->sender.len, 0);
    assert_true(dsn->flags & ENVELOPE_DSN);
    assert_true(str_eq(dsn->recipients[0].address, STR("a@here.test")));
    assert_true(str_eq(dsn->recipients[0].lane, STR("direct/here.test")));
    store_list_clear(&found.list);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), 1);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 1);
    here->mood = SITE_REFUSES; /* the report itself is refused: nobody is told */
    virtual_run(HOUR);
    assert_int_equal(health().messages, 0);
}

static void nobody_is_told_who_does_not_want_it(void **state)
{
    (void)state;
    site_add("there.test", SITE_REFUSES);
    submit("direct/there.test", "a@here.test", NOTIFY_NEVER);
    submit("direct/there.test", "a@here.test", NOTIFY_SUCCESS);
    submit("direct/there.test", "", 0);
    virtual_run(2 * SECOND);
    assert_int_equal(health().messages, 0);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 3);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), 0);
}

static void success_is_reported_when_the_next_hop_will_not(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    submit("direct/there.test", "a@here.test", NOTIFY_SUCCESS);
    virtual_run(2 * SECOND);
    assert_int_equal(here->messages, 1);
    site->offers_dsn = true;
    submit("direct/there.test", "a@here.test", NOTIFY_SUCCESS);
    virtual_run(2 * SECOND);
    assert_int_equal(site->messages, 2);
    assert_int_equal(here->messages, 1);
}

static void add_many(struct envelope *envelope, int count)
{
    char to[64];

    for (int i = 0; i < count; i++) {
        snprintf(to, sizeof(to), "r%d@there.test", i);
        add_to(envelope, "direct/there.test", to);
    }
}

static void one_report_speaks_of_all_recipients_of_a_claim(void **state)
{
    struct message *message = message_new();
    struct envelope *envelope = message_begin(message, "a@here.test");
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    site_add("there.test", SITE_REFUSES);
    add_many(envelope, 300);
    post(message);
    virtual_run(5 * SECOND);
    assert_int_equal(here->messages, 1);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 300);
    assert_int_equal(health().messages, 0);
}

static const char *no_folder(struct store *store)
{
    (void)store;
    return "/nonexistent/bodies";
}

/* A report that is too large for memory needs a file, and the disk is full. */
static void what_cannot_be_reported_now_waits_for_its_report(void **state)
{
    struct message *message = message_new();
    struct envelope *envelope = message_begin(message, "a@here.test");
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    site_add("there.test", SITE_REFUSES);
    fx.backend.folder = no_folder;
    add_many(envelope, 1500);
    post(message);
    virtual_run(5 * SECOND);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_LATER), 1);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_LATER), 1500);
    assert_int_equal(health().messages, 1);
    fx.backend.folder = fx.real->folder;
    virtual_run(10 * MINUTE);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 1500);
    assert_int_equal(here->messages, 2);
    assert_int_equal(health().messages, 0);
}

static unsigned folder_left;

/* Each arrival asks for it once: the next ones so many times find the disk full. */
static const char *full_soon(struct store *store)
{
    return folder_left && folder_left-- ? fx.real->folder(store) : no_folder(store);
}

static void what_is_reported_is_not_tried_again_when_the_disk_fills(void **state)
{
    struct message *message = message_new();
    struct envelope *envelope = message_begin(message, "a@here.test");
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    site_add("there.test", SITE_REFUSES);
    add_many(envelope, 3500); /* four reports */
    folder_left = 2;
    fx.backend.folder = full_soon;
    post(message);
    virtual_run(5 * SECOND);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 2000);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_LATER), 1500);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), 2);
    fx.backend.folder = fx.real->folder;
    virtual_run(10 * MINUTE);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 3500);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), 4);
    assert_int_equal(here->messages, 4);
    assert_int_equal(health().messages, 0);
}

/* They have their mail and cannot wait in the queue: smaller reports need no file. */
static void success_is_reported_on_a_full_disk(void **state)
{
    struct message *message = message_new();
    struct envelope *envelope = message_begin(message, "a@here.test");
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    site_add("there.test", SITE_TAKES);
    add_many(envelope, 1500);
    for (size_t i = 0; i < envelope->recipient_count; i++)
        envelope->recipients[i].notify = NOTIFY_SUCCESS;
    fx.backend.folder = no_folder;
    post(message);
    virtual_run(5 * SECOND);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_DELIVERED), 1500 + here->messages);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_LATER), 0);
    assert_in_range(here->messages, 2, 6);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), here->messages);
    assert_int_equal(health().messages, 0);
}

static void several_reports_are_stored_with_what_they_tell_of(void **state)
{
    struct message *message = message_new();
    struct envelope *envelope = message_begin(message, "a@here.test");
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    site_add("there.test", SITE_REFUSES);
    add_many(envelope, 2500);
    post(message);
    fx.settle_failures = 5;
    virtual_run(5 * SECOND);
    assert_in_range(fx.settle_failures, 0, 4);
    assert_int_equal(health().messages, 1); /* neither the end of it nor a report */
    virtual_run(20 * SECOND);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 2500);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), 3);
    assert_int_equal(here->messages, 3);
    assert_int_equal(health().messages, 0);
}

static void a_warning_after_four_hours_and_an_end_after_five_days(void **state)
{
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    site_add("there.test", SITE_PUTS_OFF);
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(4 * HOUR - MINUTE);
    assert_int_equal(here->messages, 0);
    virtual_run(2 * MINUTE);
    assert_int_equal(here->messages, 1);
    virtual_run(5 * DAY - 4 * HOUR - 2 * MINUTE);
    assert_int_equal(here->messages, 1);
    assert_int_equal(health().messages, 1);
    virtual_run(2 * MINUTE);
    assert_int_equal(here->messages, 2);
    assert_int_equal(health().messages, 0);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 1);
}

static void a_dead_place_with_many_messages_costs_one_probe_an_interval(void **state)
{
    struct site *site = site_add("dead.test", SITE_DOWN);
    struct sched_counts counts;

    (void)state;
    submit_many("direct/dead.test", MANY);
    virtual_run(10 * MINUTE);
    assert_in_range(site->connects, 3, 12); /* five at first, then after 1, 2, 4 minutes */
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.lanes_sleeping, 1);
    site->connects = 0;
    fx.settlements = 0;
    virtual_run(3 * HOUR);
    assert_in_range(site->connects, 5, 9);
    /* An entry is looked at now and then, not at each probe. */
    assert_in_range(fx.settlements, 1, 6 * MANY);
    assert_int_equal(health().messages, MANY);
    site->mood = SITE_TAKES;
    site->message_ms = 10;
    virtual_run(40 * MINUTE);
    assert_int_equal(health().messages, 0); /* everything, due or not */
    assert_int_equal(site->open_most, 20);
}

static void mail_for_a_dead_place_is_warned_of_and_expires(void **state)
{
    struct site *site = site_add("dead.test", SITE_DOWN);
    struct site *here = site_add("here.test", SITE_TAKES);

    (void)state;
    submit_many("direct/dead.test", 200);
    for (int i = 0; i < 60; i++) { /* and fresh mail comes all the time */
        virtual_run(HOUR);
        submit_many("direct/dead.test", 1);
    }
    assert_in_range(here->messages, 200 + 55, 200 + 57);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 0);
    for (int i = 60; i < 121; i++) {
        virtual_run(HOUR);
        submit_many("direct/dead.test", 1);
    }
    /* The first 200 are gone, and those who followed them meanwhile. */
    assert_in_range(hops_of(STAGE_SETTLE, RESULT_FAILED), 200, 203);
    assert_in_range(site->connects, 121, 121 * 3);
    assert_non_null(strstr(fx.last_trouble, "connection timed out"));
}

static void what_is_put_off_after_an_outage_is_not_tried_over_and_over(void **state)
{
    struct site *site = site_add("there.test", SITE_DOWN);

    (void)state;
    submit_many("direct/there.test", 300);
    virtual_run(3 * HOUR);
    site->mood = SITE_PUTS_OFF;
    virtual_run(35 * MINUTE);
    assert_in_range(site->messages, 300, 300 * 6); /* after 1, 2, 4, 8, 16 minutes at most */
    site->mood = SITE_TAKES;
    virtual_run(4 * HOUR);
    assert_int_equal(health().messages, 0);
}

static void a_connection_that_hangs_does_not_stop_the_probes(void **state)
{
    struct site *site = site_add("there.test", SITE_HANGS);

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(site->open, 1); /* for the next hour */
    site->mood = SITE_DOWN;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(40 * SECOND);
    site->mood = SITE_TAKES;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(2 * MINUTE);
    assert_int_equal(site->messages, 2);
    site->mood = SITE_HANGS; /* as the one that still runs will say */
    virtual_run(HOUR);
    site->mood = SITE_TAKES;
    virtual_run(2 * HOUR);
    assert_int_equal(health().messages, 0);
}

static void a_short_outage_leaves_everything_due(void **state)
{
    struct site *site = site_add("there.test", SITE_DOWN);

    (void)state;
    submit_many("direct/there.test", 100);
    virtual_run(2 * MINUTE);
    site->mood = SITE_TAKES;
    virtual_run(4 * MINUTE);
    assert_int_equal(health().messages, 0);
}

static void lanes_that_share_a_dead_dest_share_its_probes(void **state)
{
    unsigned connects = 0;
    char lane[64];

    (void)state;
    fx.destinations[0] = (struct sched_destination){ .match = STR("provider.test"),
                                                     .limits = fx.settings.default_limits };
    fx.settings.destination_count = 1;
    for (int i = 0; i < 40; i++) {
        snprintf(fx.names[i], sizeof(fx.names[i]), "d%d.test", i);
        site_add(fx.names[i], SITE_DOWN)->host = "mx.provider.test";
        snprintf(lane, sizeof(lane), "direct/d%d.test", i);
        submit_many(lane, 10);
    }
    virtual_run(6 * HOUR);
    for (int i = 0; i < 40; i++)
        connects += fx.sites[i].connects;
    assert_in_range(connects, 12, 26);
    assert_int_equal(hops_of(STAGE_DSN, RESULT_OK), 400);
    for (int i = 0; i < 40; i++)
        fx.sites[i].mood = SITE_TAKES;
    site_add("here.test", SITE_TAKES);
    virtual_run(HOUR);
    assert_int_equal(health().messages, 0);
}

static void an_operator_need_not_wait_for_the_next_probe(void **state)
{
    struct site *site = site_add("there.test", SITE_DOWN);

    (void)state;
    submit_many("direct/there.test", 10);
    virtual_run(20 * MINUTE);
    site->mood = SITE_TAKES;
    sched_flush(fx.sched, STR("there.test"));
    virtual_run(10 * SECOND);
    assert_true(site->messages >= 5); /* those that were attempted have their own times */
}

static void a_smarthost_that_refuses_us_bounces_nothing(void **state)
{
    struct site *site = site_add("*", SITE_LOGIN_BAD);

    (void)state;
    submit_many("ses/*", 50);
    virtual_run(3 * HOUR);
    assert_int_equal(health().messages, 50);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 0);
    assert_in_range(hops_of(STAGE_ALARM, RESULT_LATER), 1, 20);
    assert_in_range(site->connects, 5, 20);
    site->mood = SITE_TAKES;
    virtual_run(40 * MINUTE);
    assert_int_equal(health().messages, 0);
}

static void own_trouble_is_retried_soon_and_counts_for_nothing(void **state)
{
    struct site *site = site_add("there.test", SITE_OWN_FAULT);
    struct found found;

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(10 * MINUTE);
    assert_in_range(site->messages, 33, 60);
    list_all(&found);
    assert_int_equal(found.list.envelopes[0].recipients[0].attempts, 0);
    store_list_clear(&found.list);
}

static void what_may_have_arrived_is_not_sent_for_ever(void **state)
{
    struct site *site = site_add("there.test", SITE_UNKNOWN);

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(14 * MINUTE);
    assert_int_equal(site->messages, 1);
    virtual_run(5 * DAY);
    assert_int_equal(site->messages, 5);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_FAILED), 1);
}

static void a_dead_kept_connection_is_nobodys_fault(void **state)
{
    struct site *site = site_add("there.test", SITE_DROPS);
    struct sched_counts counts;

    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(SECOND);
    submit("direct/there.test", "a@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(site->messages, 2);
    assert_int_equal(site->connects, 2);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.later, 0);
    assert_int_equal(health().messages, 0);
}

static void results_that_cannot_be_stored_are_kept(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    fx.settle_failures = 12;
    submit_many("direct/there.test", 40);
    virtual_run(10 * SECOND);
    assert_int_equal(site->messages, 40);
    virtual_run(2 * MINUTE);
    assert_int_equal(fx.settle_failures, 0);
    assert_int_equal(site->messages, 40); /* none was sent twice */
    assert_int_equal(health().messages, 0);
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_LATER), 1); /* told once */
    assert_int_equal(hops_of(STAGE_SETTLE, RESULT_DELIVERED), 40);
}

static void draining_finishes_what_runs(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    site->message_ms = 2000;
    submit_many("direct/there.test", 100);
    virtual_run(SECOND);
    assert_int_equal(site->open, 5);
    sched_drain(fx.sched, went_idle, NULL);
    assert_false(fx.is_idle);
    submit_many("direct/there.test", 10); /* comes too late */
    virtual_run(5 * SECOND);
    assert_true(fx.is_idle);
    assert_int_equal(site->messages, 5);
    assert_int_equal(site->open, 0);
    assert_int_equal(health().messages, 105);
    sched_free(&fx.sched);
    virtual_turn();
    /* Nothing is left leased: another scheduler finds it all. */
    sched_begin();
    store_watch(fx.store, on_ready, NULL);
    fx.is_idle = false;
    virtual_run(5 * MINUTE);
    assert_int_equal(health().messages, 0);
}

static void aborting_ends_at_once(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);

    (void)state;
    site->message_ms = 600000;
    submit_many("direct/there.test", 50);
    virtual_run(2 * SECOND);
    sched_drain(fx.sched, went_idle, NULL);
    virtual_run(SECOND);
    assert_false(fx.is_idle);
    sched_abort(fx.sched);
    virtual_run(1);
    assert_true(fx.is_idle);
    assert_int_equal(health().messages, 50);
    assert_int_equal(fx.settle_calls, 0); /* nothing was tried: nothing to write down */
    sched_free(&fx.sched);
}

static void aborting_gives_up_what_the_store_will_not_take(void **state)
{
    (void)state;
    site_add("there.test", SITE_REFUSES);
    fx.settle_failures = 1000;
    submit_many("direct/there.test", 5);
    virtual_run(10 * SECOND);
    sched_drain(fx.sched, went_idle, NULL);
    virtual_run(10 * SECOND);
    assert_false(fx.is_idle);
    sched_abort(fx.sched);
    virtual_run(MINUTE);
    assert_true(fx.is_idle);
    sched_free(&fx.sched);
    assert_int_equal(health().messages, 5); /* nothing lost: due again */
}

static void draining_cancels_look_ups(void **state)
{
    (void)state;
    submit("direct/there.test", "a@here.test", 0);
    virtual_turn();
    sched_drain(fx.sched, went_idle, NULL);
    virtual_turn();
    assert_true(fx.is_idle);
}

static void new_settings_take_over_without_a_gap(void **state)
{
    struct site *site = site_add("there.test", SITE_TAKES);
    struct sched_settings now;

    (void)state;
    site->message_ms = 3000;
    submit_many("direct/there.test", 20);
    virtual_run(SECOND);
    now = fx.settings;
    now.default_limits.max_connections = 2;
    sched_set(fx.sched, &now, NULL);
    assert_false(sched_settings_idle(fx.sched, &fx.settings));
    assert_false(sched_settings_idle(fx.sched, &now));
    virtual_run(4 * SECOND);
    assert_true(sched_settings_idle(fx.sched, &fx.settings));
    virtual_run(SECOND);
    assert_int_equal(site->open, 2);
    assert_int_equal(site->lookups, 2);
    virtual_run(2 * MINUTE);
    assert_int_equal(site->messages, 20);
    sched_end();
}

static bool count_lane(void *arg, const struct sched_lane_info *info)
{
    unsigned *count = arg;

    assert_true(str_eq(info->lane, STR("direct/dead.test")));
    assert_true(str_eq(info->dest, STR("dead.test")));
    assert_int_equal(info->state, DEST_SLEEPING);
    assert_true(str_eq(info->trouble, STR("No host of the place answers.")));
    assert_true(info->wake_at > virtual_wall_us() / 1000000);
    assert_int_equal(info->connections, 0);
    ++*count;
    return true;
}

static void lanes_can_be_looked_at(void **state)
{
    unsigned count = 0;

    (void)state;
    site_add("dead.test", SITE_DOWN);
    submit_many("direct/dead.test", 3);
    virtual_run(40 * SECOND);
    sched_each_lane(fx.sched, count_lane, &count);
    assert_int_equal(count, 1);
}

static void a_lane_of_another_loop_is_not_ours(void **state)
{
    struct sched_counts counts;
    unsigned ours = 0;
    char lane[64];

    (void)state;
    virtual_loop.options.count = 4;
    for (int i = 0; i < 100; i++) {
        snprintf(lane, sizeof(lane), "direct/d%d.test", i);
        ours += sched_loop_of(str_of(lane), 4) == 0;
        sched_ready(fx.sched, lane, 0, false);
    }
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.lanes, ours);
    assert_in_range(ours, 15, 35);
    sched_ready(fx.sched, "ses/*", 0, false);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.lanes, ours + 1);
    virtual_loop.options.count = 1;
    virtual_run(SECOND);
    sched_counts(fx.sched, &counts);
    assert_int_equal(counts.lanes, 0);
}

static void limits_of_a_smarthost_are_shared_out(void **state)
{
    struct site *site = site_add("*", SITE_TAKES);

    (void)state;
    virtual_loop.options.count = 4;
    virtual_loop.options.index = 1;
    fx.settings.default_limits.max_connections = 6; /* 2, 2, 1, 1 */
    submit_many("ses/*", 300);
    virtual_run(MINUTE);
    assert_int_equal(site->messages, 300);
    assert_int_equal(site->open_most, 2);
}

static void a_smarthost_with_fewer_connections_than_loops_is_left_to_others(void **state)
{
    struct site *site = site_add("*", SITE_TAKES);

    (void)state;
    virtual_loop.options.count = 4;
    virtual_loop.options.index = 3;
    fx.settings.default_limits.max_connections = 2;
    submit_many("ses/*", 3);
    virtual_run(MINUTE);
    assert_int_equal(site->messages, 0);
    assert_int_equal(health().messages, 3);
}

static void what_one_loop_can_take_is_not_passed_on(void **state)
{
    struct site *site = site_add("*", SITE_TAKES);

    (void)state;
    virtual_loop.options.count = 2;
    for (unsigned i = 0; i < 10; i++) {
        submit_many("ses/*", 2);
        virtual_run(SECOND);
    }
    assert_int_equal(site->messages, 20);
    assert_int_equal(fx.passed, 0);
}

/* Two loops with a connection each: this one's is busy for so long, and a second message
 * came. The other loop has heard of it once, and this one has left it to that. */
static struct site *one_under_way_one_passed_on(unsigned message_ms)
{
    struct site *site = site_add("*", SITE_TAKES);

    virtual_loop.options.count = 2;
    fx.settings.default_limits.max_connections = 2;
    site->message_ms = message_ms;
    submit("ses/*", "a@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(fx.passed, 0);
    unsigned calls = fx.claim_calls;
    submit("ses/*", "a@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(fx.passed, 1);
    assert_int_equal(fx.claim_calls, calls);
    return site;
}

static void pass_back(void) /* the other loop has no room either */
{
    sched_ready(fx.sched, "ses/*", virtual_wall_us() / 1000000, true);
}

static void what_would_wait_is_passed_on_once(void **state)
{
    struct site *site = one_under_way_one_passed_on(10 * SECOND);

    (void)state;
    pass_back();
    virtual_run(MINUTE);
    assert_int_equal(fx.passed, 1);
    assert_int_equal(site->messages, 2);
}

static void what_becomes_due_in_line_is_passed_on_then(void **state)
{
    struct site *site = one_under_way_one_passed_on(120 * SECOND);

    (void)state;
    pass_back();
    virtual_run(SECOND); /* the second is in hand here now, in line */
    sched_ready(fx.sched, "ses/*", virtual_wall_us() / 1000000 + 30, false);
    virtual_run(25 * SECOND);
    assert_int_equal(fx.passed, 1);
    virtual_run(10 * SECOND);
    assert_int_equal(fx.passed, 2);
    virtual_run(10 * MINUTE);
    assert_int_equal(site->messages, 2);
}

static void a_loop_that_lost_its_share_claims_nothing(void **state)
{
    struct site *site;
    struct sched_settings now;

    (void)state;
    virtual_loop.options.index = 1;
    site = one_under_way_one_passed_on(60 * SECOND);
    now = fx.settings;
    now.default_limits.max_connections = 1; /* loop 0's */
    sched_set(fx.sched, &now, NULL);
    unsigned calls = fx.claim_calls;
    pass_back();
    virtual_run(30 * SECOND);
    assert_int_equal(fx.claim_calls, calls); /* not taken and given back for ever */
    virtual_run(5 * MINUTE);
    assert_int_equal(site->messages, 1);
    assert_int_equal(health().messages, 1);
    sched_end(); /* before the settings go */
}

static void others_hear_of_more_than_one_claim_holds(void **state)
{
    struct site *site = site_add("*", SITE_TAKES);

    (void)state;
    virtual_loop.options.count = 2;
    site->message_ms = 1000;
    submit_many("ses/*", 2000);
    virtual_run(100);
    assert_in_range(fx.passed, 1, 3);
    virtual_run(10 * MINUTE);
    assert_int_equal(site->messages, 2000);
}

static void trouble_on_one_loop_is_passed_on(void **state)
{
    struct site *site = site_add("*", SITE_DOWN);

    (void)state;
    virtual_loop.options.count = 2;
    submit("ses/*", "a@here.test", 0);
    virtual_run(40 * SECOND);
    fx.passed = 0;
    submit("ses/*", "a@here.test", 0); /* the place sleeps here; perhaps not there */
    virtual_run(SECOND);
    assert_int_equal(fx.passed, 1);
    site->mood = SITE_TAKES;
    virtual_run(10 * MINUTE);
    assert_int_equal(site->messages, 2);
}

static void moved(struct store_request *request)
{
    free(container_of(request, struct store_change, request));
}

static void move_lane(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                      char out_lane[LANE_MAX])
{
    (void)envelope, (void)recipient;
    snprintf(out_lane, LANE_MAX, "%s", (const char *)arg);
}

static void move_all(const char *lane)
{
    struct store_change *change = mem_alloc(sizeof(*change));

    *change = (struct store_change){
        .request = { .reply_to = &virtual_loop.mailbox, .done = moved },
        .kind = STORE_REROUTE,
        .filter = { .any_state = true },
        .reroute = move_lane,
        .arg = (void *)(uintptr_t)lane,
    };
    store_change(fx.store, change);
}

static void a_lane_whose_route_is_gone_waits_for_its_mail_to_be_moved(void **state)
{
    (void)state;
    virtual_loop.options.count = 2;
    submit_many("gone/*", 3);
    virtual_run(5 * MINUTE);
    assert_int_equal(health().messages, 3);
    assert_in_range(fx.lost, 5, 6); /* its owner is told, and not left in peace */
    assert_in_range(fx.claim_calls, 5, 10);
    assert_int_equal(fx.passed, 0);
    move_all("ses/*");
    virtual_run(2 * MINUTE);
    assert_int_equal(health().messages, 0);
    assert_in_range(fx.lost, 5, 6); /* nothing is left there */
    unsigned calls = fx.claim_calls;
    virtual_run(10 * MINUTE);
    assert_int_equal(fx.claim_calls, calls); /* and nobody looks any more */
}

static void a_route_that_is_there_again_takes_what_waited(void **state)
{
    struct sched_settings now;

    (void)state;
    submit_many("back/there.test", 3);
    virtual_run(5 * SECOND);
    assert_int_equal(health().messages, 3);
    now = fx.settings;
    fx.routes[2] = (struct route_settings){ .name = STR("back") };
    now.route_count = 3;
    sched_set(fx.sched, &now, NULL);
    virtual_run(5 * SECOND);
    assert_int_equal(health().messages, 0);
    sched_end();
}

/* ---- a next hop that was mended in the configuration ---- */

static void password_is(struct route_settings routes[3], const char *password)
{
    memcpy(routes, fx.routes, sizeof(fx.routes));
    routes[0].password = str_of(password);
}

static void a_next_hop_that_changed_is_asked_at_once_and_alone(void **state)
{
    struct site *smart = site_add("*", SITE_LOGIN_BAD), *other = site_add("there.test", SITE_DOWN);
    struct route_settings bad[3], good[3];
    struct sched_settings still, mended;

    (void)state;
    submit_many("ses/*", 100);
    submit_many("direct/there.test", 10);
    virtual_run(30 * MINUTE);
    unsigned connects = smart->connects, others = other->connects;
    still = mended = fx.settings;
    password_is(bad, "still wrong");
    still.routes = bad;
    sched_set(fx.sched, &still, NULL);
    virtual_run(5 * SECOND);
    assert_int_equal(smart->connects, connects + 1); /* a hundred wait, one asks */
    smart->mood = SITE_TAKES;
    virtual_run(5 * SECOND);
    assert_int_equal(smart->messages, 0);
    password_is(good, "right");
    mended.routes = good;
    sched_set(fx.sched, &mended, NULL);
    virtual_run(10 * SECOND);
    assert_in_range(smart->messages, 80, 100); /* all but those that were tried */
    assert_int_equal(other->connects, others);
    sched_end();
}

static void a_reload_that_changes_no_route_wakes_nothing(void **state)
{
    struct site *smart = site_add("*", SITE_DOWN);
    struct route_settings same[3];
    struct sched_settings now;

    (void)state;
    submit_many("ses/*", 100);
    virtual_run(30 * MINUTE);
    unsigned connects = smart->connects;
    password_is(same, "");
    now = fx.settings;
    now.routes = same;
    sched_set(fx.sched, &now, NULL);
    virtual_run(5 * SECOND);
    assert_int_equal(smart->connects, connects);
    sched_end();
}

static bool note_state(void *arg, const struct sched_lane_info *info)
{
    *(enum dest_state *)arg = info->state;
    return false;
}

/* What was under way to the old next hop says nothing of the new one. */
static void an_old_attempt_does_not_put_the_new_next_hop_to_sleep(void **state)
{
    struct site *smart = site_add("*", SITE_HANGS);
    struct route_settings good[3];
    struct sched_settings now;
    enum dest_state is = DEST_READY;

    (void)state;
    submit("ses/*", "a@here.test", 0);
    virtual_run(MINUTE);
    password_is(good, "right");
    now = fx.settings;
    now.routes = good;
    sched_set(fx.sched, &now, NULL);
    submit("ses/*", "b@here.test", 0);
    virtual_run(SECOND);
    assert_int_equal(smart->connects, 2);
    smart->mood = SITE_DOWN;
    virtual_run(HOUR - 50 * SECOND); /* the old one's end; the new one is on its way */
    assert_int_equal(smart->open, 1);
    sched_each_lane(fx.sched, note_state, &is);
    assert_int_equal(is, DEST_PROBING);
    smart->mood = SITE_TAKES;
    virtual_run(10 * MINUTE);
    assert_int_equal(smart->messages, 2);
    sched_end();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(mail_is_sent_at_once),
        TEST(a_connection_is_kept_for_the_next_message),
        TEST(a_message_over_a_kept_connection_goes_in_the_same_moment),
        TEST(the_window_widens_while_mail_is_taken),
        TEST(messages_per_connection_are_counted),
        TEST(a_message_rate_is_kept),
        TEST(a_rate_is_shared_fairly_by_the_lanes_of_a_dest),
        TEST(domains_at_one_provider_are_one_dest),
        TEST(a_big_lane_does_not_hold_up_a_small_one),
        TEST(an_idle_connection_makes_way),
        TEST(a_connection_that_turns_idle_makes_way_for_those_in_line),
        TEST(many_lanes_take_turns),
        TEST(what_is_put_off_comes_again_later_and_later),
        TEST(a_refusal_is_reported_in_the_same_settlement),
        TEST(nobody_is_told_who_does_not_want_it),
        TEST(success_is_reported_when_the_next_hop_will_not),
        TEST(one_report_speaks_of_all_recipients_of_a_claim),
        TEST(what_cannot_be_reported_now_waits_for_its_report),
        TEST(what_is_reported_is_not_tried_again_when_the_disk_fills),
        TEST(success_is_reported_on_a_full_disk),
        TEST(several_reports_are_stored_with_what_they_tell_of),
        TEST(a_warning_after_four_hours_and_an_end_after_five_days),
        TEST(a_dead_place_with_many_messages_costs_one_probe_an_interval),
        TEST(mail_for_a_dead_place_is_warned_of_and_expires),
        TEST(what_is_put_off_after_an_outage_is_not_tried_over_and_over),
        TEST(a_connection_that_hangs_does_not_stop_the_probes),
        TEST(a_short_outage_leaves_everything_due),
        TEST(lanes_that_share_a_dead_dest_share_its_probes),
        TEST(an_operator_need_not_wait_for_the_next_probe),
        TEST(a_smarthost_that_refuses_us_bounces_nothing),
        TEST(own_trouble_is_retried_soon_and_counts_for_nothing),
        TEST(what_may_have_arrived_is_not_sent_for_ever),
        TEST(a_dead_kept_connection_is_nobodys_fault),
        TEST(results_that_cannot_be_stored_are_kept),
        TEST(draining_finishes_what_runs),
        TEST(aborting_ends_at_once),
        TEST(aborting_gives_up_what_the_store_will_not_take),
        TEST(draining_cancels_look_ups),
        TEST(new_settings_take_over_without_a_gap),
        TEST(lanes_can_be_looked_at),
        TEST(a_lane_of_another_loop_is_not_ours),
        TEST(limits_of_a_smarthost_are_shared_out),
        TEST(a_smarthost_with_fewer_connections_than_loops_is_left_to_others),
        TEST(what_one_loop_can_take_is_not_passed_on),
        TEST(what_would_wait_is_passed_on_once),
        TEST(what_becomes_due_in_line_is_passed_on_then),
        TEST(a_loop_that_lost_its_share_claims_nothing),
        TEST(others_hear_of_more_than_one_claim_holds),
        TEST(trouble_on_one_loop_is_passed_on),
        TEST(a_lane_whose_route_is_gone_waits_for_its_mail_to_be_moved),
        TEST(a_route_that_is_there_again_takes_what_waited),
        TEST(a_next_hop_that_changed_is_asked_at_once_and_alone),
        TEST(a_reload_that_changes_no_route_wakes_nothing),
        TEST(an_old_attempt_does_not_put_the_new_next_hop_to_sleep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
