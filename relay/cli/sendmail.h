/*
 * sendmail.h - the sendmail(1) surface: what every program on a machine calls
 * to hand in mail. Shared by the sendmail_*.c files only.
 *
 * One set of sources, linked twice: into `waypost` (as `waypost sendmail`, and
 * when it is called sendmail, mailq ...), and into `waypost-sendmail`, which has
 * none of the libraries that taking a message in does not need and starts in a
 * fraction of the time. What needs them (the API: -bp, -q, -v, waiting for a
 * verdict) the small one leaves to the large one, which lies beside it.
 *
 * Promise to the caller: exit 0 means that the message is on disk; any other
 * code that nothing of it was kept (with -odi, -odf: that the next hop's verdict was no).
 */
#ifndef WAYPOST_CLI_SENDMAIL_H
#define WAYPOST_CLI_SENDMAIL_H

#include "conf/conf.h"
#include "relay/base/buf.h"
#include "relay/mail/envelope.h"

#include <sysexits.h>

/* ---- the command line: sendmail_flags.c ---- */

enum sendmail_mode {
    SENDMAIL_MAIL,    /* -bm: a message on standard input */
    SENDMAIL_SMTP,    /* -bs: SMTP on standard input and output */
    SENDMAIL_LIST,    /* -bp, mailq */
    SENDMAIL_ALIASES, /* -bi, -I, newaliases */
    SENDMAIL_VERIFY,  /* -bv */
    SENDMAIL_FLUSH,   /* -q, runq */
    SENDMAIL_DAEMON,  /* -bd, -bl, -bD: not from here */
    SENDMAIL_NOTHING, /* hoststat, purgestat, -q30m: nothing to do for us */
};

enum sendmail_errors {
    ERRORS_PRINT, /* -oep */
    ERRORS_MAIL,  /* -oem: a report to the sender, and the code */
    ERRORS_ONLY,  /* -oee: a report to the sender, and 0 */
    ERRORS_QUIET, /* -oeq: the code alone */
    ERRORS_WRITE, /* -oew: as print; terminals of other users are not written to */
};

enum sendmail_flush { FLUSH_ALL, FLUSH_ID, FLUSH_RECIPIENT, FLUSH_SENDER };

struct sendmail_wish {
    const char *called; /* the name it was called by, for messages */
    enum sendmail_mode mode;
    enum sendmail_errors errors;
    bool extract;    /* -t */
    bool keep_dots;  /* -i, -oi */
    bool wait;       /* -odi, -odf */
    bool verbose;    /* -v */
    bool json;       /* --json */
    bool smtputf8;   /* -O smtputf8=yes */
    bool body_8bit;  /* -B8BITMIME */
    bool has_sender; /* -f, -r */
    struct str sender;
    const char *full_name; /* -F; NULL: not given */
    const char *conf_file; /* -C; NULL: as usual */
    uint8_t notify;
    enum envelope_ret ret;
    struct str envid; /* as given, not xtext */
    enum sendmail_flush flush;
    const char *flush_what;
    char **recipients; /* what is no option */
    size_t recipient_count;
};

/* EX_OK, or the code with the sentence printed. `wish` points into argv. */
int sendmail_flags(int argc, char **argv, struct sendmail_wish *out_wish);

/* ---- what went wrong: sendmail_code.c ---- */

enum sendmail_trouble {
    TROUBLE_NONE,
    TROUBLE_USAGE,
    TROUBLE_NO_RECIPIENTS, /* on the command line */
    TROUBLE_NONE_FOUND,    /* -t found none */
    TROUBLE_ADDRESS,
    TROUBLE_HEADER,
    TROUBLE_TOO_LARGE,
    TROUBLE_REFUSED,   /* the relay's 5xx */
    TROUBLE_DENIED,    /* the relay says we may not */
    TROUBLE_INPUT,     /* standard input cannot be read */
    TROUBLE_NOT_TAKEN, /* neither socket nor folder */
    TROUBLE_CONFIG,
    TROUBLE_MISSING, /* the large program is not there */
    TROUBLE_NO_USER, /* the next hop's verdicts, when they were waited for */
    TROUBLE_NO_HOST,
    TROUBLE_REJECTED,
};

struct sendmail_fault {
    enum sendmail_trouble trouble;
    struct fault words; /* what exactly */
};

/* Fills the fault (once) and returns its exit code. */
int sendmail_fail(struct sendmail_fault *fault, enum sendmail_trouble trouble, const char *format,
                  ...) __attribute__((format(printf, 3, 4)));
