/*
 * store_model_test.c - claims, settlements, changes, failed commits and restarts in any
 * order, against a simple account of what the store was told: each recipient is with one
 * claim at a time, as it was settled last, is settled for good once, and what was held or
 * dropped is not claimed any more once that was answered.
 *
 * One thread asks and many answer: the seed (MODEL_SEED) gives what is asked, not how the
 * threads of the store meet. The linker puts the functions of this file in front of LMDB's,
 * so that commits fail, and that claims and the writer linger where it matters.
 */
#include "store_rig.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#define MAILS 64
#define LANES 300
#define MOVED 512 /* in the number of a lane: it was moved to its twin */
#define IN_FLIGHT 24
#define STEPS 6000
#define ROUNDS 4 /* a restart between them */
#define HELD_CLAIMS 200

/* ---- chance ----------------------------------------------------------------------------- */

static atomic_uint_fast64_t chance;
static atomic_int fail_one_in; /* 0: no commit fails */

static uint64_t any(uint64_t below)
{
    uint64_t z = atomic_fetch_add(&chance, 0x9E3779B97F4A7C15ull) + 0x9E3779B97F4A7C15ull;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (z ^ (z >> 31)) % below;
}

static void linger(void)
{
    for (uint64_t n = any(4) ? 0 : any(60); n > 0; n--)
        sched_yield();
}

int __real_mdb_txn_renew(MDB_txn *txn);
int __wrap_mdb_txn_renew(MDB_txn *txn);
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);

int __wrap_mdb_txn_renew(MDB_txn *txn)
{
    linger(); /* between the two looks of a claim, and before it reads what it saw */
    int rc = __real_mdb_txn_renew(txn);
    linger();
    return rc;
}

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    int one_in = fail_one_in;

    if (one_in > 0 && any((uint64_t)one_in) == 0) {
        mdb_txn_abort(txn);
        return EIO;
    }
    int rc = __real_mdb_txn_commit(txn);
    linger(); /* before memory follows */
    return rc;
}

/* ---- the account ------------------------------------------------------------------------ */

struct who {
    unsigned number; /* of its address */
    unsigned lane;
    bool waits;                 /* for an address, while it is held and was not tried */
    enum recipient_state state; /* FAILED: dropped */
    int64_t due_at;             /* not before */
    uint32_t attempts;
    bool is_leased, is_retried;
    bool is_counted; /* its lease counts for the change that is being checked */
};

struct mail {
    struct msgid id;
    struct who *who;
    size_t count;
    size_t added; /* by a change that was asked for */
    bool is_there;
    bool is_changing;
    bool is_blurred;      /* a settlement and a change met: their order is not known */
    unsigned changes;     /* begun */
    uint64_t answered_at; /* the last change: later claims see it */
    size_t settling;
    size_t late_claims; /* asked for before the change was answered, not answered yet */
    uint64_t told_leased, seen_leased;
};

struct op {
    union {
        struct store_request request;
        struct store_accept accept;
        struct store_claim claim;
        struct store_settle settle;
        struct store_change change;
    };
    struct op *next; /* finished */
    uint64_t asked_at;
    struct mail *mail; /* of all but a claim */
    unsigned changes;  /* of the mail, that were answered when it was asked */
    int twin;
    struct message *message;
    char lane[32];
    struct claim *claimed;
    struct settlement settlement;
    struct verdict *verdicts;
};

static struct {
    struct rig *rig;
    struct mail mails[MAILS];
    size_t mail_count;
    struct claim *held[HELD_CLAIMS];
    size_t held_count, in_flight, claiming;
    struct op *finished;
    uint64_t turn;
} m;

