/*
 * smtp_server_test.c - every command in every state, every limit, every deadline.
 *
 * Each dialogue of the tables is run whole, octet by octet, and cut in two at
 * each place: replies and events must be the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/smtp_play.h"

#include <stdio.h>
#include <stdlib.h>

#define EHLO "EHLO c.test\r\n"
#define MAIL "MAIL FROM:<a@b.test>\r\n"
#define RCPT "RCPT TO:<c@d.test>\r\n"
#define OK_EHLO "250, "
#define OK_MAIL OK_EHLO "250 2.1.0, "
#define OK_RCPT OK_MAIL "250 2.1.5, "

enum {
    TLS = 1,
    NEEDS_TLS = 2,
    REQUIRED = 4,
    NO_AUTH = 8,
    REFUSES_DATA = 16,
    PLAIN_EXTS = 32,
    BARE = 64,
    WITH_SIZE = 128
};

#define ROW(name, flags, in, want)                                                                 \
    {                                                                                              \
        name, flags, STR(in), want                                                                 \
    }

/* `want`: code and enhanced code of each reply behind the greeting; "C" and
 * "Q": closed by us, by QUIT */
static const struct {
    const char *name;
    unsigned flags;
    struct str in;
    const char *want;
} rows[] = {
    /* hello */
    ROW("EHLO", 0, EHLO, "250"),
    ROW("HELO", 0, "HELO c.test\r\n", "250"),
    ROW("EHLO without a name", 0, "EHLO\r\n", "501 5.5.4"),
    ROW("EHLO with an address literal", 0, "EHLO [192.0.2.1]\r\n", "250"),
    ROW("EHLO with a control character", 0, "EHLO a\x01\r\n", "501 5.5.4"),
    ROW("EHLO with 8-bit octets", 0, "EHLO a\xC3\xA4\r\n", "501 5.5.4"),
    ROW("EHLO twice ends a transaction", 0, EHLO MAIL EHLO RCPT, OK_MAIL "250, 503 5.5.1"),
    ROW("verbs in lower case", 0, "ehlo c.test\r\nmail from:<>\r\nrcpt to:<x@y.test>\r\nquit\r\n",
        OK_RCPT "221 2.0.0, Q"),
    ROW("trailing blanks", 0, "EHLO c.test  \r\nNOOP \t\r\nMAIL FROM:<a@b.test>  \r\n",
        OK_EHLO "250 2.0.0, 250 2.1.0"),
    /* the unknown */
    ROW("an unknown verb", 0, "XYZZY\r\n", "500 5.5.1"),
    ROW("an empty line", 0, "\r\n", "500 5.5.1"),
    ROW("a verb with more letters", 0, "EHLOX c.test\r\n", "500 5.5.1"),
    ROW("NOOP with an argument", 0, "NOOP hello\r\n", "250 2.0.0"),
    ROW("HELP", 0, "HELP\r\n", "214 2.0.0"),
    ROW("VRFY says nothing", 0, "VRFY root\r\nVRFY\r\n", "252 2.5.2, 501 5.5.4"),
    ROW("EXPN is not done", 0, "EXPN all\r\n", "502 5.5.1"),
    ROW("RSET", 0, "RSET\r\nRSET x\r\n", "250 2.0.0, 501 5.5.4"),
    ROW("QUIT ends, whatever follows", 0, "QUIT\r\nNOOP\r\n", "221 2.0.0, Q"),
    /* bytes */
    ROW("bare LF in a command", 0, "NOOP\nQUIT\r\nNOOP\r\n", "500 5.5.2, 250 2.0.0"),
    ROW("bare CR in a command", 0, "NOOP\rQUIT\r\n", "500 5.5.2"),
    ROW("NUL in a command", 0, "NO\0OP\r\n", "500 5.5.2"),
    ROW("five errors are enough", 0, "A\r\nB\r\nC\r\nD\r\nE\r\nNOOP\r\n",
        "500 5.5.1, 500 5.5.1, 500 5.5.1, 500 5.5.1, 500 5.5.1, 421 4.7.0, C"),
    ROW("an HTTP GET", 0, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "554 5.5.1, C"),
    ROW("an HTTP POST after EHLO", 0, EHLO "POST / HTTP/1.1\r\nEHLO x\r\n", OK_EHLO "554 5.5.1, C"),
    ROW("HTTP verbs in lower case", 0, "connect x:25 HTTP/1.1\r\n", "554 5.5.1, C"),
    ROW("OPTIONS, PUT, HEAD", 0, "OPTIONS * HTTP/1.1\r\n", "554 5.5.1, C"),
    ROW("a TLS client on this port", 0, "\x16\x03\x01\x02\r\n", "554 5.5.1, C"),
    /* sequence */
    ROW("MAIL before EHLO", 0, MAIL, "503 5.5.1"),
    ROW("RCPT before MAIL", 0, EHLO RCPT, OK_EHLO "503 5.5.1"),
    ROW("DATA before MAIL", 0, EHLO "DATA\r\n", OK_EHLO "503 5.5.1"),
    ROW("DATA before RCPT", 0, EHLO MAIL "DATA\r\n", OK_MAIL "554 5.5.1"),
    ROW("DATA with an argument", 0, EHLO MAIL RCPT "DATA now\r\n", OK_RCPT "501 5.5.4"),
    ROW("a second MAIL", 0, EHLO MAIL MAIL, OK_MAIL "503 5.5.1"),
    ROW("MAIL after RSET", 0, EHLO MAIL "RSET\r\n" MAIL, OK_MAIL "250 2.0.0, 250 2.1.0"),
    ROW("MAIL after a refused MAIL", 0, EHLO "MAIL FROM:<bad@b.test>\r\n" MAIL,
        OK_EHLO "550 5.7.1, 250 2.1.0"),
    ROW("RCPT after a refused MAIL", 0, EHLO "MAIL FROM:<bad@b.test>\r\n" RCPT,
        OK_EHLO "550 5.7.1, 503 5.5.1"),
    /* MAIL */
    ROW("the null sender", 0, EHLO "MAIL FROM:<>\r\n", OK_EHLO "250 2.1.0"),
    ROW("a space behind the colon", 0, EHLO "MAIL FROM: <a@b.test>\r\nRCPT TO: <c@d.test>\r\n",
        OK_MAIL "250 2.1.5"),
    ROW("a space before the colon", 0, EHLO "MAIL FROM :<a@b.test>\r\n", OK_EHLO "250 2.1.0"),
    ROW("no colon", 0, EHLO "MAIL FROM <a@b.test>\r\n", OK_EHLO "501 5.5.4"),
    ROW("no brackets", 0, EHLO "MAIL FROM:a@b.test\r\n", OK_EHLO "501 5.1.7"),
    ROW("nothing", 0, EHLO "MAIL\r\nMAIL FROM:\r\nMAIL TO:<x@y.test>\r\n",
        OK_EHLO "501 5.5.4, 501 5.1.7, 501 5.5.4"),
    ROW("text behind the path", 0, EHLO "MAIL FROM:<a@b.test>x\r\n", OK_EHLO "501 5.1.7"),
    ROW("no domain", 0, EHLO "MAIL FROM:<root>\r\n", OK_EHLO "553 5.1.7"),
    ROW("no domain, locally", BARE, EHLO "MAIL FROM:<root>\r\nRCPT TO:<ops>\r\n",
        OK_MAIL "250 2.1.5"),
    ROW("SIZE within the limit", 0, EHLO "MAIL FROM:<> SIZE=1000\r\n", OK_EHLO "250 2.1.0"),
    ROW("SIZE over the limit", 0, EHLO "MAIL FROM:<> SIZE=1001\r\n", OK_EHLO "552 5.3.4"),
    ROW("SIZE that is no number", 0, EHLO "MAIL FROM:<> SIZE=1k\r\nMAIL FROM:<> SIZE\r\n",
        OK_EHLO "501 5.5.4, 501 5.5.4"),
    ROW("SIZE beyond 64 bits", 0, EHLO "MAIL FROM:<> SIZE=99999999999999999999\r\n",
        OK_EHLO "501 5.5.4"),
    ROW("BODY", 0, EHLO "MAIL FROM:<> body=8bitmime\r\nRSET\r\nMAIL FROM:<> BODY=7BIT\r\n",
        OK_MAIL "250 2.0.0, 250 2.1.0"),
    ROW("BODY=BINARYMIME is not offered", 0, EHLO "MAIL FROM:<> BODY=BINARYMIME\r\n",
        OK_EHLO "501 5.5.4"),
    ROW("a parameter twice", 0, EHLO "MAIL FROM:<> SIZE=1 SIZE=2\r\n", OK_EHLO "501 5.5.4"),
    ROW("an unknown parameter", 0, EHLO "MAIL FROM:<> FOO=1\r\nMAIL FROM:<> FOO\r\n",
        OK_EHLO "555 5.5.4, 555 5.5.4"),
    ROW("parameters of extensions not offered", PLAIN_EXTS,
        EHLO "MAIL FROM:<> RET=FULL\r\nMAIL FROM:<> SMTPUTF8\r\nMAIL FROM:<> SIZE=3\r\n",
        OK_EHLO "555 5.5.4, 555 5.5.4, 555 5.5.4"),
    ROW("AUTH= needs AUTH", NO_AUTH, EHLO "MAIL FROM:<> AUTH=<>\r\n", OK_EHLO "555 5.5.4"),
    ROW("AUTH=", 0, EHLO "MAIL FROM:<> AUTH=<>\r\nRSET\r\nMAIL FROM:<> AUTH=a+2Bb@c.test\r\n",
        OK_MAIL "250 2.0.0, 250 2.1.0"),
    ROW("AUTH= that is no xtext", 0, EHLO "MAIL FROM:<> AUTH=a+b\r\n", OK_EHLO "501 5.5.4"),
    ROW("RET", 0, EHLO "MAIL FROM:<> RET=HDRS\r\nRSET\r\nMAIL FROM:<> RET=some\r\n",
        OK_MAIL "250 2.0.0, 501 5.5.4"),
    ROW("ENVID", 0, EHLO "MAIL FROM:<> ENVID=QQ+20314159\r\nRSET\r\nMAIL FROM:<> ENVID=a+2\r\n",
        OK_MAIL "250 2.0.0, 501 5.5.4"),
    ROW("SMTPUTF8 takes no value", 0, EHLO "MAIL FROM:<> SMTPUTF8=1\r\n", OK_EHLO "501 5.5.4"),
    ROW("a UTF-8 sender needs SMTPUTF8", 0, EHLO "MAIL FROM:<\xC3\xA4@b.test>\r\n",
        OK_EHLO "553 5.6.7"),
    ROW("a UTF-8 sender with SMTPUTF8", 0, EHLO "MAIL FROM:<\xC3\xA4@b.test> SMTPUTF8\r\n",
        OK_EHLO "250 2.1.0"),
    /* RCPT */
    ROW("recipients are told apart", 0,
        EHLO MAIL "RCPT TO:<bad@d.test>\r\nRCPT TO:<later@d.test>\r\n" RCPT,
        OK_MAIL "550 5.1.1, 450 4.2.1, 250 2.1.5"),
    ROW("the null path is no recipient", 0, EHLO MAIL "RCPT TO:<>\r\n", OK_MAIL "501 5.1.3"),
    ROW("postmaster needs no domain", 0, EHLO MAIL "RCPT TO:<Postmaster>\r\nRCPT TO:<root>\r\n",
        OK_MAIL "250 2.1.5, 553 5.1.3"),
    ROW("a fourth recipient is too many", 0, EHLO MAIL RCPT RCPT RCPT RCPT "DATA\r\n.\r\n",
        OK_RCPT "250 2.1.5, 250 2.1.5, 452 4.5.3, 354, 250 2.0.0"),
    ROW("a UTF-8 recipient needs SMTPUTF8", 0, EHLO MAIL "RCPT TO:<\xC3\xA4@b.test>\r\n",
        OK_MAIL "553 5.6.7"),
    ROW("NOTIFY", 0,
        EHLO MAIL "RCPT TO:<c@d.test> NOTIFY=SUCCESS,failure,Delay\r\n"
                  "RCPT TO:<c@d.test> NOTIFY=NEVER\r\n",
        OK_RCPT "250 2.1.5"),
    ROW("NOTIFY=NEVER stands alone", 0,
        EHLO MAIL "RCPT TO:<c@d.test> NOTIFY=NEVER,DELAY\r\nRCPT TO:<c@d.test> NOTIFY=DELAY,\r\n"
                  "RCPT TO:<c@d.test> NOTIFY=\r\nRCPT TO:<c@d.test> NOTIFY=LATER\r\n",
        OK_MAIL "501 5.5.4, 501 5.5.4, 501 5.5.4, 501 5.5.4"),
    ROW("ORCPT", 0, EHLO MAIL "RCPT TO:<c@d.test> ORCPT=rfc822;Bob+40x@y.test\r\n",
        OK_MAIL "250 2.1.5"),
    ROW("ORCPT that has no type", 0,
        EHLO MAIL "RCPT TO:<c@d.test> ORCPT=bob\r\nRCPT TO:<c@d.test> ORCPT=;bob\r\n"
                  "RCPT TO:<c@d.test> ORCPT=rfc822;\r\nRCPT TO:<c@d.test> ORCPT=rfc822;a+xx\r\n",
        OK_MAIL "501 5.5.4, 501 5.5.4, 501 5.5.4, 501 5.5.4"),
    ROW("ORCPT in UTF-8", 0,
        EHLO MAIL "RCPT TO:<c@d.test> ORCPT=utf-8;\xC3\xA4@y.test\r\n"
                  "RCPT TO:<c@d.test> ORCPT=rfc822;\xC3\xA4@y.test\r\n",
        OK_RCPT "501 5.5.4"),
    ROW("parameters of MAIL are not RCPT's", 0, EHLO MAIL "RCPT TO:<c@d.test> SIZE=1\r\n",
        OK_MAIL "555 5.5.4"),
    /* DATA */
    ROW("a message", 0, EHLO MAIL RCPT "DATA\r\nHi\r\n..\r\n.\r\nQUIT\r\n",
        OK_RCPT "354, 250 2.0.0, 221 2.0.0, Q"),
    ROW("two messages in one pipeline", 0,
        EHLO MAIL RCPT "DATA\r\nA\r\n.\r\n" MAIL RCPT "DATA\r\nB\r\n.\r\n",
        OK_RCPT "354, 250 2.0.0, 250 2.1.0, 250 2.1.5, 354, 250 2.0.0"),
    ROW("DATA refused by the driver", REFUSES_DATA, EHLO MAIL RCPT "DATA\r\n" RCPT,
        OK_RCPT "451 4.3.0, 250 2.1.5"),
    ROW("a bare LF in the content", 0,
        EHLO MAIL RCPT "DATA\r\na\n.\r\nMAIL FROM:<x@y.test>\r\n.\r\nNOOP\r\n",
        OK_RCPT "354, 550 5.6.0, 250 2.0.0"),
    ROW("a bare CR in the content", 0, EHLO MAIL RCPT "DATA\r\na\rb\r\n.\r\nNOOP\r\n",
        OK_RCPT "354, 550 5.6.0, 250 2.0.0"),
    ROW("a NUL in the content", 0, EHLO MAIL RCPT "DATA\r\na\0b\r\n.\r\nNOOP\r\n",
        OK_RCPT "354, 550 5.6.0, 250 2.0.0"),
    /* BDAT */
    ROW("one chunk", 0, EHLO MAIL RCPT "BDAT 4 LAST\r\nHi\r\nNOOP\r\n",
        OK_RCPT "250 2.0.0, 250 2.0.0"),
    ROW("three chunks", 0, EHLO MAIL RCPT "BDAT 2\r\nHiBDAT 2\r\n\r\nBDAT 0 LAST\r\nNOOP\r\n",
        OK_RCPT "250 2.0.0, 250 2.0.0, 250 2.0.0, 250 2.0.0"),
    ROW("dots mean nothing in a chunk", 0, EHLO MAIL RCPT "bdat 9 last\r\na\r\n.\r\n.\r\nNOOP\r\n",
        OK_RCPT "250 2.0.0, 250 2.0.0"),
    ROW("a chunk before MAIL is swallowed", 0, EHLO "BDAT 6\r\nQUIT\r\nNOOP\r\n",
        OK_EHLO "503 5.5.1, 250 2.0.0"),
    ROW("a chunk after refused recipients is swallowed", 0,
        EHLO MAIL "RCPT TO:<bad@d.test>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        OK_MAIL "550 5.1.1, 554 5.5.1, 250 2.0.0"),
    ROW("DATA after BDAT", 0, EHLO MAIL RCPT "BDAT 1\r\nADATA\r\n" RCPT MAIL "BDAT 2 LAST\r\n\r\n",
        OK_RCPT "250 2.0.0, 503 5.5.1, 503 5.5.1, 503 5.5.1, 250 2.0.0"),
    ROW("RSET between chunks", 0, EHLO MAIL RCPT "BDAT 1\r\nARSET\r\nBDAT 2 LAST\r\n\r\n" MAIL,
        OK_RCPT "250 2.0.0, 250 2.0.0, 503 5.5.1, 250 2.1.0"),
    ROW("a chunk refused by the driver", REFUSES_DATA,
        EHLO MAIL RCPT "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n" MAIL,
        OK_RCPT "451 4.3.0, 503 5.5.1, 250 2.1.0"),
    ROW("a chunk of unknown size", 0, EHLO MAIL RCPT "BDAT x\r\nNOOP\r\n", OK_RCPT "501 5.5.4, C"),
    ROW("a chunk beyond 64 bits", 0, EHLO MAIL RCPT "BDAT 99999999999999999999\r\n",
        OK_RCPT "501 5.5.4, C"),
    ROW("a chunk with a strange word", 0, EHLO MAIL RCPT "BDAT 3 LOST\r\nabc",
        OK_RCPT "501 5.5.4, C"),
    ROW("a bare CR at the end of BDAT", 0, EHLO MAIL RCPT "BDAT 2\r\na\rBDAT 0 LAST\r\n",
        OK_RCPT "250 2.0.0, 550 5.6.0"),
    ROW("CRLF across chunks is whole", 0, EHLO MAIL RCPT "BDAT 2\r\na\rBDAT 1 LAST\r\n\n",
        OK_RCPT "250 2.0.0, 250 2.0.0"),
    ROW("a bare LF in a chunk", 0, EHLO MAIL RCPT "BDAT 3 LAST\r\na\nbNOOP\r\n",
        OK_RCPT "550 5.6.0, 250 2.0.0"),
    ROW("a NUL in a chunk", 0, EHLO MAIL RCPT "BDAT 3 LAST\r\na\0bNOOP\r\n",
        OK_RCPT "550 5.6.0, 250 2.0.0"),
    ROW("BDAT that is not offered", PLAIN_EXTS, EHLO MAIL RCPT "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        OK_RCPT "502 5.5.1, 250 2.0.0"),
    /* AUTH */
    ROW("PLAIN at once", 0, EHLO "AUTH PLAIN AGEAYg==\r\n", OK_EHLO "235 2.7.0"),
    ROW("PLAIN after a challenge", 0, EHLO "AUTH plain\r\nAGEAYg==\r\n", OK_EHLO "334, 235 2.7.0"),
    ROW("an empty initial response", 0, EHLO "AUTH PLAIN =\r\n", OK_EHLO "535 5.7.8"),
    ROW("an empty response", 0, EHLO "AUTH PLAIN\r\n\r\n", OK_EHLO "334, 535 5.7.8"),
    ROW("LOGIN", 0, EHLO "AUTH LOGIN\r\nbW9yZQ==\r\nAGEAYg==\r\n", OK_EHLO "334, 334, 235 2.7.0"),
    ROW("LOGIN with the name at once", 0, EHLO "AUTH LOGIN bW9yZQ==\r\nAGEAYg==\r\n",
        OK_EHLO "334, 235 2.7.0"),
    ROW("cancelled", 0, EHLO "AUTH PLAIN\r\n*\r\nNOOP\r\n", OK_EHLO "334, 501 5.7.0, 250 2.0.0"),
    ROW("an initial response that is not base64", 0, EHLO "AUTH PLAIN ab*d\r\nAUTH PLAIN abc\r\n",
        OK_EHLO "501 5.5.2, 501 5.5.2"),
    ROW("a response that is not base64", 0, EHLO "AUTH PLAIN\r\nQUIT!\r\nNOOP\r\n",
        OK_EHLO "334, 501 5.5.2, 250 2.0.0"),
    ROW("a bare LF in a response", 0, EHLO "AUTH PLAIN\r\nAGEA\nYg==\r\nNOOP\r\n",
        OK_EHLO "334, 500 5.5.2, 250 2.0.0"),
    ROW("an unknown mechanism", 0, EHLO "AUTH NTLM\r\nAUTH CRAM-MD5\r\n",
        OK_EHLO "504 5.5.4, 504 5.5.4"),
    ROW("AUTH without a mechanism", 0, EHLO "AUTH\r\nAUTH PLAIN a b\r\n",
        OK_EHLO "501 5.5.4, 501 5.5.4"),
    ROW("AUTH before EHLO", 0, "AUTH PLAIN AGEAYg==\r\n", "503 5.5.1"),
    ROW("AUTH twice", 0, EHLO "AUTH PLAIN AGEAYg==\r\nAUTH PLAIN AGEAYg==\r\n",
        OK_EHLO "235 2.7.0, 503 5.5.1"),
    ROW("AUTH again after a wrong password", 0, EHLO "AUTH PLAIN AAAA\r\nAUTH PLAIN AGEAYg==\r\n",
        OK_EHLO "535 5.7.8, 235 2.7.0"),
    ROW("AUTH in a transaction", 0, EHLO MAIL "AUTH PLAIN AGEAYg==\r\n", OK_MAIL "503 5.5.1"),
    ROW("AUTH that is not offered", NO_AUTH, EHLO "AUTH PLAIN AGEAYg==\r\n", OK_EHLO "502 5.5.1"),
    ROW("AUTH in clear", NEEDS_TLS, EHLO "AUTH PLAIN AGEAYg==\r\n", OK_EHLO "538 5.7.11"),
    ROW("AUTH under TLS", NEEDS_TLS | TLS, EHLO "AUTH PLAIN AGEAYg==\r\n", OK_EHLO "235 2.7.0"),
    ROW("MAIL without AUTH", REQUIRED, EHLO MAIL, OK_EHLO "530 5.7.0"),
    ROW("MAIL with AUTH", REQUIRED, EHLO "AUTH PLAIN AGEAYg==\r\n" MAIL,
        OK_EHLO "235 2.7.0, 250 2.1.0"),
    ROW("wrong passwords count as errors", 0,
        EHLO "AUTH PLAIN AAAA\r\nAUTH PLAIN AAAA\r\nAUTH PLAIN AAAA\r\nAUTH PLAIN AAAA\r\n"
             "AUTH PLAIN AAAA\r\n" MAIL,
        OK_EHLO "535 5.7.8, 535 5.7.8, 535 5.7.8, 535 5.7.8, 535 5.7.8, 421 4.7.0, C"),
    /* STARTTLS */
    ROW("STARTTLS before EHLO", 0, "STARTTLS\r\n", "503 5.5.1"),
    ROW("STARTTLS with an argument", 0, EHLO "STARTTLS x\r\n", OK_EHLO "501 5.5.4"),
    ROW("STARTTLS under TLS", TLS, EHLO "STARTTLS\r\n", OK_EHLO "503 5.5.1"),
    ROW("STARTTLS refused by the driver", 0, EHLO "STARTTLS\r\n" MAIL,
        OK_EHLO "454 4.7.0, 250 2.1.0"),
};

static struct smtp_server_options row_options(unsigned flags)
{
    struct smtp_server_options options = play_options();

    options.tls_active = flags & TLS;
    options.auth_needs_tls = flags & NEEDS_TLS;
    options.auth_required = flags & REQUIRED;
    options.bare_addresses = flags & BARE;
    if (flags & NO_AUTH)
        options.mechanisms = 0;
    if (flags & PLAIN_EXTS)
        options.exts = EXT_PIPELINING;
    if (flags & WITH_SIZE)
        options.exts |= EXT_SIZE;
    return options;
}

/* The last line of each reply, code and enhanced code, "C" and "Q". */
static void sum_up(struct str transcript, struct buf *out)
{
    struct str line, status;
    bool is_first = true;

    while (str_next(&transcript, '\n', &line)) {
        line = str_trim(line);
        bool is_reply = line.len >= 3 && line.at[0] >= '2' && line.at[0] <= '5' &&
                        (line.len == 3 || line.at[3] == ' ');
        bool is_end = str_starts(line, STR("[QUIT")) || str_starts(line, STR("[CLOSE"));
        if (is_first && is_reply) { /* the greeting */
            is_first = false;
            continue;
        }
        if (!is_reply && !is_end)
            continue;
        if (out->len)
            buf_cstr(out, ", ");
        if (is_end) {
            buf_char(out, line.at[1]);
            continue;
        }
        buf_str(out, str_head(line, 3));
        status = str_from(line, 4);
        status = str_head(status, str_chr(status, ' '));
        if (status_parse(status, &(struct status){ 0 }, NULL)) {
            buf_char(out, ' ');
            buf_str(out, status);
        }
    }
    buf_char(out, '\0');
}

static char *run_split(unsigned flags, struct str in, size_t cut, size_t step)
{
    struct smtp_server_options options = row_options(flags);
    struct play play;
    size_t len;

    play_init(&play, &options);
    play.refuses_data = flags & REFUSES_DATA;
    play_pump(&play);
    play_feed(&play, str_head(in, cut));
    for (size_t at = cut; at < in.len; at += step)
        play_feed(&play, str_head(str_from(in, at), step));
    play_end_content(&play);
    char *transcript = buf_take(&play.transcript, &len);
    for (size_t i = 0; i < len; i++)
        transcript[i] = transcript[i] ? transcript[i] : '0';
    play_clear(&play);
    return transcript;
}

static void every_row_at_every_cut(void **state)
{
    struct buf codes;

    (void)state;
    buf_init(&codes, 65536);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *whole = run_split(rows[i].flags, rows[i].in, rows[i].in.len, 1);
        buf_reset(&codes);
        sum_up(str_of(whole), &codes);
        if (strcmp(codes.at, rows[i].want) != 0)
            fail_msg("%s:\n got %s\nwant %s\n%s", rows[i].name, codes.at, rows[i].want, whole);
        for (size_t cut = 0; cut < rows[i].in.len; cut++) {
            char *parts = run_split(rows[i].flags, rows[i].in, cut, cut == 0 ? 1 : SIZE_MAX / 2);
            if (strcmp(whole, parts) != 0)
                fail_msg("%s, cut at %zu:\n%s\nwhole:\n%s", rows[i].name, cut, parts, whole);
            free(parts);
        }
        free(whole);
    }
    buf_clear(&codes);
}

static void expect_transcript(unsigned flags, struct str in, const char *want)
{
    char *got = run_split(flags, in, in.len, 1);

    assert_string_equal(got, want);
    free(got);
}

static void events_carry_what_was_said(void **state)
{
    (void)state;
    expect_transcript(
        TLS,
        STR("EHLO c.test\r\nMAIL FROM:<@x.test:a@b.test> SIZE=7 BODY=8BITMIME SMTPUTF8 RET=FULL "
            "ENVID=e+201 AUTH=q\r\nRCPT TO:<\"a b\"@[192.0.2.1]> NOTIFY=SUCCESS,DELAY "
            "ORCPT=rfc822;z\r\nDATA\r\n.\xC3\xA4\r\n.\r\n"),
        "220 mx.test ESMTP waypost\r\n"
        "[EHLO c.test]\n"
        "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-AUTH PLAIN LOGIN\r\n"
        "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n"
        "[MAIL a@b.test 7 8bit utf8 1 e+201 q]\n"
        "250 2.1.0 driver\r\n"
        "[RCPT \"a b\"@[192.0.2.1] 10 rfc822;z]\n"
        "250 2.1.5 driver\r\n"
        "[DATA]\n"
        "354 driver\r\n"
        "[CONTENT \xC3\xA4\r\n]\n"
        "[END 8bit]\n"
        "250 2.0.0 driver\r\n");
    expect_transcript(PLAIN_EXTS | NO_AUTH | TLS | WITH_SIZE,
                      STR("HELO c.test\r\nMAIL FROM:<> SIZE=7 FOO\r\nMAIL FROM:<>\r\n"),
                      "220 mx.test ESMTP waypost\r\n"
                      "[HELO c.test]\n250 mx.test\r\n"
                      "555 5.5.4 parameter not known: FOO\r\n"
                      "[MAIL @ 0 0  ]\n250 2.1.0 driver\r\n");
    expect_transcript(0, STR("HELO c.test\r\nMAIL FROM:<>\r\nEHLO d.test\r\n"),
                      "220 mx.test ESMTP waypost\r\n"
                      "[HELO c.test]\n250 mx.test\r\n"
                      "[MAIL @ 0 0  ]\n250 2.1.0 driver\r\n"
                      "[EHLO d.test]\n"
                      "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-STARTTLS\r\n"
                      "250-AUTH PLAIN LOGIN\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n"
                      "250-DSN\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n"
                      "[RESET]\n");
    expect_transcript(NEEDS_TLS | PLAIN_EXTS, STR("EHLO c.test\r\n"),
                      "220 mx.test ESMTP waypost\r\n"
                      "[EHLO c.test]\n250-mx.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n");
    expect_transcript(PLAIN_EXTS | NO_AUTH | TLS,
                      STR("HELO c.test\r\nAUTH PLAIN\r\nVRFY x\r\nGET / HTTP/1.0\r\n"),
                      "220 mx.test ESMTP waypost\r\n"
                      "[HELO c.test]\n250 mx.test\r\n"
                      "502 5.5.1 AUTH is not offered\r\n"
                      "252 2.5.2 cannot verify, but will take a message and try\r\n"
                      "554 5.5.1 mx.test closing connection: HTTP request\r\n"
                      "[CLOSE HTTP request]\n");
}

/* ---- sizes ---- */

/* A message of `len` octets of content in lines of 50, by DATA or in chunks of 300. */
static void say_message(struct buf *in, size_t len, bool by_bdat)
{
    char text[5000];

    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i + 50 <= len; i += 50)
        memcpy(text + i + 48, "\r\n", 2);
    memcpy(text + len - 2, "\r\n", 2);
    if (!by_bdat) {
        buf_cstr(in, "DATA\r\n");
        buf_append(in, text, len);
        buf_cstr(in, ".\r\n");
        return;
    }
    for (size_t at = 0; at < len; at += 300) {
        size_t n = len - at < 300 ? len - at : 300;
        buf_printf(in, "BDAT %zu%s\r\n", n, at + n == len ? " LAST" : "");
        buf_append(in, text + at, n);
    }
}

