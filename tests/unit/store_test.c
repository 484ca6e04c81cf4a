/*
 * store_test.c - what every backend of the store must do: the same table over
 * memory and over LMDB.
 */
#include "store_rig.h"

#include "queue/store_rules.h"
#include "relay/mail/addr.h"

#define LANE "direct/there.test"
#define TO "b@there.test " LANE

static const struct store_filter all = { .any_state = true };

/* ---- accept, claim, settle ---------------------------------------------------------- */

static void a_message_comes_out_as_it_went_in(struct rig *rig)
{
    struct message *in = rig_message(rig, "a@here.test", TO);

    in->own_signatures = 2;
    assert_int_equal(rig_accept(rig, in), ERR_OK);
    struct claim *claim = rig_claim(rig, LANE, 10);
    assert_int_equal(rig_count(claim), 1);
    assert_int_equal(claim->count, 1);
    assert_string_equal(claim->lane, LANE);
    const struct message *out = claim->message;
    assert_int_equal(msgid_cmp(&out->envelope.id, &in->envelope.id), 0);
    assert_true(str_eq(out->envelope.sender, STR("a@here.test")));
    assert_true(str_eq(str_make(out->head, out->head_len), STR("Subject: x\r\n\r\n")));
    assert_int_equal(out->own_signatures, 2);
    char body[64];
    size_t len;
    assert_int_equal(body_read(out->body, 0, body, sizeof(body), &len, NULL), ERR_OK);
    assert_true(str_eq(str_make(body, len), STR("hello\r\n")));
    message_unref(&in);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    assert_int_equal(rig_health(rig).messages, 0);
    assert_int_equal(rig_health(rig).queued_bytes, 0);
    assert_int_equal(rig_health(rig).recipients_queued, 0);
}

static void an_id_is_taken_once(struct rig *rig)
{
    struct message *message = rig_message(rig, "a@here.test", TO);

    assert_int_equal(rig_accept(rig, message), ERR_OK);
    assert_int_equal(rig_accept(rig, message), ERR_EXISTS);
    message_unref(&message);
    assert_int_equal(rig_health(rig).messages, 1);
}

static void what_is_claimed_is_nobody_elses(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    assert_non_null(claim);
    assert_null(rig_claim(rig, LANE, 1));
    store_unclaim(rig->store, &claim);
    assert_null(claim);
    claim = rig_claim(rig, LANE, 1);
    assert_non_null(claim);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    assert_null(rig_claim(rig, LANE, 1));
}

static void later_comes_back_when_due(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", TO);

    rig_settle(rig, rig_claim(rig, LANE, 1), RECIPIENT_QUEUED, NOW + 60);
    struct store_claim early = rig_claim_at(rig, LANE, 1, NOW + 59);
    assert_null(early.claims);
    assert_false(early.more);
    assert_int_equal(early.next_due, NOW + 60);
    rig_wall_s = NOW + 60;
    struct claim *claim = rig_claim(rig, LANE, 1);
    assert_non_null(claim);
    const struct recipient *r = &claim->message->envelope.recipients[0];
    assert_int_equal(r->attempts, 1);
    assert_int_equal(r->tried_at, NOW);
    assert_true(str_eq(r->said, STR("452 4.2.2 mailbox full")));
    assert_true(str_eq(r->host, STR("mx.there.test")));
    assert_int_equal(r->stage, STAGE_RCPT);
    rig_settle(rig, claim, RECIPIENT_FAILED, 0);
    assert_null(rig_get(rig, id));
}

static void later_at_the_same_second_is_not_lost(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    for (int i = 0; i < 3; i++)
        rig_settle(rig, rig_claim(rig, LANE, 1), RECIPIENT_QUEUED, NOW);
    rig_deliver(rig, LANE);
    assert_int_equal(rig_health(rig).messages, 0);
}

static void a_future_recipient_waits(struct rig *rig)
{
    struct message *message = rig_message(rig, "a@here.test", TO);

    message->envelope.recipients[0].due_at = NOW + 5;
    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    assert_null(rig_claim(rig, LANE, 1));
    rig_wall_s = NOW + 5;
    rig_deliver(rig, LANE);
}

static void each_lane_has_its_own_recipients(struct rig *rig)
{
    struct msgid id = rig_put(
        rig, "a@here.test", "1@x.test direct/x.test,2@y.test direct/y.test,3@x.test direct/x.test");
    struct claim *x = rig_claim(rig, "direct/x.test", 5);
    struct claim *y = rig_claim(rig, "direct/y.test", 5);

    assert_int_equal(x->count, 2);
    assert_int_equal(x->indexes[0], 0);
    assert_int_equal(x->indexes[1], 2);
    assert_int_equal(y->count, 1);
    assert_int_equal(y->indexes[0], 1);
    rig_settle(rig, x, RECIPIENT_DELIVERED, 0);
    struct message *message = rig_get(rig, id);
    assert_int_equal(message->envelope.recipients[0].state, RECIPIENT_DELIVERED);
    assert_int_equal(message->envelope.recipients[1].state, RECIPIENT_QUEUED);
    message_unref(&message);
    rig_settle(rig, y, RECIPIENT_DELIVERED, 0);
    assert_null(rig_get(rig, id));
}

