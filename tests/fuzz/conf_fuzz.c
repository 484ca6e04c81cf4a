/*
 * conf_fuzz.c - any text gives a configuration or findings, never both wrong.
 *
 * The host name is set in front, so that the machine's own is not looked up.
 */
#include "conf/conf.h"
#include "relay/base/buf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *conf = NULL;
    struct fault fault = { 0 };
    struct buf text;

    /* Other files are not this target's business, and glob() may take long. */
    if (str_find(str_make((const char *)data, size), STR("include")) < size)
        return 0;
    buf_init(&text, size + 64);
    buf_append(&text, data, size);
    buf_cstr(&text, "\nhostname = relay.test\n");
    enum err err = conf_parse("fuzz", buf_view(&text), &conf, &fault);
    if ((err == ERR_OK) != (conf != NULL) || (err != ERR_OK) != (fault.text[0] != '\0'))
        abort();
    conf_unref(&conf);
    buf_clear(&text);
    return 0;
}
