/*
 * setup_write.c - a commented configuration out of a handful of answers.
 */
#include "relay/cli/setup_write.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RELAY_USER "waypost"

static bool has(const char *answer) { return answer && *answer; }

/* ---- the text ---- */

static void quoted(struct buf *out, const char *text)
{
    buf_char(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\' || *text == '$')
            buf_char(out, '\\');
        if ((unsigned char)*text >= ' ') /* a control character never was meant */
            buf_char(out, *text);
    }
    buf_char(out, '"');
}

static void setting(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "    %-13s = ", name);
    quoted(out, value);
    buf_char(out, '\n');
}

/* Port 465 is TLS from the first byte; a login goes to nobody but the named host. */
static const char *tls_of(const struct setup_answers *answers)
{
    size_t len = strlen(answers->smarthost);

    if (has(answers->tls))
        return answers->tls;
    if (len > 4 && strcmp(answers->smarthost + len - 4, ":465") == 0)
        return "implicit";
    return has(answers->username) ? "verified" : "opportunistic";
}

static void route_text(const struct setup_answers *answers, const char *secret, struct buf *out)
{
    buf_cstr(out, "# All mail goes through this host.\nroute \"smarthost\" {\n");
    setting(out, "relay", answers->smarthost);
    buf_printf(out, "    %-13s = %s\n", "tls", tls_of(answers));
    if (has(answers->ca_file))
        setting(out, "ca-file", answers->ca_file);
    if (has(answers->username)) {
        setting(out, "username", answers->username);
        setting(out, "password-file", secret);
    }
    if (has(answers->sender)) {
        buf_cstr(out, "    # It accepts no other sender: From of other mail becomes this address,\n"
                      "    # the old one is kept in X-Original-From.\n");
        setting(out, "sender", answers->sender);
    }
    buf_cstr(out, "}\n\n");
}

static void aliases_text(const struct setup_answers *answers, struct buf *out)
{
    buf_cstr(out, "# root's mail, and that of every local name without an alias in /etc/aliases.\n"
                  "# Without an address it is held in the queue, with an alarm.\naliases {\n");
    if (has(answers->root))
        setting(out, "root", answers->root);
    if (has(answers->domain))
        setting(out, "mailname", answers->domain);
    buf_cstr(out, "}\n\n");
}

void setup_text(const struct setup_answers *answers, const char *secret, struct buf *out)
{
    buf_printf(
        out,
        "# waypost.conf - written by `waypost setup`; every option has a default good enough\n"
        "# to leave alone, waypost.conf(5) has them all.\n"
        "# After a change: waypost check && systemctl reload waypost\n\n"
        "%s"
        "# Programs that speak SMTP: from this machine only, without a login.\n"
        "listen \"local\" { address = \"127.0.0.1:25\"  trust = {\"127.0.0.0/8\"} }\n\n",
        getpwnam(RELAY_USER) ? "# Never root.\nuser = \"" RELAY_USER "\"\n\n" : "");
    aliases_text(answers, out);
    if (has(answers->smarthost))
        route_text(answers, secret, out);
    else
        buf_cstr(out, "# Mail goes to the recipients' mail exchangers.\n\n");
    buf_cstr(out, "log { to = journal }\n");
}

/* ---- guessing ---- */

const char *setup_domain_guess(void)
{
    static char name[256];
    FILE *file = fopen("/etc/mailname", "re");

    if (file) {
        if (fgets(name, sizeof(name), file))
            name[strcspn(name, "\r\n")] = '\0';
        (void)fclose(file);
    }
    if (!name[0])
        (void)gethostname(name, sizeof(name) - 1);
    return strchr(name, '.') ? name : "";
}

static bool same_content(const char *a, const char *b)
{
    FILE *one = fopen(a, "re"), *other = fopen(b, "re");
    bool same = one && other;

    for (int c = 0; same && c != EOF;) {
        c = fgetc(one);
        same = c == fgetc(other);
    }
    if (one)
        (void)fclose(one);
    if (other)
        (void)fclose(other);
    return same;
}

bool setup_may_write(const char *file)
{
    struct stat st;

    return stat(file, &st) != 0 || same_content(file, WAYPOST_TEMPLATE);
}

/* ---- files ---- */

#define NEW ".new"

static enum err cannot_write(struct fault *fault, int error, const char *path)
{
    const char *fix = error == ENOENT                     ? " (make its folder first)"
                      : error == EACCES && geteuid() != 0 ? " (root may: sudo waypost setup)"
                                                          : "";
    size_t len = strlen(path), tail = strlen(NEW);

    if (len > tail && strcmp(path + len - tail, NEW) == 0)
        len -= tail;
    return fault_set(fault, err_of_errno(error), "cannot write %.*s: %s%s", (int)len, path,
                     strerror(error), fix);
}

