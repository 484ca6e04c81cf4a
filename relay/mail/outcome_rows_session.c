/*
 * outcome_rows_session.c - refusals that are about the connection and the login,
 * whoever says them: AUTH, STARTTLS, 530.
 *
 * At a smarthost these are trouble with our contract, so everything waits and
 * an operator is called; a bounce would tell a sender about a fault that is ours.
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    { "auth-temporary", .stages = AT(AUTH), .code = "4", LATER(DEST, AUTH),
      .gives = STATUS(4, 7, 0), .cause = "The smarthost cannot check logins right now.",
      .fix = "It is tried again. If it stays, ask the smarthost's support." },
    { "auth-mechanism", .stages = AT(AUTH), .code = "504|502|500|501", LATER(DEST, AUTH),
      .gives = STATUS(4, 7, 4), .alarm = ALARM_YES,
      .cause = "The smarthost does not accept this way of logging in.",
      .fix = "Check that the port is a submission port (587 or 465) and that the account may use "
             "SMTP." },
    { "auth-weak", .stages = AT(AUTH), .code = "534|538", LATER(DEST, AUTH),
      .gives = STATUS(4, 7, 9), .alarm = ALARM_YES,
      .cause = "The smarthost demands a stronger login: encryption, an app password, or OAuth.",
      .fix = "Set tls = verified, and use an app password if the account has two-step login." },
    { "auth-refused", .stages = AT(AUTH), .code = "5", LATER(DEST, AUTH), .gives = STATUS(4, 7, 8),
      .alarm = ALARM_YES, .cause = "The smarthost refused the user name or password.",
      .fix = "Check username and password-file of this route; the account may also be locked or "
             "expired. Mail waits until the login works." },
    { "tls-demanded-smarthost", .when = WHEN_SMARTHOST, .code = "530|550|554|451|454",
      .text = "starttls|must use tls|tls required|requires tls|encryption required|"
              "encryption needed|session must be encrypted",
      LATER(DEST, TLS), .gives = STATUS(4, 7, 0), .alarm = ALARM_YES,
      .cause = "The smarthost takes mail only over an encrypted connection.",
      .fix = "Set tls = verified for this route." },
    { "tls-demanded", .stages = AT(EHLO) | AT_MESSAGE, .code = "530|550|554|451|454",
      .text = "must issue a starttls|must use tls|tls required|requires tls|encryption required|"
              "encryption needed|session must be encrypted",
      LATER(HOST, TLS), .gives = STATUS(4, 7, 0),
      .cause = "The host takes mail only over an encrypted connection, and this one was not.",
      .fix = "Set tls = opportunistic or stronger for this route; if it is set, see why the "
             "handshake failed." },
    { "starttls-temporary", .stages = AT(STARTTLS) | AT(TLS), .code = "4", LATER(HOST, TLS),
      .gives = STATUS(4, 7, 5), .own_status = true, .alarm = ALARM_SMARTHOST,
      .cause = "The host offers TLS, but says that it cannot do it right now.",
      .fix = "The other side should look at its certificate and key files. It is tried again." },
    { "starttls-refused", .stages = AT(STARTTLS) | AT(TLS), .code = "5", LATER(HOST, TLS),
      .gives = STATUS(4, 7, 4), .own_status = true, .alarm = ALARM_SMARTHOST,
      .cause = "The host refused to start TLS.",
      .fix = "The other side has to mend its TLS. Where TLS is required, the relay does not go on "
             "without." },
    { "login-demanded-smarthost", .stages = AT(EHLO) | AT_MESSAGE, .when = WHEN_SMARTHOST,
      .code = "530|535|538", LATER(DEST, AUTH), .gives = STATUS(4, 7, 0), .alarm = ALARM_YES,
      .cause = "The smarthost wants a login before it takes mail.",
      .fix = "Give this route username and password-file. If it has them, check that the port "
             "offers AUTH." },
    { "login-demanded-text", .stages = AT_MESSAGE, .when = WHEN_SMARTHOST, .code = "5",
      .text = "authentication required|authentication is required|not authenticated|"
              "must authenticate|must be authenticated|please authenticate|"
              "authenticate first|smtp auth|unauthenticated sender|need auth|login required",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 0), .alarm = ALARM_YES,
      .cause = "The smarthost wants a login before it takes mail.",
      .fix = "Give this route username and password-file. If it has them, check that the port "
             "offers AUTH." },
    { "login-demanded-order", .stages = AT(MAIL), .when = WHEN_SMARTHOST, .code = "503",
      LATER(DEST, AUTH), .gives = STATUS(4, 5, 1), .alarm = ALARM_YES,
      .cause = "The smarthost expected something before the message, most likely a login.",
      .fix = "Give this route username and password-file." },
    { "login-demanded-mx", .stages = AT_MESSAGE, .when = WHEN_MX, .code = "530|535|538",
      FAILED(NONE, POLICY), .gives = STATUS(5, 7, 0),
      .cause = "The recipient's mail server takes no mail without a login, so it is no public mail "
               "server.",
      .fix = "The domain's MX record points to the wrong server; its owner has to correct it." },
    { "relay-denied-smarthost", .stages = AT(RCPT) | AT(MAIL) | AT_BODY, .when = WHEN_SMARTHOST,
      .code = "5|454|450",
      .text = "relay access denied|relaying denied|unable to relay|relay not permitted|"
              "relaying not allowed|not permitted to relay|relay denied|cannot relay|"
              "relay is not allowed|relaying is not allowed|not allowed to relay|"
              "allowed rcpthosts|open relay not allowed|relay not allowed|"
              "relaying to*prohibited|we do not relay",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 1), .alarm = ALARM_YES,
      .cause = "The smarthost does not relay for us: it does not know our login or our address.",
      .fix = "Give this route username and password-file, or have our IP address allowed there." },
};

const struct outcome_section outcome_rows_session = SECTION("session", rows);
