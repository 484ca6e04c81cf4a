/*
 * sendmail_flags.c - forty years of options: one row each.
 *
 * Values come glued or apart ("-fX", "-f X"), letters without a value in bunches
 * ("-ti"), "-o" carries a second alphabet. What is not known never fails the mail:
 * a caller that worked with another sendmail goes on working. Options end at the
 * first recipient, so that an address beginning with "-" that a web form slips in
 * behind one is an error and never an option (CVE-2016-10033 and its kin).
 */
#include "relay/cli/sendmail.h"

#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

enum takes { TAKES_NOTHING, TAKES_GLUED, TAKES_VALUE };

struct parse {
    struct sendmail_wish *wish;
    struct sendmail_fault fault;
};

typedef void flag_fn(struct parse *parse, const char *value);

/* ---- what they do ---- */

static void ignore(struct parse *parse, const char *value)
{
    (void)parse;
    (void)value;
}

static void say_unknown(const char *what, int letter)
{
    openlog("sendmail", LOG_PID, LOG_MAIL);
    syslog(LOG_INFO, "option -%s%c is not known and was ignored", what, letter);
}

static void set_dots(struct parse *parse, const char *value)
{
    (void)value;
    parse->wish->keep_dots = true;
}

static void set_extract(struct parse *parse, const char *value)
{
    (void)value;
    parse->wish->extract = true;
}

static void set_verbose(struct parse *parse, const char *value)
{
    (void)value;
    parse->wish->verbose = true;
}

static void set_aliases(struct parse *parse, const char *value)
{
    (void)value;
    parse->wish->mode = SENDMAIL_ALIASES;
}

/* "", "<>", "a@b", "<a@b>": what stands in the brackets. */
static void set_sender(struct parse *parse, const char *value)
{
    struct str sender = str_trim(str_of(value));

    if (sender.len >= 2 && sender.at[0] == '<' && sender.at[sender.len - 1] == '>')
        sender = str_make(sender.at + 1, sender.len - 2);
    parse->wish->sender = sender;
    parse->wish->has_sender = true;
}

static void set_name(struct parse *parse, const char *value) { parse->wish->full_name = value; }

static void set_mode(struct parse *parse, const char *value)
{
    static const struct {
        char letter;
        enum sendmail_mode mode;
    } modes[] = { { 'm', SENDMAIL_MAIL },    { 's', SENDMAIL_SMTP },   { 'p', SENDMAIL_LIST },
                  { 'i', SENDMAIL_ALIASES }, { 'v', SENDMAIL_VERIFY }, { 'd', SENDMAIL_DAEMON },
                  { 'D', SENDMAIL_DAEMON },  { 'l', SENDMAIL_DAEMON }, { 'h', SENDMAIL_NOTHING },
                  { 'H', SENDMAIL_NOTHING }, { 'a', SENDMAIL_MAIL } };

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (modes[i].letter == *value) {
            parse->wish->mode = modes[i].mode;
            return;
        }
    sendmail_fail(&parse->fault, TROUBLE_USAGE, "-b%s: there is no such mode", value);
}

static void set_body(struct parse *parse, const char *value)
{
    if (strcasecmp(value, "8BITMIME") == 0)
        parse->wish->body_8bit = true;
    else if (strcasecmp(value, "7BIT") != 0) /* 7BIT: what is in it is seen anyway */
        sendmail_fail(&parse->fault, TROUBLE_USAGE, "-B %s: 7BIT or 8BITMIME", value);
}

static void set_notify(struct parse *parse, const char *value)
{
    static const struct {
        struct str word;
        uint8_t bit;
    } words[] = { { STR("never"), NOTIFY_NEVER },
                  { STR("success"), NOTIFY_SUCCESS },
                  { STR("failure"), NOTIFY_FAILURE },
                  { STR("delay"), NOTIFY_DELAY } };
    struct str rest = str_of(value), word;
    uint8_t notify = 0;
    bool is_good = true;

    while (str_next(&rest, ',', &word)) {
        uint8_t bit = 0;
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            if (str_ieq(words[i].word, str_trim(word)))
                bit = words[i].bit;
        is_good = is_good && bit;
        notify |= bit;
    }
    if (!is_good || !notify || ((notify & NOTIFY_NEVER) && notify != NOTIFY_NEVER))
        sendmail_fail(&parse->fault, TROUBLE_USAGE,
                      "-N %s: never, or some of success,failure,delay", value);
    parse->wish->notify = notify;
}

static void set_return(struct parse *parse, const char *value)
{
    if (strcasecmp(value, "full") == 0)
        parse->wish->ret = RET_FULL;
    else if (strcasecmp(value, "hdrs") == 0)
        parse->wish->ret = RET_HDRS;
    else
        sendmail_fail(&parse->fault, TROUBLE_USAGE, "-R %s: full or hdrs", value);
}

static void set_envid(struct parse *parse, const char *value)
{
    parse->wish->envid = str_of(value);
    if (parse->wish->envid.len == 0 || parse->wish->envid.len > 100)
        sendmail_fail(&parse->fault, TROUBLE_USAGE, "-V: an id of 1 to 100 characters");
}

