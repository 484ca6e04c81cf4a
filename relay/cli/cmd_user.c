/*
 * cmd_user.c - waypost user: keeping the users file.
 */
#include "relay/cli/cmd.h"
#include "relay/cli/password.h"
#include "relay/ingress/users.h"

#include <getopt.h>
#include <pwd.h>
#include <stdlib.h>

struct wish {
    const char *verb;
    struct str name;
    const char *file; /* as given, or in the configuration */
    struct conf *conf;
    struct str *senders;
    size_t sender_count;
    bool scram, clear, json;
};

/* ---- the line ---- */

static int misuse(const struct wish *wish, const char *what, const char *argument)
{
    char name[32];

    (void)snprintf(name, sizeof(name), "user %s", wish->verb);
    return cmd_misuse(name, "%s: %s%s", name, what, argument);
}

static int read_options(int argc, char **argv, const char *allowed, struct wish *wish)
{
    static const struct option options[] = {
        { "sender", required_argument, NULL, 's' }, { "scram", no_argument, NULL, 'S' },
        { "clear", no_argument, NULL, 'C' },        { "file", required_argument, NULL, 'f' },
        { "json", no_argument, NULL, 'j' },         { 0 },
    };
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (!strchr(allowed, option)) {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return misuse(wish, wrong.what, wrong.word);
        }
        if (option == 's')
            wish->senders[wish->sender_count++] = str_of(optarg);
        else if (option == 'f')
            wish->file = optarg;
        wish->scram |= option == 'S';
        wish->clear |= option == 'C';
        wish->json |= option == 'j';
    }
    return EX_OK;
}

static int find_file(const char *conf_file, struct wish *wish)
{
    if (wish->file) {
        wish->conf = cmd_conf_quietly(conf_file); /* only for the owner of a new file */
        return EX_OK;
    }
    wish->conf = cmd_conf(conf_file);
    if (!wish->conf)
        return cmd_fail(EX_CONFIG, "so the configuration does not tell where the users are; mend "
                                   "it, or name their file with --file");
    if (wish->conf->users_file.len == 0)
        return cmd_fail(EX_CONFIG,
                        STR_FMT ": no users file is named; add users { file = "
                                "\"/etc/waypost/users\" }, or use --file",
                        STR_ARG(wish->conf->file));
    wish->file = arena_cstr(&wish->conf->arena, wish->conf->users_file);
    return EX_OK;
}

static int begin(const char *conf_file, int argc, char **argv, const char *allowed, bool wants_name,
                 struct wish *wish)
{
    int code;

    *wish = (struct wish){ .verb = argv[0] };
    wish->senders = mem_alloc((size_t)argc * sizeof(*wish->senders));
    code = read_options(argc, argv, allowed, wish);
    if (code)
        return code;
    if (wants_name && optind == argc)
        return misuse(wish, "a name is missing", "");
    if (wants_name)
        wish->name = str_of(argv[optind++]);
    if (optind < argc)
        return misuse(wish, "one argument too many: ", argv[optind]);
    return find_file(conf_file, wish);
}

static int end(struct wish *wish, int code)
{
    if (wish->conf)
        conf_unref(&wish->conf);
    free(wish->senders);
    return code;
}

/* ---- changes ---- */

static long group_of_relay(const struct conf *conf)
{
    char name[64];
    const struct passwd *pw;

    if (!conf || conf->user.len == 0)
        return -1;
    str_copy(name, sizeof(name), conf->user);
    pw = getpwnam(name);
    return pw ? (long)pw->pw_gid : -1;
}

static void say_changed(const struct wish *wish, const char *what)
{
    (void)printf("%s: user " STR_FMT " %s\n", wish->file, STR_ARG(wish->name), what);
    (void)printf(
        "A running relay knows it after a reload (systemctl reload waypost, or SIGHUP).\n");
}

typedef enum err change_fn(const char *file, const struct user_change *change, struct fault *fault);

static int change(const struct wish *wish, change_fn *fn, const char *what)
{
    char password[PASSWORD_MAX];
    struct user_change change = {
        .name = wish->name,
        .senders = wish->senders,
        .sender_count = wish->sender_count,
        .scram = wish->scram,
        .clear = wish->clear,
        .group = group_of_relay(wish->conf),
    };
    struct fault fault;
    size_t len = 0;
    enum err rc = users_name_ok(wish->name, &fault);

    for (size_t i = 0; !rc && i < wish->sender_count; i++)
        rc = users_pattern_ok(wish->senders[i], &fault);
    if (!rc)
        rc = password_choose("Password", password, &len, &fault);
    change.password = str_make(password, len);
    if (!rc)
        rc = users_password_fit(change.password, &fault);
    if (!rc)
        rc = fn(wish->file, &change, &fault);
    explicit_bzero(password, sizeof(password));
    if (rc)
        return cmd_fail(cmd_code(rc), "%s", fault.text);
    say_changed(wish, what);
    return EX_OK;
}