static const struct {
    const char *name;
    size_t len;
    bool by_bdat;
    const char *want;
} size_rows[] = {
    { "exactly the limit by DATA", 1000, false, OK_RCPT "354, 250 2.0.0, 250 2.0.0" },
    { "one over the limit by DATA", 1001, false, OK_RCPT "354, 552 5.3.4, 250 2.0.0" },
    { "far over the limit by DATA", 4000, false, OK_RCPT "354, 552 5.3.4, 250 2.0.0" },
    { "exactly the limit by BDAT", 1000, true,
      OK_RCPT "250 2.0.0, 250 2.0.0, 250 2.0.0, 250 2.0.0, 250 2.0.0" },
    { "one over the limit by BDAT", 1001, true,
      OK_RCPT "250 2.0.0, 250 2.0.0, 250 2.0.0, 552 5.3.4, 250 2.0.0" },
    { "far over the limit by BDAT", 1600, true,
      OK_RCPT "250 2.0.0, 250 2.0.0, 250 2.0.0, 552 5.3.4, 503 5.5.1, 503 5.5.1, 250 2.0.0" },
};

static void content_has_a_size_limit(void **state)
{
    struct buf in, codes;

    (void)state;
    buf_init(&in, 65536);
    buf_init(&codes, 65536);
    for (size_t i = 0; i < sizeof(size_rows) / sizeof(size_rows[0]); i++) {
        buf_reset(&in);
        buf_cstr(&in, EHLO MAIL RCPT);
        say_message(&in, size_rows[i].len, size_rows[i].by_bdat);
        buf_cstr(&in, "NOOP\r\n");
        char *whole = run_split(0, buf_view(&in), in.len, 1);
        buf_reset(&codes);
        sum_up(str_of(whole), &codes);
        if (strcmp(codes.at, size_rows[i].want) != 0)
            fail_msg("%s: %s", size_rows[i].name, codes.at);
        for (size_t step = 1; step < 400; step += 37) {
            char *parts = run_split(0, buf_view(&in), 0, step);
            assert_string_equal(whole, parts);
            free(parts);
        }
        free(whole);
    }
    buf_clear(&in);
    buf_clear(&codes);
}

