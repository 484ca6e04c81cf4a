/*
 * outcome_rows_providers.c - what other well-known services say.
 *
 * Sources: Amazon SES Developer Guide, "SMTP response codes" and "Email sending
 * errors"; Twilio SendGrid, "SMTP Errors and Troubleshooting"; Yahoo Sender Hub,
 * "SMTP Error Codes"; Apple, "Postmaster information for iCloud Mail"; GMX and
 * web.de Postmaster, "Error messages"; Mimecast, "SMTP Error Codes".
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    /* ---- Amazon SES ---- */
    { "ses-rate", .code = "454|421|451",
      .text = "maximum sending rate exceeded|too many concurrent smtp connections",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 0), .retry_after_s = 5,
      .cause = "Amazon SES: more messages a second than the account may send.",
      .fix = "Set the destination's rate to the account's limit (SES console, Account "
             "dashboard), or ask AWS for a higher one." },
    { "ses-daily", .code = "454|451|554", .text = "daily message quota exceeded",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 0), .alarm = ALARM_YES, .retry_after_s = 1800,
      .cause = "Amazon SES: the account's sending quota for 24 hours is used up.",
      .fix = "It opens again little by little; ask AWS for a higher quota." },
    { "ses-not-verified", .code = "554|550|553", .text = "email address is not verified",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Amazon SES does not know the sender's address or domain in this region, or the "
               "account is in the sandbox and the recipient is not verified.",
      .fix = "Verify the identity that the reply names in the SES console, in the region of the "
             "relay name; or ask AWS for production access." },
    { "ses-paused", .code = "454|554|451",
      .text = "sending is paused|sending paused|account is paused|sending suspended",
      LATER(DEST, BLOCK), .gives = STATUS(4, 7, 1), .alarm = ALARM_YES, .retry_after_s = 1800,
      .cause = "Amazon has paused sending for this SES account, most often for bounces or "
               "complaints.",
      .fix = "Read AWS's message in the SES console (Reputation) and answer it." },
    { "ses-not-authorized", .code = "554|530|535",
      .text = "is not authorized to perform|access denied: user", FAILED(MESSAGE, POLICY),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Amazon SES: the IAM user of these SMTP credentials may not send as this address.",
      .fix = "Allow ses:SendRawEmail for the identity in the IAM user's policy." },
    { "ses-invalid-credentials", .stages = AT(AUTH), .code = "535",
      .text = "authentication credentials invalid", LATER(DEST, AUTH), .gives = STATUS(4, 7, 8),
      .alarm = ALARM_YES,
      .cause = "The login was refused: user name or password is wrong. Amazon SES says this to "
               "AWS access keys, and to SMTP credentials of another region.",
      .fix = "Mend the route's username and password-file (for SES: SMTP credentials made in its "
             "console for the region of the relay name). Mail waits until the login works." },

    /* ---- SendGrid ---- */
    { "sendgrid-credits", .code = "4|5", .text = "maximum credits exceeded", LATER(DEST, QUOTA),
      .gives = STATUS(4, 7, 0), .alarm = ALARM_YES, .retry_after_s = 1800,
      .cause = "SendGrid: the account has used up its messages for this period.",
      .fix = "Wait for the next period, or change the plan (Settings, Account details)." },
    { "sendgrid-key-revoked", .code = "535|451|550",
      .text = "authorization grant is invalid|bad username / password", LATER(DEST, AUTH),
      .gives = STATUS(4, 7, 8), .alarm = ALARM_YES,
      .cause = "SendGrid does not accept the API key.",
      .fix = "The user name must be the word apikey, the password an API key with permission "
             "Mail Send. Mail waits until the login works." },
    { "sendgrid-sender-identity", .code = "4|5", .text = "verified sender identity",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "SendGrid: the From address is not a verified sender of the account.",
      .fix = "Verify the domain under Settings, Sender Authentication." },
    { "sendgrid-unauthenticated", .code = "5", .text = "unauthenticated senders not allowed",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 0), .alarm = ALARM_YES,
      .cause = "SendGrid wants a login before it takes mail.",
      .fix = "Give the route username \"apikey\" and a password-file with an API key." },

    /* ---- Yahoo, AOL ---- */
    { "yahoo-listed", .code = "553|554|421", .text = "[bl21]|[bl22]|[bl23]", FAILED(MESSAGE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Yahoo refuses our IP address because Spamhaus lists it.",
      .fix = "Look it up and ask for removal at check.spamhaus.org." },
    { "yahoo-permanently-deferred", .code = "421|553", .text = "[ts03]|permanently deferred",
      LATER(DEST, BLOCK), .gives = STATUS(4, 7, 1), .alarm = ALARM_YES, .retry_after_s = 14400,
      .cause = "Yahoo takes nothing from our IP address any more and says that trying again does "
               "not help.",
      .fix = "Stop what caused it (complaints, spam), then ask at senders.yahooinc.com." },
    { "yahoo-deferred", .code = "421|451",
      .text = "[tss0|[ts01]|[ts02]|[ipts|temporarily deferred due to|message temporarily deferred|"
              "resources temporarily not available",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 0), .alarm = ALARM_YES, .retry_after_s = 1800,
      .cause = "Yahoo slows our IP address down: too much mail at once, or users complain about "
               "it.",
      .fix =
          "Send slower; look at who complains (Complaint Feedback Loop) and stop mailing them." },
    { "yahoo-policy", .code = "554", .text = "not accepted for policy reasons",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 9), .alarm = ALARM_YES,
      .cause = "Yahoo refused the message by policy: usually DMARC of the From domain, or its "
               "content.",
      .fix = "Sign with DKIM for the From domain, check its SPF and DMARC records, then the "
             "links in the message." },
    { "yahoo-no-account", .code = "554|552|550",
      .text = "doesn't have a yahoo|this mailbox is disabled|"
              "requested mail action aborted, mailbox not found",
      FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 1),
      .cause = "There is no such mailbox, or it is disabled.",
      .fix = "Check the address for a typing error." },

    /* ---- Apple iCloud ---- */
    { "icloud-rate", .code = "421|450|451", .text = "deferred due to excessive volume",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 1), .retry_after_s = 1800,
      .cause = "Apple slows us down: too much mail in a short time.",
      .fix = "Send slower; it is tried again by itself." },
    { "icloud-local-policy", .code = "55",
      .text = "[cs01]|[cs02]|[hm07]|[hm08]|ht204137|apple.com/en-us/102322", FAILED(MESSAGE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Apple takes the message for spam, by its content or by our reputation.",
      .fix = "Check SPF, DKIM, DMARC and the links in it, then write to "
             "icloudadmin@apple.com." },

    /* ---- GMX, web.de, mail.com, T-Online ---- */
    { "gmx-listed", .code = "5",
      .text = "nemesis*block listed|nemesis*black listed|nemesis*bad dns ptr|nemesis*rdns",
      FAILED(MESSAGE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "GMX and web.de refuse our IP address: listed, or without a proper reverse DNS "
               "name.",
      .fix = "Open the page that the reply names and follow it." },
    { "gmx-busy", .code = "421|450|451|452",
      .marker = "postmaster.gmx|postmaster.web.de|postmaster.mail.com|postmaster.1und1|"
                "postmaster.ionos",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 0), .retry_after_s = 900,
      .cause = "GMX or web.de put us off: too many connections or messages at once, or they are "
               "busy.",
      .fix = "It is tried again; send slower if it stays. The page in the reply says more." },
    { "gmx-policy", .code = "5", .text = "reject due to policy restrictions|dns ptr",
      .marker = "postmaster.gmx|postmaster.web.de|postmaster.mail.com|postmaster.1und1|"
                "postmaster.ionos",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 1),
      .cause = "GMX or web.de refused the message by a rule of theirs.",
      .fix = "Open the page that the reply names; it says which rule." },
    { "t-online-unknown-host", .code = "554",
      .text = "a problem occurred*postmaster|rx.t-online.de", FAILED(MESSAGE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "T-Online takes no mail from our IP address: they do not know it, or distrust it.",
      .fix = "Write to tosa@rx.t-online.de with the address. They want a host name with an "
             "imprint page under it." },

    /* ---- Orange ---- */
    { "orange-busy", .code = "421|450|451", .text = "ofr_|ofr00|service refuse. veuillez",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 0), .retry_after_s = 900,
      .cause = "Orange slows us down: too many connections or messages at once.",
      .fix = "Send slower: two connections, and not more than 100 messages on each." },
    { "orange-refused", .code = "5", .text = "ofr_|ofr00", FAILED(MESSAGE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Orange refused the message for its content or our reputation.",
      .fix = "Check SPF, DKIM and the links in it; Orange's postmaster page explains the code." },

    /* ---- Mimecast ---- */
    { "mimecast-greylisted", .code = "451",
      .text = "internal resources are temporarily unavailable|"
              "internal resource is temporarily unavailable|"
              "internal resource temporarily unavailable",
      LATER(NONE, SOFT), .gives = STATUS(4, 7, 1), .retry_after_s = 120,
      .cause = "Mimecast greylists us: it wants to see the message a second time.",
      .fix = "Nothing to do: it is tried again in a few minutes." },
    { "mimecast-blocked", .code = "5",
      .text = "envelope blocked|rejected by header based*blocked senders|"
              "email rejected due to security policies",
      .marker = "mimecast|envelope blocked|security policies|blocked senders", FAILED(NONE, POLICY),
      .gives = STATUS(5, 7, 1),
      .cause = "The recipient's organisation blocks this sender or message at Mimecast.",
      .fix = "Ask the recipient's administrator to permit it." },
    { "mimecast-invalid-recipient", .code = "550", .text = "invalid recipient",
      .marker = "mimecast", FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 1),
      .cause = "There is no such mailbox in the recipient's organisation.",
      .fix = "Check the address for a typing error." },
};

const struct outcome_section outcome_rows_providers = SECTION("providers", rows);
