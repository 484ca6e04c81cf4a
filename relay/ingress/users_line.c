/*
 * users_line.c - one line of the users file, to and from a struct user.
 */
#include "relay/ingress/users_impl.h"
#include "relay/mail/addr.h"

#include <crypt.h>

#define CLEAR_MARK STR("{CLEAR}")

bool users_line_is_blank(struct str line)
{
    line = str_trim(line);
    return line.len == 0 || line.at[0] == '#';
}

struct str users_line_name(struct str line) { return str_head(line, str_chr(line, ':')); }

/* ---- rules ---- */

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] < ' ' || s.at[i] == 127)
            return true;
    return false;
}

enum err users_name_ok(struct str name, struct fault *fault)
{
    if (name.len == 0)
        return fault_set(fault, ERR_INVALID, "a user needs a name");
    if (name.len > USERS_NAME_MAX)
        return fault_set(fault, ERR_INVALID, "a user name has at most %u octets", USERS_NAME_MAX);
    if (has_control(name) || !str_is_utf8(name))
        return fault_set(fault, ERR_INVALID,
                         "a user name cannot have control characters and must be UTF-8");
    if (str_chr(name, ':') < name.len)
        return fault_set(fault, ERR_INVALID, "a user name cannot have a colon");
    if (name.at[0] == '#' || str_trim(name).len != name.len)
        return fault_set(fault, ERR_INVALID,
                         "a user name cannot begin with # or begin or end with a blank");
    return ERR_OK;
}

enum err users_password_fit(struct str password, struct fault *fault)
{
    if (password.len == 0)
        return fault_set(fault, ERR_INVALID, "the password is empty");
    if (password.len > USERS_PASSWORD_MAX)
        return fault_set(fault, ERR_INVALID, "a password has at most %u octets",
                         USERS_PASSWORD_MAX);
    if (memchr(password.at, '\0', password.len))
        return fault_set(fault, ERR_INVALID, "a password cannot have a NUL in it");
    return ERR_OK;
}

static bool is_domain(struct str domain)
{
    if (domain.len > 1 && domain.at[0] == '.')
        domain = str_from(domain, 1);
    return addr_is_domain(domain, ADDR_ALLOW_UTF8);
}

static bool is_local(struct str local)
{
    struct fault fault;
    struct addr addr;
    struct buf text;
    bool ok;

    buf_init(&text, ADDR_MAX);
    ok = buf_str(&text, local) && buf_cstr(&text, "@example.com") &&
         addr_parse(buf_view(&text), ADDR_ALLOW_UTF8, &addr, &fault) == ERR_OK;
    buf_clear(&text);
    return ok;
}

enum err users_pattern_ok(struct str pattern, struct fault *fault)
{
    struct str domain = addr_domain_of(pattern);
    struct str local = addr_local_of(pattern);
    bool has_at = str_chr(pattern, '@') < pattern.len;

    if (str_eq(pattern, STR("*")))
        return ERR_OK;
    if (pattern.len == 0 || has_control(pattern) || str_chr(pattern, ',') < pattern.len ||
        str_chr(pattern, ' ') < pattern.len)
        return fault_set(fault, ERR_INVALID,
                         "a sender pattern cannot be empty or have blanks or "
                         "commas");
    bool local_ok = local.len == 0 ? domain.len > 0 : is_local(local);
    bool domain_ok = domain.len == 0 ? local.len > 0 : is_domain(domain);
    if (has_at ? local_ok && domain_ok : is_domain(pattern))
        return ERR_OK;
    return fault_set(fault, ERR_INVALID,
                     "\"" STR_FMT "\" is not a sender pattern (write a@example.com, example.com, "
                     ".example.com or local@)",
                     STR_ARG(pattern));
}

/* ---- octets ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool hex_octet(struct str s, char *out)
{
    int high = s.len >= 2 ? hex_digit(s.at[0]) : -1;
    int low = s.len >= 2 ? hex_digit(s.at[1]) : -1;

    if (high < 0 || low < 0)
        return false;
    *out = (char)(high << 4 | low);
    return true;
}

static bool from_hex(struct str text, struct arena *arena, struct str *out)
{
    char *octets = arena_alloc(arena, text.len / 2 + 1);

    for (size_t i = 0; i < text.len; i += 2)
        if (!hex_octet(str_from(text, i), &octets[i / 2]))
            return false;
    *out = str_make(octets, text.len / 2);
    return text.len > 0;
}

static void put_hex(struct buf *out, struct str octets)
{
    for (size_t i = 0; i < octets.len; i++)
        buf_printf(out, "%02x", (unsigned)(unsigned char)octets.at[i]);
}

static bool from_percent(struct str text, struct arena *arena, struct str *out)
{
    char *octets = arena_alloc(arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        octets[len] = text.at[i];
        if (text.at[i] == '%') {
            if (!hex_octet(str_from(text, i + 1), &octets[len]))
                return false;
            i += 2;
        }
        len++;
    }
    *out = str_make(octets, len);
    return true;
}

static void put_percent(struct buf *out, struct str octets)
{
    for (size_t i = 0; i < octets.len; i++) {
        unsigned char c = (unsigned char)octets.at[i];
        bool is_edge = c == ' ' && (i == 0 || i + 1 == octets.len);
        if (c < ' ' || c == 127 || c == '%' || c == ':' || is_edge)
            buf_printf(out, "%%%02X", c);
        else
            buf_char(out, (char)c);
    }
}

/* ---- fields ---- */

