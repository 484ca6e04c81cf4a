/*
 * cmd_setup.c - waypost setup: a first configuration, every answer tried before
 * it is written.
 *
 * Answers come from options, or from a person at a terminal. They are written as
 * a configuration beside the real one, which is read, tried by a visit to the next
 * hop and only then put in its place: what is tested is what will run.
 */
#include "relay/cli/check_machine.h"
#include "relay/cli/setup_write.h"
#include "relay/cli/visit.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct wish {
    struct setup_answers answers;
    const char *password_file; /* to read it from; "-": standard input */
    bool batch, force, no_test, direct;
    struct arena said; /* the answers typed in */
};

/* ---- asking ---- */

static const char *ask(struct wish *wish, const char *question, const char *otherwise)
{
    const char *answer = otherwise;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    (void)fprintf(stderr, "%s%s%s%s: ", question, *otherwise ? " [" : "", otherwise,
                  *otherwise ? "]" : "");
    len = getline(&line, &size, stdin);
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == ' '))
        line[--len] = '\0';
    if (len > 0)
        answer = arena_cstr(&wish->said, str_of(line));
    free(line);
    return answer;
}

static void ask_missing(struct wish *wish)
{
    struct setup_answers *answers = &wish->answers;

    if (!answers->smarthost && !wish->direct)
        answers->smarthost = ask(wish, "Smarthost, host:port (empty: deliver by MX)", "");
    if (answers->smarthost && *answers->smarthost && !answers->username)
        answers->username = ask(wish, "User name there (empty: no login)", "");
    if (!answers->domain)
        answers->domain = ask(wish, "Domain of this machine's mail", setup_domain_guess());
    if (!answers->root)
        answers->root = ask(wish, "Address that gets root's mail (empty: it is held)", "");
    if (answers->username && *answers->username && !answers->sender)
        answers->sender =
            ask(wish, "Sender address, when the smarthost accepts only one (empty: any)", "");
}

static enum err read_password(struct wish *wish, struct fault *fault)
{
    struct setup_answers *answers = &wish->answers;
    FILE *file;

    if (!answers->username || !*answers->username)
        return ERR_OK;
    if (!wish->password_file || strcmp(wish->password_file, "-") == 0) {
        if (wish->batch && !wish->password_file)
            return fault_set(fault, ERR_INVALID, "--username needs --password-file");
        return password_read("Password there", answers->password, &answers->password_len, fault);
    }
    file = fopen(wish->password_file, "re");
    if (!file || !fgets(answers->password, PASSWORD_MAX, file)) {
        if (file)
            (void)fclose(file);
        return fault_errno(fault, file ? ENODATA : errno, "cannot read %s", wish->password_file);
    }
    (void)fclose(file);
    answers->password_len = strcspn(answers->password, "\r\n");
    return ERR_OK;
}

/* ---- trying ---- */

static struct str domain_of(struct str address)
{
    return str_from(address, str_chr(address, '@') + 1);
}

static void tell(void *arg, enum conf_severity severity, const char *file, unsigned line,
                 const char *what, const char *fix)
{
    const struct setup_files *files = arg;
    struct arena arena;

    arena_init(&arena);
    cmd_print_finding(stderr, severity, setup_real_names(files, file, &arena), line,
                      setup_real_names(files, what, &arena), setup_real_names(files, fix, &arena));
    arena_clear(&arena);
}

static int cannot_use(const struct setup_files *files, const struct fault *fault)
{
    struct arena arena;

    arena_init(&arena);
    (void)cmd_fail(EX_CONFIG, "%s", setup_real_names(files, fault->text, &arena));
    arena_clear(&arena);
    return EX_CONFIG;
}

/* By MX there is no host to try but that of root's own mail: it shows whether port 25 is open. */
static int try_out(const struct setup_files *files, const struct conf *conf)
{
    const struct route_settings *route;
    struct setup *setup = NULL;
    struct fault fault;
    int code = EX_OK;

    if (setup_new((struct conf *)(uintptr_t)conf, &setup, &fault))
        return cannot_use(files, &fault);
    route = &setup->sched.routes[0];
    if (route->relay_count > 0)
        (void)printf("the smarthost " STR_FMT "\n", STR_ARG(route->relay[0]));
    else if (conf->aliases.root.len > 0)
        (void)printf("the mail exchangers of " STR_FMT "\n",
                     STR_ARG(domain_of(conf->aliases.root)));
    if (route->relay_count > 0 || conf->aliases.root.len > 0)
        code = visit_next_hop(setup, route, domain_of(conf->aliases.root), stdout);
    setup_unref(&setup);
    return code;
}

static bool keep_anyway(struct wish *wish)
{
    const char *answer;

    if (wish->batch)
        return false;
    answer = ask(wish, "That did not work. Write the configuration all the same? (y/n)", "n");
    return *answer == 'y' || *answer == 'Y';
}

/* What `waypost check` tries, as the user who has to read the files later; in a
 * process of its own, because it gives up root's rights for good. */
