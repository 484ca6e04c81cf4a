/*
 * line.c - where a line ends, where a message ends, and which dots are real.
 *
 * memchr does the walking: the work is per line, not per octet, so that the
 * content of a message costs about as much as copying it.
 */
#include "relay/smtp/line.h"

#define CONTENT_LINE_MAX 998 /* RFC 5322 2.1.1, without CRLF */

/* ---- lines of commands and replies ---- */

/* Offset behind the first CRLF of `in`; 0: none yet. Searches from `from` on. */
static size_t line_end(struct str in, size_t from)
{
    while (from < in.len) {
        const char *lf = memchr(in.at + from, '\n', in.len - from);
        if (!lf)
            return 0;
        size_t at = (size_t)(lf - in.at);
        if (at > 0 && lf[-1] == '\r')
            return at + 1;
        from = at + 1;
    }
    return 0;
}

/* The line was too long: drop all that cannot be part of its end. */
static enum line_got line_skip(struct str in, size_t end, bool *skipping, size_t *scanned,
                               size_t *out_used)
{
    size_t keep = in.len && in.at[in.len - 1] == '\r'; /* may be half of the CRLF */

    *scanned = 0;
    *skipping = end == 0;
    *out_used = end ? end : in.len - keep;
    return *out_used ? LINE_TOO_LONG : LINE_MORE;
}

static bool has_bare(struct str line)
{
    return str_chr(line, '\r') < line.len || str_chr(line, '\n') < line.len ||
           str_chr(line, '\0') < line.len;
}

enum line_got line_next(struct str in, size_t max, bool *skipping, size_t *scanned,
                        struct str *out_line, size_t *out_used)
{
    size_t end = line_end(in, *scanned);

    *out_used = 0;
    if (*skipping || end > max || (end == 0 && in.len >= max))
        return line_skip(in, end, skipping, scanned, out_used);
    if (end == 0) {
        *scanned = in.len;
        return LINE_MORE;
    }
    *scanned = 0;
    *out_used = end;
    *out_line = str_head(in, end - 2);
    return has_bare(*out_line) ? LINE_BARE : LINE_WHOLE;
}

/* ---- content in ---- */

/* START -> MIDDLE | CR | DOT;  DOT -> MIDDLE | DOT_CR;  DOT_CR -> ended;  CR -> START by LF. */
enum content_state {
    CONTENT_START,  /* behind CRLF, or at the very beginning */
    CONTENT_MIDDLE, /* inside a line */
    CONTENT_CR,     /* behind a CR that was written already */
    CONTENT_DOT,    /* behind a dot at the start of a line, not written */
    CONTENT_DOT_CR, /* behind that dot and a CR, neither written */
};

void line_content_init(struct line_content *content)
{
    *content = (struct line_content){ .state = CONTENT_START };
}

static bool has_8bit(const char *at, size_t len)
{
    uint64_t all = 0, word;
    size_t i = 0;

    for (; i + sizeof(word) <= len; i += sizeof(word)) {
        memcpy(&word, at + i, sizeof(word));
        all |= word;
    }
    for (; i < len; i++)
        all |= (unsigned char)at[i];
    return (all & 0x8080808080808080u) != 0;
}

/* What can be judged without knowing where lines end. */
static void judge_octets(struct line_content *content, struct str in)
{
    if (!content->has_8bit)
        content->has_8bit = has_8bit(in.at, in.len);
    if (!(content->faults & LINE_CONTENT_NUL) && str_chr(in, '\0') < in.len)
        content->faults |= LINE_CONTENT_NUL;
}

static void add_to_line(struct line_content *content, size_t len)
{
    content->line_len += len;
    if (content->line_len > CONTENT_LINE_MAX)
        content->faults |= LINE_CONTENT_LONG;
}

/* in[at] is the LF of a CRLF; returns the offset behind it. */
static size_t end_line(struct line_content *content, size_t at)
{
    content->state = CONTENT_START;
    content->line_len = 0;
    return at + 1;
}

/* Walks from inside a line to behind its CRLF or to the end of `in`; returns
 * the offset reached. Bare CR and bare LF are noted and passed over. */
