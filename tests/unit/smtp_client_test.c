/*
 * smtp_client_test.c - what the client machine says to each kind of server.
 *
 * A dialogue is a script: "S: " lines are fed, "C: " lines must be the output,
 * in that order. The driver below delivers one message (or as many as the row
 * says) and writes down the events. Each dialogue also runs with the server's
 * bytes fed one at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/smtp/client.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TWO_RCPT = 1,  /* b@x.test and c@x.test */
    TWICE = 2,     /* a second transaction in the same session */
    TLS = 4,       /* STARTTLS when offered */
    AUTH = 8,      /* AUTH PLAIN with an initial response */
    LOGIN = 16,    /* AUTH LOGIN, answers challenges */
    CANCEL = 32,   /* cancels at the first challenge */
    DSN = 64,      /* asks for everything RFC 3461 has */
    WIDE = 128,    /* 8-bit content and SMTPUTF8 */
    NO_QUIT = 256, /* stays silent when done */
    HANG_UP = 512, /* the connection ends behind the script */
    SLOW = 1024,   /* says nothing more after half of the content */
    EMPTY_INITIAL = 2048,
    OPEN_END = 4096, /* content without a final CRLF */
    FOLLOW = 8192,   /* a second transaction right behind the first one's content */
};

struct bench {
    struct smtp_client *client;
    struct buf events;
    struct buf said; /* output not yet compared */
    struct recipient recipients[2];
    const struct recipient *list[2];
    struct smtp_client_transaction mail;
    unsigned flags, begun;
    bool has_tls, has_auth, over;
};

static void begin(struct bench *bench)
{
    unsigned flags = bench->flags;

    bench->recipients[0].address = STR("b@x.test");
    bench->recipients[1].address = STR("c@x.test");
    for (size_t i = 0; i < 2; i++) {
        bench->list[i] = &bench->recipients[i];
        if (!(flags & DSN))
            continue;
        bench->recipients[i].notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
        bench->recipients[i].orcpt = STR("rfc822;o@x.test");
    }
    bench->mail = (struct smtp_client_transaction){
        .sender = STR("a@y.test"),
        .recipients = bench->list,
        .recipient_count = flags & TWO_RCPT ? 2 : 1,
        .size = 9,
        .body_8bit = flags & WIDE,
        .smtputf8 = flags & WIDE,
        .ret = flags & DSN ? RET_HDRS : RET_UNSET,
        .envid = flags & DSN ? STR("id+2B1") : STR_EMPTY,
    };
    bench->begun++;
    smtp_client_begin(bench->client, &bench->mail);
}

static void go_on(struct bench *bench)
{
    const struct ext_offer *offer = smtp_client_offer(bench->client);
    struct str initial = bench->flags & EMPTY_INITIAL ? STR("") : STR("AGEAYg==");

    if ((bench->flags & TLS) && !bench->has_tls && (offer->exts & EXT_STARTTLS)) {
        smtp_client_starttls(bench->client);
    } else if ((bench->flags & (AUTH | LOGIN)) && !bench->has_auth) {
        bench->has_auth = true;
        if (bench->flags & AUTH)
            smtp_client_auth(bench->client, MECHANISM_PLAIN, &initial);
        else
            smtp_client_auth(bench->client, MECHANISM_LOGIN, NULL);
    } else if (bench->begun < (bench->flags & TWICE ? 2u : 1u)) {
        begin(bench);
    } else if (!(bench->flags & NO_QUIT)) {
        smtp_client_quit(bench->client);
    }
}

static void send_content(struct bench *bench)
{
    smtp_client_body(bench->client, STR("Hi\r\n"));
    smtp_client_body(bench->client, STR(".\r"));
    if (bench->flags & SLOW)
        return;
    smtp_client_body(bench->client, bench->flags & OPEN_END ? STR("\nx") : STR("\n\r\n"));
    smtp_client_body_end(bench->client);
    if (!(bench->flags & FOLLOW) || bench->begun > 1)
        return;
    if (smtp_client_follow(bench->client, &bench->mail))
        bench->begun++;
    assert_false(smtp_client_follow(bench->client, &bench->mail)); /* one at a time */
}

static void answer_challenge(struct bench *bench)
{
    if (bench->flags & CANCEL)
        smtp_client_auth_cancel(bench->client);
    else
        smtp_client_auth_respond(bench->client, STR("bW9yZQ=="));
}

static void note(struct bench *bench, const char *word, const struct smtp_client_event *event)
{
    buf_printf(&bench->events, "%s%s", bench->events.len ? ", " : "", word);
    if (event->reply)
        buf_printf(&bench->events, " %u", event->reply->code);
}

