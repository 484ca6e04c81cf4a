/*
 * call_param.c - what a request says in its query, and answers made of JSON.
 *
 * Every route takes the names it knows; what is left over is refused, so that a
 * mistyped filter never acts on more mail than was meant.
 */
#include "relay/api/api_impl.h"

#include "relay/api/filter.h"

#include <jansson.h>

static enum MHD_Result add_param(void *arg, enum MHD_ValueKind kind, const char *key,
                                 size_t key_len, const char *value, size_t value_len)
{
    struct call *call = arg;

    (void)kind;
    if (call->param_count < API_PARAMS_MAX)
        call->params[call->param_count] = (struct param){
            .key = arena_str(&call->arena, str_make(key, key_len)),
            .value = value ? arena_str(&call->arena, str_make(value, value_len)) : STR_EMPTY,
        };
    call->param_count++;
    return MHD_YES;
}

/* call_begins() has refused more; what is left out here would make a filter match more mail. */
bool call_read_params(struct call *call)
{
    MHD_get_connection_values_n(call->connection, MHD_GET_ARGUMENT_KIND, add_param, call);
    if (call->param_count <= API_PARAMS_MAX)
        return true;
    call_error(call, MHD_HTTP_BAD_REQUEST, API_PARAMS_WORDS);
    return false;
}

bool call_param(struct call *call, const char *key, struct str *out_value)
{
    for (size_t i = 0; i < call->param_count; i++) {
        struct param *param = &call->params[i];
        if (param->is_used || !str_eq(param->key, str_of(key)))
            continue;
        param->is_used = true;
        *out_value = param->value;
        return true;
    }
    return false;
}

bool call_number(struct call *call, const char *key, uint64_t otherwise, uint64_t most,
                 uint64_t *out_value)
{
    struct str text;

    *out_value = otherwise;
    if (!call_param(call, key, &text))
        return true;
    if (str_u64(text, out_value) && *out_value >= 1 && *out_value <= most)
        return true;
    call_error(call, MHD_HTTP_BAD_REQUEST, "%s is a number from 1 to %llu", key,
               (unsigned long long)most);
    return false;
}

static struct param *next_unused(struct call *call)
{
    for (size_t i = 0; i < call->param_count; i++)
        if (!call->params[i].is_used)
            return &call->params[i];
    return NULL;
}

bool call_filter(struct call *call, struct store_filter *out_filter)
{
    int64_t now_s = loop_wall_s(call->api->options.loop);
    struct fault fault;
    struct param *param;

    filter_init(out_filter);
    while ((param = next_unused(call)) != NULL) {
        enum err rc = filter_set(out_filter, param->key, param->value, now_s, &fault);
        if (rc) {
            call_fault(call, rc, &fault);
            return false;
        }
        param->is_used = true;
    }
    return true;
}

bool call_no_more_params(struct call *call)
{
    struct param *param = next_unused(call);
    struct buf shown;

    if (!param)
        return true;
    buf_init(&shown, 512);
    buf_escaped(&shown, param->key, 64);
    call_error(call, MHD_HTTP_BAD_REQUEST, "this request knows no parameter \"" STR_FMT "\"",
               STR_ARG(buf_view(&shown)));
    buf_clear(&shown);
    return false;
}

static int append(const char *bytes, size_t len, void *arg)
{
    return buf_append(arg, bytes, len) ? 0 : -1;
}

void call_json(struct call *call, unsigned code, void *json)
{
    json_dump_callback(json, append, &call->body, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(json);
    buf_char(&call->body, '\n');
    call_answer(call, code, API_TYPE_JSON);
}