#define fits(what)                                                                                 \
    do {                                                                                           \
        if (!(what))                                                                               \
            fail_msg("turn %zu, line %d: %s", (size_t)m.turn, __LINE__, #what);                    \
    } while (0)

static bool is_open(const struct who *who)
{
    return who->state == RECIPIENT_QUEUED || who->state == RECIPIENT_HELD;
}

static struct mail *mail_of(const struct msgid *id)
{
    for (size_t i = 0; i < m.mail_count; i++)
        if (msgid_cmp(&m.mails[i].id, id) == 0)
            return &m.mails[i];
    return NULL;
}

static const char *lane_name(char out[32], unsigned lane)
{
    snprintf(out, 32, "direct/d%u", lane);
    return out;
}

static void done(struct store_request *request)
{
    struct op *op = (struct op *)(void *)request;

    op->next = m.finished;
    m.finished = op;
}

static struct op *op_new(struct mail *mail)
{
    struct op *op = mem_alloc(sizeof(*op));

    op->request = (struct store_request){ .reply_to = &m.rig->mail, .done = done };
    op->asked_at = ++m.turn;
    op->mail = mail;
    op->changes = mail ? mail->changes - mail->is_changing : 0;
    m.in_flight++;
    return op;
}

/* ---- what is asked ---------------------------------------------------------------------- */

static void ask_accept(void)
{
    struct mail *mail = &m.mails[m.mail_count];
    struct op *op = op_new(mail);
    struct envelope *envelope;
    unsigned first = (unsigned)any(LANES);

    op->message = rig_message(m.rig, any(2) ? "a@here.test" : "b@other.test", "");
    envelope = &op->message->envelope;
    *mail = (struct mail){ .id = envelope->id, .count = 3 + any(any(3) ? 30 : LANES) };
    mail->who = mem_alloc(2 * mail->count * sizeof(*mail->who));
    for (size_t i = 0; i < mail->count; i++) {
        unsigned lane = (first + (unsigned)(i - (any(5) == 0 && i))) % LANES;
        char text[32];
        snprintf(text, sizeof(text), "%zu@there.test", i);
        struct recipient *r = envelope_add(envelope, str_of(text));
        r->lane = arena_str(&envelope->arena, str_of(lane_name(text, lane)));
        r->due_at = rig_wall_s;
        bool waits = any(12) == 0;
        r->state = waits ? RECIPIENT_HELD : RECIPIENT_QUEUED;
        r->stage = waits ? STAGE_EXPAND : STAGE_SERVICE;
        mail->who[i] = (struct who){ .number = (unsigned)i,
                                     .lane = lane,
                                     .state = r->state,
                                     .waits = waits,
                                     .due_at = rig_wall_s };
    }
    m.mail_count++;
    op->accept.message = op->message;
    store_accept(m.rig->store, &op->accept);
}

static void ask_claim_of(unsigned lane, size_t max)
{
    struct op *op = op_new(NULL);

    m.claiming++;
    op->claim.lane = lane_name(op->lane, lane);
    op->claim.max = max;
    op->claim.now_s = rig_wall_s;
    store_claim(m.rig->store, &op->claim);
}

static struct mail *some_mail(void)
{
    size_t from = m.mail_count > 8 ? m.mail_count - 8 : 0;

    return m.mail_count ? &m.mails[from + any(m.mail_count - from)] : NULL;
}

static void ask_claim(void)
{
    struct mail *mail = some_mail();

    if (mail)
        ask_claim_of(mail->who[any(mail->count)].lane ^ (any(8) ? 0 : MOVED), 1 + any(4));
}

static struct claim *take_held(void)
{
    size_t at = any(m.held_count);
    struct claim *claim = m.held[at];

    m.held[at] = m.held[--m.held_count];
    return claim;
}

static void give_back(struct claim *claim)
{
    struct mail *mail = mail_of(&claim->message->envelope.id);

    mail->is_blurred |= mail->is_changing;
    for (size_t i = 0; i < claim->count; i++)
        mail->who[claim->indexes[i]].is_leased = false;
    store_unclaim(m.rig->store, &claim);
}

static void ask_settle(struct claim *claim, bool for_good)
{
    struct mail *mail = mail_of(&claim->message->envelope.id);
    struct op *op = op_new(mail);

    op->claimed = claim;
    op->verdicts = mem_alloc(claim->count * sizeof(*op->verdicts));
    for (size_t i = 0; i < claim->count; i++) {
        struct who *who = &mail->who[claim->indexes[i]];
        bool is_last = for_good || any(2);
        op->verdicts[i] =
            (struct verdict){ .index = claim->indexes[i],
                              .state = is_last ? RECIPIENT_DELIVERED : RECIPIENT_QUEUED,
                              .attempted = true,
                              .due_at = rig_wall_s + (int64_t)any(3),
                              .stage = STAGE_RCPT,
                              .said = STR("452 4.2.2 mailbox full") };
        who->is_leased = false; /* as soon as it is answered, or a little before */
        who->attempts++;
    }
    op->settlement = (struct settlement){ .claim = claim,
                                          .verdicts = op->verdicts,
                                          .verdict_count = claim->count };
    op->settle.settlements = &op->settlement;
    op->settle.count = 1;
    mail->settling++;
    mail->is_blurred |= mail->is_changing;
    store_settle(m.rig->store, &op->settle);
}

static void ask_settle_some(void)
{
    struct claim *claim = take_held();

    if (mail_of(&claim->message->envelope.id)->added > 0)
        m.held[m.held_count++] = claim; /* who was tried waits no more */
    else
        ask_settle(claim, false);
}

/* A third of the recipients change to the twin of their lane, and back. */
static void to_twin(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX])
{
    const struct op *op = arg;
    unsigned lane = (unsigned)strtoul(recipient->lane.at + strlen("direct/d"), NULL, 10);

    (void)envelope;
    if ((int)(strtoul(recipient->address.at, NULL, 10) % 3) == op->twin)
        lane ^= MOVED;
    snprintf(out_lane, LANE_MAX, "direct/d%u", lane);
}