static void lines_have_a_length_limit(void **state)
{
    static const struct {
        const char *name, *begin, *end;
        size_t fill;
        const char *want;
    } limits[] = {
        { "a command of 2048 octets", EHLO "NOOP ", "\r\n", 2041, OK_EHLO "250 2.0.0" },
        { "a command of 2049 octets", EHLO "NOOP ", "\r\nNOOP\r\n", 2042,
          OK_EHLO "500 5.5.2, 250 2.0.0" },
        { "a command of 20000 octets", EHLO "NOOP ", "\r\nNOOP\r\n", 20000,
          OK_EHLO "500 5.5.2, 250 2.0.0" },
        { "AUTH may have 12288", EHLO "AUTH PLAIN ", "\r\n", 12272, OK_EHLO "535 5.7.8" },
        { "AUTH of more", EHLO "AUTH PLAIN ", "\r\nNOOP\r\n", 12276,
          OK_EHLO "500 5.5.6, 250 2.0.0" },
        { "a response may have 12288", EHLO "AUTH PLAIN\r\n", "\r\n", 12284,
          OK_EHLO "334, 535 5.7.8" },
        { "a response of more", EHLO "AUTH PLAIN\r\n", "\r\nNOOP\r\n", 12288,
          OK_EHLO "334, 500 5.5.6, 250 2.0.0" },
        { "an endless HTTP request", "GET /", " HTTP/1.0\r\n", 9000, "554 5.5.1, C" },
    };
    struct buf in, codes;

    (void)state;
    buf_init(&in, 65536);
    buf_init(&codes, 65536);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        buf_reset(&in);
        buf_cstr(&in, limits[i].begin);
        for (size_t n = 0; n < limits[i].fill; n++)
            buf_char(&in, 'A');
        buf_cstr(&in, limits[i].end);
        for (size_t step = 1; step < 30000; step = step * 7 + 3) {
            char *parts = run_split(0, buf_view(&in), 0, step);
            buf_reset(&codes);
            sum_up(str_of(parts), &codes);
            if (strcmp(codes.at, limits[i].want) != 0)
                fail_msg("%s, step %zu: %s", limits[i].name, step, codes.at);
            free(parts);
        }
    }
    buf_clear(&in);
    buf_clear(&codes);
}