/* Takes the claim. */
static void settle_in_parts(struct rig *rig, struct claim *claim, struct verdict *verdicts,
                            size_t count)
{
    struct settlement settlement = { .claim = claim, .verdicts = verdicts, .verdict_count = count };
    struct store_settle settle = { .request = rig_request(rig),
                                   .settlements = &settlement,
                                   .count = 1 };

    store_settle(rig->store, &settle);
    rig_wait(rig, &settle.request);
    claim_free(&claim);
    assert_int_equal(settle.request.err, ERR_OK);
}

static void one_claim_settled_in_parts(struct rig *rig)
{
    rig_put(rig, "a@here.test", "1@there.test " LANE ",2@there.test " LANE ",3@there.test " LANE);
    struct claim *claim = rig_claim(rig, LANE, 1);
    assert_int_equal(claim->count, 3);
    struct verdict verdicts[] = {
        { .index = 0, .state = RECIPIENT_DELIVERED },
        { .index = 1, .state = RECIPIENT_QUEUED, .due_at = NOW + 10, .attempted = true },
        { .index = 2, .state = RECIPIENT_QUEUED, .due_at = NOW + 20, .attempted = true },
    };
    settle_in_parts(rig, claim, verdicts, 3);
    assert_int_equal(rig_health(rig).recipients_queued, 2);
    rig_wall_s = NOW + 10;
    claim = rig_claim(rig, LANE, 5);
    assert_int_equal(claim->count, 1);
    assert_int_equal(claim->indexes[0], 1);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    struct store_claim none = rig_claim_at(rig, LANE, 5, NOW + 10);
    assert_int_equal(none.next_due, NOW + 20);
    rig_wall_s = NOW + 20;
    rig_deliver(rig, LANE);
}

static void a_thousand_recipients_in_one_message(struct rig *rig)
{
    struct message *message = rig_message(rig, "a@here.test", TO);
    struct envelope *envelope = &message->envelope;

    for (int i = 1; i < 1000; i++) {
        char text[64];
        snprintf(text, sizeof(text), "user%d@d%d.test", i, i % 50);
        struct recipient *r = envelope_add(envelope, str_of(text));
        snprintf(text, sizeof(text), "direct/d%d.test", i % 50);
        r->lane = arena_str(&envelope->arena, str_of(text));
        r->due_at = NOW;
    }
    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    for (int d = 0; d < 50; d++) {
        char lane[64];
        snprintf(lane, sizeof(lane), "direct/d%d.test", d);
        struct claim *claim = rig_claim(rig, lane, 3);
        assert_int_equal(rig_count(claim), 1);
        assert_int_equal(claim->count, d == 0 ? 19 : 20);
        rig_settle(rig, claim, d == 7 ? RECIPIENT_QUEUED : RECIPIENT_DELIVERED, NOW + 1);
    }
    rig_deliver(rig, LANE);
    assert_int_equal(rig_health(rig).recipients_queued, 20);
    rig_wall_s = NOW + 1;
    rig_deliver(rig, "direct/d7.test");
    assert_int_equal(rig_health(rig).messages, 0);
}

static void a_settle_brings_its_report(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", TO);
    struct message *dsn = rig_message(rig, "", "a@here.test direct/here.test");
    struct claim *claim = rig_claim(rig, LANE, 1);

    dsn->envelope.flags = ENVELOPE_DSN;
    assert_int_equal(rig_settle_dsn(rig, claim, RECIPIENT_FAILED, 0, dsn), ERR_OK);
    message_unref(&dsn);
    assert_null(rig_get(rig, id));
    claim = rig_claim(rig, "direct/here.test", 1);
    assert_non_null(claim);
    assert_int_equal(claim->message->envelope.flags, ENVELOPE_DSN);
    assert_int_equal(claim->message->envelope.sender.len, 0);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
}

static void a_settle_brings_all_its_reports(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    struct message *dsns[3];

    for (size_t i = 0; i < 3; i++)
        dsns[i] = rig_message(rig, "", "a@here.test direct/here.test");
    assert_int_equal(rig_settle_dsns(rig, claim, RECIPIENT_FAILED, 0, dsns, 3), ERR_OK);
    assert_null(rig_get(rig, id));
    for (size_t i = 0; i < 3; i++) {
        struct message *found = rig_get(rig, dsns[i]->envelope.id);
        assert_non_null(found);
        message_unref(&found);
        message_unref(&dsns[i]);
    }
    assert_int_equal(rig_health(rig).messages, 3);
}

/* ---- fairness ------------------------------------------------------------------------ */

static void a_newsletter_does_not_hold_up_others(struct rig *rig)
{
    const char *lane = "ses/*";

    for (int i = 0; i < 50; i++) {
        char sender[64];
        snprintf(sender, sizeof(sender), "bounce-%d-x=y.test@news.test", i);
        rig_put(rig, sender, "c@x.test ses/*");
    }
    struct msgid reset = rig_put(rig, "login@app.test", "d@x.test ses/*");
    struct claim *claims = rig_claim(rig, lane, 4);
    bool found = false;
    for (struct claim *claim = claims; claim; claim = claim->next)
        found |= msgid_cmp(&claim->message->envelope.id, &reset) == 0;
    assert_true(found);
    store_unclaim(rig->store, &claims);
}