/* A name leads to two addresses, in the twin of its lane. */
static size_t to_two(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                     struct arena *arena, const struct store_address **out_addresses)
{
    struct store_address *to = arena_alloc(arena, 2 * sizeof(*to));
    unsigned lane = (unsigned)strtoul(recipient->lane.at + strlen("direct/d"), NULL, 10) ^ MOVED;
    unsigned number = (unsigned)strtoul(recipient->address.at, NULL, 10);

    (void)arg;
    (void)envelope;
    for (size_t i = 0; i < 2; i++) {
        to[i].address = str_of(arena_printf(arena, "%u.%zu@there.test", number, i));
        to[i].lane = str_of(arena_printf(arena, "direct/d%u", lane));
    }
    *out_addresses = to;
    return 2;
}

static bool waits(const struct who *who)
{
    return who->waits && who->state == RECIPIENT_HELD && who->attempts == 0;
}

/* They may be claimed before that is answered. */
static void expect_two(struct mail *mail)
{
    size_t count = mail->count;

    for (size_t i = 0; i < count; i++) {
        if (!waits(&mail->who[i]))
            continue;
        mail->who[mail->count++] = (struct who){ .number = mail->who[i].number,
                                                 .lane = mail->who[i].lane ^ MOVED,
                                                 .state = RECIPIENT_HELD };
        mail->added++;
    }
}

static void ask_change(struct mail *mail, enum store_change_kind kind)
{
    struct op *op = op_new(mail);

    op->twin = (int)any(3);
    op->change.kind = kind;
    op->change.filter = (struct store_filter){ .id = mail->id, .any_state = true };
    op->change.reroute = to_twin;
    op->change.readdress = to_two;
    if (kind == STORE_READDRESS)
        expect_two(mail);
    op->change.arg = op;
    mail->changes++;
    mail->is_changing = true;
    mail->is_blurred = mail->settling > 0;
    store_change(m.rig->store, &op->change);
}

static void ask_some_change(void)
{
    static const enum store_change_kind kinds[] = { STORE_HOLD,    STORE_RELEASE,   STORE_RELEASE,
                                                    STORE_REROUTE, STORE_READDRESS, STORE_RETRY,
                                                    STORE_DROP };
    struct mail *mail = some_mail();

    enum store_change_kind kind = kinds[any(any(4) ? 6 : 7)];

    if (!mail || !mail->is_there || mail->is_changing || mail->late_claims > 0)
        return;
    if (kind != STORE_READDRESS || mail->settling == 0) /* who was tried waits no more */
        ask_change(mail, kind);
}

/* ---- what is answered ------------------------------------------------------------------- */

static void check_claimed(const struct op *op, struct mail *mail, const struct claim *claim,
                          uint32_t index)
{
    struct who *who = &mail->who[index];
    const struct recipient *r = &claim->message->envelope.recipients[index];
    bool is_late = mail->is_changing || op->asked_at < mail->answered_at;

    fits(index < mail->count);
    fits(!who->is_leased);
    fits(who->state != RECIPIENT_DELIVERED);
    fits(who->state == RECIPIENT_QUEUED || is_late);
    fits(who->due_at <= op->claim.now_s || is_late);
    fits(who->attempts == r->attempts);
    fits(strcmp(claim->lane, op->lane) == 0);
    fits(is_late || strtoul(claim->lane + strlen("direct/d"), NULL, 10) == who->lane);
    who->is_leased = true;
    who->is_retried = is_late; /* maybe */
    if (mail->late_claims > 0 && op->asked_at < mail->answered_at)
        mail->seen_leased += who->is_counted;
}

static void end_check(struct mail *mail)
{
    if (!mail->is_blurred)
        fits(mail->told_leased == mail->seen_leased);
}