/* ---- greeting, TLS, shutdown ---- */

static void an_early_talker_waits(void **state)
{
    struct smtp_server_options options = play_options();
    struct smtp_server *server = smtp_server_new(&options, 0);
    struct smtp_server_event event;

    (void)state;
    assert_int_equal(smtp_server_feed(server, STR(EHLO), 5), strlen(EHLO));
    assert_false(smtp_server_next(server, 5, &event));
    assert_int_equal(smtp_server_output(server).len, 0);
    assert_true(smtp_server_deadline(server) == UINT64_MAX);
    smtp_server_greet(server, NULL);
    assert_true(smtp_server_next(server, 6, &event));
    assert_int_equal(event.kind, SMTP_SERVER_EHLO);
    smtp_server_free(&server);
    assert_null(server);
}

static void a_refusing_greeting_closes(void **state)
{
    struct smtp_server_options options = play_options();
    struct smtp_server *server = smtp_server_new(&options, 0);
    struct smtp_server_event event;
    struct reply reply;

    (void)state;
    reply_set(&reply, 421, STATUS(4, 7, 0), "too many connections");
    smtp_server_greet(server, &reply);
    assert_true(str_eq(smtp_server_output(server), STR("421 4.7.0 too many connections\r\n")));
    assert_true(smtp_server_next(server, 0, &event));
    assert_int_equal(event.kind, SMTP_SERVER_CLOSE);
    assert_false(smtp_server_next(server, 0, &event));
    assert_int_equal(smtp_server_feed(server, STR("x"), 0), 0);
    smtp_server_free(&server);
}