static void senders_are_grouped(struct rig *rig)
{
    static const struct {
        const char *name, *a_user, *a, *b_user, *b;
        bool same;
    } rows[] = {
        { "VERP", "", "bounce-1-x@n.test", "", "bounce-2-y@n.test", true },
        { "plus tag", "", "me+1@n.test", "", "me+2@n.test", true },
        { "digits", "", "n17@n.test", "", "n18@n.test", true },
        { "other local part", "", "login@app.test", "", "weekly@app.test", false },
        { "a user is one sender", "u", "a@x.test", "u", "b@y.test", true },
    };

    (void)rig;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct envelope a = { .user = str_of(rows[i].a_user), .sender = str_of(rows[i].a) };
        struct envelope b = { .user = str_of(rows[i].b_user), .sender = str_of(rows[i].b) };
        if ((rules_bucket(&a) == rules_bucket(&b)) != rows[i].same)
            fail_msg("%s", rows[i].name);
    }
}

static void old_and_new_mail_both_move(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    rig_settle(rig, rig_claim(rig, LANE, 1), RECIPIENT_QUEUED, NOW);
    rig_put(rig, "a@here.test", TO);
    struct store_claim both = rig_claim_at(rig, LANE, 2, NOW);
    assert_int_equal(rig_count(both.claims), 2);
    if (both.more) /* the new one was just being written out: an idle look, and no more */
        assert_null(rig_claim(rig, LANE, 2));
    store_unclaim(rig->store, &both.claims);
    unsigned attempts = 0;
    for (int i = 0; i < 2; i++) {
        struct claim *claim = rig_claim(rig, LANE, 1);
        attempts += claim->message->envelope.recipients[0].attempts;
        rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    }
    assert_int_equal(attempts, 1);
}

/* ---- changes ---------------------------------------------------------------------------- */

static void held_mail_stays_until_released(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", TO);
    struct store_change change = rig_change(rig, STORE_HOLD, (struct store_filter){ .id = id });

    assert_int_equal(change.recipients, 1);
    assert_int_equal(change.messages, 1);
    struct store_claim none = rig_claim_at(rig, LANE, 1, NOW + 100);
    assert_null(none.claims);
    assert_int_equal(none.next_due, 0);
    assert_int_equal(rig_health(rig).recipients_held, 1);
    rig_wall_s = NOW + 100;
    rig_change(rig, STORE_RELEASE, all);
    struct claim *claim = rig_claim(rig, LANE, 1);
    assert_non_null(claim);
    assert_int_equal(claim->message->envelope.recipients[0].held_lifetime_s, 100);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
}

static void retry_makes_it_due(struct rig *rig)
{
    for (int i = 0; i < 5; i++)
        rig_put(rig, "a@here.test", TO);
    for (struct claim *claims = rig_claim(rig, LANE, 5), *next; claims; claims = next) {
        next = claims->next;
        rig_settle(rig, claims, RECIPIENT_QUEUED, NOW + 3600);
    }
    assert_null(rig_claim(rig, LANE, 5));
    assert_int_equal(rig_change(rig, STORE_RETRY, all).recipients, 5);
    struct claim *claims = rig_claim(rig, LANE, 9);
    assert_int_equal(rig_count(claims), 5);
    store_unclaim(rig->store, &claims);
    assert_int_equal(rig_change(rig, STORE_RETRY, all).recipients, 0);
}

static void dropped_mail_is_gone(struct rig *rig)
{
    struct msgid one = rig_put(rig, "a@here.test", TO);
    struct msgid two = rig_put(rig, "b@here.test", TO);

    rig_change(rig, STORE_DROP, (struct store_filter){ .sender = STR("a@here.test") });
    assert_null(rig_get(rig, one));
    struct message *message = rig_get(rig, two);
    assert_non_null(message);
    message_unref(&message);
    struct claim *claims = rig_claim(rig, LANE, 9);
    assert_int_equal(rig_count(claims), 1);
    rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
    assert_int_equal(rig_health(rig).queued_bytes, 0);
}

static void what_is_being_sent_is_said_to_be(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    struct claim *claims = rig_claim(rig, LANE, 9);
    rig_put(rig, "a@here.test", TO);
    struct store_change change = rig_change(rig, STORE_HOLD, all);
    assert_int_equal(change.recipients, 2);
    assert_int_equal(change.leased, 1);
    rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
    change = rig_change(rig, STORE_DROP, all);
    assert_int_equal(change.recipients, 1);
    assert_int_equal(change.leased, 0);
}

static void dropping_one_recipient_keeps_the_others(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", "1@x.test direct/x.test,2@y.test direct/y.test");

    rig_change(rig, STORE_DROP, (struct store_filter){ .recipient = STR("x.test") });
    assert_null(rig_claim(rig, "direct/x.test", 1));
    struct message *message = rig_get(rig, id);
    assert_int_equal(message->envelope.recipients[0].state, RECIPIENT_FAILED);
    message_unref(&message);
    rig_deliver(rig, "direct/y.test");
    assert_null(rig_get(rig, id));
}

static void reroute_to_smart(void *arg, const struct envelope *envelope,
                             const struct recipient *recipient, char lane[LANE_MAX])
{
    (void)envelope;
    (void)recipient;
    snprintf(lane, LANE_MAX, "%s", (const char *)arg);
}

static void reroute(struct rig *rig, const char *lane)
{
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_REROUTE,
                                   .filter = all,
                                   .reroute = reroute_to_smart,
                                   .arg = (void *)(uintptr_t)lane };

    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.request.err, ERR_OK);
}