static void answer_claim(struct op *op)
{
    struct claim *next;

    fits(op->request.err == ERR_OK);
    m.claiming--;
    for (struct claim *claim = op->claim.claims; claim; claim = next) {
        struct mail *mail = mail_of(&claim->message->envelope.id);
        next = claim->next;
        claim->next = NULL;
        fits(mail && claim->count > 0);
        for (size_t i = 0; i < claim->count; i++)
            check_claimed(op, mail, claim, claim->indexes[i]);
        if (m.held_count < HELD_CLAIMS)
            m.held[m.held_count++] = claim;
        else
            give_back(claim);
    }
    for (size_t i = 0; i < m.mail_count; i++) {
        struct mail *mail = &m.mails[i];
        if (op->asked_at < mail->answered_at && mail->late_claims > 0 && --mail->late_claims == 0)
            end_check(mail);
    }
}

static void answer_settle(struct op *op)
{
    struct mail *mail = op->mail;
    bool met = mail->changes != op->changes;

    mail->settling--;
    for (size_t i = 0; i < op->claimed->count; i++) {
        const struct verdict *verdict = &op->verdicts[i];
        struct who *who = &mail->who[verdict->index];
        if (op->request.err) { /* it is still ours */
            who->attempts--;
            fits(!who->is_leased);
            who->is_leased = true;
        } else if (is_open(who) && verdict->state == RECIPIENT_DELIVERED) {
            fits(!who->is_leased);
            who->state = RECIPIENT_DELIVERED;
        } else if (is_open(who)) {
            who->waits = false;
            who->due_at = met || who->is_retried ? 0 : verdict->due_at;
        }
    }
    if (op->request.err)
        ask_settle(op->claimed, true);
    else
        claim_free(&op->claimed);
    free(op->verdicts);
}

static bool change_who(const struct op *op, struct who *who)
{
    switch (op->change.kind) {
    case STORE_HOLD:
        if (who->state != RECIPIENT_QUEUED)
            return false;
        who->state = RECIPIENT_HELD;
        return true;
    case STORE_RELEASE:
        if (who->state != RECIPIENT_HELD)
            return false;
        who->state = RECIPIENT_QUEUED;
        break;
    case STORE_DROP:
        who->state = RECIPIENT_FAILED;
        return true;
    case STORE_REROUTE:
        if ((int)(who->number % 3) != op->twin)
            return false;
        who->lane ^= MOVED;
        break;
    case STORE_RETRY:
        break;
    case STORE_READDRESS:
        if (!waits(who))
            return false;
        who->state = RECIPIENT_QUEUED;
        who->waits = false;
        who->lane ^= MOVED;
        break;
    }
    who->due_at = 0;
    return true;
}

static void answer_change(struct op *op)
{
    struct mail *mail = op->mail;
    uint64_t changed = 0;

    mail->is_changing = false;
    size_t before = mail->count -= mail->added;
    mail->answered_at = ++m.turn;
    for (size_t i = 0; op->change.kind == STORE_RETRY && i < mail->count; i++)
        mail->who[i].is_retried |= mail->who[i].is_leased; /* also when its commit failed */
    if (op->request.err) {                                 /* nothing was changed */
        mail->added = 0;
        return;
    }
    mail->seen_leased = 0;
    for (; mail->added > 0; mail->added--)
        mail->who[mail->count++].state = RECIPIENT_QUEUED;
    mail->told_leased = op->change.leased;
    for (size_t i = 0; i < before; i++) {
        struct who *who = &mail->who[i];
        who->is_counted = is_open(who) && change_who(op, who);
        mail->seen_leased += who->is_counted && who->is_leased;
        changed += who->is_counted;
    }
    if (!mail->is_blurred && op->change.kind != STORE_RETRY) /* of those that are not due */
        fits(changed == op->change.recipients);
    if (op->change.kind != STORE_HOLD && op->change.kind != STORE_DROP)
        mail->is_blurred = true; /* for these may be claimed afterwards */
    mail->late_claims = m.claiming;
    if (m.claiming == 0)
        end_check(mail);
}

static void answer_accept(struct op *op)
{
    if (op->request.err)
        for (size_t i = 0; i < op->mail->count; i++)
            op->mail->who[i].state = RECIPIENT_FAILED; /* it was never there */
    else
        op->mail->is_there = true;
    message_unref(&op->message);
}

/* Waits for an answer when nothing was answered yet. */
static void take_answers(void)
{
    struct letter *next;

    for (struct letter *letter = mailbox_wait(&m.rig->mail, 20000); letter; letter = next) {
        next = letter->next;
        letter->open(letter);
        struct op *op = m.finished;
        m.finished = NULL;
        m.in_flight--;
        if (!op->mail)
            answer_claim(op);
        else if (op->message)
            answer_accept(op);
        else if (op->claimed)
            answer_settle(op);
        else
            answer_change(op);
        free(op);
    }
}