static bool transcript_ends(const struct play *play, const char *want)
{
    return str_iends(buf_view(&play->transcript), str_of(want));
}

static void starttls_forgets_everything(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    play.starts_tls = true;
    play_feed(&play, STR(EHLO MAIL "STARTTLS\r\n"));
    assert_true(transcript_ends(&play, "[STARTTLS]\n220 2.0.0 driver\r\n"));
    assert_int_equal(smtp_server_feed(play.server, STR("\x16\x03"), 0), 0);
    assert_false(smtp_server_wants_input(play.server));
    smtp_server_tls_started(play.server);
    assert_true(smtp_server_is_secure(play.server));
    play_feed(&play, STR(MAIL));
    assert_true(transcript_ends(&play, "[RESET]\n503 5.5.1 say EHLO first\r\n"));
    play_feed(&play, STR(EHLO));
    assert_true(str_find(buf_view(&play.transcript), STR("STARTTLS\r\n250-AUTH")) > 0);
    assert_true(transcript_ends(&play, "250 SMTPUTF8\r\n"));
    play_feed(&play, STR("STARTTLS\r\n"));
    assert_true(transcript_ends(&play, "503 5.5.1 TLS is active already\r\n"));
    play_clear(&play);
}

static void plaintext_behind_starttls_closes(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    play.starts_tls = true;
    play_feed(&play, STR(EHLO "STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n"));
    assert_true(transcript_ends(&play, "[STARTTLS]\n554 5.5.0 mx.test closing connection: "
                                       "plaintext behind STARTTLS\r\n"
                                       "[CLOSE plaintext behind STARTTLS]\n"));
    play_clear(&play);
}