static void rerouted_mail_is_in_its_new_lane(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    rig_put(rig, "a@here.test", TO);
    rig_settle(rig, rig_claim(rig, LANE, 1), RECIPIENT_QUEUED, NOW + 9);
    reroute(rig, "smart/*");
    assert_null(rig_claim(rig, LANE, 9));
    rig_deliver(rig, "smart/*");
    rig_deliver(rig, "smart/*"); /* at once: what it waited for was the old way */
}

static void retry_of_some_routes_leaves_the_others(struct rig *rig)
{
    static const char *const lanes[] = { "smart/*", "direct/smart", "other/*" };
    const struct str routes[] = { STR("smart"), STR("else") };

    rig_put(rig, "a@here.test", "1@x.test smart/*,2@smart direct/smart,3@z.test other/*");
    for (size_t i = 0; i < 3; i++)
        rig_settle(rig, rig_claim(rig, lanes[i], 1), RECIPIENT_QUEUED, NOW + 3600);
    struct store_filter some = { .state = RECIPIENT_QUEUED,
                                 .of_routes = routes,
                                 .of_route_count = 2 };
    assert_int_equal(rig_change(rig, STORE_RETRY, some).recipients, 1);
    assert_null(rig_claim(rig, "direct/smart", 1));
    assert_null(rig_claim(rig, "other/*", 1));
    rig_deliver(rig, "smart/*");
}

/* ---- next hops that are other ones now ---- */

static void put_waiting(struct rig *rig)
{
    rig_put(rig, "a@here.test", "1@x.test smart/*,2@y.test direct/y.test");
    rig_settle(rig, rig_claim(rig, "smart/*", 1), RECIPIENT_QUEUED, NOW + 3600);
    rig_settle(rig, rig_claim(rig, "direct/y.test", 1), RECIPIENT_QUEUED, NOW + 3600);
}

static void expect_due(struct rig *rig, uint64_t smart, uint64_t direct, uint64_t want)
{
    uint64_t due;

    assert_int_equal(rig_tell_hops(rig, smart, direct, &due), ERR_OK);
    assert_int_equal(due, want);
}

static void a_next_hop_that_changed_makes_its_mail_due(struct rig *rig)
{
    put_waiting(rig);
    expect_due(rig, 1, 5, 0); /* the store was told nothing before */
    expect_due(rig, 1, 5, 0);
    expect_due(rig, 2, 5, 1);
    rig_settle(rig, rig_claim(rig, "smart/*", 1), RECIPIENT_QUEUED, NOW + 3600);
    assert_null(rig_claim(rig, "direct/y.test", 1));
    expect_due(rig, 2, 5, 0); /* once */
    expect_due(rig, 1, 6, 2); /* back again, and the other one too */
    rig_deliver(rig, "smart/*");
    rig_deliver(rig, "direct/y.test");
}

static void a_next_hop_that_was_gone_is_as_one_never_told(struct rig *rig)
{
    put_waiting(rig);
    expect_due(rig, 1, 5, 0);
    expect_due(rig, 0, 5, 0);
    expect_due(rig, 2, 5, 0);
    expect_due(rig, 3, 5, 1);
}

static void next_hops_are_known_after_a_restart(struct rig *rig)
{
    put_waiting(rig);
    if (!rig->is_lmdb)
        return;
    rig_reopen(rig);
    expect_due(rig, 1, 5, 0); /* as of a store that an older waypost wrote */
    rig_reopen(rig);
    expect_due(rig, 1, 5, 0);
    rig_reopen(rig);
    expect_due(rig, 2, 5, 1);
    rig_settle(rig, rig_claim(rig, "smart/*", 1), RECIPIENT_QUEUED, NOW + 3600);
    rig_reopen(rig);
    expect_due(rig, 2, 5, 0);
}

static void a_route_of_two_next_hops_is_another_when_both_are(struct rig *rig)
{
    struct store_hop hops[] = { { STR("direct"), 1 }, { STR("direct"), 2 } };
    struct str changed[2];
    struct store_change change = { .hops = hops, .changed = changed, .hop_count = 2 };
    struct buf row;

    (void)rig;
    rules_hops_row(&change, &row);
    assert_false(rules_hops_changed(&change, buf_view(&row)));
    assert_false(rules_hops_changed(&change, str_head(buf_view(&row), row.len / 2 - 1)));
    hops[0].print = 3;
    assert_true(rules_hops_changed(&change, buf_view(&row)));
    assert_int_equal(change.filter.of_route_count, 1);
    assert_true(str_eq(change.filter.of_routes[0], STR("direct")));
    buf_clear(&row);
}

/* ---- local names that led nowhere ---------------------------------------------------- */

#define HELD 20 /* more than one slice of the record */

/* A message to many names of the machine, all of them held, and one that goes out. */
static struct msgid put_held(struct rig *rig, bool by_operator)
{
    struct message *message = rig_message(rig, "a@here.test", TO);
    struct msgid id = message->envelope.id;

    for (unsigned i = 0; i < HELD; i++) {
        char address[40];
        snprintf(address, sizeof(address), "name%u@here.test", i);
        struct recipient *r = envelope_add(&message->envelope, str_of(address));
        r->lane = STR("direct/here.test");
        r->due_at = NOW;
        r->state = RECIPIENT_HELD;
        r->stage = by_operator ? STAGE_SERVICE : STAGE_EXPAND;
        r->orcpt = STR("rfc822;x");
    }
    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    return id;
}

