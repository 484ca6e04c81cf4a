/*
 * encode.c - what in a header field is encoded, by the kind of field.
 */
#include "relay/mail/encode.h"

#include "relay/mail/encode_parts.h"

enum kind { KIND_TEXT, KIND_PHRASES, KIND_TOKENS, KIND_PARAMS };

/* Fields not named are unstructured text. */
static const struct {
    const char *name;
    enum kind kind;
} kinds[] = {
    { "From", KIND_PHRASES },
    { "Sender", KIND_PHRASES },
    { "Reply-To", KIND_PHRASES },
    { "To", KIND_PHRASES },
    { "Cc", KIND_PHRASES },
    { "Bcc", KIND_PHRASES },
    { "Resent-From", KIND_PHRASES },
    { "Resent-Sender", KIND_PHRASES },
    { "Resent-Reply-To", KIND_PHRASES },
    { "Resent-To", KIND_PHRASES },
    { "Resent-Cc", KIND_PHRASES },
    { "Resent-Bcc", KIND_PHRASES },
    { "Errors-To", KIND_PHRASES },
    { "Mail-Followup-To", KIND_PHRASES },
    { "Mail-Reply-To", KIND_PHRASES },
    { "Disposition-Notification-To", KIND_PHRASES },
    { "Return-Receipt-To", KIND_PHRASES },
    { "List-Id", KIND_PHRASES },
    { "Keywords", KIND_PHRASES },
    { "Content-Type", KIND_PARAMS },
    { "Content-Disposition", KIND_PARAMS },
    { "Content-Transfer-Encoding", KIND_TOKENS },
    { "Content-ID", KIND_TOKENS },
    { "MIME-Version", KIND_TOKENS },
    { "Message-ID", KIND_TOKENS },
    { "In-Reply-To", KIND_TOKENS },
    { "References", KIND_TOKENS },
    { "Date", KIND_TOKENS },
    { "Resent-Date", KIND_TOKENS },
    { "Resent-Message-ID", KIND_TOKENS },
    { "Return-Path", KIND_TOKENS },
    { "Received", KIND_TOKENS },
    { "DKIM-Signature", KIND_TOKENS },
    { "ARC-Seal", KIND_TOKENS },
    { "ARC-Message-Signature", KIND_TOKENS },
    { "ARC-Authentication-Results", KIND_TOKENS },
    { "Authentication-Results", KIND_TOKENS },
    { "List-Help", KIND_TOKENS },
    { "List-Unsubscribe", KIND_TOKENS },
    { "List-Subscribe", KIND_TOKENS },
    { "List-Post", KIND_TOKENS },
    { "List-Owner", KIND_TOKENS },
    { "List-Archive", KIND_TOKENS },
    { "List-Unsubscribe-Post", KIND_TOKENS },
    { "Auto-Submitted", KIND_TOKENS },
};

static enum kind kind_of(struct str name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (str_ieq(name, str_of(kinds[i].name)))
            return kinds[i].kind;
    return KIND_TEXT;
}

/* Fit to stand inside an encoded word. */
static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= 32 || s.at[i] >= 127 || strchr("()<>@,;:\"/[]?.=*'", s.at[i]))
            return false;
    return s.len > 0;
}

/* RFC 2047 wants a registered charset: UTF-8 if it is that; else the body's, if
 * its bytes stand alone; else Latin-1 unless it has C1 bytes; else RFC 1428. */
static struct str charset_of(struct str value, struct str hint)
{
    static const char *const families[] = { "iso-8859-", "windows-125", "koi8-" };

    if (str_is_utf8(value))
        return STR("utf-8");
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (str_istarts(hint, str_of(families[i])) && hint.len <= 16 && is_token(hint))
            return hint;
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.at[i] >= 0x80 && (unsigned char)value.at[i] < 0xa0)
            return STR("unknown-8bit");
    return STR("iso-8859-1");
}

static enum err finish(struct fold *fold, enum err rc, struct fault *fault)
{
    bool fits = fold_end(fold);

    if (rc || fits)
        return rc;
    return fault_set(fault, ERR_LIMIT, "a header line over 998 octets has no blank to fold at");
}

enum err encode_field(const struct header_field *field, struct str hint, struct buf *out,
                      struct arena *arena, struct fault *fault)
{
    struct str value = header_unfold(field->value, arena);
    enum err rc = ERR_OK;
    struct fold fold;

    fold_begin(&fold, field->name, charset_of(value, hint), out);
    switch (kind_of(field->name)) {
    case KIND_TEXT:
        encode_text(&fold, value, false, arena);
        break;
    case KIND_PHRASES:
        rc = encode_structured(&fold, value, true, arena, fault);
        break;
    case KIND_TOKENS:
        rc = encode_structured(&fold, value, false, arena, fault);
        break;
    case KIND_PARAMS:
        rc = encode_params(&fold, value, arena, fault);
        break;
    }
    return finish(&fold, rc, fault);
}

enum err encode_fold(const struct header_field *field, struct buf *out, struct arena *arena,
                     struct fault *fault)
{
    struct str rest = header_unfold(field->value, arena), gap, word;
    struct fold fold;

    fold_begin(&fold, field->name, STR_EMPTY, out);
    for (bool is_first = true; encode_next_word(&rest, &gap, &word); is_first = false)
        fold_plain(&fold, is_first ? STR(" ") : gap, word);
    return finish(&fold, ERR_OK, fault);
}

size_t encode_longest_line(struct str raw)
{
    size_t longest = 0;

    while (raw.len > 0) {
        size_t end = str_chr(raw, '\n');
        size_t len = end > 0 && end < raw.len && raw.at[end - 1] == '\r' ? end - 1 : end;
        longest = len > longest ? len : longest;
        raw = str_from(raw, end + 1);
    }
    return longest;
}