static void react(struct bench *bench, const struct smtp_client_event *event)
{
    bool is_good = event->reply && reply_is_positive(event->reply);

    switch (event->kind) {
    case SMTP_CLIENT_BANNER:
        note(bench, "banner", event);
        if (is_good)
            smtp_client_ehlo(bench->client);
        else
            smtp_client_quit(bench->client);
        return;
    case SMTP_CLIENT_EHLO:
        note(bench, smtp_client_is_esmtp(bench->client) ? "ehlo" : "helo", event);
        if (is_good)
            go_on(bench);
        else
            smtp_client_quit(bench->client);
        return;
    case SMTP_CLIENT_STARTTLS:
        note(bench, "starttls", event);
        bench->has_tls = true;
        if (!is_good) {
            go_on(bench);
            return;
        }
        assert_int_equal(smtp_client_feed(bench->client, STR("x"), 0), 0);
        smtp_client_tls_started(bench->client);
        smtp_client_ehlo(bench->client);
        return;
    case SMTP_CLIENT_CHALLENGE:
        note(bench, "challenge", event);
        buf_printf(&bench->events, "=" STR_FMT, STR_ARG(event->bytes));
        answer_challenge(bench);
        return;
    case SMTP_CLIENT_AUTH:
        note(bench, "auth", event);
        go_on(bench);
        return;
    case SMTP_CLIENT_MAIL:
        note(bench, "mail", event);
        return;
    case SMTP_CLIENT_RCPT:
        note(bench, event->index == 0 ? "rcpt0" : "rcpt1", event);
        return;
    case SMTP_CLIENT_GO:
        note(bench, "go", &(struct smtp_client_event){ 0 });
        send_content(bench);
        return;
    case SMTP_CLIENT_ROOM:
        note(bench, "room", event);
        return;
    case SMTP_CLIENT_DATA:
        note(bench, "data", event);
        go_on(bench);
        return;
    case SMTP_CLIENT_CONTENT:
        if (smtp_client_follows(bench->client)) { /* "sent" is a question about that one now */
            note(bench, "content", event);
            return;
        }
        is_good = smtp_client_content_sent(bench->client) || (bench->flags & FOLLOW);
        note(bench, is_good ? "content" : "content-unsent", event);
        go_on(bench);
        return;
    case SMTP_CLIENT_RSET:
        note(bench, "rset", event);
        return;
    case SMTP_CLIENT_QUIT:
        note(bench, "quit", event);
        bench->over = true;
        return;
    case SMTP_CLIENT_FAULT:
        note(bench, "fault", event);
        buf_printf(&bench->events, " %s@%s", err_text(event->err), stage_word(event->stage));
        assert_true(event->words.len > 0);
        bench->over = true;
        return;
    }
}

static void pump(struct bench *bench)
{
    struct smtp_client_event event;

    while (smtp_client_next(bench->client, 0, &event))
        react(bench, &event);
    struct str out = smtp_client_output(bench->client);
    buf_str(&bench->said, out);
    smtp_client_sent(bench->client, out.len, 0);
}

#define HI "S: 220 hi\nC: EHLO me.test\n"
#define BARE_EHLO HI "S: 250 mx.test\n"
#define PIPE_EHLO HI "S: 250-mx.test\nS: 250 PIPELINING\n"
#define BDAT_EHLO HI "S: 250-mx.test\nS: 250-PIPELINING\nS: 250 CHUNKING\n"
#define CONTENT "C: Hi\nC: ..\nC: \nC: .\n"
#define QUIT "C: QUIT\nS: 221 bye\n"
#define PIPED "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nC: DATA\n"
#define TO_FOLLOW PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT PIPED
#define BDAT_BEHIND                                                                                \
    "C: BDAT 9 LAST\nC: Hi\nC: .\nC: \nC: RSET\nC: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\n"
#define FOLLOWED "banner 220, ehlo 250, mail 250, rcpt0 250, go, "
#define PIPED2 "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nC: RCPT TO:<c@x.test>\nC: DATA\n"