/* name0 leads to two, name1 nowhere, name2 to one that is there already, others to one. */
static size_t lead(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                   struct arena *arena, const struct store_address **out)
{
    static const struct store_address two[] = {
        { { "ops@there.test", 14 }, { "direct/there.test", 17 } },
        { { "more@else.test", 14 }, { "direct/else.test", 16 } },
    };
    struct store_address *own = arena_alloc(arena, sizeof(*own));

    (void)arg, (void)envelope;
    *out = two;
    if (str_starts(recipient->address, STR("name0@")))
        return 2;
    if (str_starts(recipient->address, STR("name1@")))
        return 0;
    if (str_starts(recipient->address, STR("name2@")))
        return 1;
    own->address =
        str_of(arena_printf(arena, STR_FMT "@else.test", STR_ARG(str_head(recipient->address, 6))));
    own->lane = STR("direct/else.test");
    *out = own;
    return 1;
}

static uint64_t readdress(struct rig *rig)
{
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_READDRESS,
                                   .filter = { .state = RECIPIENT_HELD },
                                   .readdress = lead };

    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.request.err, ERR_OK);
    return change.recipients;
}

static void held_names_become_what_they_lead_to(struct rig *rig)
{
    struct msgid id = put_held(rig, false);
    struct store_health health;

    rig_deliver(rig, LANE);
    rig_wall_s = NOW + 50;
    assert_int_equal(readdress(rig), HELD - 1);
    if (rig->is_lmdb)
        rig_reopen(rig);
    struct message *message = rig_get(rig, id);
    const struct envelope *envelope = &message->envelope;
    assert_int_equal(envelope->recipient_count, 1 + HELD + 1);
    const struct recipient *r = envelope->recipients;
    assert_true(str_eq(r[1].address, STR("ops@there.test")));
    assert_int_equal(r[1].state, RECIPIENT_QUEUED);
    assert_int_equal(r[1].due_at, NOW + 50);
    assert_int_equal(r[1].held_lifetime_s, 50);
    assert_true(str_eq(r[1].orcpt, STR("rfc822;x")));
    assert_int_equal(r[2].state, RECIPIENT_HELD);
    assert_true(str_eq(r[2].address, STR("name1@here.test")));
    assert_int_equal(r[3].state, RECIPIENT_DELIVERED);
    assert_true(str_eq(r[HELD + 1].address, STR("more@else.test")));
    assert_true(str_eq(r[HELD + 1].orcpt, STR("rfc822;x")));
    message_unref(&message);
    store_health(rig->store, &health);
    assert_int_equal(health.recipients_held, 1);
    assert_int_equal(health.recipients_queued, HELD - 1);
    rig_deliver(rig, "direct/there.test");
    struct claim *claim = rig_claim(rig, "direct/else.test", 9);
    assert_int_equal(claim->count, HELD - 2);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    rig_change(rig, STORE_DROP, (struct store_filter){ .any_state = true });
    assert_null(rig_get(rig, id));
    store_health(rig->store, &health);
    assert_int_equal(health.queued_bytes, 0);
}

static void what_an_operator_holds_stays_held(struct rig *rig)
{
    (void)put_held(rig, true);
    assert_int_equal(readdress(rig), 0);
}

/* ---- changes while it is out --------------------------------------------------------- */

static void a_leased_one_is_held_after_its_settle(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    rig_change(rig, STORE_HOLD, all);
    rig_settle(rig, claim, RECIPIENT_QUEUED, NOW + 1);
    assert_null(rig_claim_at(rig, LANE, 1, NOW + 99).claims);
    rig_change(rig, STORE_RELEASE, all);
    rig_deliver(rig, LANE);
}

static void a_leased_one_that_was_held_may_be_delivered(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);

    rig_change(rig, STORE_HOLD, all);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    assert_null(rig_get(rig, id));
    assert_int_equal(rig_health(rig).recipients_held, 0);
}

static void a_held_one_given_back_stays_held(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    rig_change(rig, STORE_HOLD, all);
    store_unclaim(rig->store, &claim);
    assert_null(rig_claim(rig, LANE, 1));
    rig_change(rig, STORE_RELEASE, all);
    rig_deliver(rig, LANE);
}

static void a_leased_one_can_be_dropped(struct rig *rig)
{
    struct msgid id = rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    struct message *dsn = rig_message(rig, "", "a@here.test direct/here.test");

    rig_change(rig, STORE_DROP, all);
    assert_null(rig_get(rig, id));
    assert_int_equal(rig_settle_dsn(rig, claim, RECIPIENT_FAILED, 0, dsn), ERR_OK);
    message_unref(&dsn);
    assert_int_equal(rig_health(rig).messages, 0);
}

static void retry_of_a_leased_one_is_due_when_it_fails(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    assert_int_equal(rig_change(rig, STORE_RETRY, all).recipients, 1);
    rig_settle(rig, claim, RECIPIENT_QUEUED, NOW + 3600);
    rig_deliver(rig, LANE);
}

static void a_leased_one_moves_when_it_is_back(struct rig *rig)
{
    rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    reroute(rig, "smart/*");
    assert_null(rig_claim(rig, "smart/*", 1)); /* it is being attempted in the old one */
    rig_settle(rig, claim, RECIPIENT_QUEUED, NOW);
    assert_null(rig_claim(rig, LANE, 1));
    claim = rig_claim(rig, "smart/*", 1);
    assert_non_null(claim);
    reroute(rig, LANE);
    assert_null(rig_claim(rig, LANE, 1));
    store_unclaim(rig->store, &claim);
    rig_deliver(rig, LANE);
}

