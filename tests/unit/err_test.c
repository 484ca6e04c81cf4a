/*
 * err_test.c - faults are filled once, cut to fit, and errno has a meaning.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/err.h"

#include <errno.h>
#include <string.h>

static void each_error_has_its_own_words(void **state)
{
    (void)state;
#define X(name, text) assert_string_equal(err_text(ERR_##name), text);
    ERR_MAP(X)
#undef X
    assert_string_equal(err_text((enum err)9999), "unknown error");
}

static void errno_is_translated(void **state)
{
    static const struct {
        const char *name;
        int errnum;
        enum err err;
    } rows[] = {
        { "no error is ok", 0, ERR_OK },
        { "a missing file is not found", ENOENT, ERR_NOT_FOUND },
        { "a refused connection", ECONNREFUSED, ERR_REFUSED },
        { "no IPv6 on this machine is unreachable", EAFNOSUPPORT, ERR_UNREACHABLE },
        { "a reset is a closed connection", ECONNRESET, ERR_CLOSED },
        { "a full disk", ENOSPC, ERR_FULL },
        { "no rights", EACCES, ERR_DENIED },
        { "a port in use", EADDRINUSE, ERR_BUSY },
        { "out of descriptors", EMFILE, ERR_LIMIT },
        { "would block", EWOULDBLOCK, ERR_AGAIN },
        { "what has no word of its own is I/O", EIO, ERR_IO },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (err_of_errno(rows[i].errnum) != rows[i].err)
            fail_msg("%s: got %s", rows[i].name, err_text(err_of_errno(rows[i].errnum)));
    }
}

static void a_fault_says_what_and_returns_its_error(void **state)
{
    struct fault fault;

    (void)state;
    assert_int_equal(fault_set(&fault, ERR_INVALID, "line %u: %s", 7u, "odd"), ERR_INVALID);
    assert_int_equal(fault.err, ERR_INVALID);
    assert_string_equal(fault.text, "line 7: odd");
    assert_int_equal(fault_errno(&fault, EACCES, "cannot open %s", "x"), ERR_DENIED);
    assert_string_equal(fault.text, "cannot open x: Permission denied");
    assert_int_equal(fault_errno(&fault, 0, "failed without a reason"), ERR_IO);
    assert_int_equal(fault_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
    assert_int_equal(fault_errno(NULL, ENOSPC, "nobody listens"), ERR_FULL);
}

static void a_long_fault_is_cut(void **state)
{
    struct fault fault;
    char name[2 * FAULT_MAX];

    (void)state;
    memset(name, 'a', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    fault_errno(&fault, ENOENT, "cannot open %s", name);
    assert_int_equal(strlen(fault.text), FAULT_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_its_own_words),
        cmocka_unit_test(errno_is_translated),
        cmocka_unit_test(a_fault_says_what_and_returns_its_error),
        cmocka_unit_test(a_long_fault_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