static size_t walk_line(struct line_content *content, struct str in, size_t at)
{
    if (content->state == CONTENT_CR && at < in.len) {
        if (in.at[at] == '\n')
            return end_line(content, at);
        content->faults |= LINE_CONTENT_BARE_CR;
        add_to_line(content, 1);
        content->state = CONTENT_MIDDLE;
    }
    /* CR first, and no search for LF once one was found: either way round a
     * peer could make each octet cost a walk over the rest. */
    struct str rest = str_from(in, at);
    size_t cr = str_chr(rest, '\r');
    if (!(content->faults & LINE_CONTENT_BARE_LF) && str_chr(str_head(rest, cr), '\n') < cr)
        content->faults |= LINE_CONTENT_BARE_LF;
    add_to_line(content, cr);
    if (cr == rest.len) {
        content->state = rest.len ? CONTENT_MIDDLE : content->state;
        return in.len;
    }
    content->state = CONTENT_CR;
    at += cr + 1;
    return at < in.len && in.at[at] == '\n' ? end_line(content, at) : at;
}

/* The octet after a dot that began a line. Returns true when it was taken;
 * `*cr_owed`: the CR held back was content after all. */
static bool behind_dot(struct line_content *content, char c, bool *cr_owed)
{
    if (content->state == CONTENT_DOT && c == '\r') {
        content->state = CONTENT_DOT_CR;
        return true;
    }
    if (content->state == CONTENT_DOT_CR && c == '\n') {
        content->ended = true;
        return true;
    }
    *cr_owed = content->state == CONTENT_DOT_CR;
    content->state = *cr_owed ? CONTENT_CR : CONTENT_MIDDLE;
    return false;
}

size_t line_content_decode(struct line_content *content, struct str in, char *out, size_t *out_used)
{
    size_t at = 0, run = 0, wrote = 0; /* in[run..at) is still to be copied */

    while (at < in.len && !content->ended) {
        bool cr_owed = false;
        if (content->state == CONTENT_START && in.at[at] == '.') {
            memcpy(out + wrote, in.at + run, at - run);
            wrote += at - run;
            run = ++at;
            content->state = CONTENT_DOT;
        } else if (content->state == CONTENT_DOT || content->state == CONTENT_DOT_CR) {
            if (behind_dot(content, in.at[at], &cr_owed))
                run = ++at;
            if (cr_owed)
                out[wrote++] = '\r';
        } else {
            at = walk_line(content, in, at);
        }
    }
    if (at > run)
        memcpy(out + wrote, in.at + run, at - run);
    judge_octets(content, str_head(in, at));
    *out_used = at;
    return wrote + (at - run);
}

void line_content_inspect(struct line_content *content, struct str in)
{
    for (size_t at = 0; at < in.len;)
        at = walk_line(content, in, at);
    judge_octets(content, in);
}

void line_content_finish(struct line_content *content)
{
    if (content->state == CONTENT_CR)
        content->faults |= LINE_CONTENT_BARE_CR;
}

bool line_content_lacks_crlf(const struct line_content *content)
{
    return content->state == CONTENT_MIDDLE || content->state == CONTENT_CR;
}

/* ---- content out ---- */

enum stuff_state { STUFF_START, STUFF_MIDDLE, STUFF_CR };

void line_stuff_init(struct line_stuff *stuff) { *stuff = (struct line_stuff){ STUFF_START }; }

/* Is in[at] the first octet of a line? */
static bool at_start(const struct line_stuff *stuff, struct str in, size_t at)
{
    if (at == 0)
        return stuff->state == STUFF_START;
    if (in.at[at - 1] != '\n')
        return false;
    return at == 1 ? stuff->state == STUFF_CR : in.at[at - 2] == '\r';
}

/* Looks for dots rather than for line ends: base64 has none, prose few. */
size_t line_stuff(struct line_stuff *stuff, struct str in, char *out)
{
    size_t run = 0, from = 0, wrote = 0;

    while (from < in.len) {
        size_t dot = from + str_chr(str_from(in, from), '.');
        if (dot < in.len && at_start(stuff, in, dot)) {
            memcpy(out + wrote, in.at + run, dot - run);
            wrote += dot - run;
            out[wrote++] = '.';
            run = dot;
        }
        from = dot + 1;
    }
    if (in.len == 0)
        return 0;
    memcpy(out + wrote, in.at + run, in.len - run);
    wrote += in.len - run;
    if (at_start(stuff, in, in.len))
        stuff->state = STUFF_START;
    else
        stuff->state = in.at[in.len - 1] == '\r' ? STUFF_CR : STUFF_MIDDLE;
    return wrote;
}

bool line_stuff_at_start(const struct line_stuff *stuff) { return stuff->state == STUFF_START; }