/* Another configuration may name other folders: only who may do anything anyway. */
static void set_conf(struct parse *parse, const char *value)
{
    if (getuid() == 0)
        parse->wish->conf_file = value;
}

static void set_errors(struct parse *parse, const char *value)
{
    static const struct {
        char letter;
        enum sendmail_errors errors;
    } rows[] = { { 'm', ERRORS_MAIL },
                 { 'e', ERRORS_ONLY },
                 { 'p', ERRORS_PRINT },
                 { 'q', ERRORS_QUIET },
                 { 'w', ERRORS_WRITE } };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].letter == *value)
            parse->wish->errors = rows[i].errors;
}

/* b, q, d: the relay tries at once whatever is asked for, so they are all the same. */
static void set_delivery(struct parse *parse, const char *value)
{
    parse->wish->wait = *value == 'i' || *value == 'f';
}

/* -q, -qI id, -qR site, -qS sender; -q30m asks for a daemon that is not started so. */
static void set_flush(struct parse *parse, const char *value)
{
    static const struct {
        char letter;
        enum sendmail_flush flush;
    } rows[] = { { 'I', FLUSH_ID }, { 'R', FLUSH_RECIPIENT }, { 'S', FLUSH_SENDER } };

    if (parse->wish->mode == SENDMAIL_DAEMON)
        return;
    parse->wish->mode = SENDMAIL_FLUSH;
    parse->wish->flush = FLUSH_ALL;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].letter == *value) {
            parse->wish->flush = rows[i].flush;
            parse->wish->flush_what = value + 1;
        }
    if (*value >= '0' && *value <= '9')
        parse->wish->mode = SENDMAIL_NOTHING;
}

static bool is_yes(struct str value) { return str_ieq(value, STR("yes")) || value.len == 0; }

/* The long names of Sendmail 8 that say the same as a letter, and Postfix's two. */
static void set_long(struct parse *parse, const char *text)
{
    struct str all = str_of(text);
    struct str name = str_trim(str_head(all, str_chr(all, '=')));
    struct str value = str_trim(str_from(all, str_chr(all, '=') + 1));

    if (str_ieq(name, STR("smtputf8")))
        parse->wish->smtputf8 = is_yes(value);
    else if (str_ieq(name, STR("IgnoreDots")))
        parse->wish->keep_dots = value.len == 0 || str_ieq(str_head(value, 1), STR("t"));
    else if (str_ieq(name, STR("DeliveryMode")) && value.len)
        set_delivery(parse, value.at);
    else if (str_ieq(name, STR("ErrorMode")) && value.len)
        set_errors(parse, value.at);
    else if (str_ieq(name, STR("requiretls")) && is_yes(value))
        /* RFC 8689 is a promise about every hop: better no mail than one in clear. */
        sendmail_fail(&parse->fault, TROUBLE_REFUSED,
                      "-O requiretls=yes: this relay does not offer REQUIRETLS");
}

/* ---- the second alphabet: -oX ---- */

static const struct letter {
    char letter;
    enum takes takes; /* behind the letter */
    flag_fn *run;
} o_letters[] = {
    { 'i', TAKES_NOTHING, set_dots },
    { 'd', TAKES_GLUED, set_delivery },
    { 'e', TAKES_GLUED, set_errors },
    { 't', TAKES_NOTHING, set_extract },
    { 'v', TAKES_NOTHING, set_verbose },
    { 'A', TAKES_VALUE, ignore }, /* the aliases are the relay's */
    { 'm', TAKES_NOTHING, ignore },
    { '7', TAKES_NOTHING, ignore },
    { '8', TAKES_NOTHING, ignore },
};

static const struct letter letters[] = {
    { 'A', TAKES_GLUED, ignore },        { 'B', TAKES_VALUE, set_body },
    { 'C', TAKES_VALUE, set_conf },      { 'D', TAKES_VALUE, ignore },
    { 'E', TAKES_NOTHING, ignore },      { 'F', TAKES_VALUE, set_name },
    { 'G', TAKES_NOTHING, ignore },      { 'I', TAKES_NOTHING, set_aliases },
    { 'J', TAKES_VALUE, ignore },        { 'L', TAKES_VALUE, ignore },
    { 'M', TAKES_VALUE, ignore },        { 'N', TAKES_VALUE, set_notify },
    { 'O', TAKES_VALUE, set_long },      { 'R', TAKES_VALUE, set_return },
    { 'U', TAKES_NOTHING, ignore },      { 'V', TAKES_VALUE, set_envid },
    { 'X', TAKES_VALUE, ignore },        { 'b', TAKES_VALUE, set_mode },
    { 'd', TAKES_GLUED, ignore },        { 'e', TAKES_VALUE, set_errors },
    { 'f', TAKES_VALUE, set_sender },    { 'h', TAKES_VALUE, ignore },
    { 'i', TAKES_NOTHING, set_dots },    { 'm', TAKES_NOTHING, ignore },
    { 'n', TAKES_NOTHING, ignore },      { 'p', TAKES_VALUE, ignore },
    { 'q', TAKES_GLUED, set_flush },     { 'r', TAKES_VALUE, set_sender },
    { 't', TAKES_NOTHING, set_extract }, { 'v', TAKES_NOTHING, set_verbose },
    { 'x', TAKES_NOTHING, ignore },
};
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct letter *find(const struct letter *rows, size_t count, char letter)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].letter == letter)
            return &rows[i];
    return NULL;
}