static void shutdown_waits_for_a_boundary(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    play_feed(&play, STR(EHLO MAIL RCPT "DATA\r\nab\r\n"));
    smtp_server_shutdown(play.server);
    play_pump(&play);
    assert_false(play.closed);
    play_feed(&play, STR(".\r\n" MAIL));
    assert_true(transcript_ends(&play, "[END]\n250 2.0.0 driver\r\n421 4.3.2 mx.test closing "
                                       "connection: the server is shutting down\r\n"
                                       "[CLOSE the server is shutting down]\n"));
    play_clear(&play);
}

static void a_good_message_forgives_errors(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    for (int i = 0; i < 5; i++)
        play_feed(&play, STR("X\r\nX\r\nX\r\n" EHLO MAIL RCPT "DATA\r\n.\r\n"));
    assert_false(play.closed);
    assert_int_equal(play.messages, 5);
    play_clear(&play);
}

static void endless_noops_become_errors(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    for (int i = 0; i < 104; i++)
        play_feed(&play, STR("NOOP\r\n"));
    assert_false(play.closed);
    play_feed(&play, STR("NOOP\r\n"));
    assert_true(play.closed);
    play_clear(&play);
}

static void a_client_that_reads_nothing_gets_nothing_more(void **state)
{
    struct smtp_server_options options = play_options();
    struct smtp_server_event event;
    size_t len, most = 0;

    (void)state;
    options.errors_max = 0;
    struct smtp_server *server = smtp_server_new(&options, 0);
    smtp_server_greet(server, NULL);
    for (int i = 0; i < 100000; i++) {
        smtp_server_feed(server, STR("HELP\r\n"), 0);
        assert_false(smtp_server_next(server, 0, &event));
        len = smtp_server_output(server).len;
        most = len > most ? len : most;
    }
    assert_in_range(most, 16000, 17000);
    assert_false(smtp_server_wants_input(server));
    smtp_server_sent(server, most);
    assert_true(smtp_server_wants_input(server));
    smtp_server_free(&server);
}

