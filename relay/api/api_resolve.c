/*
 * api_resolve.c - where mail for an address would go now: aliases, route, hosts.
 *
 * Nothing is looked up in the DNS and nothing is sent: sendmail -bv answers at
 * once. No secret is in it, so everybody may ask.
 */
#include "relay/api/queue_json.h"

#include "relay/api/api_impl.h"
#include "relay/mail/addr.h"

static void put(json_t *object, const char *key, struct str text)
{
    if (text.len)
        json_object_set_new(object, key, json_text(text));
}

static void add(void *arg, const struct api_resolved *resolved)
{
    json_t *one = json_object();

    put(one, "address", resolved->address);
    put(one, "by", resolved->words);
    put(one, "lane", resolved->lane);
    put(one, "relays", resolved->relays);
    json_array_append_new(arg, one);
}

/* The canonical form, which may lack a domain. */
static bool read_address(struct call *call, const char *key, struct str *out_text)
{
    struct str text = STR_EMPTY;
    struct fault fault;
    struct addr addr;
    struct buf canonical;
    enum err rc;

    *out_text = STR_EMPTY;
    if (!call_param(call, key, &text) || text.len == 0)
        return true;
    buf_init(&canonical, ADDR_MAX);
    rc = addr_parse(text, ADDR_ALLOW_BARE | ADDR_ALLOW_UTF8, &addr, &fault);
    if (!rc)
        rc = addr_canonical(&addr, &canonical, &fault);
    if (rc)
        call_error(call, MHD_HTTP_BAD_REQUEST, "%s is no address: %s", key, fault.text);
    else
        *out_text = arena_str(&call->arena, buf_view(&canonical));
    buf_clear(&canonical);
    return rc == ERR_OK;
}

void api_resolve(struct call *call)
{
    const struct api_control *control = &call->api->options.control;
    struct str sender, recipient;
    json_t *answer, *list;

    if (!read_address(call, "sender", &sender) || !read_address(call, "recipient", &recipient) ||
        !call_no_more_params(call))
        return;
    if (recipient.len == 0 || !control->resolve) {
        call_error(call, MHD_HTTP_BAD_REQUEST, "recipient is missing");
        return;
    }
    answer = json_object();
    list = json_array();
    control->resolve(control->arg, sender, recipient, add, list);
    json_object_set_new(answer, "recipient", json_text(recipient));
    json_object_set_new(answer, "leads-to", list);
    call_json(call, MHD_HTTP_OK, answer);
}