/* ---- the line ---- */

struct words {
    char **at; /* the next one; ends with NULL */
};

/* A value that is glued or the next word; NULL: none is left. */
static const char *value_of(struct words *words, const char *glued)
{
    if (*glued)
        return glued;
    return *words->at ? *words->at++ : NULL;
}

static void run_o(struct parse *parse, struct words *words, const char *text)
{
    const struct letter *row = find(o_letters, COUNT(o_letters), *text);
    const char *value = text + 1;

    if (!row) {
        if (*text)
            say_unknown("o", *text);
        return;
    }
    if (row->takes == TAKES_VALUE)
        value = value_of(words, value);
    if (value)
        row->run(parse, value);
}

/* One word of options: "-ti", "-fX", "-oem". */
static void run_word(struct parse *parse, struct words *words, const char *word)
{
    for (const char *at = word + 1; *at && !parse->fault.trouble; at++) {
        const struct letter *row = find(letters, COUNT(letters), *at);
        const char *value = at + 1;
        if (*at == 'o') {
            value = value_of(words, value);
            if (value)
                run_o(parse, words, value);
            return;
        }
        if (!row) {
            say_unknown("", *at);
            return; /* what is behind it may be its value */
        }
        if (row->takes == TAKES_VALUE)
            value = value_of(words, value);
        if (!value) {
            sendmail_fail(&parse->fault, TROUBLE_USAGE, "-%c needs a value", *at);
            return;
        }
        row->run(parse, value);
        if (row->takes != TAKES_NOTHING)
            return;
    }
}

/* "-qR site" may come in two words, and then looks like all of the queue. */
static void take_flush_value(struct parse *parse, struct words *words)
{
    struct sendmail_wish *wish = parse->wish;

    if (wish->mode != SENDMAIL_FLUSH || wish->flush == FLUSH_ALL || *wish->flush_what)
        return;
    wish->flush_what = value_of(words, "");
    if (!wish->flush_what)
        sendmail_fail(&parse->fault, TROUBLE_USAGE, "-qI, -qR and -qS need a value");
}

static void take_recipients(struct parse *parse, char **words, bool any)
{
    struct sendmail_wish *wish = parse->wish;

    wish->recipients = words;
    for (size_t i = 0; words[i]; i++) {
        if (!any && words[i][0] == '-' && words[i][1])
            sendmail_fail(&parse->fault, TROUBLE_USAGE,
                          "an address does not begin with \"-\", and options come before the "
                          "first address; -- ends the options");
        wish->recipient_count++;
    }
}

static enum sendmail_mode mode_of_name(const char *name)
{
    static const struct {
        const char *name;
        enum sendmail_mode mode;
    } names[] = { { "mailq", SENDMAIL_LIST },        { "newaliases", SENDMAIL_ALIASES },
                  { "runq", SENDMAIL_FLUSH },        { "hoststat", SENDMAIL_NOTHING },
                  { "purgestat", SENDMAIL_NOTHING }, { "smtpd", SENDMAIL_DAEMON } };

    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].mode;
    return SENDMAIL_MAIL;
}

static const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    return slash ? slash + 1 : path ? path : "sendmail";
}

bool sendmail_is_called(const char *argv0)
{
    static const char *const names[] = { "sendmail", "send-mail", "mailq",     "newaliases",
                                         "runq",     "hoststat",  "purgestat", "rmail" };

    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i], base_name(argv0)) == 0)
            return true;
    return false;
}

int sendmail_flags(int argc, char **argv, struct sendmail_wish *out_wish)
{
    struct parse parse = { .wish = out_wish };
    struct words words = { argv + (argc > 0) };
    bool only_words = false;

    *out_wish = (struct sendmail_wish){ .called = base_name(argv[0]), .sender = STR_EMPTY };
    out_wish->envid = STR_EMPTY;
    out_wish->mode = mode_of_name(out_wish->called);
    while (*words.at && !parse.fault.trouble && words.at[0][0] == '-' && words.at[0][1]) {
        const char *word = *words.at++;
        if (strcmp(word, "--") == 0) {
            only_words = true;
            break;
        }
        if (strcmp(word, "--json") == 0)
            out_wish->json = true;
        else
            run_word(&parse, &words, word);
        take_flush_value(&parse, &words);
    }
    take_recipients(&parse, words.at, only_words);
    return parse.fault.trouble ? sendmail_say(out_wish, &parse.fault) : EX_OK;
}
