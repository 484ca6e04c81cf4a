/*
 * mailbox_test.c - letters come in order, wake once, and cross threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/clock.h"
#include "relay/base/mailbox.h"
#include "relay/base/str.h"

#include <sched.h>
#include <stdlib.h>

struct note {
    struct letter letter;
    unsigned number;
};

static struct mailbox mailbox;
static unsigned wakes, expected, opened;

static void count_wake(void *arg) { ++*(unsigned *)arg; }

static void open_note(struct letter *letter)
{
    struct note *note = (struct note *)(void *)letter;

    assert_int_equal(note->number, expected);
    expected++;
    opened++;
}

static void letters_are_opened_in_order(void **state)
{
    struct note notes[3];

    (void)state;
    wakes = expected = opened = 0;
    mailbox_init(&mailbox, count_wake, &wakes);
    assert_int_equal(mailbox_drain(&mailbox), 0);
    for (unsigned i = 0; i < 3; i++) {
        notes[i] = (struct note){ .letter.open = open_note, .number = i };
        mailbox_post(&mailbox, &notes[i].letter);
    }
    assert_int_equal(wakes, 1);
    assert_int_equal(mailbox_drain(&mailbox), 3);
    expected = 0;
    mailbox_post(&mailbox, &notes[0].letter);
    assert_int_equal(wakes, 2);
    assert_int_equal(mailbox_drain(&mailbox), 1);
    mailbox_clear(&mailbox);
}

static void post_again(struct letter *letter)
{
    if (++opened < 5)
        mailbox_post(&mailbox, letter);
}

static void a_letter_may_be_posted_while_opening(void **state)
{
    struct letter letter = { .open = post_again };

    (void)state;
    opened = 0;
    mailbox_init(&mailbox, NULL, NULL);
    mailbox_post(&mailbox, &letter);
    assert_int_equal(mailbox_drain(&mailbox), 5);
    mailbox_clear(&mailbox);
}

static void waiting_ends_by_letter_time_or_close(void **state)
{
    struct note notes[2] = { { .number = 1 }, { .number = 2 } };

    (void)state;
    mailbox_init(&mailbox, NULL, NULL);
    uint64_t began_ms = clock_mono_ms();
    assert_null(mailbox_wait(&mailbox, 5));
    assert_true(clock_mono_ms() - began_ms >= 4);
    mailbox_post(&mailbox, &notes[0].letter);
    mailbox_post(&mailbox, &notes[1].letter);
    assert_ptr_equal(mailbox_wait_one(&mailbox, 0), &notes[0].letter);
    mailbox_post(&mailbox, &notes[0].letter);
    struct letter *list = mailbox_wait(&mailbox, UINT64_MAX);
    assert_ptr_equal(list, &notes[1].letter);
    assert_ptr_equal(list->next, &notes[0].letter);
    assert_null(list->next->next);
    mailbox_close(&mailbox);
    mailbox_post(&mailbox, &notes[0].letter); /* kept */
    assert_ptr_equal(mailbox_wait_one(&mailbox, UINT64_MAX), &notes[0].letter);
    assert_null(mailbox_wait_one(&mailbox, UINT64_MAX));
    assert_null(mailbox_wait(&mailbox, UINT64_MAX));
    mailbox_clear(&mailbox);
}

static void *gather(void *arg) { return mailbox_gather(&mailbox, *(uint64_t *)arg); }

static void await_gathering(void)
{
    for (bool is_there = false; !is_there;) {
        pthread_mutex_lock(&mailbox.lock);
        is_there = mailbox.is_gathering;
        pthread_mutex_unlock(&mailbox.lock);
        sched_yield();
    }
}

static void gathering_ends_by_a_letter_that_may_not_lie(void **state)
{
    struct note notes[3] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
    uint64_t for_ever = UINT64_MAX, soon = 5;
    pthread_t thread;
    void *list;

    (void)state;
    mailbox_init(&mailbox, NULL, NULL);
    pthread_create(&thread, NULL, gather, &for_ever);
    await_gathering();
    mailbox_post_lying(&mailbox, &notes[0].letter);
    mailbox_post_lying(&mailbox, &notes[1].letter);
    mailbox_post(&mailbox, &notes[2].letter);
    pthread_join(thread, &list);
    assert_ptr_equal(list, &notes[0].letter);
    assert_ptr_equal(notes[1].letter.next, &notes[2].letter);
    assert_null(notes[2].letter.next);
    /* Time ends it as well, what was there before does not, and one that may not lie does. */
    mailbox_post_lying(&mailbox, &notes[0].letter);
    assert_ptr_equal(gather(&soon), &notes[0].letter);
    mailbox_post(&mailbox, &notes[1].letter);
    assert_ptr_equal(mailbox_wait_one(&mailbox, 0), &notes[1].letter);
    assert_null(gather(&soon)); /* it is gone, with its hurry */
    mailbox_post(&mailbox, &notes[1].letter);
    assert_ptr_equal(gather(&for_ever), &notes[1].letter);
    mailbox_close(&mailbox);
    assert_null(gather(&for_ever));
    mailbox_clear(&mailbox);
}

static void a_letter_that_may_lie_ends_a_plain_wait(void **state)
{
    struct note note = { .number = 0 };

    (void)state;
    wakes = 0;
    mailbox_init(&mailbox, count_wake, &wakes);
    mailbox_post_lying(&mailbox, &note.letter);
    assert_int_equal(wakes, 1);
    assert_ptr_equal(mailbox_wait(&mailbox, UINT64_MAX), &note.letter);
    mailbox_clear(&mailbox);
}

enum { SENDERS = 3, EACH = 3000 };

static void *send_many(void *arg)
{
    struct note *notes = arg;

    for (unsigned i = 0; i < EACH; i++)
        mailbox_post(&mailbox, &notes[i].letter);
    return NULL;
}

static void letters_cross_threads(void **state)
{
    struct note *notes = mem_alloc(SENDERS * EACH * sizeof(*notes));
    unsigned next[SENDERS] = { 0 };
    pthread_t threads[SENDERS];
    size_t received = 0;

    (void)state;
    mailbox_init(&mailbox, NULL, NULL);
    for (unsigned i = 0; i < SENDERS * EACH; i++)
        notes[i].number = i;
    for (unsigned i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, notes + i * EACH), 0);
    while (received < SENDERS * EACH) {
        struct letter *letter = mailbox_wait(&mailbox, 100000);
        assert_non_null(letter);
        for (; letter; letter = letter->next, received++) {
            unsigned number = ((struct note *)(void *)letter)->number;
            assert_int_equal(number % EACH, next[number / EACH]);
            next[number / EACH]++;
        }
    }
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    mailbox_clear(&mailbox);
    free(notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_are_opened_in_order),
        cmocka_unit_test(a_letter_may_be_posted_while_opening),
        cmocka_unit_test(waiting_ends_by_letter_time_or_close),
        cmocka_unit_test(gathering_ends_by_a_letter_that_may_not_lie),
        cmocka_unit_test(a_letter_that_may_lie_ends_a_plain_wait),
        cmocka_unit_test(letters_cross_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