static void a_refused_end_is_never_accepted(void **state)
{
    struct smtp_server_options options = play_options();
    struct smtp_server_event event = { 0 };
    struct play play;

    (void)state;
    play_init(&play, &options);
    play_feed(&play, STR(EHLO MAIL RCPT "DATA\r\n"));
    smtp_server_feed(play.server, STR("a\nb\r\n.\r\n"), 0);
    while (smtp_server_next(play.server, 0, &event) && event.kind != SMTP_SERVER_END)
        ;
    assert_non_null(event.refusal);
    play_say(&play, 250, STATUS(2, 0, 0));
    assert_true(str_starts(smtp_server_output(play.server), STR("550 5.6.0")));
    play_clear(&play);
}

/* ---- time ---- */

static void expect_timeout(struct play *play, uint64_t at, const char *why)
{
    assert_int_equal(smtp_server_deadline(play->server), at);
    smtp_server_timeout(play->server, at - 1);
    play_pump(play);
    assert_false(play->closed);
    smtp_server_timeout(play->server, at);
    play_pump(play);
    assert_true(play->closed);
    assert_true(str_find(buf_view(&play->transcript), STR("421 4.4.2")) < play->transcript.len);
    assert_true(str_find(buf_view(&play->transcript), str_of(why)) < play->transcript.len);
    assert_true(smtp_server_deadline(play->server) == UINT64_MAX);
    play_clear(play);
}

