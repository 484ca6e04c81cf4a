/*
 * outcome_rows_success.c - the replies that mean yes.
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    { "delivered", .stages = AT(CONTENT), .code = "2", .result = RESULT_DELIVERED,
      .gives = STATUS(2, 0, 0),
      .cause = "The next server took the message and is responsible for it now.",
      .fix = "If the recipient does not see it: look in the spam folder, then give the next "
             "server's postmaster the queue id in this reply." },
    { "go-ahead", .stages = AT(DATA) | AT(AUTH), .code = "3", .result = RESULT_OK,
      .cause = "The other server is ready for what comes next.", .fix = "Nothing to do." },
    { "rcpt-forwarded", .stages = AT(RCPT), .code = "251", .result = RESULT_OK,
      .gives = STATUS(2, 1, 5),
      .cause = "The address is not local there; the other server forwards the message.",
      .fix = "Nothing to do." },
    { "rcpt-unverified", .stages = AT(RCPT), .code = "252", .result = RESULT_OK,
      .gives = STATUS(2, 1, 5),
      .cause = "The other server cannot check the address and will try to deliver.",
      .fix = "Nothing to do." },
    { "accepted", .code = "2", .result = RESULT_OK, .gives = STATUS(2, 0, 0),
      .cause = "The other server agreed to this step.", .fix = "Nothing to do." },
};

const struct outcome_section outcome_rows_success = SECTION("success", rows);