static void take_all_answers(void)
{
    while (m.in_flight > 0)
        take_answers();
}

/* ---- what happens ----------------------------------------------------------------------- */

static void step(void)
{
    uint64_t what = any(100);

    if (m.in_flight >= IN_FLIGHT)
        take_answers();
    if (what < 2 && m.mail_count < MAILS)
        ask_accept();
    else if (what < 50)
        ask_claim();
    else if (what < 85 && m.held_count > 0)
        ask_settle_some();
    else if (what < 90 && m.held_count > 0)
        give_back(take_held());
    else if (what < 96)
        ask_some_change();
    else if (what < 97)
        rig_wall_s++;
}

/* Leases are gone with it. */
static void restart(void)
{
    take_all_answers();
    store_close(&m.rig->store);
    while (m.held_count > 0)
        claim_free(&m.held[--m.held_count]);
    for (size_t i = 0; i < m.mail_count; i++)
        for (size_t n = 0; n < m.mails[i].count; n++)
            m.mails[i].who[n].is_leased = false;
    m.rig->tuning.spill_ms = any(2) ? 12 : 30000;
    m.rig->options.window_bytes = any(2) ? (size_t)1 << 20 : 4096;
    rig_open(m.rig);
}

static size_t claim_what_is_open(void)
{
    size_t open = 0;

    for (size_t i = 0; i < m.mail_count; i++) {
        for (size_t n = 0; n < m.mails[i].count; n++) {
            if (!is_open(&m.mails[i].who[n]))
                continue;
            open++;
            if (m.in_flight < IN_FLIGHT && m.held_count < HELD_CLAIMS / 2)
                ask_claim_of(m.mails[i].who[n].lane, 4);
            if (m.in_flight >= IN_FLIGHT)
                take_all_answers();
        }
    }
    take_all_answers();
    while (m.held_count > 0)
        ask_settle(take_held(), true);
    take_all_answers();
    return open;
}

/* Nothing is left, and nothing was forgotten. */
static void deliver_all(void)
{
    struct store_health health;
    size_t open = 1;

    fail_one_in = 0;
    take_all_answers();
    for (size_t i = 0; i < m.mail_count; i++)
        if (m.mails[i].is_there)
            ask_change(&m.mails[i], STORE_RELEASE);
    take_all_answers();
    rig_wall_s += 10;
    for (int turn = 0; turn < 400 && open > 0; turn++)
        open = claim_what_is_open();
    assert_int_equal(open, 0);
    health = rig_health(m.rig);
    assert_int_equal(health.messages, 0);
    assert_int_equal(health.recipients_queued, 0);
    assert_int_equal(health.recipients_held, 0);
    assert_int_equal(health.queued_bytes, 0);
    assert_int_equal(health.corrupt, 0);
}

/* Lanes are kept until all is counted. */
static void expect_empty_memory(void)
{
    struct lmdb *l = lmdb_of(m.rig->store);
    bool is_counted = false;

    for (int i = 0; i < 20000 && !is_counted; i++) {
        sched_yield();
        pthread_mutex_lock(&l->lock);
        is_counted = l->scan_done;
        pthread_mutex_unlock(&l->lock);
    }
    assert_true(is_counted);
    pthread_mutex_lock(&l->lock);
    for (struct lane *lane = l->lanes; lane; lane = lane->hh.next)
        print_error("%s: %zu queued, %zu held, %zu parts\n", lane->name, (size_t)lane->queued,
                    (size_t)lane->held, lane->parts);
    bool is_empty = !l->lanes && !l->parts;
    pthread_mutex_unlock(&l->lock);
    assert_true(is_empty);
}

static void the_store_does_as_it_says(void **state)
{
    const char *seed = getenv("MODEL_SEED");

    (void)state;
    chance = seed ? strtoull(seed, NULL, 10) : 1;
    print_message("MODEL_SEED=%s\n", seed ? seed : "1");
    m.rig = rig_new(true);
    rig_open(m.rig);
    for (int round = 0; round < ROUNDS; round++) {
        fail_one_in = round % 2 ? 12 : 0;
        for (int i = 0; i < STEPS / ROUNDS; i++)
            step();
        fail_one_in = 0;
        if (round < ROUNDS - 1)
            restart();
    }
    deliver_all();
    expect_empty_memory();
    rig_free(m.rig);
    for (size_t i = 0; i < m.mail_count; i++)
        free(m.mails[i].who);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_does_as_it_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
