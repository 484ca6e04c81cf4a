/*
 * dsn_words.c - the part of a report that a person reads: what happened, at
 * which step, who said what, what it means, what to do, whether it may still
 * arrive.
 */
#include "relay/base/clock.h"
#include "relay/mail/dsn_part.h"

#define WORDS_MAX 16384

static const char *opening(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
        return "Your message could not be delivered to the recipient below, and it is not tried "
               "again.";
    case DSN_EXPIRED:
        return "Your message could not be delivered to the recipient below in the time allowed, "
               "and it is not tried any more.";
    case DSN_DELAYED:
        return "Your message has not been delivered to the recipient below yet. It is still being "
               "tried: you need not send it again.";
    case DSN_DELIVERED:
        return "Your message was delivered to the recipient below.";
    case DSN_RELAYED:
        return "Your message for the recipient below was passed on to a server that sends no "
               "further reports. Whether it arrives there is not known here.";
    }
    return "";
}

static void say_text(struct buf *out, const char *label, struct str text)
{
    struct buf safe;

    if (text.len == 0)
        return;
    buf_init(&safe, WORDS_MAX);
    dsn_escape(&safe, text, true);
    dsn_say(out, label, buf_view(&safe));
    buf_clear(&safe);
}

static void say_date(struct buf *out, const char *label, int64_t wall_s)
{
    char date[48];

    clock_rfc5322(wall_s * 1000000, date, sizeof(date));
    dsn_say(out, label, str_of(date));
}

static void say_step(struct buf *out, const struct recipient *recipient)
{
    struct buf words;

    if (recipient->tried_at == 0)
        return;
    buf_init(&words, WORDS_MAX);
    buf_printf(&words, "%s (%s), attempt %u", stage_word(recipient->stage),
               stage_help(recipient->stage), (unsigned)recipient->attempts);
    dsn_say(out, "At step:", buf_view(&words));
    buf_clear(&words);
    say_date(out, "Last tried:", recipient->tried_at);
}

static void say_recipient(struct buf *out, const struct dsn_recipient *report, bool is_brief)
{
    const struct recipient *recipient = report->recipient;
    bool is_trouble = dsn_is_failure(report->action) || report->action == DSN_DELAYED;

    buf_cstr(out, "\r\n");
    say_text(out, "Recipient:", recipient->address);
    if (is_brief)
        return;
    if (is_trouble)
        say_text(out, "What happened:", recipient->cause);
    say_step(out, recipient);
    say_text(out, "Server:", recipient->host);
    say_text(out, recipient->host.len ? "It said:" : "In detail:", recipient->said);
    if (is_trouble)
        say_text(out, "What to do:", recipient->fix);
    if (report->action == DSN_DELAYED && report->will_retry_until)
        say_date(out, "Tried until:", report->will_retry_until);
}

/* The recipients of one action under one opening sentence. */
static void say_group(const struct dsn_report *report, enum dsn_action action, struct buf *out)
{
    bool is_first = true;

    for (size_t i = 0; i < report->count; i++) {
        if (report->recipients[i].action != action)
            continue;
        if (is_first)
            dsn_paragraph(out, str_of(opening(action)));
        say_recipient(out, &report->recipients[i], report->options->is_brief);
        is_first = false;
    }
    if (!is_first)
        buf_cstr(out, "\r\n");
}

static void say_message(const struct dsn_report *report, struct buf *out)
{
    char id[MSGID_TEXT + 1];

    dsn_paragraph(out, STR("About the message:"));
    buf_cstr(out, "\r\n");
    say_text(out, "Message-ID:", report->original->message_id);
    say_date(out, "Taken over:", report->original->arrived_us / 1000000);
    if (!msgid_is_nil(&report->original->id)) {
        msgid_print(&report->original->id, id);
        dsn_say(out, "Known here as:", str_of(id));
    }
}

static void say_share(const struct dsn_report *report, struct buf *out)
{
    const struct dsn_options *options = report->options;
    struct buf words;

    if (options->total <= report->count)
        return;
    buf_init(&words, WORDS_MAX);
    buf_printf(&words,
               "There is more to tell about this message than one report holds. This one is about "
               "recipients %zu to %zu of %zu; the others stand in reports of their own.",
               options->before + 1, options->before + report->count, options->total);
    dsn_paragraph(out, buf_view(&words));
    buf_cstr(out, "\r\n");
    buf_clear(&words);
}

void dsn_words(const struct dsn_report *report, struct buf *out)
{
    struct buf line;

    buf_init(&line, WORDS_MAX);
    buf_cstr(&line, "This is the mail relay at ");
    dsn_escape(&line, report->options->hostname, true);
    buf_char(&line, '.');
    dsn_paragraph(out, buf_view(&line));
    buf_clear(&line);
    buf_cstr(out, "\r\n");
    say_share(report, out);
    say_group(report, DSN_FAILED, out);
    say_group(report, DSN_EXPIRED, out);
    say_group(report, DSN_DELAYED, out);
    say_group(report, DSN_RELAYED, out);
    say_group(report, DSN_DELIVERED, out);
    say_message(report, out);
    if (dsn_is_failure(dsn_main_action(report))) {
        buf_cstr(out, "\r\n");
        dsn_paragraph(out, STR("If you need help, send this whole report to the postmaster of "
                               "this relay; the parts that follow are for them."));
    }
}