static const struct {
    const char *name;
    unsigned flags;
    const char *script, *want;
} rows[] = {
    { "a plain server, one command at a time", 0,
      BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 250 ok\nC: RCPT TO:<b@x.test>\nS: 250 ok\n"
                "C: DATA\nS: 354 go\n" CONTENT "S: 250 2.0.0 queued\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "a pipeline", TWO_RCPT,
      PIPE_EHLO PIPED2 "S: 250 ok\nS: 250 ok\nS: 251 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, rcpt1 251, go, content 250, quit 221" },
    { "content without a final CRLF gets one", OPEN_END,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\nC: Hi\nC: ..\nC: x\nC: .\nS: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "an old server gets HELO", 0,
      HI "S: 502 what\nC: HELO me.test\nS: 250 hello\nC: MAIL FROM:<a@y.test>\nS: 250 ok\n"
         "C: RCPT TO:<b@x.test>\nS: 250 ok\nC: DATA\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      "banner 220, helo 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "EHLO's refusal is told when HELO fails too", 0,
      HI "S: 554 5.7.1 blocked\nC: HELO me.test\nS: 503 no\n" QUIT,
      "banner 220, helo 554, quit 221" },
    { "EHLO's refusal is told when the server leaves", HANG_UP,
      HI "S: 554 5.7.1 blocked\nC: HELO me.test\n",
      "banner 220, fault 554 connection closed@ehlo" },
    { "a temporary refusal of EHLO is no reason for HELO", 0, HI "S: 450 later\n" QUIT,
      "banner 220, helo 450, quit 221" },
    { "a banner that refuses", 0, "S: 554-no\nS: 554 mail here\n" QUIT, "banner 554, quit 221" },
    { "a banner of many lines", NO_QUIT, "S: 220-mx\nS: 220-says\nS: 220 hi\nC: EHLO me.test\n",
      "banner 220" },
    { "a banner of 421", 0, "S: 421 4.3.2 busy\n", "banner 421, quit" },
    { "a banner that is not SMTP", 0, "S: SSH-2.0-OpenSSH\n", "fault invalid@banner" },
    { "junk behind the greeting", 0, "S: 220 hi\nS: 220 again\n",
      "banner 220, fault invalid@banner" },
    { "goodbye behind the greeting", 0, "S: 220 hi\nS: 421 no\n",
      "banner 220, fault connection closed@banner" },
    { "parameters as offered", WIDE | DSN,
      HI "S: 250-mx\nS: 250-size 100\nS: 250-8BITMIME\nS: 250-SMTPUTF8\nS: 250 DSN\n"
         "C: MAIL FROM:<a@y.test> SIZE=9 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1\nS: 250 ok\n"
         "C: RCPT TO:<b@x.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@x.test\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, data 550, quit 221" },
    { "no parameter that was not offered", WIDE | DSN,
      BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 250 ok\nC: RCPT TO:<b@x.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, data 550, quit 221" },
    /* refusals */
    { "MAIL refused", 0, BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 550 5.7.1 no\n" QUIT,
      "banner 220, ehlo 250, mail 550, data 550, quit 221" },
    { "MAIL refused in a pipeline", 0,
      PIPE_EHLO PIPED "S: 450 4.7.1 no\nS: 503 no\nS: 503 no\n" QUIT,
      "banner 220, ehlo 250, mail 450, data 450, quit 221" },
    { "MAIL refused, and yet 354", 0,
      PIPE_EHLO PIPED "S: 450 no\nS: 250 ok\nS: 354 go\nC: .\nS: 554 none\n" QUIT,
      "banner 220, ehlo 250, mail 450, data 450, quit 221" },
    { "some recipients refused", TWO_RCPT,
      PIPE_EHLO PIPED2 "S: 250 ok\nS: 550 no\nS: 250 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, rcpt1 250, go, content 250, quit 221" },
    { "all recipients refused", TWO_RCPT,
      PIPE_EHLO PIPED2 "S: 250 ok\nS: 550 no\nS: 451 no\nS: 503 none\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, rcpt1 451, data 451, quit 221" },
    { "all refused, and yet 354: a lone dot", TWO_RCPT,
      PIPE_EHLO PIPED2 "S: 250 ok\nS: 550 no\nS: 550 no\nS: 354 go\nC: .\nS: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, rcpt1 550, data 550, quit 221" },
    { "DATA refused", 0, PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 451 4.3.0 later\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, data 451, quit 221" },
    { "DATA answered with 250", 0, PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 250 ok\n",
      "banner 220, ehlo 250, mail 250, rcpt0 250, fault 250 invalid@data" },
    { "RCPT answered with 354", 0, PIPE_EHLO PIPED "S: 250 ok\nS: 354 ok\n",
      "banner 220, ehlo 250, mail 250, fault 354 invalid@rcpt" },
    { "the content refused", 0,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 554 5.6.0 spam\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 554, quit 221" },
    { "the content refused before its end", SLOW,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\nC: Hi\nC+ ..\r\nS: 552 5.3.4 too big\n",
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content-unsent 552, "
      "quit" },
    { "the content accepted before its end", SLOW,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\nC: Hi\nC+ ..\r\nS: 250 ok\n",
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, fault 250 invalid@data" },
    { "no reply to the content", HANG_UP,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, fault connection closed@content" },
    { "421 to a recipient ends it all", TWO_RCPT,
      PIPE_EHLO PIPED2 "S: 250 ok\nS: 250 ok\nS: 421 4.7.0 slow down\n",
      "banner 220, ehlo 250, mail 250, rcpt0 250, rcpt1 421, fault 421 connection closed@rcpt" },
    { "421 to the content", 0,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 421 4.3.0 no\n",
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 421, quit" },
    { "the server leaves in the middle", HANG_UP, PIPE_EHLO PIPED "S: 250 ok\n",
      "banner 220, ehlo 250, mail 250, fault connection closed@rcpt" },
    { "the server leaves with a goodbye", HANG_UP | NO_QUIT | TWICE,
      PIPE_EHLO PIPED "S: 250 ok\nS: 421 4.4.2 timeout\n",
      "banner 220, ehlo 250, mail 250, rcpt0 421, fault 421 connection closed@rcpt" },
    { "the server leaves instead of answering QUIT", HANG_UP,
      BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 550 no\nC: QUIT\n",
      "banner 220, ehlo 250, mail 550, data 550, quit" },
    { "goodbye to an idle client", NO_QUIT,
      BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 550 no\nS: 421 idle\n",
      "banner 220, ehlo 250, mail 550, data 550, fault 421 connection closed@mail" },
    { "nonsense to an idle client", NO_QUIT,
      BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 550 no\nS: 250 ok\n",
      "banner 220, ehlo 250, mail 550, data 550, fault 250 invalid@mail" },
    /* the next transaction */
    { "a second message", TWICE,
      PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" PIPED
                      "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 250, mail 250, rcpt0 250, go, "
      "content 250, quit 221" },
    { "RSET goes first after a transaction that was given up", TWICE,
      PIPE_EHLO PIPED "S: 250 ok\nS: 550 no\nS: 503 no\nC: RSET\n" PIPED
                      "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, data 550, mail 250, rcpt0 250, go, content 250, "
      "quit 221" },
    { "the same without a pipeline", TWICE,
      BARE_EHLO
      "C: MAIL FROM:<a@y.test>\nS: 250 ok\nC: RCPT TO:<b@x.test>\nS: 550 no\nC: RSET\n"
      "S: 250 ok\nC: MAIL FROM:<a@y.test>\nS: 250 ok\nC: RCPT TO:<b@x.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, data 550, mail 250, rcpt0 550, data 550, "
      "quit 221" },
    { "RSET refused", TWICE,
      PIPE_EHLO PIPED "S: 250 ok\nS: 550 no\nS: 503 no\nC: RSET\n" PIPED "S: 500 what\n",
      "banner 220, ehlo 250, mail 250, rcpt0 550, data 550, fault 500 invalid@mail" },
    /* the next transaction in the same pipeline */
    { "one follows", FOLLOW,
      TO_FOLLOW "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      FOLLOWED "content 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "a refused content leaves its follower alone", FOLLOW,
      TO_FOLLOW "S: 554 5.7.1 no\nS: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      FOLLOWED "content 554, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "a refused follower leaves what was before alone", FOLLOW,
      TO_FOLLOW "S: 250 ok\nS: 451 no\nS: 503 no\nS: 503 no\n" QUIT,
      FOLLOWED "content 250, mail 451, data 451, quit 221" },
    { "a follower that nobody takes", FOLLOW,
      TO_FOLLOW "S: 250 ok\nS: 250 ok\nS: 550 no\nS: 354 go\nC: .\nS: 554 no\n" QUIT,
      FOLLOWED "content 250, mail 250, rcpt0 550, data 550, quit 221" },
    { "421 to the content takes the follower along", FOLLOW, TO_FOLLOW "S: 421 4.3.2 no\n",
      FOLLOWED "content 421, quit" },
    { "421 to the follower's MAIL", FOLLOW, TO_FOLLOW "S: 250 ok\nS: 421 4.4.5 enough\n",
      FOLLOWED "content 250, mail 421, fault 421 connection closed@mail" },
    { "the server leaves with both open", FOLLOW | HANG_UP, TO_FOLLOW,
      FOLLOWED "fault connection closed@content" },
    { "the server leaves between the two", FOLLOW | HANG_UP, TO_FOLLOW "S: 250 ok\n",
      FOLLOWED "content 250, fault connection closed@mail" },
    { "RSET stands between when content goes by BDAT", FOLLOW,
      BDAT_EHLO "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nS: 250 ok\nS: 250 ok\n" BDAT_BEHIND
                "S: 552 no\nS: 250 ok\nS: 250 ok\nS: 250 ok\n"
                "C: BDAT 9 LAST\nC: Hi\nC: .\nC: \nS: 250 ok\n" QUIT,
      FOLLOWED "content 552, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "nothing follows without PIPELINING", FOLLOW,
      BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 250 ok\nC: RCPT TO:<b@x.test>\nS: 250 ok\n"
                "C: DATA\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      FOLLOWED "content 250, quit 221" },
    /* BDAT */
    { "content by BDAT", 0,
      BDAT_EHLO "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nS: 250 ok\nS: 250 ok\n"
                "C: BDAT 9 LAST\nC: Hi\nC: .\nC: \nS: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "BDAT leaves an open end open", OPEN_END,
      BDAT_EHLO "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nS: 250 ok\nS: 250 ok\n"
                "C: BDAT 8 LAST\nC: Hi\nC: .\nC+ x\nS: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    { "no BDAT when nobody was accepted", TWO_RCPT,
      BDAT_EHLO "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nC: RCPT TO:<c@x.test>\n"
                "S: 250 ok\nS: 550 no\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 550, rcpt1 550, data 550, quit 221" },
    { "MAIL refused before BDAT", 0,
      BDAT_EHLO "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nS: 550 no\nS: 503 no\n" QUIT,
      "banner 220, ehlo 250, mail 550, data 550, quit 221" },
    { "CHUNKING without PIPELINING is not worth it", 0,
      HI "S: 250-mx\nS: 250 CHUNKING\nC: MAIL FROM:<a@y.test>\nS: 250 ok\nC: RCPT TO:<b@x.test>\n"
         "S: 250 ok\nC: DATA\nS: 354 go\n" CONTENT "S: 250 ok\n" QUIT,
      "banner 220, ehlo 250, mail 250, rcpt0 250, go, content 250, quit 221" },
    /* TLS and AUTH */
    { "STARTTLS forgets the offer", TLS,
      HI "S: 250-mx\nS: 250-PIPELINING\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nC: EHLO me.test\n"
         "S: 250-mx\nS: 250 STARTTLS\nC: MAIL FROM:<a@y.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, starttls 220, ehlo 250, mail 550, data 550, quit 221" },
    { "STARTTLS refused", TLS,
      HI
      "S: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 454 no\nC: MAIL FROM:<a@y.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, starttls 454, mail 550, data 550, quit 221" },
    { "AUTH with an initial response", AUTH,
      HI "S: 250-mx\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGEAYg==\nS: 235 ok\n"
         "C: MAIL FROM:<a@y.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, auth 235, mail 550, data 550, quit 221" },
    { "AUTH with an empty one", AUTH | EMPTY_INITIAL,
      HI "S: 250 mx\nC: AUTH PLAIN =\nS: 535 5.7.8 no\nC: MAIL FROM:<a@y.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, auth 535, mail 550, data 550, quit 221" },
    { "AUTH with challenges", LOGIN,
      HI "S: 250 mx\nC: AUTH LOGIN\nS: 334 VXNlcjo=\nC: bW9yZQ==\nS: 334 UGFzczo=\nC: bW9yZQ==\n"
         "S: 235 ok\nC: MAIL FROM:<a@y.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, challenge 334=VXNlcjo=, challenge 334=UGFzczo=, auth 235, mail 550, "
      "data 550, quit 221" },
    { "AUTH with an empty challenge", LOGIN | CANCEL,
      HI
      "S: 250 mx\nC: AUTH LOGIN\nS: 334 \nC: *\nS: 501 ok\nC: MAIL FROM:<a@y.test>\nS: 550 no\n" QUIT,
      "banner 220, ehlo 250, challenge 334=, auth 501, mail 550, data 550, quit 221" },
    { "a challenge without its blank", LOGIN | CANCEL | NO_QUIT,
      HI "S: 250 mx\nC: AUTH LOGIN\nS: 334\nC: *\n", "banner 220, ehlo 250, challenge 334=" },
    /* replies that are not */
    { "codes that do not agree", 0, HI "S: 250-mx\nS: 251 PIPELINING\n",
      "banner 220, fault invalid@ehlo" },
    { "a code out of range", 0, HI "S: 199 mx\n", "banner 220, fault invalid@ehlo" },
    { "no text", NO_QUIT, "S: 220\nC: EHLO me.test\n", "banner 220" },
    { "a stray CR is passed over", NO_QUIT, "S: 220 hi\r\nC: EHLO me.test\n", "banner 220" },
    { "a stray LF does not end a reply", NO_QUIT, "S+ 220 x\n220 y\nS: \nC: EHLO me.test\n",
      "banner 220" },
};

static struct str next_step(const char **script)
{
    const char *lf = strchr(*script, '\n');
    /* "S+ " and "C+ " lines are raw up to CR LF or the LF before the next step */
    if ((*script)[1] == '+') {
        while (lf[1] && !((lf[1] == 'S' || lf[1] == 'C') && (lf[2] == ':' || lf[2] == '+')))
            lf = strchr(lf + 1, '\n');
    }
    struct str line = str_make(*script, (size_t)(lf - *script));
    *script = lf + 1;
    return line;
}

static void feed(struct bench *bench, struct str text, bool bytewise)
{
    size_t step = bytewise ? 1 : text.len;

    for (size_t at = 0; at < text.len && !bench->over; at += step) {
        smtp_client_feed(bench->client, str_head(str_from(text, at), step), 0);
        if (bytewise)
            pump(bench);
    }
}

/* The next thing said must be this line. */
static void expect_said(struct bench *bench, const char *name, struct str line, bool is_raw)
{
    struct buf want;

    pump(bench);
    buf_init(&want, 1000);
    buf_str(&want, line);
    if (!is_raw)
        buf_cstr(&want, "\r\n");
    if (!str_starts(buf_view(&bench->said), buf_view(&want)))
        fail_msg("%s: expected \"" STR_FMT "\", said \"" STR_FMT "\"\nevents: " STR_FMT, name,
                 STR_ARG(line), STR_ARG(buf_view(&bench->said)), STR_ARG(buf_view(&bench->events)));
    buf_consume(&bench->said, want.len);
    buf_clear(&want);
}

static void play(struct bench *bench, const char *name, const char *script, bool bytewise)
{
    while (*script) {
        struct str line = next_step(&script);
        struct str text = str_from(line, 3);
        if (line.at[0] == 'C') {
            expect_said(bench, name, text, line.at[1] == '+');
            continue;
        }
        struct buf wire;
        buf_init(&wire, 1000);
        buf_str(&wire, text);
        if (line.at[1] == ':')
            buf_cstr(&wire, "\r\n");
        feed(bench, buf_view(&wire), bytewise);
        buf_clear(&wire);
    }
    pump(bench);
}

static struct smtp_client_options test_options(void)
{
    return (struct smtp_client_options){
        .helo = STR("me.test"),
        .timeouts = { 300000, 200000, 120000, 600000 },
    };
}

static void bench_init(struct bench *bench, unsigned flags)
{
    struct smtp_client_options options = test_options();

    memset(bench, 0, sizeof(*bench));
    bench->client = smtp_client_new(&options, 0);
    bench->flags = flags;
    buf_init(&bench->events, 4096);
    buf_init(&bench->said, SIZE_MAX / 4);
}

static void bench_clear(struct bench *bench)
{
    smtp_client_free(&bench->client);
    buf_clear(&bench->events);
    buf_clear(&bench->said);
}

static void run_row(size_t i, bool bytewise)
{
    struct bench bench;

    bench_init(&bench, rows[i].flags);
    play(&bench, rows[i].name, rows[i].script, bytewise);
    if (rows[i].flags & HANG_UP) {
        smtp_client_closed(bench.client);
        pump(&bench);
    }
    buf_char(&bench.events, '\0');
    if (strcmp(bench.events.at, rows[i].want) != 0)
        fail_msg("%s%s:\n got %s\nwant %s", rows[i].name, bytewise ? " (bytewise)" : "",
                 bench.events.at, rows[i].want);
    if (bench.said.len > 0)
        fail_msg("%s: also said " STR_FMT, rows[i].name, STR_ARG(buf_view(&bench.said)));
    if (bench.over)
        assert_true(smtp_client_deadline(bench.client) == UINT64_MAX);
    bench_clear(&bench);
}

static void every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        run_row(i, false);
        /* what comes unasked can be told only when it comes early */
        if (!strstr(rows[i].name, "behind the greeting"))
            run_row(i, true);
    }
}

static void plaintext_behind_starttls_is_a_fault(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, TLS);
    play(&bench, "",
         HI "S: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nS: 250-mx\nS: 250 AUTH PLAIN\n",
         false);
    assert_true(str_iends(buf_view(&bench.events), STR("starttls 220, fault invalid@tls")));
    bench_clear(&bench);
}

static void an_unsafe_address_is_not_said(void **state)
{
    struct bench bench;
    struct smtp_client_event event;

    (void)state;
    bench_init(&bench, NO_QUIT | TWICE);
    bench.begun = 2;
    play(&bench, "", PIPE_EHLO, false);
    bench.recipients[0].address = STR("a@b.test>\r\nRCPT TO:<evil@x.test");
    bench.list[0] = &bench.recipients[0];
    bench.mail = (struct smtp_client_transaction){
        .sender = STR_EMPTY, .envid = STR_EMPTY, .recipients = bench.list, .recipient_count = 1
    };
    smtp_client_begin(bench.client, &bench.mail);
    assert_int_equal(smtp_client_output(bench.client).len, 0);
    assert_true(smtp_client_next(bench.client, 0, &event));
    assert_int_equal(event.kind, SMTP_CLIENT_FAULT);
    assert_int_equal(event.err, ERR_INVALID);
    bench_clear(&bench);
}

static void replies_have_limits(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, 0);
    for (int i = 0; i < 101 && !bench.over; i++)
        feed(&bench, STR("220-hi\r\n"), false);
    pump(&bench);
    assert_true(str_eq(buf_view(&bench.events), STR("fault over a limit@banner")));
    bench_clear(&bench);

    bench_init(&bench, 0);
    for (int i = 0; i < 20000 && !bench.over; i++) {
        feed(&bench, STR("220 blah blah"), false);
        pump(&bench);
    }
    assert_true(str_eq(buf_view(&bench.events), STR("fault over a limit@banner")));
    bench_clear(&bench);
}

/* ---- time ---- */

static void expect_timeout(struct bench *bench, uint64_t at, const char *want)
{
    assert_int_equal(smtp_client_deadline(bench->client), at);
    smtp_client_timeout(bench->client, at - 1);
    pump(bench);
    assert_false(bench->over);
    smtp_client_timeout(bench->client, at);
    pump(bench);
    if (!str_iends(buf_view(&bench->events), str_of(want)))
        fail_msg("got " STR_FMT " want %s", STR_ARG(buf_view(&bench->events)), want);
    bench_clear(bench);
}

static void each_stage_has_its_time(void **state)
{
    static const struct {
        unsigned flags;
        const char *script;
        uint64_t at;
        const char *want;
    } stages[] = {
        { 0, "S: 220-hi\n", 300000, "fault timed out@banner" },
        { 0, HI, 200000, "fault timed out@ehlo" },
        { 0, PIPE_EHLO PIPED, 200000, "fault timed out@mail" },
        { 0, PIPE_EHLO PIPED "S: 250 ok\n", 200000, "fault timed out@rcpt" },
        { 0, PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\n", 120000, "fault timed out@data" },
        { 0, PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\n" CONTENT, 600000,
          "fault timed out@content" },
        { 0, BARE_EHLO "C: MAIL FROM:<a@y.test>\nS: 550 no\nC: QUIT\n", 10000, ", quit" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        struct bench bench;
        bench_init(&bench, stages[i].flags);
        play(&bench, "", stages[i].script, false);
        /* dripping octets do not help */
        expect_timeout(&bench, stages[i].at, stages[i].want);
    }
}

static void dripping_does_not_help(void **state)
{
    struct bench bench;
    struct smtp_client_event event;

    (void)state;
    bench_init(&bench, 0);
    for (uint64_t t = 1000; t < 300000; t += 10000) {
        smtp_client_feed(bench.client, STR("220-hi\r\n"), t);
        assert_false(smtp_client_next(bench.client, t, &event));
    }
    expect_timeout(&bench, 300000, "fault timed out@banner");
}

static void nobody_waits_for_a_slow_driver(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, SLOW);
    play(&bench, "", PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\nC: Hi\nC+ ..\r\n", false);
    assert_true(smtp_client_deadline(bench.client) == UINT64_MAX);
    smtp_client_body(bench.client, STR("more"));
    smtp_client_timeout(bench.client, 5000000);
    assert_int_equal(smtp_client_deadline(bench.client), 5000000 + 120000);
    smtp_client_sent(bench.client, 2, 5100000);
    assert_int_equal(smtp_client_deadline(bench.client), 5100000 + 120000);
    smtp_client_sent(bench.client, 2, 5100000);
    assert_true(smtp_client_deadline(bench.client) == UINT64_MAX);
    smtp_client_body(bench.client, STR("more"));
    smtp_client_body_end(bench.client);
    smtp_client_sent(bench.client, 5, 5200000);
    assert_false(smtp_client_content_sent(bench.client));
    smtp_client_sent(bench.client, 100, 5200000);
    assert_true(smtp_client_content_sent(bench.client));
    assert_int_equal(smtp_client_deadline(bench.client), 5200000 + 600000);
    assert_int_equal(smtp_client_stage(bench.client), STAGE_CONTENT);
    bench_clear(&bench);
}

/* All of the content is written when its reply is read, and none of it is sent. */
static void content_is_not_accepted_before_it_was_sent(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, 0);
    play(&bench, "", PIPE_EHLO PIPED, false);
    feed(&bench, STR("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"), false);
    pump(&bench);
    assert_true(str_iends(buf_view(&bench.events), STR("go, fault 250 invalid@content")));
    bench_clear(&bench);
}

/* ---- much content ---- */

static void room_is_told_once_there_is_some(void **state)
{
    static char block[100000];
    struct bench bench;
    struct smtp_client_event event;

    (void)state;
    memset(block, 'x', sizeof(block));
    bench_init(&bench, SLOW);
    play(&bench, "", PIPE_EHLO PIPED "S: 250 ok\nS: 250 ok\nS: 354 go\nC: Hi\nC+ ..\r\n", false);
    for (int i = 0; i < 3; i++)
        smtp_client_body(bench.client, str_make(block, sizeof(block)));
    assert_true(smtp_client_output(bench.client).len > SMTP_CLIENT_HIGH);
    smtp_client_sent(bench.client, 200000, 0);
    assert_false(smtp_client_next(bench.client, 0, &event));
    smtp_client_sent(bench.client, 90000, 0);
    assert_true(smtp_client_next(bench.client, 0, &event));
    assert_int_equal(event.kind, SMTP_CLIENT_ROOM);
    assert_false(smtp_client_next(bench.client, 0, &event));
    bench_clear(&bench);
}

#define TO_BDAT BDAT_EHLO "C: MAIL FROM:<a@y.test>\nC: RCPT TO:<b@x.test>\nS: 250 ok\nS: 250 ok\n"

static void much_content_goes_in_chunks(void **state)
{
    static char block[300000];
    struct bench bench;
    struct smtp_client_event event;

    (void)state;
    memset(block, 'x', sizeof(block));
    bench_init(&bench, SLOW);
    play(&bench, "", TO_BDAT, false);
    for (int i = 0; i < 2; i++)
        smtp_client_body(bench.client, str_make(block, sizeof(block)));
    struct str out = smtp_client_output(bench.client);
    assert_true(str_starts(out, STR("BDAT 98304\r\nHi\r\n.\rx")));
    smtp_client_sent(bench.client, out.len, 0);
    assert_int_equal(out.len, 6 * (98304 + 12));
    feed(&bench, STR("250 ok\r\n"), false);
    assert_true(smtp_client_next(bench.client, 0, &event)); /* ROOM; the chunk's 250 is not told */
    assert_int_equal(event.kind, SMTP_CLIENT_ROOM);
    assert_false(smtp_client_next(bench.client, 0, &event));
    smtp_client_body_end(bench.client);
    out = smtp_client_output(bench.client);
    assert_true(str_starts(out, STR("BDAT 10182 LAST\r\n")));
    smtp_client_sent(bench.client, out.len, 0);
    feed(&bench, STR("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"), false);
    assert_true(smtp_client_next(bench.client, 0, &event));
    assert_int_equal(event.kind, SMTP_CLIENT_CONTENT);
    assert_true(smtp_client_is_usable(bench.client));
    bench_clear(&bench);
}

static void a_refused_chunk_ends_the_transaction(void **state)
{
    static char block[600000];
    struct bench bench;

    (void)state;
    memset(block, 'x', sizeof(block));
    bench_init(&bench, SLOW | TWICE);
    play(&bench, "", TO_BDAT, false);
    smtp_client_body(bench.client, str_make(block, sizeof(block)));
    smtp_client_body_end(bench.client);
    feed(&bench, STR("552 5.3.4 too big\r\n"), false);
    for (int i = 0; i < 6; i++)
        feed(&bench, STR("503 no\r\n"), false);
    pump(&bench);
    assert_true(str_iends(buf_view(&bench.events), STR("go, content-unsent 552")));
    assert_true(str_iends(buf_view(&bench.said),
                          STR("xRSET\r\nMAIL FROM:<a@y.test>\r\nRCPT TO:<b@x.test>\r\n")));
    feed(&bench, STR("250 ok\r\n250 ok\r\n550 no\r\n"), false);
    pump(&bench);
    assert_true(str_iends(buf_view(&bench.events), STR("mail 250, rcpt0 550, data 550")));
    bench_clear(&bench);
}

static void a_long_offer_is_read_whole(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench, NO_QUIT | TWICE);
    bench.begun = 2;
    play(&bench, "", HI "S: 250-mx\n", false);
    for (int i = 0; i < 60; i++)
        feed(&bench, STR("250-XSOMETHING with many words behind it and a great many more\r\n"),
             false);
    feed(&bench, STR("250-CHUNKING\r\n250 AUTH LOGIN\r\n"), false);
    pump(&bench);
    assert_int_equal(smtp_client_offer(bench.client)->exts, EXT_CHUNKING | EXT_AUTH);
    bench_clear(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(plaintext_behind_starttls_is_a_fault),
        cmocka_unit_test(an_unsafe_address_is_not_said),
        cmocka_unit_test(replies_have_limits),
        cmocka_unit_test(each_stage_has_its_time),
        cmocka_unit_test(dripping_does_not_help),
        cmocka_unit_test(nobody_waits_for_a_slow_driver),
        cmocka_unit_test(content_is_not_accepted_before_it_was_sent),
        cmocka_unit_test(room_is_told_once_there_is_some),
        cmocka_unit_test(much_content_goes_in_chunks),
        cmocka_unit_test(a_refused_chunk_ends_the_transaction),
        cmocka_unit_test(a_long_offer_is_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
