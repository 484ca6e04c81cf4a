/*
 * users_test.c - the users file: read with suspicion, changed without harm.
 */
#include "relay/ingress/users.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
#define KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct fixture {
    char folder[64], file[96];
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/users_test.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->file, sizeof(fixture->file), "%s/users", fixture->folder);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    unlink(fixture->file);
    assert_int_equal(rmdir(fixture->folder), 0); /* nothing half-written is left */
    free(fixture);
    return 0;
}

static void write_file(const char *file, const char *text, unsigned mode)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static struct users *load(const char *file)
{
    struct users *users = NULL;
    struct fault fault;

    if (users_load(file, &users, &fault))
        fail_msg("%s", fault.text);
    return users;
}

static void refused(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *name, *text, *says;
        unsigned mode;
        enum err err;
    } rows[] = {
        { "others may read it", "", "chmod 0640", 0644, ERR_DENIED },
        { "the group may write it", "", "chmod 0640", 0660, ERR_DENIED },
        { "too few fields", "a:" HASH "\n", ":1: a line is name:secret:scram:senders", 0600,
          ERR_INVALID },
        { "the line is told", "# c\n\na:" HASH "::\nb\n", ":4: ", 0600, ERR_INVALID },
        { "no hash", "a:::\n", "not a password hash", 0600, ERR_INVALID },
        { "DES by accident", "a:secret::\n", "not a password hash", 0600, ERR_INVALID },
        { "a clear password in the wrong place", "a:{PLAIN}x::\n", "not a password hash", 0600,
          ERR_INVALID },
        { "an empty clear password", "a:{CLEAR}::\n", "empty", 0600, ERR_INVALID },
        { "a bad percent", "a:{CLEAR}x%zz::\n", "two hex digits", 0600, ERR_INVALID },
        { "an empty name", ":" HASH "::\n", "needs a name", 0600, ERR_INVALID },
        { "a name with blanks around", "a :" HASH "::\n", "blank", 0600, ERR_INVALID },
        { "a control character", "a\tb:" HASH "::\n", "control", 0600, ERR_INVALID },
        { "a bad pattern", "a:" HASH "::a@b c\n", "sender pattern", 0600, ERR_INVALID },
        { "an empty pattern", "a:" HASH "::a@b.c,,d\n", "sender pattern", 0600, ERR_INVALID },
        { "a lone @", "a:" HASH "::@\n", "not a sender pattern", 0600, ERR_INVALID },
        { "SCRAM too short", "a:" HASH ":4096,00,11,22:\n", "SCRAM", 0600, ERR_INVALID },
        { "SCRAM too weak", "a:" HASH ":1,0011223344556677," KEY "," KEY ":\n", "SCRAM", 0600,
          ERR_INVALID },
        { "SCRAM with more", "a:" HASH ":4096,0011223344556677," KEY "," KEY ",1:\n", "SCRAM", 0600,
          ERR_INVALID },
        { "twice", "a:" HASH "::\nb:" HASH "::\na:" HASH "::\n", "\"a\" is there twice", 0600,
          ERR_INVALID },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct users *users;
        struct fault fault = { .err = ERR_OK };
        write_file(fixture->file, rows[i].text, rows[i].mode);
        enum err rc = users_load(fixture->file, &users, &fault);
        if (rc != rows[i].err || !strstr(fault.text, rows[i].says) ||
            !strstr(fault.text, fixture->file))
            fail_msg("%s: %d %s", rows[i].name, rc, fault.text);
    }
}

static void missing(void **state)
{
    struct fixture *fixture = *state;
    struct users *users;
    struct fault fault;

    assert_int_equal(users_load(fixture->file, &users, &fault), ERR_NOT_FOUND);
    assert_int_equal(users_load(fixture->folder, &users, &fault), ERR_INVALID);
}

static void accepted(void **state)
{
    struct fixture *fixture = *state;
    const struct user *user;

    write_file(fixture->file,
               "# people\n\n"
               "zoe:" HASH "::\n"
               "anna:{CLEAR}a%3Ab%25:4096,0011223344556677," KEY "," KEY
               ":a@example.com, .example.org,@b\xc3\xbc"
               "cher.example,[IPv6:::1]\n",
               0640);
    struct users *users = load(fixture->file);
    assert_int_equal(users_count(users), 2);
    assert_false(users_all_have_scram(users));
    user = users_find(users, STR("anna"));
    assert_ptr_equal(user, users_at(users, 0));
    assert_true(str_eq(user->clear, STR("a:b%")));
    assert_int_equal(user->hash.len, 0);
    assert_true(user->has_scram);
    assert_int_equal(user->scram.scram_iterations, 4096);
    assert_int_equal(user->scram.scram_salt.len, 8);
    assert_int_equal(user->sender_count, 4);
    assert_true(user_may_send_as(user, STR("a@example.com")));
    assert_true(user_may_send_as(user, STR("x@sub.example.org")));
    assert_true(user_may_send_as(user, STR("x@xn--bcher-kva.example")));
    assert_true(user_may_send_as(user, STR("x@b\xc3\xbc"
                                           "cher.example")));
    assert_true(user_may_send_as(user, STR("x@[IPv6:::1]")));
    assert_true(user_may_send_as(user, STR_EMPTY));
    assert_false(user_may_send_as(user, STR("b@example.com")));
    assert_null(users_find(users, STR("Anna")));
    assert_null(users_find(users, STR("")));
    assert_true(user_may_send_as(users_find(users, STR("zoe")), STR("x@y.z")));
    struct users *again = users_ref(users);
    users_unref(&again);
    users_unref(&users);
    assert_null(users);
    write_file(fixture->file, "", 0600);
    users = load(fixture->file);
    assert_int_equal(users_count(users), 0);
    assert_null(users_find(users, STR("anna")));
    users_unref(&users);
}

