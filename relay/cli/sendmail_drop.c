/*
 * sendmail_drop.c - mail left in a folder while the relay does not run.
 *
 * No program with special rights stands in between. The folder belongs to the
 * relay's user and has mode 3733: everybody may put something in, nobody may see
 * what lies there, and only who wrote a file (and the folder's owner) may remove
 * it. A file gets the folder's group (setgid), mode 0640 and a name of 128 random
 * bits, so that nobody but its author and the relay can open it; its owner, which
 * the kernel sets, is who sent it, and no argument or variable of the caller can
 * say otherwise.
 *
 * The two other ways: a setgid helper (Postfix's postdrop) is a program that
 * runs with rights its caller does not have, parses what the caller feeds it and
 * has to be free of mistakes for ever; and its rights get it no more than this
 * folder gives. A socket that starts the relay on demand (the packaged unit is one,
 * and restarts are bridged by it) fails when the relay cannot start, which is when
 * mail about it matters most: so it comes first, and this is behind it.
 *
 * A file is what a client would say to the relay: a line "waypost-drop 1 WHY",
 * then EHLO, MAIL, RCPTs, DATA, the content with dots stuffed, a dot, QUIT. It is
 * read by the server machine, which reads everything else that comes in too.
 *
 * Order: written under a temporary name, synced, renamed, and the file system
 * synced (a folder that one may not read cannot be opened to sync it). Exit 0
 * comes after that. What was cut off by a crash has a temporary name, and the
 * relay removes it after a day.
 */
#include "relay/cli/sendmail.h"

#include "relay/base/str.h"
#include "relay/smtp/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PIECE ((size_t)64 * 1024)
#define MIB ((uint64_t)1 << 20)
#define RESERVE_MAX (256 * MIB)

struct sendmail_drop {
    int fd;
    char *temporary, *final;
    struct buf out;
    int failed; /* errno of the first write that failed */
    struct line_stuff stuff;
};

/* The last bytes of a disk are for those who run the machine. */
static enum err check_room(const char *folder, uint64_t size, struct fault *fault)
{
    struct statvfs fs;
    uint64_t reserve, free_bytes;

    if (statvfs(folder, &fs))
        return fault_errno(fault, errno, "cannot use the drop folder %s", folder);
    reserve = (uint64_t)fs.f_blocks * fs.f_frsize / 64;
    reserve = reserve > RESERVE_MAX ? RESERVE_MAX : reserve < MIB ? MIB : reserve;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < reserve + size || (fs.f_files > 0 && fs.f_favail == 0))
        return fault_set(fault, ERR_FULL, "the disk of the drop folder %s is full", folder);
    return ERR_OK;
}

/* A folder where others could read or remove what is dropped is not used. */
static enum err check_folder(const char *folder, struct fault *fault)
{
    struct stat st;

    if (stat(folder, &st))
        return fault_errno(fault, errno, "cannot use the drop folder %s", folder);
    if (!S_ISDIR(st.st_mode))
        return fault_set(fault, ERR_INVALID, "the drop folder %s is no folder", folder);
    if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
        return fault_set(fault, ERR_DENIED,
                         "the drop folder %s is not safe: its mode has to be 3733", folder);
    return ERR_OK;
}

/* A caller that could not read the configuration does not know which folder the relay takes
 * from. The default one it may be, when the relay says so: a mark that nobody but the
 * folder's owner can have left there. Nobody takes it away again: a relay that is given
 * another folder looks after this one too. */
static enum err check_guess(const struct conf *conf, struct fault *fault)
{
    const char *folder = conf->sendmail.drop.at;
    struct stat mark, st;

    if (!conf->is_partial || !str_eq(conf->sendmail.drop, STR(CONF_DROP_DEFAULT)))
        return ERR_OK;
    if (lstat(CONF_DROP_DEFAULT "/" CONF_DROP_MARK, &mark) == 0 && stat(folder, &st) == 0 &&
        S_ISREG(mark.st_mode) && mark.st_nlink == 1 && mark.st_uid == st.st_uid)
        return ERR_OK;
    return fault_set(fault, ERR_DENIED,
                     "%s cannot be read whole, and no relay has said that it takes mail from %s",
                     conf->file.at, folder);
}

static enum err random_name(char out[33], struct fault *fault)
{
    unsigned char bits[16];

