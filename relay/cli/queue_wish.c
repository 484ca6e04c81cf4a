/*
 * queue_wish.c - the options of `waypost queue`; filters are those of the API.
 */
#include "relay/cli/queue_wish.h"

#include "relay/api/filter.h"
#include "relay/base/clock.h"
#include "relay/cli/cmd.h"
#include "relay/cli/relay_ask.h"

#include <getopt.h>

#define FILTERS_MAX 16
#define FILTER_FIRST 256
#define QUERY_MAX 16384

static int misuse(const struct queue_wish *wish, const char *what, const char *argument)
{
    struct buf shown;
    char name[32];
    int code;

    buf_init(&shown, 1024);
    buf_escaped(&shown, str_of(argument), 256);
    buf_char(&shown, '\0');
    (void)snprintf(name, sizeof(name), "queue %s", wish->verb);
    code = cmd_misuse(name, "%s: %s%s", name, what, shown.at);
    buf_clear(&shown);
    return code;
}

/* The filters first, in their table's order; "id" is an argument here. */
static void fill_options(struct option options[FILTERS_MAX + 5])
{
    static const struct option others[] = {
        { "json", no_argument, NULL, 'j' },
        { "all", no_argument, NULL, 'a' },
        { "limit", required_argument, NULL, 'n' },
        { "content", no_argument, NULL, 'c' },
        { 0 },
    };
    size_t n = 0;

    for (size_t i = 1; filter_names[i].name && n < FILTERS_MAX; i++)
        options[n++] = (struct option){
            .name = filter_names[i].name,
            .has_arg = filter_names[i].value[0] ? required_argument : no_argument,
            .val = FILTER_FIRST + (int)i,
        };
    memcpy(options + n, others, sizeof(others));
}

static const char *name_of(const struct option *options, int option)
{
    while (options->name && options->val != option)
        options++;
    return options->name ? options->name : "";
}

static bool is_allowed(int option, const char *allowed)
{
    if (option < FILTER_FIRST)
        return strchr(allowed, option) != NULL;
    return strchr(allowed, 'f') ||
           (strchr(allowed, 'l') && strcmp(filter_names[option - FILTER_FIRST].name, "lane") == 0);
}

static int take_filter(struct queue_wish *wish, size_t index, const char *value)
{
    struct str name = str_of(filter_names[index].name), text = str_of(value ? value : "1");
    struct fault fault;

    if (filter_set(&wish->filter, name, text, clock_wall_us() / 1000000, &fault))
        return misuse(wish, "--", fault.text);
    relay_ask_param(&wish->query, filter_names[index].name, text);
    return EX_OK;
}

static int take(struct queue_wish *wish, int option, const char *value)
{
    if (option >= FILTER_FIRST)
        return take_filter(wish, (size_t)(option - FILTER_FIRST), value);
    if (option == 'n' && (!str_u64(str_of(value), &wish->limit) || wish->limit == 0))
        return misuse(wish, "--limit is a number of messages, not ", value);
    wish->json |= option == 'j';
    wish->all |= option == 'a';
    wish->content |= option == 'c';
    return EX_OK;
}

int queue_wish_read(int argc, char **argv, const char *allowed, struct queue_wish *wish)
{
    struct option options[FILTERS_MAX + 5] = { 0 };
    int option, code = EX_OK;

    *wish = (struct queue_wish){ .verb = argv[0] };
    filter_init(&wish->filter);
    buf_init(&wish->query, QUERY_MAX);
    buf_char(&wish->query, '?'); /* so that all that follows begins with "&" */
    fill_options(options);
    opterr = 0;
    optind = 1;
    while (!code && (option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return misuse(wish, wrong.what, wrong.word);
        }
        if (!is_allowed(option, allowed))
            return misuse(wish, "this option does not apply here: --", name_of(options, option));
        code = take(wish, option, optarg);
    }
    wish->words = argv + optind;
    wish->word_count = (size_t)(argc - optind);
    return code;
}

void queue_wish_clear(struct queue_wish *wish) { buf_clear(&wish->query); }

int queue_wish_ids(const struct queue_wish *wish)
{
    struct msgid id;

    for (size_t i = 0; i < wish->word_count; i++)
        if (!msgid_parse(str_of(wish->words[i]), &id))
            return misuse(wish, "not a message id (26 letters and digits): ", wish->words[i]);
    return EX_OK;
}
