/*
 * outcome_rows_google.c - what Gmail and Google Workspace say.
 *
 * Source: Google Workspace Admin Help, "Gmail SMTP errors and codes", and
 * "Email sender guidelines". Their replies end in "- gsmtp".
 */
#include "relay/mail/outcome_rows.h"

#define GOOGLE "gsmtp|google|gmail"

static const struct outcome_row rows[] = {
    { "gmail-app-password", .stages = AT(AUTH), .code = "53",
      .text = "application-specific password|app password|web browser", .marker = GOOGLE,
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 9), .alarm = ALARM_YES,
      .cause = "Google wants an app password: the account has two-step login, or Google distrusts "
               "this login.",
      .fix = "Make an app password at myaccount.google.com/apppasswords and put it into the "
             "route's password-file." },
    { "gmail-bad-password", .stages = AT(AUTH), .code = "535",
      .text = "username and password not accepted|badcredentials", .marker = GOOGLE,
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 8), .alarm = ALARM_YES,
      .cause = "Google refused user name or password. It does not take the normal account "
               "password over SMTP.",
      .fix = "Make an app password at myaccount.google.com/apppasswords, or use the Workspace "
             "SMTP relay. Mail waits until the login works." },
    { "gmail-relay-not-registered", .code = "5",
      .text = "invalid credentials for relay|mail relay denied", .marker = GOOGLE,
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 1), .alarm = ALARM_YES,
      .cause = "Google's SMTP relay does not know our IP address or the sender's domain.",
      .fix = "Admin console, Gmail, Routing, SMTP relay service: add this machine's address and "
             "allow the sender's domain." },
    { "gmail-daily-limit", .code = "550|452|421",
      .text = "daily user sending limit|daily smtp relay|daily sending quota|"
              "daily user sending quota|email quota exceeded|sending limit exceeded|"
              "relay sending limit",
      .marker = GOOGLE, LATER(DEST, QUOTA), .gives = STATUS(4, 4, 5), .alarm = ALARM_YES,
      .retry_after_s = 3600, .cause = "The Google account has used up its sending limit for today.",
      .fix = "It opens again within 24 hours. For more volume use the Workspace SMTP relay or "
             "another provider." },
    { "gmail-rate-ip", .code = "4",
      .text = "unusual rate of|temporarily rate limited|unsolicited mail originating",
      .marker = GOOGLE, LATER(DEST, QUOTA), .gives = STATUS(4, 7, 28), .alarm = ALARM_YES,
      .retry_after_s = 1800,
      .cause = "Google slows us down: too much mail from our address or domain, or too much that "
               "looks unwanted.",
      .fix = "Send slower, check for spam runs and bounces, and look at Google Postmaster Tools." },
    { "gmail-rate-ip-status", .code = "4", .status = "4.7.28", .marker = GOOGLE, LATER(DEST, QUOTA),
      .alarm = ALARM_YES, .retry_after_s = 1800,
      .cause = "Google slows us down: too much mail from our address or domain, or too much that "
               "looks unwanted.",
      .fix = "Send slower, check for spam runs and bounces, and look at Google Postmaster Tools." },
    { "gmail-unauthenticated", .code = "4|5", .status = "*.7.26", .marker = GOOGLE,
      FAILED(MESSAGE, POLICY), .alarm = ALARM_YES,
      .cause = "Google could not tell that the sender's domain sent this: neither SPF nor DKIM "
               "passed, or the domain's DMARC policy forbids it.",
      .fix = "Add our address to the domain's SPF record and sign with DKIM: `waypost dkim record` "
             "prints what to publish." },
    { "gmail-spf", .code = "4|5", .status = "*.7.27", .marker = GOOGLE, FAILED(MESSAGE, POLICY),
      .alarm = ALARM_YES,
      .cause = "Google checked SPF for the sender's domain, and it did not pass.",
      .fix = "Add the address that mail leaves from (or the smarthost) to the domain's SPF "
             "record." },
    { "gmail-dkim", .code = "4|5", .status = "*.7.30", .marker = GOOGLE, FAILED(MESSAGE, POLICY),
      .alarm = ALARM_YES,
      .cause = "Google checked DKIM for the sender's domain, and it did not pass.",
      .fix = "Give the domain a key (`waypost dkim keygen`) and publish its record." },
    { "gmail-alignment", .code = "4|5", .status = "*.7.32", .marker = GOOGLE,
      FAILED(MESSAGE, POLICY), .alarm = ALARM_YES,
      .cause = "The From domain fits neither the DKIM domain nor the SPF domain.",
      .fix = "Sign with a key of the From domain." },
    { "gmail-ptr", .code = "4|5", .status = "*.7.23|*.7.25", .marker = GOOGLE,
      FAILED(MESSAGE, BLOCK), .alarm = ALARM_YES,
      .cause = "Our IP address has no reverse DNS name, or the name does not point back to it.",
      .fix = "Have the owner of the address set a PTR record that matches the relay's hostname, "
             "for IPv6 too." },
    { "gmail-not-tls", .code = "4|5", .status = "*.7.29", .marker = GOOGLE, LATER(HOST, TLS),
      .cause = "Google wants this mail over TLS, and the connection was not encrypted.",
      .fix = "Set tls = opportunistic or stronger for this route." },
    { "gmail-likely-spam", .code = "550|554|421",
      .text = "likely unsolicited mail|likely suspicious|very low reputation", .marker = GOOGLE,
      FAILED(MESSAGE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Google takes the message for spam, by its content or by our reputation.",
      .fix = "Check links and content, SPF, DKIM and DMARC, and Google Postmaster Tools." },
    { "gmail-not-authorized-ip", .code = "550", .text = "not authorized to send email directly",
      .marker = GOOGLE, FAILED(MESSAGE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Google takes no mail straight from our IP address (a home or dial-up range).",
      .fix = "Send through your provider's smarthost." },
    { "gmail-blocked-content", .code = "552", .text = "potential security issue", .marker = GOOGLE,
      FAILED(MESSAGE, CONTENT), .gives = STATUS(5, 7, 0),
      .cause = "Google refuses the kind of file that is attached (programs, or archives with "
               "programs or a password).",
      .fix = "Send a link to the file instead." },
    { "gmail-recipient-policy", .code = "550", .text = "has a policy that prohibited",
      .marker = GOOGLE, FAILED(NONE, POLICY), .gives = STATUS(5, 7, 1),
      .cause = "A rule of the recipient's organisation forbids this message.",
      .fix = "Ask the recipient's administrator." },
    { "gmail-rcpt-rate", .code = "450|452|550",
      .text = "receiving mail at a rate|receiving mail too quickly", .marker = GOOGLE,
      LATER(RECIPIENT, QUOTA), .gives = STATUS(4, 2, 1), .retry_after_s = 900,
      .cause = "This mailbox gets more mail than Google allows in a short time.",
      .fix = "It is tried again later; send less to this address." },
    { "gmail-disabled", .code = "550", .status = "5.2.1", .marker = GOOGLE, FAILED(RECIPIENT, HARD),
      .cause = "This Google account is disabled or not in use any more.",
      .fix = "Remove the address from your lists." },
    { "gmail-full", .code = "452|552", .status = "*.2.2", .marker = GOOGLE, LATER(RECIPIENT, SOFT),
      .retry_after_s = 3600, .cause = "The recipient's Google storage is full.",
      .fix = "It is tried again; the recipient has to make room." },
    { "gmail-no-account", .code = "550|553", .text = "does not exist|couldn't be found|nosuchuser",
      .marker = GOOGLE, FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 1),
      .cause = "There is no such Google account.", .fix = "Check the address for a typing error." },
    { "gmail-busy", .code = "421|451",
      .text = "try again later|temporary system problem|server busy|closing connection|"
              "temporarily rejected",
      .marker = GOOGLE, LATER(HOST, SOFT), .gives = STATUS(4, 3, 0),
      .cause = "Google cannot take it right now.", .fix = "It is tried again by itself." },
};

const struct outcome_section outcome_rows_google = SECTION("google", rows);