/* Group: the relay's, when there is one and we may say so. */
static enum err write_file(const char *path, struct str content, mode_t mode, struct fault *fault)
{
    const struct passwd *pw = getpwnam(RELAY_USER);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0;

    ok = ok && write(fd, content.at, content.len) == (ssize_t)content.len;
    ok = ok && (!pw || geteuid() != 0 || fchown(fd, (uid_t)-1, pw->pw_gid) == 0);
    ok = ok && fchmod(fd, mode) == 0 && fsync(fd) == 0;
    if (!ok)
        (void)cannot_write(fault, errno, path);
    if (fd >= 0)
        close(fd);
    return ok ? ERR_OK : fault->err;
}

/* False: the name is too long. */
static bool join(char out[PATH_MAX], const char *folder, size_t len, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%.*s%s", (int)len, folder, name);

    return n > 0 && n < PATH_MAX;
}

static bool name_files(const char *file, bool has_secret, struct setup_files *files)
{
    const char *slash = strrchr(file, '/');
    size_t folder = slash ? (size_t)(slash - file) + 1 : 0;
    bool ok = join(files->conf, file, strlen(file), "");

    ok = ok && join(files->conf_new, file, strlen(file), NEW);
    if (!has_secret)
        return ok;
    return ok && join(files->secret, file, folder, "smarthost.pass") &&
           join(files->secret_new, file, folder, "smarthost.pass" NEW);
}

static enum err write_conf(const char *path, const struct setup_answers *answers,
                           const char *secret, struct fault *fault)
{
    struct buf text;
    enum err rc;

    buf_init(&text, 65536);
    setup_text(answers, secret, &text);
    rc = write_file(path, buf_view(&text), 0644, fault);
    buf_clear(&text);
    return rc;
}

enum err setup_files_begin(const char *file, const struct setup_answers *answers,
                           struct setup_files *out_files, struct fault *fault)
{
    struct str secret = { answers->password, answers->password_len };
    enum err rc = ERR_OK;

    memset(out_files, 0, sizeof(*out_files));
    if (!name_files(file, has(answers->username), out_files))
        return fault_set(fault, ERR_LIMIT, "%s: the name is too long", file);
    if (*out_files->secret_new)
        rc = write_file(out_files->secret_new, secret, 0640, fault);
    if (!rc)
        rc = write_conf(out_files->conf_new, answers, out_files->secret_new, fault);
    if (rc)
        setup_files_end(out_files);
    return rc;
}

static void name_backup(struct setup_files *files)
{
    char stamp[32];
    time_t now = time(NULL);
    struct tm tm;

    (void)strftime(stamp, sizeof(stamp), ".%Y%m%d-%H%M%S", localtime_r(&now, &tm));
    (void)join(files->backup, files->conf, strlen(files->conf), stamp);
}

enum err setup_files_keep(struct setup_files *files, const struct setup_answers *answers,
                          struct fault *fault)
{
    enum err rc = write_conf(files->conf_new, answers, files->secret, fault);

    if (rc)
        return rc;
    if (access(files->conf, F_OK) == 0) {
        name_backup(files);
        if (link(files->conf, files->backup) != 0)
            return fault_errno(fault, errno, "cannot keep a copy of %s", files->conf);
    }
    if (*files->secret && rename(files->secret_new, files->secret) != 0)
        return fault_errno(fault, errno, "cannot write %s", files->secret);
    if (rename(files->conf_new, files->conf) != 0)
        return fault_errno(fault, errno, "cannot write %s", files->conf);
    return ERR_OK;
}

void setup_files_end(struct setup_files *files)
{
    (void)unlink(files->conf_new);
    if (*files->secret_new)
        (void)unlink(files->secret_new);
    explicit_bzero(files->secret_new, sizeof(files->secret_new));
}

const char *setup_real_names(const struct setup_files *files, const char *text, struct arena *arena)
{
    struct str rest = str_of(text);
    struct buf out;

    buf_init(&out, 65536);
    while (rest.len > 0) {
        size_t conf = str_find(rest, str_of(files->conf_new));
        size_t secret = *files->secret_new ? str_find(rest, str_of(files->secret_new)) : rest.len;
        size_t at = conf < secret ? conf : secret;
        struct str real =
            at == rest.len ? STR_EMPTY : str_of(conf < secret ? files->conf : files->secret);
        buf_str(&out, str_head(rest, at));
        buf_str(&out, real);
        rest = str_from(rest, at + real.len + (real.len ? strlen(NEW) : 0));
    }
    text = arena_cstr(arena, buf_view(&out));
    buf_clear(&out);
    return text;
}