/* ---- looking ---------------------------------------------------------------------------- */

static void lists_come_in_pages(struct rig *rig)
{
    struct msgid after = { { 0 } };
    size_t seen = 0;
    bool more = true;

    for (int i = 0; i < 25; i++)
        rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1); /* leased ones are listed too */
    while (more) {
        struct store_list list = rig_list(rig, all, 10, after);
        for (size_t i = 0; i < list.count; i++) {
            assert_true(msgid_cmp(&list.envelopes[i].id, &after) > 0);
            after = list.envelopes[i].id;
            assert_false(list.is_corrupt[i]);
        }
        seen += list.count;
        more = list.more;
        store_list_clear(&list);
    }
    assert_int_equal(seen, 25);
    store_unclaim(rig->store, &claim);
}

/* A page is read into memory: large messages make it end early, none is left out. */
static void lists_end_with_many_recipients(struct rig *rig)
{
    struct msgid after = { { 0 } };
    const size_t counts[] = { 2, 1, 0 };
    char address[32];

    for (int i = 0; i < 3; i++) {
        struct message *message = rig_message(rig, "a@here.test", TO);
        for (size_t n = 1; n < STORE_LIST_RECIPIENTS * 2 / 3; n++) {
            (void)snprintf(address, sizeof(address), "r%zu@x.test", n);
            envelope_add(&message->envelope, str_of(address))->lane = STR(LANE);
        }
        assert_int_equal(rig_accept(rig, message), ERR_OK);
        message_unref(&message);
    }
    for (size_t page = 0; page < 3; page++) {
        struct store_list list = rig_list(rig, all, 10, after);
        assert_int_equal(list.count, counts[page]);
        assert_int_equal(list.more, page == 0);
        if (list.count > 0)
            after = list.envelopes[list.count - 1].id;
        store_list_clear(&list);
    }
}

static void filters_choose(struct rig *rig)
{
    rig_wall_s = NOW - 1000;
    struct msgid old = rig_put(rig, "old@here.test", "x@x.test direct/x.test");
    rig_wall_s = NOW;
    rig_put(rig, "", "y@y.test direct/y.test");
    rig_put(rig, "c@other.test", "z@y.test ses/*");
    rig_settle(rig, rig_claim(rig, "ses/*", 1), RECIPIENT_QUEUED, NOW + 5);
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("y@y.test") });
    const struct {
        const char *name;
        struct store_filter filter;
        size_t count;
    } rows[] = {
        { "everything", { .any_state = true }, 3 },
        { "by id", { .any_state = true, .id = old }, 1 },
        { "by lane", { .any_state = true, .lane = STR("direct/x.test") }, 1 },
        { "by route", { .any_state = true, .lane = STR("direct") }, 2 },
        { "by sender's domain", { .any_state = true, .sender = STR("other.test") }, 1 },
        { "the null sender", { .any_state = true, .sender = STR("<>") }, 1 },
        { "by recipient", { .any_state = true, .recipient = STR("y.test") }, 2 },
        { "held", { .state = RECIPIENT_HELD }, 1 },
        { "queued", { .state = RECIPIENT_QUEUED }, 2 },
        { "deferred", { .any_state = true, .deferred_only = true }, 1 },
        { "older than", { .any_state = true, .older_than = NOW - 500 }, 1 },
        { "newer than", { .any_state = true, .newer_than = NOW - 500 }, 2 },
        { "nobody's user", { .any_state = true, .user = STR("u") }, 0 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store_list list = rig_list(rig, rows[i].filter, 10, (struct msgid){ { 0 } });
        if (list.count != rows[i].count)
            fail_msg("%s: %zu", rows[i].name, list.count);
        store_list_clear(&list);
    }
}

static struct store_lanes lanes_of(struct rig *rig, const char *after, size_t max)
{
    struct store_lanes lanes = { .request = rig_request(rig), .after = after, .max = max };

    store_lanes(rig->store, &lanes);
    rig_wait(rig, &lanes.request);
    assert_int_equal(lanes.request.err, ERR_OK);
    return lanes;
}

static void lanes_come_by_name(struct rig *rig)
{
    rig_put(rig, "a@here.test", "1@c.test direct/c.test");
    rig_put(rig, "a@here.test", "1@a.test direct/a.test,2@a.test direct/a.test");
    rig_put(rig, "a@here.test", "1@b.test direct/b.test");
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("2@a.test") });
    rig_settle(rig, rig_claim(rig, "direct/b.test", 1), RECIPIENT_QUEUED, NOW + 7);
    struct claim *claim = rig_claim(rig, "direct/c.test", 1);
    struct store_lanes lanes = lanes_of(rig, NULL, 2);
    assert_int_equal(lanes.count, 2);
    assert_true(lanes.more);
    assert_string_equal(lanes.lanes[0].lane, "direct/a.test");
    assert_int_equal(lanes.lanes[0].queued, 1);
    assert_int_equal(lanes.lanes[0].held, 1);
    assert_int_equal(lanes.lanes[0].oldest, NOW);
    assert_int_equal(lanes.lanes[1].next_due, NOW + 7);
    assert_false(lanes.lanes[1].leased);
    store_lanes_clear(&lanes);
    lanes = lanes_of(rig, "direct/b.test", 2);
    assert_int_equal(lanes.count, 1);
    assert_false(lanes.more);
    assert_true(lanes.lanes[0].leased);
    store_lanes_clear(&lanes);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    lanes = lanes_of(rig, "direct/b.test", 2);
    assert_int_equal(lanes.count, 0);
    store_lanes_clear(&lanes);
}