static int try_files(struct setup_files *files, const struct conf *conf)
{
    struct check_report report;
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        return cmd_fail(EX_OSERR, "cannot make a process: %s", strerror(errno));
    if (pid == 0) {
        check_report_init(&report);
        check_machine(conf, &report);
        for (size_t i = 0; i < report.count; i++)
            tell(files, report.rows[i].severity, report.rows[i].file, report.rows[i].line,
                 report.rows[i].what, report.rows[i].fix);
        _exit(report.errors ? EX_CONFIG : EX_OK);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
}

static int judge(struct wish *wish, struct setup_files *files)
{
    struct conf *conf = NULL;
    int code;

    if (conf_read(files->conf_new, tell, files, &conf))
        return cmd_fail(EX_DATAERR, "an answer cannot be used; nothing was written (the line is "
                                    "that of what would have been)");
    code = wish->no_test ? EX_OK : try_files(files, conf);
    if (code == EX_OK && !wish->no_test)
        code = try_out(files, conf);
    conf_unref(&conf);
    if (code == EX_OK || keep_anyway(wish))
        return EX_OK;
    return cmd_fail(code, "nothing was written (--no-test writes without trying)");
}

/* ---- the command ---- */

static int read_options(int argc, char **argv, struct wish *wish)
{
    static const struct option options[] = {
        { "smarthost", required_argument, NULL, 's' },
        { "direct", no_argument, NULL, 'd' },
        { "username", required_argument, NULL, 'u' },
        { "password-file", required_argument, NULL, 'p' },
        { "tls", required_argument, NULL, 't' },
        { "domain", required_argument, NULL, 'm' },
        { "root", required_argument, NULL, 'r' },
        { "sender", required_argument, NULL, 'f' },
        { "ca-file", required_argument, NULL, 'a' },
        { "batch", no_argument, NULL, 'b' },
        { "no-test", no_argument, NULL, 'n' },
        { "force", no_argument, NULL, 'F' },
        { 0 },
    };
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return cmd_misuse("setup", "setup: %s%s", wrong.what, wrong.word);
        }
        wish->answers.smarthost = option == 's' ? optarg : wish->answers.smarthost;
        wish->answers.username = option == 'u' ? optarg : wish->answers.username;
        wish->answers.tls = option == 't' ? optarg : wish->answers.tls;
        wish->answers.domain = option == 'm' ? optarg : wish->answers.domain;
        wish->answers.root = option == 'r' ? optarg : wish->answers.root;
        wish->answers.sender = option == 'f' ? optarg : wish->answers.sender;
        wish->answers.ca_file = option == 'a' ? optarg : wish->answers.ca_file;
        wish->password_file = option == 'p' ? optarg : wish->password_file;
        wish->direct |= option == 'd';
        wish->batch |= option == 'b';
        wish->no_test |= option == 'n';
        wish->force |= option == 'F';
    }
    if (optind < argc)
        return cmd_misuse("setup", "setup takes no argument \"%s\"", argv[optind]);
    if (wish->direct && wish->answers.smarthost)
        return cmd_misuse("setup", "--direct and --smarthost exclude each other");
    wish->batch |= !isatty(STDIN_FILENO);
    return EX_OK;
}

static void tell_written(const struct wish *wish, const char *file, const struct setup_files *files)
{
    const char *host = wish->answers.smarthost, *root = wish->answers.root;

    (void)printf("%s is written%s%s.\n", file, *files->backup ? ", the old one is " : "",
                 files->backup);
    (void)printf("Mail goes %s%s, root's %s%s.\n", host && *host ? "to " : "by MX",
                 host ? host : "",
                 root && *root ? "to " : "where /etc/aliases says; when it does not, it is held",
                 root ? root : "");
    (void)printf("Next: systemctl reload-or-restart waypost, then echo hi | sendmail -v root\n");
}

static int set_up(struct wish *wish, const char *file)
{
    struct setup_files files;
    struct fault fault;
    enum err rc;
    int code;

    if (!wish->force && !setup_may_write(file))
        return cmd_fail(EX_CANTCREAT, "%s is there already (--force replaces it and keeps a copy)",
                        file);
    if (!wish->batch)
        ask_missing(wish);
    rc = read_password(wish, &fault);
    if (!rc)
        rc = setup_files_begin(file, &wish->answers, &files, &fault);
    if (rc)
        return cmd_fail(cmd_code(rc), "%s", fault.text);
    code = judge(wish, &files);
    if (code == EX_OK && setup_files_keep(&files, &wish->answers, &fault))
        code = cmd_fail(EX_CANTCREAT, "%s", fault.text);
    if (code == EX_OK)
        tell_written(wish, file, &files);
    setup_files_end(&files);
    return code;
}

int cmd_setup(const char *conf_file, int argc, char **argv)
{
    struct wish wish = { .batch = false };
    int code = read_options(argc, argv, &wish);

    arena_init(&wish.said);
    if (code == EX_OK)
        code = set_up(&wish, conf_file_name(conf_file));
    arena_clear(&wish.said);
    explicit_bzero(wish.answers.password, sizeof(wish.answers.password));
    return code;
}
