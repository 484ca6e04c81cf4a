/*
 * outcome_text.c - two facts that peers hide in the words of a reply: when to
 * come back, and under which id they queued the message.
 */
#include "relay/mail/outcome.h"

#define HINT_MAX_S 86400u
#define HINT_GAP_MAX 24 /* "in [at least another ]5 minutes" */
#define REMOTE_ID_MAX 128

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* ---- when to come back -------------------------------------------------- */

/* Digits at the front, at most 9 of them, so that nothing overflows. */
static bool take_number(struct str *rest, uint32_t *out_number)
{
    uint32_t number = 0;
    size_t n = 0;

    while (n < rest->len && is_digit(rest->at[n]) && n < 9)
        number = number * 10 + (uint32_t)(rest->at[n++] - '0');
    if (n == 0 || (n < rest->len && is_digit(rest->at[n])))
        return false;
    *rest = str_from(*rest, n);
    *out_number = number;
    return true;
}

static uint32_t unit_seconds(struct str word)
{
    if (str_istarts(word, STR("sec")) || str_ieq(word, STR("s")))
        return 1;
    if (str_istarts(word, STR("min")) || str_ieq(word, STR("m")))
        return 60;
    if (str_istarts(word, STR("hour")) || str_istarts(word, STR("hr")) || str_ieq(word, STR("h")))
        return 3600;
    return str_istarts(word, STR("day")) ? 86400 : 0;
}

static struct str skip_blanks(struct str s)
{
    while (s.len && (s.at[0] == ' ' || s.at[0] == '\t' || s.at[0] == '\n'))
        s = str_from(s, 1);
    return s;
}

static struct str leading_word(struct str s)
{
    size_t n = 0;

    while (n < s.len && is_letter(s.at[n]))
        n++;
    return str_head(s, n);
}

/* "00:05:00" or "5:00" behind its first number. */
static bool take_clock(struct str rest, uint32_t first, uint64_t *out_seconds)
{
    uint64_t seconds = first;
    unsigned parts = 1;
    uint32_t number;

    while (rest.len && rest.at[0] == ':' && parts < 3) {
        rest = str_from(rest, 1);
        if (!take_number(&rest, &number))
            return false;
        seconds = seconds * 60 + number;
        parts++;
    }
    if (parts == 1)
        return false;
    *out_seconds = seconds;
    return true;
}

/* "1 hour 5 minutes", "4m31s", "300 seconds", or a bare "300" that ends there. */
static uint64_t span_seconds(struct str rest)
{
    uint64_t seconds = 0;
    uint32_t number;

    while (take_number(&rest, &number)) {
        if (seconds == 0 && take_clock(rest, number, &seconds))
            return seconds;
        struct str word = leading_word(skip_blanks(rest));
        uint32_t unit = unit_seconds(word);
        bool is_bare = seconds == 0 && (rest.len == 0 || rest.at[0] == '\n' || rest.at[0] == '.');
        if (unit == 0)
            return is_bare ? number : seconds;
        seconds += (uint64_t)number * unit;
        rest = skip_blanks(str_from(skip_blanks(rest), word.len));
        if (str_istarts(rest, STR("and ")))
            rest = skip_blanks(str_from(rest, 4));
    }
    return seconds;
}

/* The number may stand a few words behind the cue, in the same sentence. */
static uint64_t seconds_after_cue(struct str rest)
{
    size_t n = 0;

    while (n < rest.len && n < HINT_GAP_MAX && (is_letter(rest.at[n]) || rest.at[n] == ' '))
        n++;
    return span_seconds(str_from(rest, n));
}

uint32_t outcome_retry_hint(struct str text)
{
    static const char *const cues[] = {
        "again in ",   "back in ", "retry in ",    "again after ",  "retry after ", "try after ",
        "listed for ", "wait ",    "delayed for ", "deferred for ", "resend in ",   "retry-after: ",
    };

    for (size_t i = 0; i < sizeof(cues) / sizeof(cues[0]); i++) {
        struct str cue = str_of(cues[i]);
        size_t at = str_ifind(text, cue);
        if (at == text.len)
            continue;
        uint64_t seconds = seconds_after_cue(str_from(text, at + cue.len));
        if (seconds > 0)
            return seconds > HINT_MAX_S ? HINT_MAX_S : (uint32_t)seconds;
    }
    return 0;
}

/* ---- the next hop's queue id -------------------------------------------- */

static bool is_id_char(char c) { return c > ' ' && c < 0x7f && !strchr("()<>[],;\"'", c); }

/* The id at the front of `s`; brackets before and dots behind do not belong to it. */
static struct str id_at(struct str s)
{
    size_t n = 0;

    while (s.len && (s.at[0] == ' ' || s.at[0] == '<' || s.at[0] == '(' || s.at[0] == '['))
        s = str_from(s, 1);
    while (n < s.len && is_id_char(s.at[n]))
        n++;
    while (n > 0 && (s.at[n - 1] == '.' || s.at[n - 1] == ':'))
        n--;
    return n <= REMOTE_ID_MAX ? str_head(s, n) : STR_EMPTY;
}

static bool has_digit(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (is_digit(s.at[i]))
            return true;
    return false;
}

/* The word in front of offset `end`. */
static struct str word_before(struct str s, size_t end)
{
    size_t start;

    while (end > 0 && (s.at[end - 1] == ' ' || s.at[end - 1] == '\n'))
        end--;
    start = end;
    while (start > 0 && is_id_char(s.at[start - 1]))
        start--;
    return id_at(str_make(s.at + start, end - start));
}

static struct str id_behind_cue(struct str text)
{
    /* Exchange; Postfix, SendGrid and many others; Exim, GMX; KumoMTA; Stalwart;
     * Haraka; Mimecast; qmail. The more telling cue first. */
    static const char *const cues[] = { "internalid=", "queued as ", " id=",          "ids=",
                                        "with id ",    "queued (",   "received ok [", " qp " };

    for (size_t i = 0; i < sizeof(cues) / sizeof(cues[0]); i++) {
        struct str cue = str_of(cues[i]);
        size_t at = str_ifind(text, cue);
        if (at == text.len)
            continue;
        struct str id = id_at(str_from(text, at + cue.len));
        /* hMailServer says "Queued (10.5 seconds)": a time, not an id. */
        bool is_time = str_istarts(str_from(text, (size_t)(id.at - text.at) + id.len), STR(" sec"));
        if (has_digit(id) && !is_time)
            return id;
    }
    return STR_EMPTY;
}

static struct str id_before_cue(struct str text)
{
    /* Gmail; sendmail and OpenSMTPD. */
    static const char *const cues[] = { " - gsmtp", " message accepted for delivery" };

    for (size_t i = 0; i < sizeof(cues) / sizeof(cues[0]); i++) {
        size_t at = str_ifind(text, str_of(cues[i]));
        struct str id = at < text.len ? word_before(text, at) : STR_EMPTY;
        if (has_digit(id))
            return id;
    }
    return STR_EMPTY;
}

/* Amazon SES and others: nothing but "Ok" and a long id. */
static struct str id_behind_ok(struct str text)
{
    struct str rest = str_trim(text);
    struct str id;

    if (!str_istarts(rest, STR("ok ")))
        return STR_EMPTY;
    id = id_at(str_from(rest, 3));
    return id.len >= 16 && has_digit(id) ? id : STR_EMPTY;
}

struct str outcome_remote_id(struct str text)
{
    struct str id = id_behind_cue(text);

    if (!id.len)
        id = id_before_cue(text);
    return id.len ? id : id_behind_ok(text);
}