static void warn_clear(const struct wish *wish)
{
    if (wish->clear)
        (void)cmd_fail(EX_OK, "warning: the password itself is stored, for CRAM-MD5; who reads the "
                              "file can log in with it");
}

static int user_add(const char *conf_file, int argc, char **argv)
{
    struct wish wish;
    int code = begin(conf_file, argc, argv, "sSCf", true, &wish);

    if (code)
        return end(&wish, code);
    warn_clear(&wish);
    code = change(&wish, users_add, "added");
    if (code == EX_OK && wish.sender_count == 0)
        (void)printf("It may send as any address; --sender limits that.\n");
    return end(&wish, code);
}

static int user_passwd(const char *conf_file, int argc, char **argv)
{
    struct wish wish;
    int code = begin(conf_file, argc, argv, "Sf", true, &wish);

    return end(&wish, code ? code : change(&wish, users_passwd, "has a new password"));
}

static int user_remove(const char *conf_file, int argc, char **argv)
{
    struct wish wish;
    struct fault fault;
    int code = begin(conf_file, argc, argv, "f", true, &wish);
    enum err rc;

    if (code)
        return end(&wish, code);
    rc = users_remove(wish.file, wish.name, &fault);
    if (rc)
        return end(&wish, cmd_fail(cmd_code(rc), "%s", fault.text));
    say_changed(&wish, "removed");
    return end(&wish, EX_OK);
}

/* ---- list ---- */

static const char *kind_of(const struct user *user)
{
    if (user->clear.len > 0)
        return user->has_scram ? "clear, scram" : "clear";
    return user->has_scram ? "hash, scram" : "hash";
}

static void list_text(const struct users *users, struct buf *out)
{
    const struct user *user;
    size_t width = 4;

    for (size_t i = 0; (user = users_at(users, i)) != NULL; i++)
        if (user->name.len > width)
            width = user->name.len;
    buf_printf(out, "%s%-*s  %-12s  %s%s\n", cmd_colour(stdout, COLOUR_BOLD), (int)width, "NAME",
               "STORED", "MAY SEND AS", cmd_colour(stdout, COLOUR_NONE));
    for (size_t i = 0; (user = users_at(users, i)) != NULL; i++) {
        buf_printf(out, "%-*.*s  %-12s  ", (int)width, STR_ARG(user->name), kind_of(user));
        if (user->sender_count == 0)
            buf_cstr(out, "any");
        for (size_t s = 0; s < user->sender_count; s++)
            buf_printf(out, "%s" STR_FMT, s > 0 ? ", " : "", STR_ARG(user->senders[s]));
        buf_char(out, '\n');
    }
}

static void list_json(const struct users *users, struct buf *out)
{
    const struct user *user;

    buf_char(out, '[');
    for (size_t i = 0; (user = users_at(users, i)) != NULL; i++) {
        buf_cstr(out, i > 0 ? ",\n {\"name\":" : "{\"name\":");
        buf_json(out, user->name);
        buf_printf(out, ",\"clear\":%s,\"scram\":%s,\"any_sender\":%s,\"senders\":[",
                   user->clear.len > 0 ? "true" : "false", user->has_scram ? "true" : "false",
                   user->sender_count == 0 ? "true" : "false");
        for (size_t s = 0; s < user->sender_count; s++) {
            if (s > 0)
                buf_char(out, ',');
            buf_json(out, user->senders[s]);
        }
        buf_cstr(out, "]}");
    }
    buf_cstr(out, "]\n");
}

static int user_list(const char *conf_file, int argc, char **argv)
{
    struct users *users;
    struct wish wish;
    struct fault fault;
    struct buf out;
    int code = begin(conf_file, argc, argv, "fj", false, &wish);
    enum err rc;

    if (code)
        return end(&wish, code);
    rc = users_load(wish.file, &users, &fault);
    if (rc)
        return end(&wish, cmd_fail(cmd_code(rc), "%s", fault.text));
    buf_init(&out, (size_t)1 << 30);
    if (wish.json)
        list_json(users, &out);
    else
        list_text(users, &out);
    code = cmd_put(stdout, &out);
    buf_clear(&out);
    users_unref(&users);
    return end(&wish, code);
}

int cmd_user(const char *conf_file, int argc, char **argv)
{
    static const struct cmd_verb verbs[] = {
        { "add", user_add },
        { "passwd", user_passwd },
        { "list", user_list },
        { "remove", user_remove },
    };
    const struct cmd_verb *verb = cmd_verb(verbs, sizeof(verbs) / sizeof(verbs[0]), argc, argv);

    return verb ? verb->run(conf_file, argc - 1, argv + 1) : EX_USAGE;
}