int sendmail_code(enum sendmail_trouble trouble);
/* "sendmail: WHAT (WHAT TO DO)" on standard error; returns the code. */
int sendmail_say(const struct sendmail_wish *wish, const struct sendmail_fault *fault);
/* A remark that is no failure: on standard error and in the system log. */
void sendmail_remark(const struct sendmail_wish *wish, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- the message: sendmail_input.c, sendmail_header.c ---- */

struct sendmail_message {
    struct arena arena;
    struct buf text;        /* canonical: CRLF, ends in CRLF, its header ended by an empty line */
    size_t head_len;        /* of `text`: the header, with its empty line */
    struct str sender;      /* reverse-path as to be said in MAIL; empty: null */
    struct str *recipients; /* as to be said in RCPT; each once */
    size_t recipient_count, recipient_cap;
    bool has_8bit;
    bool needs_utf8; /* an address or the header has octets over 127 */
    bool has_from;
};

void sendmail_message_init(struct sendmail_message *message, uint64_t size_max);
void sendmail_message_clear(struct sendmail_message *message);

/* From a descriptor to its end, or to a lone dot. */
int sendmail_read(const struct sendmail_wish *wish, int fd, struct sendmail_message *message,
                  struct sendmail_fault *fault);
/* The same a piece at a time, for what is in memory (tests). */
struct sendmail_input {
    struct sendmail_message *message;
    bool keep_dots, ended;
    bool is_first;  /* nothing of the message was kept yet */
    bool after_dot; /* text follows the dot that ended it */
    bool has_nul;
    struct buf line;
};
void sendmail_input_init(struct sendmail_input *input, struct sendmail_message *message,
                         bool keep_dots);
void sendmail_input_feed(struct sendmail_input *input, struct str piece);
void sendmail_input_end(struct sendmail_input *input);

/* sendmail_names.c: addresses, each once, in the order they came; what is added
 * has to live as long as `arena`. */
struct sendmail_names {
    struct str *list;
    size_t count, cap;
    struct sendmail_name *known;
};
void sendmail_names_add(struct sendmail_names *names, struct str address, struct arena *arena);
/* All that `away` has too, however it is written in capitals; nothing is added afterwards. */
void sendmail_names_take_away(struct sendmail_names *from, const struct sendmail_names *away,
                              struct arena *arena);
void sendmail_names_clear(struct sendmail_names *names); /* the list stays */

/* Sender, recipients, and the fields that only the caller's machine can add. */
struct sendmail_author {
    const char *login, *full_name; /* of the calling user */
    bool extract_adds;
};
int sendmail_address(const struct sendmail_wish *wish, const struct sendmail_author *author,
                     struct sendmail_message *message, struct sendmail_fault *fault);

/* ---- handing over ---- */

/* sendmail_smtp.c: to the relay's socket. *out_id: the id it was given. */
enum sendmail_result {
    SENT_QUEUED,
    SENT_REFUSED, /* for good; the fault says why */
    SENT_NOT,     /* nobody there, or not now: the folder may take it; the fault says why */
};
enum sendmail_result sendmail_submit(const struct sendmail_wish *wish, const char *socket,
                                     const struct sendmail_message *message, char out_id[32],
                                     struct sendmail_fault *fault);

/* sendmail_drop.c: into the folder. `why`: in words, why not to the relay. */
struct sendmail_drop;
enum err sendmail_drop_open(const struct conf *conf, uint64_t size, const char *why,
                            struct sendmail_drop **out_drop, struct fault *fault);
void sendmail_drop_say(struct sendmail_drop *drop, struct str lines);     /* MAIL, RCPTs, DATA */
void sendmail_drop_content(struct sendmail_drop *drop, struct str bytes); /* dots not stuffed */
/* ERR_OK: on disk. Gone either way. */
enum err sendmail_drop_commit(struct sendmail_drop **drop, struct fault *fault);
void sendmail_drop_abort(struct sendmail_drop **drop); /* NULL is fine */
enum err sendmail_drop(const struct sendmail_wish *wish, const struct conf *conf, const char *why,
                       const struct sendmail_message *message, struct fault *fault);
/* sendmail_lines.c: the commands for a message, with their CRLF. */
void sendmail_mail_line(const struct sendmail_wish *wish, const struct sendmail_message *message,
                        struct buf *out);
void sendmail_xtext(struct buf *out, struct str text); /* RFC 3461 4 */
void sendmail_rcpt_line(const struct sendmail_wish *wish, struct str recipient, struct buf *out);

/* sendmail_session.c: -bs */
int sendmail_session(const struct sendmail_wish *wish, const struct conf *conf);
/* A socket to the relay, -1 with the fault set. */
int sendmail_connect(const char *socket, struct fault *fault);

/* sendmail_send.c: -bm whole. *out_id is empty when it went into the folder. */
int sendmail_send(const struct sendmail_wish *wish, const struct conf *conf, char out_id[32]);

/* ---- what needs the API, in the large program only ---- */

struct sendmail_large {
    int (*list)(const struct sendmail_wish *wish);
    int (*flush)(const struct sendmail_wish *wish);
    int (*verify)(const struct sendmail_wish *wish);
    int (*aliases)(const struct sendmail_wish *wish);
    /* What became of it, within the wait of the configuration. */
    int (*await)(const struct sendmail_wish *wish, const struct conf *conf, const char *id);
};

/* All of main(). large NULL: this is the small program. */
int sendmail_main(int argc, char **argv, const char *conf_file, const struct sendmail_large *large);
/* Is this a name that means us? */
bool sendmail_is_called(const char *argv0);

#endif
