/*
 * sendmail_large.h - the parts of sendmail(1) that only the large program has.
 */
#ifndef WAYPOST_CLI_SENDMAIL_LARGE_H
#define WAYPOST_CLI_SENDMAIL_LARGE_H

#include "relay/cli/sendmail.h"

#include <jansson.h>

int sendmail_list(const struct sendmail_wish *wish);    /* -bp */
int sendmail_aliases(const struct sendmail_wish *wish); /* -bi */
/* -odi, -odf, -v: until every recipient has a verdict, or the wait is over. */
int sendmail_await(const struct sendmail_wish *wish, const struct conf *conf, const char *id);

/* One message as Postfix's mailq shows it (tests). */
void sendmail_list_message(const json_t *message, int64_t now_s, struct buf *out);
void sendmail_list_head(struct buf *out);
void sendmail_list_end(uint64_t messages, uint64_t bytes, struct buf *out);

/* What hops say of a message so far (tests). */
struct sendmail_verdicts {
    uint64_t expected, settled; /* recipients */
    uint64_t shown;             /* hops */
    bool is_held;
    enum sendmail_trouble worst;
    char words[FAULT_MAX];
};
void sendmail_judge(struct sendmail_verdicts *verdicts, const json_t *hop);

#endif
