/*
 * outcome_rows_microsoft.c - what Microsoft 365 (Exchange Online) and Outlook.com say.
 *
 * Sources: Microsoft Learn, "Email nondelivery reports and SMTP errors in
 * Exchange Online" and the pages "Fix NDR error ..." it links; Outlook.com
 * Postmaster, "Troubleshooting".
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    /* ---- login and submission ---- */
    { "m365-smtp-auth-off", .code = "5", .text = "smtpclientauthentication is disabled",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 139), .alarm = ALARM_YES,
      .cause = "SMTP login is switched off for this Microsoft 365 tenant or mailbox.",
      .fix = "Admin center: Users, the mailbox, Mail, Manage email apps: allow Authenticated SMTP "
             "(or Set-CASMailbox -SmtpClientAuthenticationDisabled $false)." },
    { "m365-security-defaults", .code = "535", .text = "did not meet the criteria",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 139), .alarm = ALARM_YES,
      .cause = "A rule of the Microsoft 365 tenant (security defaults or conditional access) "
               "forbids this login.",
      .fix = "Have the tenant's administrator exempt this account, or use a connector for our IP "
             "address." },
    { "m365-basic-auth-off", .code = "5",
      .text = "basic authentication is disabled|basic authentication is not supported",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 30), .alarm = ALARM_YES,
      .cause = "Microsoft 365 no longer takes a password for SMTP here; it wants OAuth.",
      .fix = "Use a connector for our IP address, High Volume Email, or another smarthost." },
    { "m365-locked", .code = "535", .text = "account is locked|user account is disabled",
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 139), .alarm = ALARM_YES,
      .cause = "The Microsoft 365 account is locked or disabled.",
      .fix = "Have the tenant's administrator unlock it, then check the password." },
    { "m365-bad-password", .stages = AT(AUTH), .code = "535", .status = "5.7.3|5.7.139",
      LATER(DEST, AUTH), .alarm = ALARM_YES,
      .cause = "Microsoft refused the user name or password, or the account may not use SMTP.",
      .fix = "Check username and password-file; two-step login needs an app password; SMTP login "
             "must be allowed for the mailbox." },
    { "m365-not-authenticated", .code = "5", .status = "5.7.57", LATER(DEST, AUTH),
      .alarm = ALARM_YES, .cause = "Microsoft 365 wants a login before it takes mail on this port.",
      .fix = "Give the route username and password-file, or send to the tenant's MX host with a "
             "connector for our IP address." },
    { "m365-send-as", .code = "5", .status = "5.7.60|5.2.252", FAILED(MESSAGE, POLICY),
      .alarm = ALARM_YES, .cause = "The account that logs in may not send as this From address.",
      .fix = "Use the account's own address, or grant it Send As for this one." },
    { "m365-send-as-text", .code = "5", .text = "sendasdenied|permissions to send as this sender",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 60), .alarm = ALARM_YES,
      .cause = "The account that logs in may not send as this From address.",
      .fix = "Use the account's own address, or grant it Send As for this one." },
    { "m365-daily-limit", .code = "5", .status = "5.1.90|5.2.121|5.2.122", LATER(DEST, QUOTA),
      .alarm = ALARM_YES, .retry_after_s = 3600,
      .cause = "A Microsoft 365 limit for messages or recipients per time is used up.",
      .fix = "It opens again within 24 hours (5.2.121/122: one hour). Send slower or use another "
             "provider." },
    { "m365-thread-limit", .code = "432|451|421",
      .text = "thread limit exceeded|concurrent connections limit|submission rate",
      LATER(DEST, QUOTA), .gives = STATUS(4, 3, 2), .retry_after_s = 60,
      .cause = "Microsoft 365 limits how many messages an account sends at once (three "
               "connections, 30 messages a minute).",
      .fix = "Set max-connections = 3 and rate = \"30/min\" for this destination." },
    { "m365-tenant-limit", .code = "5|4", .status = "*.7.705|*.7.700|*.7.701|*.7.708|*.7.750",
      LATER(DEST, BLOCK), .alarm = ALARM_YES, .retry_after_s = 3600,
      .cause = "Microsoft stopped the tenant's outgoing mail: too much, unregistered domains, or "
               "traffic that looks like spam.",
      .fix = "The tenant's administrator has to open a ticket with Microsoft; look for a stolen "
             "account first." },
    { "m365-bad-outbound-sender", .code = "5", .status = "5.1.8", .text = "bad outbound sender",
      FAILED(MESSAGE, BLOCK), .alarm = ALARM_YES,
      .cause = "Microsoft blocked this account for sending spam.",
      .fix = "Secure the account (new password, look for forwarding rules), then unblock it under "
             "Restricted entities in the Defender portal." },
    { "m365-connector", .code = "5", .status = "5.7.64", LATER(DEST, CONFIG), .alarm = ALARM_YES,
      .cause = "Microsoft 365 cannot tell which tenant we belong to.",
      .fix = "The tenant's inbound connector must name our IP address or certificate, and the "
             "sender's domain must be an accepted one." },

    /* ---- reputation ---- */
    { "m365-banned-ip", .code = "5", .status = "5.7.606-649", FAILED(MESSAGE, BLOCK),
      .alarm = ALARM_YES, .cause = "Microsoft has banned our IP address.",
      .fix = "Ask for removal at sender.office.com; look for the cause (spam run, stolen account) "
             "first." },
    { "m365-banned-sender", .code = "5", .status = "5.7.501-503|5.7.511|5.7.513",
      FAILED(MESSAGE, BLOCK), .alarm = ALARM_YES,
      .cause = "Microsoft has banned this sender or our IP address for spam.",
      .fix = "Follow the address or page in the reply to ask for removal; look for the cause "
             "first." },
    { "m365-bad-helo", .code = "5", .status = "5.7.506", LATER(HOST, CONFIG), .alarm = ALARM_YES,
      .cause = "Microsoft does not like the name this relay gives in EHLO.",
      .fix = "Set hostname to a name that exists in DNS and points to our address." },
    { "m365-ipv6-rate", .code = "4|5", .status = "*.7.508", LATER(DEST, QUOTA), .alarm = ALARM_YES,
      .retry_after_s = 1800,
      .cause = "Too much mail from our IPv6 address for the recipient's tenant.",
      .fix = "Send slower, or from IPv4 (source addresses of the route)." },
    { "m365-dmarc", .code = "5", .status = "5.7.509", FAILED(MESSAGE, POLICY), .alarm = ALARM_YES,
      .cause = "The sender's domain has DMARC policy reject, and this message did not pass.",
      .fix = "Sign with DKIM for the From domain, and add our address to its SPF record." },
    { "m365-auth-level", .code = "5", .status = "5.7.515", FAILED(MESSAGE, POLICY),
      .alarm = ALARM_YES,
      .cause = "Outlook.com wants SPF, DKIM and DMARC all to pass for domains that send much, and "
               "one did not.",
      .fix = "Publish SPF, DKIM and DMARC records for the From domain; `waypost dkim record` "
             "prints the key." },
    { "m365-from-field", .code = "5", .status = "5.7.512", FAILED(MESSAGE, CONTENT),
      .cause = "The message does not have exactly one proper From field.",
      .fix = "Mend the program that wrote the message." },
    { "outlook-block-list", .code = "4|5",
      .text = "(s3140)|(s3150)|(s3114)|(s2017)|part of their network is on our block list|"
              "weren't sent. please contact your internet service provider",
      FAILED(MESSAGE, BLOCK), .alarm = ALARM_YES, .gives = STATUS(5, 7, 1),
      .cause = "Outlook.com has our IP address or its network on its block list.",
      .fix = "Ask for removal at olcsupport.office.com; sign up for SNDS and JMRP to see why." },
    { "outlook-dynamic", .code = "5",
      .text = " dy-001| dy-002| sc-001| sc-002| sc-003| sc-004| ou-001| ou-002",
      FAILED(MESSAGE, BLOCK), .alarm = ALARM_YES, .gives = STATUS(5, 7, 1),
      .cause = "Outlook.com refuses our IP address: spam seen from it, or a dial-up range.",
      .fix = "Read the code at sendersupport.olc.protection.outlook.com/pm/troubleshooting.aspx "
             "and ask for removal, or use a smarthost." },
    { "outlook-rate", .code = "421|451",
      .text = " rp-001| rp-002| rp-003|ip reputation*(s775)|temporarily rate limited",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 650), .alarm = ALARM_YES, .retry_after_s = 1800,
      .cause = "Microsoft slows our IP address down because of its reputation, or because it is "
               "new.",
      .fix = "Send slower and steadily; look at SNDS for complaints and spam traps." },
    { "m365-rate-ip", .code = "4", .status = "4.7.650-652", LATER(DEST, QUOTA), .alarm = ALARM_YES,
      .retry_after_s = 1800,
      .cause = "Microsoft slows our IP address down because of its reputation, or because it is "
               "new.",
      .fix = "Send slower and steadily; look at SNDS for complaints and spam traps." },
    { "m365-busy", .code = "4", .status = "4.7.500-699", LATER(DEST, QUOTA), .retry_after_s = 600,
      .cause = "Microsoft 365 says it is busy: it distrusts a sudden amount of mail from our "
               "address.",
      .fix = "It is tried again by itself. If it stays, send slower and check our reputation." },
    { "m365-tenant-blocklist", .code = "5", .status = "5.7.1",
      .text = "customer block list|fblw|banned sending ip", FAILED(MESSAGE, BLOCK),
      .alarm = ALARM_YES, .cause = "Microsoft or the recipient's tenant blocks our IP address.",
      .fix = "Ask for removal at sender.office.com, or ask the recipient's administrator." },

    /* ---- recipients ---- */
    { "m365-access-denied", .stages = AT(RCPT) | AT_BODY, .code = "5", .status = "5.4.1",
      .text = "access denied", FAILED(RECIPIENT, HARD),
      .cause = "Microsoft 365 knows no such recipient in this tenant, or the domain is not set up "
               "there.",
      .fix = "Check the address. If it is right, its administrator must add it or correct the MX "
             "record." },
    { "m365-recipient-not-found", .code = "5",
      .text = "resolver.adr.recipientnotfound|resolver.adr.exrecipnotfound|recipient not found by "
              "smtp address lookup",
      FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 10),
      .cause = "There is no such mailbox in the recipient's Exchange organisation.",
      .fix = "Check the address for a typing error." },
    { "m365-members-only", .code = "5", .text = "resolver.rst.|senderauthenticationrequired",
      FAILED(RECIPIENT, POLICY), .gives = STATUS(5, 7, 1),
      .cause = "This address or group takes mail only from allowed senders, often only from "
               "inside the organisation.",
      .fix = "Ask its owner to allow outside senders." },
    { "m365-members-only-status", .code = "5", .status = "5.7.124|5.7.129|5.7.133-136",
      FAILED(RECIPIENT, POLICY),
      .cause = "This address or group takes mail only from allowed senders, often only from "
               "inside the organisation.",
      .fix = "Ask its owner to allow outside senders." },
    { "m365-backpressure", .code = "452|421|451", .text = "insufficient system resources",
      LATER(HOST, SOFT), .gives = STATUS(4, 3, 1),
      .cause = "The other Exchange server is short of disk or memory and takes no mail for now.",
      .fix = "It is tried again. If it stays, tell the other side's administrator." },
    { "m365-temporary", .code = "451", .text = "temporary server error. please try again later",
      LATER(HOST, SOFT), .gives = STATUS(4, 7, 0),
      .cause = "The other Exchange server has a passing fault, often an unreachable mailbox "
               "server behind it.",
      .fix = "It is tried again by itself." },
};

const struct outcome_section outcome_rows_microsoft = SECTION("microsoft", rows);