static void hear(void *arg, const char *lane, int64_t due_at, struct mailbox *near)
{
    struct rig *rig = arg;
    size_t len = strlen(rig->told);

    (void)near;
    snprintf(rig->told + len, sizeof(rig->told) - len, "%s %d\n", lane, (int)(due_at - NOW));
}

static void watchers_hear_of_due_mail(struct rig *rig)
{
    rig_put(rig, "a@here.test", "1@a.test direct/a.test");
    store_watch(rig->store, hear, rig);
    assert_string_equal(rig->told, "direct/a.test 0\n");
    rig->told[0] = '\0';
    rig_put(rig, "a@here.test", "1@b.test direct/b.test");
    rig_put(rig, "a@here.test", "1@b.test direct/b.test"); /* nothing new */
    assert_string_equal(rig->told, "direct/b.test 0\n");
    rig->told[0] = '\0';
    struct claim *claim = rig_claim(rig, "direct/a.test", 5);
    rig_settle(rig, claim, RECIPIENT_QUEUED, NOW + 50);
    assert_string_equal(rig->told, "direct/a.test 50\n");
    rig->told[0] = '\0';
    rig_put(rig, "a@here.test", "1@a.test direct/a.test"); /* earlier than known */
    assert_string_equal(rig->told, "direct/a.test 0\n");
}

/* ---- two recipients of one message in one lane -------------------------------------- */

static void settle_apart(struct rig *rig, int64_t first_due, int64_t second_due)
{
    rig_put(rig, "a@here.test", "1@there.test " LANE ",2@there.test " LANE);
    struct claim *claim = rig_claim(rig, LANE, 1);
    struct verdict verdicts[] = {
        { .index = 0, .state = RECIPIENT_QUEUED, .due_at = first_due, .attempted = true },
        { .index = 1, .state = RECIPIENT_QUEUED, .due_at = second_due, .attempted = true },
    };

    settle_in_parts(rig, claim, verdicts, 2);
}

static void ask_in_between(struct rig *rig)
{
    struct claim *claims = rig_claim(rig, LANE, 5);

    if (claims)
        store_unclaim(rig->store, &claims);
}

/* Backoff scatters them: the one becomes due while the other is under way. */
static void due_while_the_other_is_out(struct rig *rig)
{
    settle_apart(rig, NOW + 10, NOW + 20);
    rig_wall_s = NOW + 10;
    struct claim *first = rig_claim(rig, LANE, 5);
    assert_int_equal(first->count, 1);
    rig_wall_s = NOW + 25;
    ask_in_between(rig);
    store_watch(rig->store, hear, rig);
    rig->told[0] = '\0';
    rig_settle(rig, first, RECIPIENT_DELIVERED, 0);
    if (rig->is_lmdb)
        assert_string_equal(rig->told, LANE " 20\n");
    rig_deliver(rig, LANE);
    assert_int_equal(rig_health(rig).messages, 0);
}

static void due_while_the_other_is_given_back(struct rig *rig)
{
    settle_apart(rig, NOW + 10, NOW + 20);
    rig_wall_s = NOW + 10;
    struct claim *first = rig_claim(rig, LANE, 5);
    rig_wall_s = NOW + 25;
    ask_in_between(rig);
    store_unclaim(rig->store, &first);
    first = rig_claim(rig, LANE, 5);
    assert_int_equal(first->count, 2);
    rig_settle(rig, first, RECIPIENT_DELIVERED, 0);
}

static void released_while_the_other_is_out(struct rig *rig)
{
    rig_put(rig, "a@here.test", "1@there.test " LANE ",2@there.test " LANE);
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("2@there.test") });
    struct claim *first = rig_claim(rig, LANE, 5);
    assert_int_equal(first->count, 1);
    rig_change(rig, STORE_RELEASE, all);
    ask_in_between(rig);
    rig_settle(rig, first, RECIPIENT_DELIVERED, 0);
    rig_deliver(rig, LANE);
    assert_int_equal(rig_health(rig).messages, 0);
}

/* By their domain, while a claim of the common lane is out: two lanes wait for it. */
static void reroute_apart(void *arg, const struct envelope *envelope,
                          const struct recipient *recipient, char lane[LANE_MAX])
{
    struct str domain = addr_domain_of(recipient->address);

    (void)arg;
    (void)envelope;
    snprintf(lane, LANE_MAX, "direct/" STR_FMT, STR_ARG(domain));
}

static void all_lanes_hear_when_a_lease_ends(struct rig *rig)
{
    rig_put(rig, "a@here.test", "1@x.test smart/*,2@y.test smart/*,3@z.test smart/*");
    struct claim *claim = rig_claim(rig, "smart/*", 1);
    struct store_change change = {
        .request = rig_request(rig), .kind = STORE_REROUTE, .filter = all, .reroute = reroute_apart
    };

    assert_int_equal(claim->count, 3);
    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_null(rig_claim(rig, "direct/x.test", 1));
    assert_null(rig_claim(rig, "direct/y.test", 1));
    assert_null(rig_claim(rig, "direct/z.test", 1));
    store_unclaim(rig->store, &claim);
    rig_deliver(rig, "direct/x.test");
    rig_deliver(rig, "direct/y.test");
    rig_deliver(rig, "direct/z.test");
}

