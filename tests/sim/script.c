/*
 * script.c - reading and stepping a host's script.
 */
#include "tests/sim/script.h"

static const char *const words[] = {
#define X(name, word) word,
    ACTION_MAP(X)
#undef X
};

static bool unit_of(struct str *rest, uint64_t *out_ms)
{
    static const struct {
        const char *word;
        uint64_t ms;
    } units[] = {
        { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
    };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (str_starts(*rest, str_of(units[i].word))) {
            *rest = str_from(*rest, strlen(units[i].word));
            *out_ms = units[i].ms;
            return true;
        }
    return false;
}

bool span_parse(struct str text, uint64_t *out_ms)
{
    uint64_t sum = 0, value, unit;
    struct str rest = text;

    if (str_u64(text, &value)) {
        *out_ms = value * 1000;
        return true;
    }
    while (rest.len) {
        size_t digits = 0;
        while (digits < rest.len && rest.at[digits] >= '0' && rest.at[digits] <= '9')
            digits++;
        if (!str_u64(str_head(rest, digits), &value))
            return false;
        rest = str_from(rest, digits);
        if (!unit_of(&rest, &unit))
            return false;
        sum += value * unit;
    }
    *out_ms = sum;
    return text.len > 0;
}

/* Cut a leading "2x " or "after 30s " off. */
static bool prefixes(struct str *text, struct action *action)
{
    size_t space = str_chr(*text, ' ');
    uint64_t value;

    if (space > 1 && text->at[space - 1] == 'x' && str_u64(str_head(*text, space - 1), &value)) {
        action->times = (unsigned)value;
        *text = str_trim(str_from(*text, space));
    }
    if (str_starts(*text, STR("after "))) {
        *text = str_trim(str_from(*text, 6));
        space = str_chr(*text, ' ');
        if (!span_parse(str_head(*text, space), &action->delay_ms))
            return false;
        *text = str_trim(str_from(*text, space));
    }
    return true;
}

/* "450 4.2.1 text", lines divided by " | ". */
static bool reply_of(struct str text, struct reply *reply)
{
    char lines[512];
    size_t len = 0;
    struct status status = { 0 };
    uint64_t code;
    size_t used;

    if (text.len < 3 || !str_u64(str_head(text, 3), &code) || code < 200 || code > 599)
        return false;
    text = str_trim(str_from(text, 3));
    if (status_parse(text, &status, &used))
        text = str_trim(str_from(text, used));
    for (size_t i = 0; i < text.len && len + 1 < sizeof(lines); i++) {
        bool is_break = text.at[i] == '|';
        lines[len++] = is_break ? '\n' : text.at[i];
    }
    lines[len] = '\0';
    reply_set(reply, (unsigned)code, status, "%s", lines);
    return true;
}

static enum err action_parse(struct str text, struct action *out, struct fault *fault)
{
    struct str whole = text = str_trim(text);

    if (!prefixes(&text, out))
        return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\": no such time", STR_ARG(whole));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i][0] && str_eq(text, str_of(words[i]))) {
            out->kind = (enum action_kind)i;
            return ERR_OK;
        }
    out->kind = ACTION_REPLY;
    if (!reply_of(text, &out->reply))
        return fault_set(fault, ERR_INVALID,
                         "\"" STR_FMT "\" is neither a reply nor a word of scripts",
                         STR_ARG(whole));
    return ERR_OK;
}

enum err script_parse(struct str text, struct script *out, struct fault *fault)
{
    struct script script = { 0 };
    struct str piece;
    enum err rc = ERR_OK;

    while (!rc && str_next(&text, ';', &piece)) {
        if (script.count == SCRIPT_STEPS_MAX)
            return fault_set(fault, ERR_LIMIT, "more than %d steps", SCRIPT_STEPS_MAX);
        rc = action_parse(piece, &script.steps[script.count++], fault);
    }
    if (!rc)
        *out = script;
    return rc;
}

static const struct action as_usual = { .kind = ACTION_OK };

const struct action *script_peek(const struct script *script)
{
    return script->count ? &script->steps[script->at] : &as_usual;
}

const struct action *script_next(struct script *script)
{
    const struct action *action = script_peek(script);
    bool is_last = script->at + 1 >= script->count;

    if (is_last)
        return action;
    if (++script->done >= (action->times ? action->times : 1)) {
        script->at++;
        script->done = 0;
    }
    return action;
}
