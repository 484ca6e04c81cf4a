/*
 * ext.c - words of the extensions, and what an EHLO reply line offers.
 */
#include "relay/smtp/ext.h"

static const struct str ext_keywords[] = {
#define X(name, keyword, rfc) STR(keyword),
    EXT_MAP(X)
#undef X
};

static const struct str mechanism_words[] = {
#define X(name, word) STR(word),
    MECHANISM_MAP(X)
#undef X
};

const char *ext_keyword(enum ext_index index) { return ext_keywords[index].at; }

const char *mechanism_word(enum mechanism_index index) { return mechanism_words[index].at; }

bool mechanism_parse(struct str word, enum mechanism *out_mechanism)
{
    for (unsigned i = 0; i < MECHANISM_COUNT; i++) {
        if (str_ieq(word, mechanism_words[i])) {
            *out_mechanism = (enum mechanism)(1u << i);
            return true;
        }
    }
    return false;
}

static void offer_mechanisms(struct ext_offer *offer, struct str words)
{
    struct str word;
    enum mechanism mechanism;

    offer->exts |= EXT_AUTH;
    while (str_next(&words, ' ', &word)) {
        if (mechanism_parse(word, &mechanism))
            offer->mechanisms |= mechanism;
    }
}

static void offer_size(struct ext_offer *offer, struct str arg)
{
    uint64_t size;

    offer->exts |= EXT_SIZE;
    if (str_u64(str_trim(arg), &size))
        offer->size_max = size;
}

void ext_offer_line(struct ext_offer *offer, struct str line)
{
    line = str_trim(line);
    /* "AUTH=LOGIN PLAIN" is what clients older than RFC 2554 looked for; some
     * servers still send only that. */
    if (str_istarts(line, STR("AUTH="))) {
        offer_mechanisms(offer, str_from(line, 5));
        return;
    }
    size_t end = str_chr(line, ' ');
    struct str word = str_head(line, end), args = str_from(line, end + 1);
    for (unsigned i = 0; i < EXT_COUNT; i++) {
        if (!str_ieq(word, ext_keywords[i]))
            continue;
        if (i == EXT_INDEX_AUTH)
            offer_mechanisms(offer, args);
        else if (i == EXT_INDEX_SIZE)
            offer_size(offer, args);
        else
            offer->exts |= 1u << i;
    }
}