    if (getrandom(bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
        return fault_errno(fault, errno, "no random bits");
    for (size_t i = 0; i < sizeof(bits); i++)
        (void)snprintf(out + 2 * i, 3, "%02x", bits[i]);
    return ERR_OK;
}

static char *path_of(const char *folder, const char *prefix, const char *name)
{
    struct buf path;

    buf_init(&path, 8192);
    buf_printf(&path, "%s/%s%s", folder, prefix, name);
    return buf_take(&path, NULL);
}

static void drop_free(struct sendmail_drop **drop_at)
{
    struct sendmail_drop *drop = *drop_at;

    *drop_at = NULL;
    if (drop->fd >= 0)
        close(drop->fd);
    buf_clear(&drop->out);
    free(drop->temporary);
    free(drop->final);
    free(drop);
}

static void flush(struct sendmail_drop *drop)
{
    struct str rest = buf_view(&drop->out);

    while (rest.len > 0 && !drop->failed) {
        ssize_t done = write(drop->fd, rest.at, rest.len);
        if (done < 0 && errno != EINTR)
            drop->failed = errno;
        if (done > 0)
            rest = str_from(rest, (size_t)done);
    }
    buf_reset(&drop->out);
}

/* The envelope of a -bs session comes at once, and may be large. */
static void add(struct sendmail_drop *drop, struct str bytes)
{
    while (bytes.len > 0) {
        struct str piece = str_head(bytes, PIECE);
        buf_str(&drop->out, piece);
        if (drop->out.len >= PIECE)
            flush(drop);
        bytes = str_from(bytes, piece.len);
    }
}

enum err sendmail_drop_open(const struct conf *conf, uint64_t size, const char *why,
                            struct sendmail_drop **out_drop, struct fault *fault)
{
    const char *folder = conf->sendmail.drop.at;
    struct sendmail_drop *drop;
    char name[33];
    enum err rc = check_folder(folder, fault);

    if (!rc)
        rc = check_guess(conf, fault);
    if (!rc)
        rc = check_room(folder, size, fault);
    if (!rc)
        rc = random_name(name, fault);
    if (rc)
        return rc;
    drop = mem_alloc(sizeof(*drop));
    drop->temporary = path_of(folder, "tmp-", name);
    drop->final = path_of(folder, "", name);
    buf_init(&drop->out, 4 * PIECE);
    line_stuff_init(&drop->stuff);
    drop->fd = open(drop->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    /* Whatever the caller's umask is: the relay reads it by its group. */
    if (drop->fd < 0 || fchmod(drop->fd, 0640)) {
        rc = fault_errno(fault, errno, "cannot write into the drop folder %s", folder);
        (void)unlink(drop->temporary);
        drop_free(&drop);
        return rc;
    }
    buf_cstr(&drop->out, "waypost-drop 1 ");
    buf_escaped(&drop->out, str_of(why), 300);
    buf_cstr(&drop->out, "\r\nEHLO localhost\r\n");
    *out_drop = drop;
    return ERR_OK;
}

void sendmail_drop_say(struct sendmail_drop *drop, struct str lines) { add(drop, lines); }

void sendmail_drop_content(struct sendmail_drop *drop, struct str bytes)
{
    char stuffed[2 * 8192];

    while (bytes.len > 0) {
        struct str piece = str_head(bytes, sizeof(stuffed) / 2);
        add(drop, str_make(stuffed, line_stuff(&drop->stuff, piece, stuffed)));
        bytes = str_from(bytes, piece.len);
    }
}

enum err sendmail_drop_commit(struct sendmail_drop **drop_at, struct fault *fault)
{
    struct sendmail_drop *drop = *drop_at;
    enum err rc = ERR_OK;

    if (!line_stuff_at_start(&drop->stuff))
        add(drop, STR("\r\n"));
    add(drop, STR(".\r\nQUIT\r\n"));
    flush(drop);
    if (!drop->failed && fsync(drop->fd))
        drop->failed = errno;
    if (!drop->failed && rename(drop->temporary, drop->final))
        drop->failed = errno;
    if (!drop->failed && syncfs(drop->fd)) {
        drop->failed = errno;
        (void)unlink(drop->final);
    }
    if (drop->failed) {
        rc = fault_errno(fault, drop->failed, "cannot write into the drop folder");
        (void)unlink(drop->temporary);
    }
    drop_free(drop_at);
    return rc;
}

void sendmail_drop_abort(struct sendmail_drop **drop)
{
    if (!*drop)
        return;
    (void)unlink((*drop)->temporary);
    drop_free(drop);
}

enum err sendmail_drop(const struct sendmail_wish *wish, const struct conf *conf, const char *why,
                       const struct sendmail_message *message, struct fault *fault)
{
    struct sendmail_drop *drop = NULL;
    struct buf lines;
    enum err rc;

    if (message->recipient_count > ENVELOPE_SENDMAIL_MAX)
        return fault_set(fault, ERR_LIMIT, "the drop folder takes %d recipients, not %zu",
                         ENVELOPE_SENDMAIL_MAX, message->recipient_count);
    rc = sendmail_drop_open(conf, message->text.len, why, &drop, fault);
    if (!drop)
        return rc;
    buf_init(&lines, PIECE);
    sendmail_mail_line(wish, message, &lines);
    for (size_t i = 0; i < message->recipient_count; i++) {
        sendmail_rcpt_line(wish, message->recipients[i], &lines);
        sendmail_drop_say(drop, buf_view(&lines));
        buf_reset(&lines);
    }
    sendmail_drop_say(drop, STR("DATA\r\n"));
    sendmail_drop_content(drop, buf_view(&message->text));
    buf_clear(&lines);
    return sendmail_drop_commit(&drop, fault);
}