static struct message *big_message(struct rig *rig)
{
    struct message *message = rig_message(rig, "a@here.test", TO);
    char *bytes = mem_alloc(200000);

    memset(bytes, 'x', 200000);
    body_unref(&message->body);
    message->body = body_of_buffer(bytes, 200000);
    return message;
}

static void quota_refuses_and_recovers(struct rig *rig)
{
    struct message *one = big_message(rig), *two = big_message(rig);

    store_close(&rig->store);
    rig->options.quota_bytes = 300000;
    rig_open(rig);
    assert_int_equal(rig_accept(rig, one), ERR_OK);
    assert_int_equal(rig_accept(rig, two), ERR_FULL);
    rig_deliver(rig, LANE);
    assert_int_equal(rig_accept(rig, two), ERR_OK);
    message_unref(&one);
    message_unref(&two);
}

/* ---- both backends ------------------------------------------------------------------------ */

#define BEHAVIOUR_MAP(X)                                                                           \
    X(a_message_comes_out_as_it_went_in)                                                           \
    X(an_id_is_taken_once)                                                                         \
    X(what_is_claimed_is_nobody_elses)                                                             \
    X(later_comes_back_when_due)                                                                   \
    X(later_at_the_same_second_is_not_lost)                                                        \
    X(a_future_recipient_waits)                                                                    \
    X(each_lane_has_its_own_recipients)                                                            \
    X(one_claim_settled_in_parts)                                                                  \
    X(a_thousand_recipients_in_one_message)                                                        \
    X(a_settle_brings_its_report)                                                                  \
    X(a_settle_brings_all_its_reports)                                                             \
    X(a_newsletter_does_not_hold_up_others)                                                        \
    X(senders_are_grouped)                                                                         \
    X(old_and_new_mail_both_move)                                                                  \
    X(held_mail_stays_until_released)                                                              \
    X(retry_makes_it_due)                                                                          \
    X(dropped_mail_is_gone)                                                                        \
    X(what_is_being_sent_is_said_to_be)                                                            \
    X(dropping_one_recipient_keeps_the_others)                                                     \
    X(rerouted_mail_is_in_its_new_lane)                                                            \
    X(retry_of_some_routes_leaves_the_others)                                                      \
    X(a_next_hop_that_changed_makes_its_mail_due)                                                  \
    X(a_next_hop_that_was_gone_is_as_one_never_told)                                               \
    X(next_hops_are_known_after_a_restart)                                                         \
    X(a_route_of_two_next_hops_is_another_when_both_are)                                           \
    X(held_names_become_what_they_lead_to)                                                         \
    X(what_an_operator_holds_stays_held)                                                           \
    X(a_leased_one_is_held_after_its_settle)                                                       \
    X(a_leased_one_that_was_held_may_be_delivered)                                                 \
    X(a_held_one_given_back_stays_held)                                                            \
    X(a_leased_one_can_be_dropped)                                                                 \
    X(retry_of_a_leased_one_is_due_when_it_fails)                                                  \
    X(a_leased_one_moves_when_it_is_back)                                                          \
    X(lists_come_in_pages)                                                                         \
    X(lists_end_with_many_recipients)                                                              \
    X(filters_choose)                                                                              \
    X(lanes_come_by_name)                                                                          \
    X(watchers_hear_of_due_mail)                                                                   \
    X(due_while_the_other_is_out)                                                                  \
    X(due_while_the_other_is_given_back)                                                           \
    X(released_while_the_other_is_out)                                                             \
    X(all_lanes_hear_when_a_lease_ends)                                                            \
    X(quota_refuses_and_recovers)

static void run(void (*behaviour)(struct rig *), bool is_lmdb, size_t window_bytes,
                uint64_t spill_ms)
{
    struct rig *rig = rig_new(is_lmdb);

    rig->options.window_bytes = window_bytes;
    rig->tuning.spill_ms = spill_ms;
    rig_open(rig);
    behaviour(rig);
    assert_int_equal(store_outstanding(rig->store), 0);
    rig_free(rig);
}

/* LMDB thrice: with fresh mail in windows, with all of it indexed at once, and
 * with windows that are written out whenever the writer has a moment. */
#define VARIANT(prefix, name, is_lmdb, window_bytes, spill_ms)                                     \
    static void prefix##name(void **state)                                                         \
    {                                                                                              \
        (void)state;                                                                               \
        run(name, is_lmdb, window_bytes, spill_ms);                                                \
    }
#define X(name)                                                                                    \
    VARIANT(mem_, name, false, 0, 0)                                                               \
    VARIANT(lmdb_, name, true, 0, 30000)                                                           \
    VARIANT(cold_, name, true, 1, 30000)                                                           \
    VARIANT(spill_, name, true, 0, 0)
BEHAVIOUR_MAP(X)
#undef X

int main(void)
{
    const struct CMUnitTest tests[] = {
#define X(name)                                                                                    \
    cmocka_unit_test(mem_##name), cmocka_unit_test(lmdb_##name), cmocka_unit_test(cold_##name),    \
        cmocka_unit_test(spill_##name),
        BEHAVIOUR_MAP(X)
#undef X
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
