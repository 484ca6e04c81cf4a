/*
 * record_test.c - an envelope comes back as it was, and nothing else is believed.
 */
#include "queue/record.h"

#include "store_rig.h"

static struct str text(struct arena *arena, const char *s) { return arena_str(arena, str_of(s)); }

static void fill(struct envelope *envelope, size_t recipients)
{
    struct arena *arena = &envelope->arena;

    memset(envelope->id.bytes, 7, MSGID_BYTES);
    envelope->arrived_us = 1800000000123456;
    envelope->sender = text(arena, "a@here.test");
    envelope->envid = text(arena, "QQ+2B");
    envelope->user = text(arena, "uid:1000");
    envelope->client = text(arena, "[192.0.2.1]:1234");
    envelope->helo = text(arena, "client.test");
    envelope->listener = text(arena, "submission");
    envelope->message_id = text(arena, "<1@here.test>");
    envelope->from_domain = text(arena, "here.test");
    envelope->ret = RET_HDRS;
    envelope->flags = ENVELOPE_SMTPUTF8 | ENVELOPE_TLS;
    envelope->size_bytes = 123456789;
    for (size_t i = 0; i < recipients; i++) {
        struct recipient *r = envelope_add(envelope, text(arena, i % 2 ? "x@y.test" : "z@y.test"));
        r->lane = text(arena, i < 3 ? "direct/y.test" : "ses/*");
        r->notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
        r->warned = i % 3 == 0;
        r->state = (enum recipient_state)(i % 4);
        r->attempts = (uint32_t)i * 1000;
        r->due_at = -5 + (int64_t)i;
        r->tried_at = INT64_MAX - (int64_t)i;
        r->held_lifetime_s = 3600;
        r->stage = STAGE_RCPT;
        r->kind = CLASS_SOFT;
        r->status = text(arena, "4.2.2");
        r->said = text(arena, i % 5 ? "452 full" : "");
        r->fix = text(arena, "wait");
    }
}

static bool same_recipient(const struct recipient *a, const struct recipient *b)
{
    return str_eq(a->address, b->address) && str_eq(a->orcpt, b->orcpt) &&
           str_eq(a->lane, b->lane) && a->notify == b->notify && a->warned == b->warned &&
           a->state == b->state && a->attempts == b->attempts && a->due_at == b->due_at &&
           a->tried_at == b->tried_at && a->held_lifetime_s == b->held_lifetime_s &&
           a->stage == b->stage && a->kind == b->kind && str_eq(a->status, b->status) &&
           str_eq(a->host, b->host) && str_eq(a->said, b->said) && str_eq(a->cause, b->cause) &&
           str_eq(a->fix, b->fix);
}

static void expect_same(const struct envelope *a, const struct envelope *b)
{
    assert_int_equal(msgid_cmp(&a->id, &b->id), 0);
    assert_int_equal(a->arrived_us, b->arrived_us);
    assert_true(str_eq(a->sender, b->sender) && str_eq(a->envid, b->envid));
    assert_true(str_eq(a->user, b->user) && str_eq(a->client, b->client));
    assert_true(str_eq(a->helo, b->helo) && str_eq(a->listener, b->listener));
    assert_true(str_eq(a->message_id, b->message_id) && str_eq(a->from_domain, b->from_domain));
    assert_int_equal(a->ret, b->ret);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_int_equal(a->recipient_count, b->recipient_count);
    for (size_t i = 0; i < a->recipient_count; i++)
        assert_true(same_recipient(&a->recipients[i], &b->recipients[i]));
}

static void round_trip(size_t recipients)
{
    const struct record_content content = {
        .head_len = 99, .body_len = 1 << 30, .own_signatures = 2, .file = STR("file.1")
    };
    struct record_content back = { 0 };
    struct envelope a, b;
    struct buf slices[80];
    struct fault fault;

    envelope_init(&a);
    envelope_init(&b);
    fill(&a, recipients);
    for (size_t i = 0; i < record_slices(&a); i++) {
        buf_init(&slices[i], SIZE_MAX);
        record_encode(&a, &content, i, &slices[i]);
        enum err rc = i == 0 ? record_decode(buf_view(&slices[0]), &b, &back, &fault)
                             : record_decode_slice(buf_view(&slices[i]), i, &b, &fault);
        assert_int_equal(rc, ERR_OK);
    }
    expect_same(&a, &b);
    assert_int_equal(back.head_len, 99);
    assert_int_equal(back.body_len, 1 << 30);
    assert_int_equal(back.own_signatures, 2);
    assert_true(str_eq(back.file, STR("file.1")));
    for (size_t i = 0; i < record_slices(&a); i++)
        buf_clear(&slices[i]);
    envelope_clear(&a);
    envelope_clear(&b);
}

static void envelopes_come_back(void **state)
{
    static const size_t counts[] = { 0, 1, 15, 16, 17, 32, 33, 1000 };
    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        round_trip(counts[i]);
}

static enum err decode(struct str bytes)
{
    struct record_content content;
    struct envelope envelope;
    struct fault fault;

    envelope_init(&envelope);
    enum err rc = record_decode(bytes, &envelope, &content, &fault);
    envelope_clear(&envelope);
    return rc;
}

static void damage_is_noticed(void **state)
{
    const struct record_content content = { .file = STR_EMPTY };
    struct envelope envelope;
    struct buf record;
    (void)state;
    envelope_init(&envelope);
    fill(&envelope, 3);
    buf_init(&record, SIZE_MAX);
    record_encode(&envelope, &content, 0, &record);
    for (size_t i = 0; i < record.len; i++) {
        record.at[i] ^= 0x10;
        assert_int_not_equal(decode(buf_view(&record)), ERR_OK);
        record.at[i] ^= 0x10;
        assert_int_not_equal(decode(str_make(record.at, i)), ERR_OK);
    }
    assert_int_equal(decode(buf_view(&record)), ERR_OK);
    record.at[0] = 2;
    assert_int_equal(decode(buf_view(&record)), ERR_VERSION);
    buf_clear(&record);
    envelope_clear(&envelope);
}

static void a_usual_record_is_small(void **state)
{
    const struct record_content content = { .file = STR_EMPTY };
    struct envelope envelope;
    struct buf record;
    (void)state;
    envelope_init(&envelope);
    fill(&envelope, 1);
    buf_init(&record, SIZE_MAX);
    record_encode(&envelope, &content, 0, &record);
    assert_true(record.len < 300);
    buf_clear(&record);
    envelope_clear(&envelope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelopes_come_back),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(a_usual_record_is_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