/* ---- keeping it ---- */

static bool knows(const char *file, const char *name, const char *password)
{
    struct users *users = load(file);
    bool ok = users_password_ok(users_find(users, str_of(name)), str_of(password));

    users_unref(&users);
    return ok;
}

static void kept(void **state)
{
    struct fixture *fixture = *state;
    static const struct str senders[] = { { "a@example.com", 13 }, { "example.org", 11 } };
    struct user_change change = {
        .name = STR("anna"),
        .password = STR("secret"),
        .senders = senders,
        .sender_count = 2,
        .scram = true,
        .group = -1,
    };
    struct fault fault;
    struct stat st;

    assert_int_equal(users_add(fixture->file, &change, &fault), ERR_OK);
    assert_int_equal(users_add(fixture->file, &change, &fault), ERR_EXISTS);
    assert_int_equal(stat(fixture->file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    change = (struct user_change){ .name = STR("b:b"), .password = STR("x"), .group = -1 };
    assert_int_equal(users_add(fixture->file, &change, &fault), ERR_INVALID);
    change = (struct user_change){
        .name = STR("bob"), .password = STR(" p%:w "), .clear = true, .group = -1
    };
    assert_int_equal(users_add(fixture->file, &change, &fault), ERR_OK);
    assert_true(knows(fixture->file, "anna", "secret"));
    assert_false(knows(fixture->file, "anna", "Secret"));
    assert_true(knows(fixture->file, "bob", " p%:w "));
    assert_false(knows(fixture->file, "bob", " p%:w"));
    assert_false(knows(fixture->file, "nobody", "secret"));

    change = (struct user_change){ .name = STR("anna"), .password = STR("new") };
    assert_int_equal(users_passwd(fixture->file, &change, &fault), ERR_OK);
    assert_true(knows(fixture->file, "anna", "new"));
    assert_false(knows(fixture->file, "anna", "secret"));
    struct users *users = load(fixture->file);
    assert_int_equal(users_find(users, STR("anna"))->sender_count, 2);
    assert_true(users_find(users, STR("anna"))->has_scram);
    assert_false(users_all_have_scram(users));
    users_unref(&users);

    change.name = STR("carl");
    assert_int_equal(users_passwd(fixture->file, &change, &fault), ERR_NOT_FOUND);
    assert_int_equal(users_remove(fixture->file, STR("carl"), &fault), ERR_NOT_FOUND);
    assert_int_equal(users_remove(fixture->file, STR("anna"), &fault), ERR_OK);
    assert_false(knows(fixture->file, "anna", "new"));
    assert_true(knows(fixture->file, "bob", " p%:w "));
}

static void others_stay_as_they_are(void **state)
{
    struct fixture *fixture = *state;
    static const char text[] = "# ours, do not touch\n\nzoe:" HASH "::\n";
    struct user_change change = { .name = STR("anna"), .password = STR("x"), .clear = true };
    char got[512] = "";
    struct fault fault;
    struct stat st;

    write_file(fixture->file, text, 0600);
    assert_int_equal(users_add(fixture->file, &change, &fault), ERR_OK);
    assert_int_equal(stat(fixture->file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    int fd = open(fixture->file, O_RDONLY);
    assert_true(read(fd, got, sizeof(got) - 1) > 0);
    close(fd);
    assert_memory_equal(got, text, strlen(text));
    assert_string_equal(got + strlen(text), "anna:{CLEAR}x::\n");
}

static void bad_passwords(void **state)
{
    struct fixture *fixture = *state;
    char long_one[600];
    const struct {
        const char *name;
        struct str password;
    } rows[] = {
        { "empty", STR_EMPTY },
        { "NUL inside", STR("a\0b") },
        { "too long", { long_one, sizeof(long_one) } },
    };
    struct fault fault;

    memset(long_one, 'x', sizeof(long_one));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct user_change change = { .name = STR("a"), .password = rows[i].password };
        if (users_add(fixture->file, &change, &fault) != ERR_INVALID)
            fail_msg("%s", rows[i].name);
        assert_false(users_password_ok(NULL, rows[i].password));
    }
    assert_int_equal(access(fixture->file, F_OK), -1);
}

static void *add_ten(void *arg)
{
    struct fixture *fixture = *(void **)arg;
    static _Atomic(unsigned) number;
    struct fault fault;
    char name[16];

    for (unsigned i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "u%u", number++);
        struct user_change change = { .name = str_of(name), .password = STR("x"), .clear = true };
        if (users_add(fixture->file, &change, &fault))
            fail_msg("%s", fault.text);
    }
    return NULL;
}

static void two_at_once_lose_nobody(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[3];

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_ten, state), 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    struct users *users = load(fixture->file);
    assert_int_equal(users_count(users), 30);
    users_unref(&users);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(missing, setup, teardown),
        cmocka_unit_test_setup_teardown(accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(kept, setup, teardown),
        cmocka_unit_test_setup_teardown(others_stay_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_passwords, setup, teardown),
        cmocka_unit_test_setup_teardown(two_at_once_lose_nobody, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
