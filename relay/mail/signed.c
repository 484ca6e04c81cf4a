/*
 * signed.c - reading what signatures cover.
 */
#include "relay/mail/signed.h"

#include "relay/mail/param.h"

/* The value of a tag in a tag list (RFC 6376 3.2), trimmed; empty when absent. */
static struct str tag_value(struct str tags, struct str name)
{
    struct str piece;

    while (str_next(&tags, ';', &piece)) {
        size_t equals = str_chr(piece, '=');
        if (str_eq(str_trim(str_head(piece, equals)), name))
            return str_trim(str_from(piece, equals + 1));
    }
    return STR_EMPTY;
}

static bool names_field(struct str names, struct str name)
{
    struct str piece;

    while (str_next(&names, ':', &piece))
        if (str_ieq(str_trim(piece), name))
            return true;
    return false;
}

bool signed_field(struct str block, struct str name, enum signed_by by, struct arena *arena)
{
    struct header_field field;

    while (header_next(&block, &field, NULL)) {
        if (!str_ieq(field.name, STR("DKIM-Signature")) &&
            !str_ieq(field.name, STR("ARC-Message-Signature")))
            continue;
        struct str tags = header_unfold(field.value, arena);
        /* RFC 6376 3.5: c= defaults to simple/simple. */
        bool is_relaxed = str_istarts(tag_value(tags, STR("c")), STR("relaxed"));
        if (by == SIGNED_SIMPLE && is_relaxed)
            continue;
        if (names_field(tag_value(tags, STR("h")), name))
            return true;
    }
    return false;
}

bool signed_mime(struct str content_type, struct arena *arena)
{
    struct str rest = content_type;
    struct str type = param_main(&rest);

    if (str_ieq(type, STR("multipart/signed")))
        return true;
    if (!str_ieq(type, STR("application/pkcs7-mime")) &&
        !str_ieq(type, STR("application/x-pkcs7-mime")))
        return false;
    return str_ieq(header_param(content_type, STR("smime-type"), arena), STR("signed-data"));
}
