/*
 * filter.c - one row for each filter.
 */
#include "relay/api/filter.h"

#define TEXT_MAX 512

void filter_init(struct store_filter *filter)
{
    *filter = (struct store_filter){ .any_state = true };
}

/* ---- values ---- */

static int64_t unit_of(char c)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (units[i].letter == c)
            return units[i].seconds;
    return 0;
}

bool filter_seconds(struct str text, int64_t *out_seconds)
{
    const int64_t most = (int64_t)100 * 365 * 86400;
    int64_t sum = 0;

    if (text.len == 0)
        return false;
    while (text.len) {
        size_t digits = 0;
        uint64_t number;
        while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9')
            digits++;
        if (!str_u64(str_head(text, digits), &number) || number > (uint64_t)most)
            return false;
        int64_t unit = digits < text.len ? unit_of(text.at[digits]) : 1;
        if (unit == 0)
            return false;
        sum += (int64_t)number * unit;
        if (sum > most)
            return false;
        text = str_from(text, digits + 1);
    }
    *out_seconds = sum;
    return true;
}

typedef bool set_fn(struct store_filter *filter, struct str value, int64_t now_s);

static bool set_id(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    return msgid_parse(value, &filter->id);
}

static bool set_lane(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    filter->lane = value;
    return true;
}

static bool set_sender(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    filter->sender = value;
    return true;
}

static bool set_recipient(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    filter->recipient = value;
    return true;
}

static bool set_user(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    filter->user = value;
    return true;
}

static bool set_state(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    filter->any_state = false;
    return recipient_state_parse(value, &filter->state);
}

static bool set_older(struct store_filter *filter, struct str value, int64_t now_s)
{
    int64_t seconds;

    if (!filter_seconds(value, &seconds))
        return false;
    filter->older_than = now_s - seconds;
    return true;
}

static bool set_newer(struct store_filter *filter, struct str value, int64_t now_s)
{
    int64_t seconds;

    if (!filter_seconds(value, &seconds))
        return false;
    filter->newer_than = now_s - seconds;
    return true;
}

static bool set_deferred(struct store_filter *filter, struct str value, int64_t now_s)
{
    (void)now_s;
    filter->deferred_only = !str_eq(value, STR("0")) && !str_eq(value, STR("false"));
    return filter->deferred_only ? str_eq(value, STR("1")) || str_eq(value, STR("true")) : true;
}

/* ---- the table ---- */

const struct filter_name filter_names[] = {
    { "id", "ID", "one message: its 26 letters and digits" },
    { "lane", "LANE", "bound there: a lane, its route, or its domain" },
    { "sender", "PATTERN", "reverse-path: an address, a domain, or \"<>\"" },
    { "recipient", "PATTERN", "an address or a domain" },
    { "user", "NAME", "who submitted it" },
    { "state", "STATE", "queued, held, delivered or failed" },
    { "older-than", "AGE", "arrived longer ago than this: 90, 15m, 2h, 3d" },
    { "newer-than", "AGE", "arrived more recently than this: 90, 15m, 2h, 3d" },
    { "deferred", "", "tried at least once and waiting to be tried again" },
    { NULL, NULL, NULL },
};

static set_fn *const setters[] = {
    set_id,    set_lane,  set_sender, set_recipient, set_user,
    set_state, set_older, set_newer,  set_deferred,
};
_Static_assert(sizeof(setters) / sizeof(setters[0]) + 1 ==
                   sizeof(filter_names) / sizeof(filter_names[0]),
               "a setter for each filter");

static bool is_given(const struct store_filter *filter, size_t index)
{
    const bool given[] = {
        !msgid_is_nil(&filter->id), filter->lane.len > 0,    filter->sender.len > 0,
        filter->recipient.len > 0,  filter->user.len > 0,    !filter->any_state,
        filter->older_than != 0,    filter->newer_than != 0, filter->deferred_only,
    };
    _Static_assert(sizeof(given) / sizeof(given[0]) == sizeof(setters) / sizeof(setters[0]),
                   "for each filter");

    return given[index];
}

static enum err refuse(struct fault *fault, const struct filter_name *name, struct str value)
{
    struct buf shown;
    enum err rc;

    buf_init(&shown, 1024);
    buf_escaped(&shown, value, 64);
    rc = fault_set(fault, ERR_INVALID, "%s: \"" STR_FMT "\" is not understood (%s)", name->name,
                   STR_ARG(buf_view(&shown)), name->help);
    buf_clear(&shown);
    return rc;
}

static enum err unknown(struct fault *fault, struct str name)
{
    struct buf text;
    enum err rc;

    buf_init(&text, 1024);
    buf_cstr(&text, "no filter is named \"");
    buf_escaped(&text, name, 64);
    buf_cstr(&text, "\"; there are:");
    for (size_t i = 0; filter_names[i].name; i++)
        buf_printf(&text, " %s", filter_names[i].name);
    rc = fault_set(fault, ERR_INVALID, STR_FMT, STR_ARG(buf_view(&text)));
    buf_clear(&text);
    return rc;
}

enum err filter_set(struct store_filter *filter, struct str name, struct str value, int64_t now_s,
                    struct fault *fault)
{
    for (size_t i = 0; filter_names[i].name; i++) {
        if (!str_eq(name, str_of(filter_names[i].name)))
            continue;
        if (is_given(filter, i)) /* the second is neither "or" nor "and" */
            return fault_set(fault, ERR_INVALID, "%s is given twice: ask for one after the other",
                             filter_names[i].name);
        if (filter_names[i].value[0] == '\0' && value.len == 0)
            value = STR("1");
        if (value.len == 0 || value.len > TEXT_MAX || !setters[i](filter, value, now_s))
            return refuse(fault, &filter_names[i], value);
        return ERR_OK;
    }
    return unknown(fault, name);
}

bool filter_is_all(const struct store_filter *filter)
{
    return msgid_is_nil(&filter->id) && filter->lane.len == 0 && filter->sender.len == 0 &&
           filter->recipient.len == 0 && filter->user.len == 0 && filter->older_than == 0 &&
           filter->newer_than == 0 && filter->any_state && !filter->deferred_only;
}