static enum err parse_secret(struct str text, struct arena *arena, struct user *user,
                             struct fault *fault)
{
    if (str_starts(text, CLEAR_MARK)) {
        if (!from_percent(str_from(text, CLEAR_MARK.len), arena, &user->clear))
            return fault_set(fault, ERR_INVALID,
                             "the clear password has a %% without two hex digits");
        return users_password_fit(user->clear, fault);
    }
    user->hash = arena_str(arena, text);
    /* crypt(3) takes any two letters for the setting of a DES hash: only "$..." is plainly meant
     * as a hash. */
    int known =
        text.len > 0 && text.at[0] == '$' ? crypt_checksalt(user->hash.at) : CRYPT_SALT_INVALID;
    if (known == CRYPT_SALT_INVALID || known == CRYPT_SALT_METHOD_DISABLED)
        return fault_set(fault, ERR_INVALID,
                         "the second field is not a password hash of crypt(5); set the password "
                         "with waypost user passwd");
    return ERR_OK;
}

static bool parse_scram(struct str text, struct arena *arena, struct user *user)
{
    struct sasl_secret *scram = &user->scram;
    struct str pieces[4];
    uint64_t iterations;

    for (size_t i = 0; i < 4; i++)
        if (!str_next(&text, ',', &pieces[i]))
            return false;
    if (text.len > 0 || !str_u64(pieces[0], &iterations) || iterations < 4096 ||
        iterations > 10000000)
        return false;
    scram->known = true;
    scram->scram_iterations = (unsigned)iterations;
    user->has_scram = true;
    return from_hex(pieces[1], arena, &scram->scram_salt) && scram->scram_salt.len >= 8 &&
           from_hex(pieces[2], arena, &scram->scram_stored_key) &&
           scram->scram_stored_key.len == 32 &&
           from_hex(pieces[3], arena, &scram->scram_server_key) &&
           scram->scram_server_key.len == 32;
}

/* Compared with canonical addresses: the domain as A-labels. */
static struct str canonical_pattern(struct str pattern, struct arena *arena)
{
    size_t at = str_chr(pattern, '@') < pattern.len ? addr_local_of(pattern).len + 1 : 0;
    struct str domain = str_from(pattern, at);
    size_t dot = domain.len > 1 && domain.at[0] == '.' ? 1 : 0;
    char ascii[ADDR_DOMAIN_MAX + 1];
    struct fault fault;

    if (str_is_ascii(domain) || addr_domain_ascii(str_from(domain, dot), ascii, &fault))
        return arena_str(arena, pattern);
    return str_of(arena_printf(arena, STR_FMT "%s", STR_ARG(str_head(pattern, at + dot)), ascii));
}

static enum err parse_senders(struct str text, struct arena *arena, struct user *user,
                              struct fault *fault)
{
    struct str *senders, piece;
    size_t most = 1;

    for (size_t i = 0; i < text.len; i++)
        most += text.at[i] == ',';
    senders = arena_alloc(arena, most * sizeof(*senders));
    while (str_next(&text, ',', &piece)) {
        enum err rc = users_pattern_ok(str_trim(piece), fault);
        if (rc)
            return rc;
        senders[user->sender_count++] = canonical_pattern(str_trim(piece), arena);
    }
    user->senders = senders;
    return ERR_OK;
}

static bool next_field(struct str *rest, struct str *out_field)
{
    size_t colon = str_chr(*rest, ':');

    if (colon == rest->len)
        return false;
    *out_field = str_head(*rest, colon);
    *rest = str_from(*rest, colon + 1);
    return true;
}

enum err users_line_parse(struct str line, struct arena *arena, struct user *out_user,
                          struct fault *fault)
{
    struct user user = { .sender_count = 0 };
    struct str name, secret, scram;

    if (!next_field(&line, &name) || !next_field(&line, &secret) || !next_field(&line, &scram))
        return fault_set(fault, ERR_INVALID,
                         "a line is name:secret:scram:senders (make it with waypost user add)");
    enum err rc = users_name_ok(name, fault);
    if (!rc)
        rc = parse_secret(secret, arena, &user, fault);
    if (!rc && scram.len > 0 && !parse_scram(scram, arena, &user))
        rc = fault_set(fault, ERR_INVALID,
                       "the third field is not iterations,salt,stored,server of SCRAM-SHA-256");
    /* The rest, colons and all: "[IPv6:...]" has some. */
    if (!rc)
        rc = parse_senders(str_trim(line), arena, &user, fault);
    if (rc)
        return rc;
    user.name = arena_str(arena, name);
    *out_user = user;
    return ERR_OK;
}

void users_line_print(const struct user *user, struct buf *out)
{
    buf_str(out, user->name);
    buf_char(out, ':');
    if (user->clear.len > 0) {
        buf_str(out, CLEAR_MARK);
        put_percent(out, user->clear);
    } else {
        buf_str(out, user->hash);
    }
    buf_char(out, ':');
    if (user->has_scram) {
        buf_printf(out, "%u,", user->scram.scram_iterations);
        put_hex(out, user->scram.scram_salt);
        buf_char(out, ',');
        put_hex(out, user->scram.scram_stored_key);
        buf_char(out, ',');
        put_hex(out, user->scram.scram_server_key);
    }
    buf_char(out, ':');
    for (size_t i = 0; i < user->sender_count; i++) {
        if (i > 0)
            buf_char(out, ',');
        buf_str(out, user->senders[i]);
    }
}