static void feed_at(struct play *play, uint64_t now_ms, struct str in)
{
    play->now_ms = now_ms;
    play_feed(play, in);
}

static void a_line_has_its_time_from_its_start(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    feed_at(&play, 1000, STR("NO"));
    for (uint64_t t = 2000; t < 300000; t += 10000)
        feed_at(&play, t, STR("x"));
    expect_timeout(&play, 301000, "timeout");

    play_init(&play, &options);
    feed_at(&play, 1000, STR("NOOP\r\n"));
    feed_at(&play, 200000, STR("NOOP\r\n"));
    expect_timeout(&play, 500000, "timeout");
}

static void no_deadline_while_an_answer_is_owed(void **state)
{
    struct smtp_server_options options = play_options();
    struct smtp_server_event event;
    struct reply reply;

    (void)state;
    struct smtp_server *server = smtp_server_new(&options, 0);
    smtp_server_greet(server, NULL);
    smtp_server_feed(server, STR(EHLO), 10);
    assert_true(smtp_server_next(server, 10, &event));
    assert_true(smtp_server_owes_answer(server));
    assert_true(smtp_server_deadline(server) == UINT64_MAX);
    smtp_server_timeout(server, 10000000);
    assert_false(smtp_server_next(server, 10000000, &event));
    reply_set(&reply, 250, STATUS(2, 0, 0), "ok");
    smtp_server_answer(server, &reply);
    /* the wait for us is not held against the client, even if it asks late */
    smtp_server_timeout(server, 20000000);
    assert_false(smtp_server_next(server, 20000000, &event));
    assert_int_equal(smtp_server_deadline(server), 20300000);
    smtp_server_free(&server);
}

static void content_has_a_minimum_rate(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;

    (void)state;
    play_init(&play, &options);
    feed_at(&play, 1000, STR(EHLO MAIL RCPT "DATA\r\n"));
    feed_at(&play, 50000, STR("0123456789"));
    expect_timeout(&play, 61000, "content came too slowly");

    play_init(&play, &options);
    feed_at(&play, 1000, STR(EHLO MAIL RCPT "DATA\r\n"));
    for (uint64_t t = 10000; t <= 90000; t += 10000) /* 800 octets: 8 seconds on top of the grace */
        feed_at(&play, t,
                STR("0123456789012345678901234567890123456789012345678901234567890123456789"
                    "0123456789\r\n8901234567"));
    assert_int_equal(smtp_server_deadline(play.server), 1000 + 60000 + 8000);
    play_clear(&play);

    play_init(&play, &options);
    feed_at(&play, 1000, STR(EHLO MAIL RCPT "BDAT 50\r\n"));
    feed_at(&play, 2000, STR("01234"));
    expect_timeout(&play, 61000, "content came too slowly");
}

static void silence_in_content_times_out(void **state)
{
    struct smtp_server_options options = play_options();
    struct play play;
    char text[600];

    (void)state;
    options.data_rate_min = 10;
    memset(text, 'x', sizeof(text));
    play_init(&play, &options);
    feed_at(&play, 1000, STR(EHLO MAIL RCPT "DATA\r\n"));
    feed_at(&play, 2000, str_make(text, sizeof(text)));
    expect_timeout(&play, 62000, "timeout");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_at_every_cut),
        cmocka_unit_test(events_carry_what_was_said),
        cmocka_unit_test(content_has_a_size_limit),
        cmocka_unit_test(lines_have_a_length_limit),
        cmocka_unit_test(an_early_talker_waits),
        cmocka_unit_test(a_refusing_greeting_closes),
        cmocka_unit_test(starttls_forgets_everything),
        cmocka_unit_test(plaintext_behind_starttls_closes),
        cmocka_unit_test(shutdown_waits_for_a_boundary),
        cmocka_unit_test(a_good_message_forgives_errors),
        cmocka_unit_test(endless_noops_become_errors),
        cmocka_unit_test(a_client_that_reads_nothing_gets_nothing_more),
        cmocka_unit_test(a_refused_end_is_never_accepted),
        cmocka_unit_test(a_line_has_its_time_from_its_start),
        cmocka_unit_test(no_deadline_while_an_answer_is_owed),
        cmocka_unit_test(content_has_a_minimum_rate),
        cmocka_unit_test(silence_in_content_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
